"""Where is it sharpest? From a focus volume to depth, with how well it is known."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_dff import checks
from napari_dff.curve import PEAKS, noise_of, peaks, scatter, significance, strongest
from napari_dff.stack import MINIMUM_PLANES, checked_positions

Peak = Literal["curve", "lorentzian", "gaussian", "parabola", "argmax"]
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


class FocusPeaks(NamedTuple):
    """Several peaks of every pixel, the strongest first.

    Attributes
    ----------
    depth : (K, Y, X) float32
        Position of each peak, in the unit of `positions`; NaN where there are fewer.
    strength : (K, Y, X) float32
        How many times the floor of its curve each peak reaches; 0 where there are fewer.
    """

    depth: np.ndarray
    strength: np.ndarray


def focus_peaks(
    focus: np.ndarray,  # (Z, Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    count: int = 3,
) -> FocusPeaks:
    """All peaks of the focus curves that stand above the noise: surfaces one behind the other.

    Parameters
    ----------
    focus : (Z, Y, X) float array
        At least 0, as from `focus_measure`.
    positions : (Z,) array, optional
        Focus position of each plane, strictly rising or falling; 0 … Z-1 when None.
    count : int
        How many are kept, 1 to 16.

    Returns
    -------
    FocusPeaks

    Raises
    ------
    ValueError
        For a wrong argument.
    """
    checks.Range(1, 16, 1).check("count", count)
    focus = checked_focus(focus)
    at = checked_positions(positions, len(focus))
    noise = noise_of(focus)
    return FocusPeaks(
        *strongest(focus, at, noise.floor, noise.fluctuation, significance(len(focus)), count)
    )


def depth_map(
    focus: np.ndarray,  # (Z, Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    peak: Peak = "curve",
    prefer: Prefer = "sharpest",
) -> DepthMap:
    """Depth from the peaks of the focus curves.

    A pixel is in focus somewhere if its peak stands above the floor of its own curve by more than
    noise would reach in any of its planes once in a thousand pixels; elsewhere the uncertainty is
    inf. Floor and fluctuation come from the volume itself (see `napari_dff.curve`). The
    uncertainty is what that noise makes of the peak, and how much the depth scatters about a
    smooth surface, added in squares.

    Parameters
    ----------
    focus : (Z, Y, X) float array
        At least 0, as from `focus_measure`.
    positions : (Z,) array, optional
        Focus position of each plane, strictly rising or falling; 0 … Z-1 when None.
    peak : {"curve", "lorentzian", "gaussian", "parabola", "argmax"}
        The vertex of a squared Lorentzian fitted to the whole peak; of a squared Lorentzian, a
        Gaussian or a parabola through the three planes around the sharpest; or that plane
        itself. The energy of fine texture under a growing blur falls like a squared Lorentzian.
        A peak in the first or last plane is not interpolated.
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
    spacing = np.float32(np.abs(np.diff(at)).mean())
    rough = spacing * scatter(depth / spacing, uncertainty / spacing)
    return DepthMap(index, depth, np.hypot(uncertainty, rough))


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
