"""Result of the depth estimation."""

from typing import NamedTuple

import numpy as np


class DepthMap(NamedTuple):
    """Depth of every pixel.

    Attributes
    ----------
    index : (Y, X) uint16
        Sharpest plane, 0 … Z-1. Where it is the first or last one, the surface may lie outside the
        stack.
    depth : (Y, X) float32
        Position of the sharpest focus, between planes, in the unit of `positions`.
    uncertainty : (Y, X) float32
        Standard uncertainty (1 σ) of `depth`, in the same unit; inf where never in focus.
    """

    index: np.ndarray  # type: ignore[assignment]  # replaces the method tuple.index
    depth: np.ndarray
    uncertainty: np.ndarray
