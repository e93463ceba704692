"""Statistics of a whole plane: the typical slope of the surface, and the range of the guide."""

import itertools
from collections.abc import Sequence

import numpy as np

from napari_dff.curve.blocks import upsample_map
from napari_dff.curve.search import peak_uncertainty
from napari_dff.curve.volume import FocusVolume
from napari_dff.imaging.images import luminance
from napari_dff.model.checks import as_numbers, check_finite
from napari_dff.model.depth_map import DepthMap
from napari_dff.runtime.progress import no_progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.windows import GRID_PX, Window

SAMPLE_SIZE_PX = 1 << 18  # pixels that a statistic of a large plane is computed from, about
SAMPLE_ROWS, SAMPLE_SIDE_PX = 3, 192  # 3 × 3 windows, from which statistics are estimated
PATCH_SIDE_PX = 128  # side of the windows whose focus curves are read for the slope
SLOPE_BASE_PX = 8  # distance of the two pixels that a slope is measured between
SURFACE_STEP_PLANES = 2.0  # neighbours that differ by more lie on different surfaces
MIN_SLOPE = 0.005  # planes per pixel: no surface is assumed to be smoother than this
MIN_SLOPE_SHARE = 0.19  # of the typical deviation, per pixel: depth is averaged over ≤ √5 / 0.19 px
MEDIAN_OF_ABS_NORMAL = 0.6745  # median of |x| for a standard normal x


def typical_slope(depth: np.ndarray, deviation: np.ndarray) -> float:
    """Return the standard deviation of the surface's slope, in planes per pixel.

    It is estimated from the median absolute slope, as if slopes were normally distributed, along
    rows and columns between the half of all pixels whose depth is best known. `depth` and its
    standard `deviation` are (Y, X) float32, in planes.
    """
    stride = max(1, int(np.sqrt(depth.size / SAMPLE_SIZE_PX)))
    sample = deviation[::stride, ::stride]
    typical_deviation = np.median(sample[np.isfinite(sample)])
    well_known = deviation <= typical_deviation
    first, second = np.s_[:-SLOPE_BASE_PX:stride, ::stride], np.s_[SLOPE_BASE_PX::stride, ::stride]
    slopes = []
    for values, mask in ((depth, well_known), (depth.T, well_known.T)):
        steps = np.abs(values[second] - values[first])[mask[second] & mask[first]]
        steps = steps[steps < SURFACE_STEP_PLANES]
        slopes.append(np.median(steps) / SLOPE_BASE_PX if steps.size else 0.0)
    slope = float(np.mean(slopes)) / MEDIAN_OF_ABS_NORMAL
    return max(slope, MIN_SLOPE, MIN_SLOPE_SHARE * float(typical_deviation))


def sample_typical_slope(estimate: DepthMap, volume: FocusVolume, positions: np.ndarray) -> float:
    """Return the typical slope of `estimate`, from the focus curves in patches on a grid."""
    height, width = estimate.depth.shape
    stride = PATCH_SIDE_PX * max(1, round(np.sqrt(estimate.depth.size / SAMPLE_SIZE_PX)))
    spacing = np.float32(np.abs(np.diff(positions)).mean())
    deviation = np.full(estimate.depth.shape, np.inf, np.float32)

    def fill(window: Window) -> None:
        deviation[window.slices] = noise_deviation(estimate, volume, positions, window) / spacing

    corners = itertools.product(range(0, height, stride), range(0, width, stride))
    side = PATCH_SIDE_PX
    patches = [Window(y, min(y + side, height), x, min(x + side, width)) for y, x in corners]
    run_parallel(fill, patches, no_progress, desc="")
    return typical_slope(estimate.depth / spacing, deviation)


def noise_deviation(
    estimate: DepthMap, volume: FocusVolume, positions: np.ndarray, window: Window
) -> np.ndarray:
    """Return the standard deviation of the depth in `window` that noise causes; inf: no focus.

    It does not contain the scatter about a smooth surface, as the uncertainty of the estimate does:
    steps of the surface, where scatter is large, would be smoothed away.
    """
    step, outer = volume.step, window.expand(volume.step - 1, volume.shape[1:])
    curves, noise = volume.read_blocks(outer)
    index = np.ascontiguousarray(estimate.index[outer.slices][::step, ::step])
    deviation = upsample_map(peak_uncertainty(curves, positions, index, *noise), step)
    deviation = deviation[window.slices_in(outer)]
    return np.where(np.isfinite(estimate.uncertainty[window.slices]), deviation, np.float32(np.inf))


def sample_windows(shape: tuple[int, int]) -> list[Window]:
    """Return windows, evenly spaced over a plane; the same if it is computed in tiles."""
    height, width = (min(SAMPLE_SIDE_PX, size) for size in shape)
    tops, lefts = (
        {int(rest * (k + 0.5) / SAMPLE_ROWS) // GRID_PX * GRID_PX for k in range(SAMPLE_ROWS)}
        for rest in (shape[0] - height, shape[1] - width)
    )
    corners = itertools.product(sorted(tops), sorted(lefts))
    return [Window(y, y + height, x, x + width) for y, x in corners]


def guide_range(samples: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the 1st and 99th percentile of (Y, X) images, of `sample_windows` of the guide."""
    low, high = np.percentile(np.concatenate([each.ravel() for each in samples]), (1, 99))
    return float(low), float(high)


def normalized_guide(
    guide: np.ndarray | None, shape: tuple[int, ...], limits: tuple[float, float] | None
) -> np.ndarray:
    """Return `guide` in grey, (Y, X) float32, scaled from `limits` (its `guide_range`) to 0 … 1."""
    if guide is None:
        return np.zeros(shape, dtype=np.float32)
    values = as_numbers("guide", guide)
    if values.shape not in (shape, (*shape, 3)):
        raise ValueError(f"guide must have the shape of a plane, {shape}, got {values.shape}")
    check_finite("guide", values)
    image = luminance(values)
    if limits is None:
        limits = guide_range([image[window.slices] for window in sample_windows(image.shape)])
    low, high = map(np.float32, limits)
    image = (image - low) * np.float32(1 / max(high - low, np.float32(1e-12)))
    return np.clip(image, 0, 1, out=image)
