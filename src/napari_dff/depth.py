"""Where is it sharpest? From a focus volume to depth, with how well it is known."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from napari_dff import checks
from napari_dff.curve import (
    PEAK_MODELS,
    FocusVolume,
    as_focus_volume,
    detection_z_score,
    find_peaks,
    find_strongest_peaks,
    focus_windows,
)
from napari_dff.progress import Progress, no_progress
from napari_dff.recipe import Peak, Prefer
from napari_dff.stack import validate_positions
from napari_dff.threads import run_parallel
from napari_dff.windows import Window, plan_windows

ROUGHNESS = 5.0  # pixels, standard deviation of the average that scatter is counted from
ROUGHNESS_REACH = 60  # pixels around a window that its scatter depends on: three such averages
MAPS = 8  # float32 maps of a window that are held at a time while scatter is computed
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
    volume = as_focus_volume(focus)
    at = validate_positions(positions, volume.shape[0])
    depth, strength = (np.empty((count, *volume.shape[1:]), np.float32) for _ in range(2))
    threshold = detection_z_score(volume.shape[0])

    def fill(wanted: Window) -> None:
        curves, noise = volume.read(wanted)
        here = (..., *wanted.slices)
        depth[here], strength[here] = find_strongest_peaks(curves, at, *noise, threshold, count)

    run_parallel(fill, focus_windows(volume), no_progress, desc="Finding peaks")
    return FocusPeaks(depth, strength)


def depth_map(
    focus: np.ndarray,  # (Z, Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    peak: Peak = "curve",
    prefer: Prefer = "sharpest",
    progress: Progress = no_progress,
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
    progress : Progress
        Told of each window of pixels; may raise to cancel.

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
    volume = as_focus_volume(focus)
    return estimate_depth(
        volume, validate_positions(positions, volume.shape[0]), peak, prefer, progress
    )


def estimate_depth(
    volume: FocusVolume, at: np.ndarray, peak: Peak, prefer: Prefer, progress: Progress
) -> DepthMap:
    """The depth map of a focus volume that need not be held; see `depth_map`."""
    found = locate_depth(volume, at, peak, prefer, progress)
    shape = found.depth.shape
    spacing = np.float32(np.abs(np.diff(at)).mean())
    total = np.empty_like(found.uncertainty)

    def add_scatter(wanted: Window) -> None:
        around = wanted.expand(ROUGHNESS_REACH, shape)
        depth, deviation = (part[around.slices] / spacing for part in found[1:])
        rough = spacing * depth_scatter(depth, deviation)[wanted.slices_in(around)]
        total[wanted.slices] = np.hypot(found.uncertainty[wanted.slices], rough)

    tiles = plan_windows(shape, MAPS, ROUGHNESS_REACH)
    run_parallel(add_scatter, tiles, progress, desc="Finding uncertainty")
    return found._replace(uncertainty=total)


def locate_depth(
    volume: FocusVolume, at: np.ndarray, peak: Peak, prefer: Prefer, progress: Progress
) -> DepthMap:
    """Peaks of a focus volume; the uncertainty is what the noise of each curve makes of its own."""
    checks.check_choice("peak", peak, PEAK_MODELS)
    checks.check_choice("prefer", prefer, PREFERENCES)
    count, shape = volume.shape[0], volume.shape[1:]
    index, depth, uncertainty = (np.empty(shape, kind) for kind in (np.uint16, "f4", "f4"))
    settings = at, PEAK_MODELS[peak], PREFERENCES[prefer]
    threshold = detection_z_score(count)

    def fill(wanted: Window) -> None:
        curves, noise = volume.read(wanted)
        here = wanted.slices
        index[here], depth[here], uncertainty[here] = find_peaks(
            curves, *settings, noise, threshold
        )

    run_parallel(fill, focus_windows(volume), progress, desc="Finding depth")
    return DepthMap(index, depth, uncertainty)


def depth_scatter(depth: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """How much `depth` (in planes) scatters about a smooth surface: (Y, X), standard deviation.

    What the noise of the curve doesn't tell: texture that differs from plane to plane, leaks from
    beside, a curve of another shape. The smooth surface is a Gaussian average over `ROUGHNESS`
    pixels, twice (Tukey's twicing leaves slopes and curvature to it), each pixel weighted by its
    `deviation`; inf counts for nothing.
    """
    weight = 1 / (np.minimum(deviation, np.float32(1e3)) ** 2 + np.float32(0.05**2))
    weight[~np.isfinite(deviation)] = 0
    weight += np.float32(1e-6)
    total = cv2.GaussianBlur(weight, (0, 0), ROUGHNESS)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(weight * values, (0, 0), ROUGHNESS) / total

    surface = mean(depth)
    surface += mean(depth - surface)
    # A step is no scatter of the whole neighbourhood: a pixel counts for one plane at most.
    return np.sqrt(mean(np.minimum((depth - surface) ** 2, 1)))
