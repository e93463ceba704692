"""The all-in-focus image: every pixel from where it is sharpest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_dff import checks
from napari_dff.progress import Progress, silent
from napari_dff.stack import as_dtype, check_planes, checked_positions, read_plane

Fusion = Literal["nearest", "linear"]


def all_in_focus(
    planes: Any,  # (Z, Y, X[, 3])
    depth: np.ndarray,  # (Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    fusion: Fusion = "linear",
    progress: Progress = silent,
) -> np.ndarray:  # (Y, X[, 3])
    """All-in-focus image of a stack whose depth is known.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type, read plane by plane.
    depth : (Y, X) float array
        In the unit of `positions`; beyond the first or last plane that plane is taken.
    positions : (Z,) array, optional
        Focus position of each plane, strictly rising or falling; 0 … Z-1 when None.
    fusion : {"nearest", "linear"}
        The plane nearest to the depth; the two nearest planes mixed in proportion.
    progress : Progress
        Told of each plane; may raise to cancel.

    Returns
    -------
    (Y, X) or (Y, X, 3), dtype of `planes`

    Raises
    ------
    ValueError
        For a wrong argument.

    References
    ----------
    Suwajanakorn et al. 2015, doi:10.1109/CVPR.2015.7298972.
    """
    check_planes(planes)
    checks.one_of("fusion", fusion, FUSIONS)
    if depth.shape != tuple(planes.shape[1:3]):
        raise ValueError(
            f"depth must have the shape of a plane, {tuple(planes.shape[1:3])}, got {depth.shape}"
        )
    if not np.isfinite(depth).all():
        raise ValueError("depth must be finite everywhere, got NaN or infinite values")
    at = fractional_index(depth, checked_positions(positions, planes.shape[0]))
    weigh = FUSIONS[fusion]
    total = np.zeros(tuple(planes.shape[1:]), dtype=np.float32)
    for i in progress(range(planes.shape[0]), desc="Fusing"):
        weight = weigh(at, i)
        rows = np.flatnonzero(weight.any(axis=1))
        if len(rows):
            part = slice(rows[0], rows[-1] + 1)
            values = read_plane(planes, i)[part].astype(np.float32)
            total[part] += values * (weight[part] if values.ndim == 2 else weight[part, :, None])
    return as_dtype(total, np.dtype(planes.dtype))


def fractional_index(depth: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Depth → plane number with fraction, (Y, X) float32, 0 … Z-1."""
    order = np.argsort(positions)
    return np.interp(depth, positions[order], order.astype(np.float64)).astype(np.float32)


def nearest(at: np.ndarray, i: int) -> np.ndarray:
    """Weight 1 where plane `i` is the nearest, else 0."""
    return (np.rint(at) == i).astype(np.float32)


def linear(at: np.ndarray, i: int) -> np.ndarray:
    """Weight of plane `i`: falls from 1 to 0 within one plane."""
    return np.maximum(1 - np.abs(at - np.float32(i)), 0)


FUSIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "nearest": nearest,
    "linear": linear,
}
