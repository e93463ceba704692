"""Spatial aggregation of the focus measure: the window over which each curve is averaged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from math import ceil, sqrt

import cv2
import numpy as np

from napari_dff.curve.noise import NOISE_RADIUS_PX, NOISE_SIGMA_PX, compute_noise, detection_z_score
from napari_dff.curve.peak import CURVE_PEAK
from napari_dff.curve.search import HIGHEST_PEAK, find_peaks
from napari_dff.focus.balance import MAX_SHIFT_SIGMAS, balance
from napari_dff.focus.sampling import SampledOperator
from napari_dff.focus.splines import SPLINE_RADIUS, add_upsampled, upsample
from napari_dff.imaging.images import block_means
from napari_dff.model.recipe import Aggregation
from napari_dff.runtime.windows import GRID_PX, Window

SCALES = (1, 2, 4)  # factors of sigma and window in `adaptive_windows`
MAX_MOMENTS = (2.3, 1.35, 1.15)  # second moment, for each scale, above which a pixel has no texture
MIN_CONTRASTS = (3e-2, 3e-3, 3e-4)  # of a pixel over its window's, for each scale; else as above
TARGET_UNCERTAINTY_PLANES = 0.15  # below this a larger window is not needed
MIN_REMAINING_WEIGHT = 0.01  # less is not worth computing a larger window
MIN_SMOOTH_VARIANCE = 1.0  # samples²: above this, uncertainty is computed for 2 × 2 samples as one
FLATTENING_POWER = 0.01  # of curves without a detected peak
LOG_RANGE = np.float32(14)  # typical range of ln(measure) in an image: scales the guide
GUIDED_EPSILON = np.float32(1e-3)  # regularization of the guided filter, in the scaled guide's unit
TINY = np.float32(1e-30)


def fixed_windows(operator: SampledOperator, window: Window, grid: int = 1) -> np.ndarray:
    """Return the measure averaged over the same window everywhere."""
    outer = window.expand(operator.step(), operator.shape)
    return upsample(operator(outer), operator.step(), window, outer, grid)


def balanced_windows(operator: SampledOperator, window: Window, grid: int = 1) -> np.ndarray:
    """Return the measure averaged over windows whose focus energy is centred on their pixel."""
    outer = window.expand(balanced_radius(operator), operator.shape)
    volume, contrast, _ = operator.equalized(outer)
    balance(volume, operator.variance())
    _normalize_curves(volume)
    volume = upsample(volume, operator.step(), window, outer, grid)
    volume *= upsample(contrast[None], operator.step(), window, outer, grid)
    return volume


# Adaptive windows
# ----------------
# Small windows resolve detail, large ones reduce noise. With the uncertainty σ_s of the peak in
# planes (inf if not detected) and the texture mask T_s (second moment ≤ `MAX_MOMENTS`, contrast at
# the pixel, at the first scale, > `MIN_CONTRASTS` times that of the window), scale s has
#     w_s = a_s Π_(r < s) (1 - a_r),    a_s = T_s / (1 + (σ_s / σ_target)⁴), last: T_s [σ_s < ∞],
# as its weight. What remains is added to the first scale at which the peak is detected. Where no
# scale detects one, the curve of the last is used, flattened. The mean of the normalized balanced
# curves is multiplied by the maximum at the first scale, before contrast is equalized.
# docs/methods.md, "Adaptive windows".
# Shares are smooth, so σ_s is computed on 2 × 2 means of samples where the window is wide.
# Cost: about 1 / s² of the first scale for scale s, none if no pixel has weight left.


def adaptive_windows(operator: SampledOperator, window: Window, grid: int = 1) -> np.ndarray:
    """Return the measure averaged over balanced windows, larger where noise is stronger."""
    shape = window.blocks(grid).shape
    scales = []  # curves, their step and window, weight, and where they detect a peak first
    remaining = np.ones(shape, np.float32)
    undetected = np.ones(shape, bool)
    for scale, max_moment, min_contrast in zip(SCALES, MAX_MOMENTS, MIN_CONTRASTS, strict=True):
        step, variance = operator.step(scale), operator.variance(scale)
        outer = window.expand(balanced_radius(operator, scale) + NOISE_RADIUS_PX, operator.shape)
        volume, contrast, own = operator.equalized(outer, scale)
        bend = np.float32(variance / 2) * cv2.Laplacian(contrast, cv2.CV_32F)  # (m - 1) · contrast
        balance(volume, variance)
        _normalize_curves(volume)
        maps = np.stack([contrast, bend <= (max_moment - 1) * contrast, own]).astype(np.float32)
        contrast, textured, own = upsample(maps, step, window, outer, grid)
        if scale == SCALES[0]:
            unit, pixel_contrast = contrast * (contrast > 2 * TINY), own
        textured *= pixel_contrast > min_contrast * contrast
        # The blocks start at the corner of `outer`, which lies on the grid of windows.
        block = 2 if variance >= MIN_SMOOTH_VARIANCE and 2 * step <= GRID_PX else 1
        uncertainty = _peak_uncertainty(volume, block, step, operator.noise_fluctuation())
        detected = np.isfinite(uncertainty)
        share = detected / (1 + (uncertainty / TARGET_UNCERTAINTY_PLANES) ** 4)
        maps = np.stack([share if scale < SCALES[-1] else detected, detected]).astype(np.float32)
        share, detection = textured * upsample(maps, block * step, window, outer, grid)
        is_first_detection = undetected & (detection > 0.5)
        undetected &= ~is_first_detection
        scales.append((volume, step, outer, remaining * share, is_first_detection))
        remaining = remaining * (1 - share)
        remaining[(remaining < MIN_REMAINING_WEIGHT) & ~undetected] = 0
        if not remaining.any():
            break
    out = np.zeros((len(volume), *shape), np.float32)
    for volume, step, outer, weight, is_first_detection in scales:
        weight = unit * ~undetected * (weight + remaining * is_first_detection)
        add_upsampled(out, weight, volume, step, window, outer, grid)
    if undetected.any():
        _flatten(volume)
        add_upsampled(out, unit * undetected, volume, step, window, outer, grid)
    return out


def guided_filter(operator: SampledOperator, window: Window, _: int = 1) -> np.ndarray:
    """Return the measure of every plane, filtered along the edges of the maximum over all planes.

    In every box of the width of the averaging window, the measure p, averaged over half of it, is
    approximated by a linear function of the guide g, the scaled logarithm of the maximum: a g + b
    with a = cov(g, p) / (var(g) + ε) and b = mean(p) - a mean(g). Each pixel takes the mean of a
    and b over the boxes that contain it (He, Sun & Tang 2013, doi:10.1109/TPAMI.2012.213).
    """
    width = int(operator.window)
    outer = window.expand(width, operator.shape)
    half_window = dataclasses.replace(operator, window=max(1, 2 * (width // 4) + 1))
    volume = fixed_windows(half_window, outer)
    guide = np.log(volume.max(axis=0) + TINY) / LOG_RANGE
    box = (width, width)
    mean = cv2.blur(guide, box)
    variance = cv2.blur(guide**2, box) - mean**2 + GUIDED_EPSILON
    for plane in volume:
        plane_mean = cv2.blur(plane, box)
        slope = (cv2.blur(guide * plane, box) - mean * plane_mean) / variance
        offset = plane_mean - slope * mean
        plane[:] = np.maximum(cv2.blur(slope, box) * guide + cv2.blur(offset, box), 0)
    return volume[(..., *window.slices_in(outer))]


def balanced_radius(operator: SampledOperator, scale: int = 1) -> int:
    """Return how far from a pixel, in pixels, its balanced curve depends on the measure."""
    samples = ceil(MAX_SHIFT_SIGMAS * sqrt(operator.variance(scale))) + 3
    return operator.step(scale) * (samples + 2 * SPLINE_RADIUS)


def _normalize_curves(volume: np.ndarray) -> None:
    """Divide every curve by its maximum, in place."""
    volume /= np.maximum(volume.max(axis=0), TINY)


def _flatten(volume: np.ndarray) -> None:
    """Flatten curves to about their mean, with their planes in the same order, in place."""
    mean = np.maximum(volume.mean(axis=0), TINY)
    for plane in volume:
        relative = np.maximum(plane / mean, np.float32(1e-6))
        plane[:] = mean * relative ** np.float32(FLATTENING_POWER)


def _peak_uncertainty(
    volume: np.ndarray, block: int, step: int, expected_fluctuation: float
) -> np.ndarray:
    """Return the uncertainty, in planes, of the peaks of block × block samples; inf if none."""
    if block > 1:
        volume = np.stack([block_means(plane, block) for plane in volume])
    settings = np.arange(float(len(volume))), CURVE_PEAK, HIGHEST_PEAK
    noise = compute_noise(volume, NOISE_SIGMA_PX / (block * step), expected_fluctuation)
    return find_peaks(volume, *settings, *noise, detection_z_score(len(volume)))[2]


# Each returns the curves at the centres of blocks of grid × grid pixels of a window, float32.
AGGREGATIONS: dict[Aggregation, Callable[[SampledOperator, Window, int], np.ndarray]] = {
    "adaptive": adaptive_windows,
    "balanced": balanced_windows,
    "window": fixed_windows,
    "guided": guided_filter,
}
