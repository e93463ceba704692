"""Depth from a focus volume, with its standard uncertainty."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from napari_dff.curve.search import PREFERENCES
from napari_dff.curve.volume import FocusVolume, as_focus_volume
from napari_dff.depth.peaks import DEFAULT_SCALE, LocatedPeaks, at_pixels, locate_peaks
from napari_dff.imaging.images import block_means
from napari_dff.model import checks
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import SIGMA, WINDOW, FocusScale, Peak, Prefer
from napari_dff.model.stack import validate_positions
from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.windows import Window, plan_windows

SCATTER_SIGMA_PX = 5.0  # standard deviation of the Gaussian average that scatter is measured from
SCATTER_RADIUS_PX = 60  # how far from a pixel its scatter depends on the depth: 3 such averages
SCATTER_MAPS = 12  # (Y, X) float32 arrays of a window in memory while scatter is computed
SCATTER_ERROR_FLOOR_PLANES = 0.05  # least error of a depth as a weight
SHARED_ERROR = 0.4  # factor of the breadth, fitted on seven stacks with truth; 0.5 to 0.7 do too
MIN_TEXTURE_SIGMA_PX = 0.5  # texture is not finer than this, even without a Gaussian
BREADTH_SIGMA_PX = 15.0  # standard deviation of the Gaussian that averages the breadth in focus
BREADTH_STEP_PX = 4  # between the values of this average; windows begin at multiples of it

# Model of error
# --------------
# The noise of a curve and the scatter about a smooth surface count independent errors. Texture of
# other depths in the window, and texture that changes under defocus, add errors that neighbouring
# pixels and planes share, so that neither shows them. They grow with the width w of the peak, in
# planes, and with the share of the floor in it, F₀ / F, as the error from noise does. A floor of
# white noise fluctuates by f₀ from plane to plane, texture does not: 1 - f² / f₀², from the
# measured fluctuation f, is the share of texture. With N = `window` / `sigma` samples across the
# window, independent errors fall as 1 / N, and shared ones do not. The independent errors are
# multiplied by
#     1 + `SHARED_ERROR` · N / 9 · mean((1 - f² / f₀²) w √(F₀ / F)).


def depth_map(
    focus: np.ndarray,  # (Z, Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    peak: Peak = "curve",
    prefer: Prefer = "sharpest",
    plane_mask: np.ndarray | None = None,  # (Z, Y, X)
    sigma: float = DEFAULT_SCALE.sigma,
    window: int = DEFAULT_SCALE.window,
    progress: Progress = no_progress,
) -> DepthMap:
    """Return depth and its standard uncertainty from the peaks of the focus curves.

    The uncertainty is inf where no peak exceeds the detection threshold, which noise alone exceeds
    in any plane for one pixel in a thousand. The noise is estimated from the volume itself (see
    `napari_dff.curve.noise`). The uncertainty combines the noise of the curve and the scatter of
    the depth about a smooth surface; it grows with the width of the peaks and the share of the
    noise floor in them. A peak in the first or last plane may lie outside the stack; its
    uncertainty is at least the distance over which the curve falls to half.

    Parameters
    ----------
    focus : (Z, Y, X) float array
        At least 0, as from `focus_measure`.
    positions : (Z,) array, optional
        Focus position of each plane, strictly increasing or decreasing; default 0 … Z-1.
    peak : {"curve", "lorentzian", "gaussian", "parabola", "argmax"}
        Model of the peak. ``curve``: a squared Lorentzian, like which the energy of fine texture
        falls under a growing blur, fitted to all planes of the peak. ``lorentzian``, ``gaussian``,
        ``parabola``: the model through the sharpest plane and its two neighbours. ``argmax``: the
        sharpest plane. A peak in the first or last plane is not interpolated.
    prefer : {"sharpest", "first", "last"}
        Which peak to take if several are detected: the highest, or that of the first or last plane
        (to look through something transparent).
    plane_mask : (Z, Y, X) bool array, optional
        Where each aligned plane has data, as from `LazyAlignedStack.plane_mask`; everywhere if
        None. The depth is that of the planes with data. Its uncertainty is inf where fewer than
        half of the planes, or fewer than 3, have data, and where a peak reaches planes without.
    sigma, window : float, int
        Those of `focus_measure`, in pixels. The uncertainty depends on them: errors of the texture
        do not fall with the size of the window as those of noise do. Where they are chosen
        automatically, `Reconstruction.scale` has the values.
    progress : Progress
        Wraps the loop over windows; may raise to cancel.

    Returns
    -------
    DepthMap

    Raises
    ------
    ValueError
        For an invalid argument.

    References
    ----------
    Nayar & Nakagawa 1994, doi:10.1109/34.308479 (Gaussian peak).
    """
    volume = as_focus_volume(focus, plane_mask)
    planes = validate_positions(positions, volume.shape[0])
    ranges = (each._replace(has_auto=False) for each in (SIGMA, WINDOW))
    values = zip(ranges, ("sigma", "window"), (sigma, window), strict=True)
    scale = FocusScale(*(limits.check(name, value) for limits, name, value in values))
    return estimate_depth(volume, planes, peak, prefer, progress, scale)


def estimate_depth(
    volume: FocusVolume,
    positions: np.ndarray,
    peak: Peak,
    prefer: Prefer,
    progress: Progress,
    scale: FocusScale,
) -> DepthMap:
    """Return the depth map of a focus volume that may be lazy; see `depth_map`."""
    return estimate_surfaces(volume, positions, peak, prefer, progress, scale)[0]


def estimate_surfaces(
    volume: FocusVolume,
    positions: np.ndarray,
    peak: Peak,
    prefer: Prefer,
    progress: Progress,
    scale: FocusScale,
) -> tuple[DepthMap, np.ndarray]:
    """Return the depth map, and the depth of another surface in each block, NaN if none."""
    checks.check_choice("prefer", prefer, PREFERENCES)
    (located,) = locate_peaks(volume, positions, peak, (prefer,), progress, scale)
    blocks = add_errors(located, positions, progress, scale)
    return at_pixels(blocks, volume, positions, peak), located.other


def add_errors(
    located: LocatedPeaks, positions: np.ndarray, progress: Progress, scale: FocusScale
) -> DepthMap:
    """Return the peaks of blocks with the uncertainty from all errors."""
    peaks, breadth, ambiguity, _, step = located
    samples = scale.window / max(scale.sigma, MIN_TEXTURE_SIGMA_PX)
    shared_error = SHARED_ERROR * samples / (DEFAULT_SCALE.window / DEFAULT_SCALE.sigma)
    radius = -(-SCATTER_RADIUS_PX // step)
    shape, spacing = peaks.depth.shape, np.float32(np.abs(np.diff(positions)).mean())
    uncertainty = np.empty_like(peaks.uncertainty)

    def add_scatter(window: Window) -> None:
        outer = window.expand(radius, shape)
        depth, noise = (part[outer.slices] / spacing for part in peaks[1:])
        scatter = spacing * depth_scatter(depth, noise, step)
        mean_breadth = _mean_in_focus(breadth[outer.slices], np.isfinite(noise), step)
        variances = peaks.uncertainty[outer.slices] ** 2, scatter**2
        independent = np.sqrt(np.maximum(*variances) + np.minimum(*variances) / 2)
        same_surface = independent * (1 + shared_error * mean_breadth)
        total = np.hypot(same_surface, spacing * ambiguity[outer.slices])
        uncertainty[window.slices] = total[window.slices_in(outer)]

    windows = plan_windows(shape, SCATTER_MAPS, radius)
    run_parallel(add_scatter, windows, progress, desc="Finding uncertainty")
    return peaks._replace(uncertainty=uncertainty)


def _mean_in_focus(values: np.ndarray, in_focus: np.ndarray, step: int) -> np.ndarray:
    """Return wide Gaussian means of (Y, X) `values` where `in_focus`, from means of blocks.

    The values are `step` pixels apart.
    """
    side = BREADTH_STEP_PX // step
    weight = in_focus.astype(np.float32)
    weighted, total = (
        cv2.GaussianBlur(block_means(each, side), (0, 0), BREADTH_SIGMA_PX / BREADTH_STEP_PX)
        for each in (weight * values, weight)
    )
    mean = weighted / np.maximum(total, np.float32(1e-3))
    size = mean.shape[1] * side, mean.shape[0] * side
    return cv2.resize(mean, size)[: values.shape[0], : values.shape[1]]


def depth_scatter(depth: np.ndarray, deviation: np.ndarray, step: int = 1) -> np.ndarray:
    """Return the standard deviation of the depth about a smooth surface.

    All arrays are (Y, X) float32, in planes, `step` pixels apart; values of infinite `deviation`
    have no weight. Scatter contains errors that the noise of single curves does not: texture that
    differs between planes, light from neighbouring pixels, curves of another shape. The surface is
    a weighted Gaussian average m of the depth d, applied twice, m(d) + m(d - m(d)) (Tukey's
    twicing), so that it follows slope and curvature.
    """
    error_floor = np.float32(SCATTER_ERROR_FLOOR_PLANES**2)
    weight = 1 / (np.minimum(deviation, np.float32(1e3)) ** 2 + error_floor)
    weight[~np.isfinite(deviation)] = 0
    weight += np.float32(1e-6)
    sigma = SCATTER_SIGMA_PX / step
    total = cv2.GaussianBlur(weight, (0, 0), sigma)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(weight * values, (0, 0), sigma) / total

    surface = mean(depth)
    surface += mean(depth - surface)
    # Limited to 1 plane, so that a step of the surface does not count as scatter around it.
    return np.sqrt(mean(np.minimum((depth - surface) ** 2, 1)))
