"""Where is it sharpest? From a focus volume to depth, with how well it is known."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from napari_dff import checks
from napari_dff.curve import PEAKS, noise_of, peak_at
from napari_dff.stack import MINIMUM_PLANES, checked_positions

Peak = Literal["argmax", "parabola", "gaussian"]
Prefer = Literal["sharpest", "first", "last"]
PREFERENCES = {"sharpest": 0, "first": 1, "last": -1}
FALSE_ALARM = 1e-3  # share of pixels without any texture that may still be called in focus


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
    noise = noise_of(focus)
    index, depth, uncertainty = _peaks(
        focus,
        at,
        PEAKS[peak],
        PREFERENCES[prefer],
        noise.floor,
        noise.fluctuation,
        significance(len(focus)),
    )
    return DepthMap(index, depth, uncertainty)


def significance(planes: int) -> float:
    """How many fluctuations above its floor a curve of noise stays, but for FALSE_ALARM of them.

    The highest of `planes` normal numbers, counted from the mean of their lower half (-0.8).
    """
    return float(ndtri((1 - FALSE_ALARM) ** (1 / planes))) + 0.8


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


@numba.njit(parallel=True, cache=True)
def _peaks(focus, positions, kind, prefer, floor, fluctuation, threshold):  # type: ignore[no-untyped-def]
    count, height, width = focus.shape
    index = np.empty((height, width), np.uint16)
    depth = np.empty((height, width), np.float32)
    uncertainty = np.empty((height, width), np.float32)
    for y in numba.prange(height):
        rows = np.empty((width, count), np.float32)
        for k in range(count):
            for x in range(width):
                rows[x, k] = focus[k, y, x]
        for x in range(width):
            curve = rows[x]
            enough = np.exp(floor[y, x] + threshold * max(fluctuation[y, x], 0.02))
            k = int(np.argmax(curve))
            if prefer != 0:
                k = _outermost(curve, k, prefer, enough, fluctuation[y, x])
            at, deviation = peak_at(curve, k, positions, kind, floor[y, x], fluctuation[y, x])
            index[y, x] = k
            depth[y, x] = at
            uncertainty[y, x] = deviation if curve[k] > enough else np.inf
    return index, depth, uncertainty


@numba.njit(cache=True)
def _outermost(curve, best, prefer, enough, fluctuation):  # type: ignore[no-untyped-def]
    """Find the first (or last) significant peak: high enough, and with a dip before the best."""
    count = len(curve)
    k = 0 if prefer > 0 else count - 1
    dip = np.exp(-3 * max(fluctuation, 0.02))
    while k != best:
        beside = max(curve[max(k - 1, 0)], curve[min(k + 1, count - 1)])
        if curve[k] > enough and curve[k] > 0.05 * curve[best] and curve[k] >= beside:
            lowest = curve[k]
            for j in range(min(k, best), max(k, best) + 1):
                lowest = min(lowest, curve[j])
            if lowest < dip * curve[k]:
                return k
        k += prefer
    return best
