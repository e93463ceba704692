"""Where is it sharpest? From a focus volume to depth, with how well it is known."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_dff import checks
from napari_dff.curve import PEAKS, noise_of, peaks, significance
from napari_dff.stack import MINIMUM_PLANES, checked_positions

Peak = Literal["argmax", "parabola", "gaussian"]
Prefer = Literal["sharpest", "first", "last"]
PREFERENCES = {"sharpest": 0, "first": 1, "last": -1}


class DepthMap(NamedTuple):
    """Depth of every pixel.

    Attributes
    ----------
    index : (Y, X) uint16
        The sharpest plane, 0 … Z-1.
    depth : (Y, X) float32
        Position of the sharpest focus, between planes, in the unit of `positions`.
    uncertainty : (Y, X) float32
        One standard deviation of `depth`, in the same unit; inf where never in focus.
    """

    index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    depth: np.ndarray
    uncertainty: np.ndarray


def depth_map(
    focus: np.ndarray,  # (Z, Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    peak: Peak = "gaussian",
    prefer: Prefer = "sharpest",
) -> DepthMap:
    """Depth from the peaks of the focus curves.

    A pixel is in focus somewhere if its peak stands above the floor of its own curve by more than
    noise would reach in any of its planes once in a thousand pixels; elsewhere the uncertainty is
    inf. Floor and fluctuation come from the volume itself (see `napari_dff.curve`).

    Parameters
    ----------
    focus : (Z, Y, X) float array
        At least 0, as from `focus_measure`.
    positions : (Z,) array, optional
        Focus position of each plane, strictly rising or falling; 0 … Z-1 when None.
    peak : {"argmax", "parabola", "gaussian"}
        The plane itself; the vertex of a parabola, or of a Gaussian, through the three planes
        around it. A peak in the first or last plane is not interpolated.
    prefer : {"sharpest", "first", "last"}
        Which peak where several stand above the noise: the highest, or the one in the first or
        last such plane (looking through something transparent).

    Returns
    -------
    DepthMap

    Raises
    ------
    ValueError
        For a wrong argument.

    References
    ----------
    Nayar & Nakagawa 1994, doi:10.1109/34.308479 (Gaussian peak).
    """
    checks.one_of("peak", peak, PEAKS)
    checks.one_of("prefer", prefer, PREFERENCES)
    focus = checked_focus(focus)
    at = checked_positions(positions, len(focus))
    index, depth, uncertainty = peaks(
        focus, at, PEAKS[peak], PREFERENCES[prefer], noise_of(focus), significance(len(focus))
    )
    return DepthMap(index, depth, uncertainty)


def checked_focus(focus: np.ndarray) -> np.ndarray:
    """`focus` as contiguous float32; ValueError unless (Z, Y, X), finite and at least 0."""
    values = np.ascontiguousarray(focus, dtype=np.float32)
    if values.ndim != 3 or len(values) < MINIMUM_PLANES:
        raise ValueError(
            f"focus must have axes (Z, Y, X) with at least {MINIMUM_PLANES} planes, "
            f"got shape {values.shape}"
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and np.isfinite(high)):
        raise ValueError(f"focus must be finite and at least 0, got values from {low} to {high}")
    if high == 0:
        raise ValueError("focus must be above 0 somewhere, got 0 everywhere: nothing is sharp")
    return values
