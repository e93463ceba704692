"""Weighted least squares: depth as measured where it is well known, smooth where it is not.

With depths d in planes, the refined depth v minimises

    Q(v) = Σ_p t_p (v_p - d_p)² + Σ_{p~q} c_pq (v_p - v_q)²

with the data weights t_p = 1 / (N σ_p²) and the couplings c_pq = smoothness / s² · g_pq ·
min(f_p, f_q), where σ is the standard deviation from noise alone, s the typical slope, g the
similarity in the guide and f the diffusivity. docs/methods.md, "Least squares", derives them
(Farbman et al. 2008, doi:10.1145/1360612.1360666). Where t and c are constant, v is d averaged over
a length λ = √(c / t) in pixels. Arrays are (Y, X) float32, depths are in planes, `strength` is
smoothness / s², and `smooth` is f.
"""

import cv2
import numpy as np

from napari_dff.curve.volume import focus_windows
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.stack import fractional_plane_index
from napari_dff.refinement.context import HintField, RefinementContext
from napari_dff.refinement.energy import guide_similarity, neighbour_differences
from napari_dff.refinement.multigrid import solve_least_squares
from napari_dff.refinement.plane_statistics import (
    SURFACE_STEP_PLANES,
    noise_deviation,
    typical_slope,
)
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.windows import Window, plan_windows

CORRELATED_PX = np.float32(5.0)  # pixels that share the error of their focus curves
CORRELATION_LENGTH_PX = 4.0  # over which errors of the depth are alike
MIN_DEVIATION_PLANES = np.float32(1e-3)
NO_FOCUS_WEIGHT = 1e-9  # t of pixels that are never in focus
MIN_RELATIVE_WEIGHT = np.float32(1e-6)  # t / c: float32 cannot solve for less
SMOOTHING_SIGMA_PX = 2.0  # of the Gaussian that depth is smoothed with before its slope is taken
STEEP_FACTOR, STEEP_OFFSET = 4.0, 0.1  # steep is: factor · typical slope + offset, planes per pixel
DIFFUSIVITY_MARGIN_PX = 12  # around a window, on which its diffusivity depends
EDGE_SIMILARITY = 0.5  # of neighbours in the guide: below it, depth of unknown pixels may jump
HINT_RANGE_PX = 16.0  # over which a soft constraint draws the depth around it
HARD_CONSTRAINT_WEIGHT = 1e3  # t / c of a hard constraint
END_RANGE_PLANES = 0.49  # from an end plane, which so remains the nearest
MAPS_PER_WINDOW = 16  # float32 (Y, X) arrays of a window in memory at a time


def least_squares(estimate: DepthMap, context: RefinementContext, progress: Progress) -> DepthMap:
    """Smooth the depth by weighted least squares.

    The variance that noise causes falls by √(1 + λ² / `CORRELATION_LENGTH_PX`²), with the number
    of independent errors along λ. Other variance stays.
    """
    in_focus = np.isfinite(estimate.uncertainty)
    if not in_focus.any() and context.slope is None:
        return estimate
    shape = estimate.depth.shape
    spacing = np.float32(np.abs(np.diff(context.positions)).mean())
    depth = estimate.depth / spacing
    deviation, weight, right, down, squared_length = (np.empty(shape, np.float32) for _ in range(5))

    def compute_weights(window: Window) -> None:
        noise = noise_deviation(estimate, context.volume, context.positions, window) / spacing
        t = 1 / (CORRELATED_PX * np.maximum(noise, MIN_DEVIATION_PLANES) ** 2)
        deviation[window.slices] = noise
        weight[window.slices] = np.where(in_focus[window.slices], t, np.float32(NO_FOCUS_WEIGHT))

    def compute_couplings(window: Window) -> None:
        outer = window.expand(DIFFUSIVITY_MARGIN_PX, shape)
        around, inner, here = outer.slices, window.slices_in(outer), window.slices
        smooth = diffusivity(depth[around], weight[around], slope)
        smooth[~in_focus[around]] = 1
        c = couplings(depth[around], in_focus[around], context.guide[around], smooth, strength)
        right[here], down[here] = (part[inner] for part in c)
        squared_length[here] = smooth[inner] * strength / weight[here]

    run_parallel(
        compute_weights,
        focus_windows(context.volume.shape, context.volume.step),
        progress,
        desc="Weights",
    )
    slope = context.slope or typical_slope(depth, deviation)
    strength = np.float32(context.smoothness / slope**2)
    if context.hint_field is not None:
        apply_hints_to_weights(depth, weight, context.hint_field, float(spacing), strength)
    parts = plan_windows(shape, MAPS_PER_WINDOW, DIFFUSIVITY_MARGIN_PX)
    run_parallel(compute_couplings, parts, progress, desc="Couplings")
    right[:, -1], down[-1] = 0, 0
    np.maximum(weight, MIN_RELATIVE_WEIGHT * strength, out=weight)
    values = solve_least_squares(depth, weight, right, down, progress=progress) * spacing
    at_end = limit_at_ends(values, estimate, context.positions)
    index = np.rint(fractional_plane_index(values, context.positions)).astype(np.uint16)
    reduction = 1 - 1 / np.sqrt(1 + squared_length / np.float32(CORRELATION_LENGTH_PX**2))
    deviation *= spacing
    variance = estimate.uncertainty**2
    # Twice, since the scatter in the uncertainty contains the noise again.
    noise = np.minimum(np.where(in_focus & ~at_end, 2 * deviation**2, 0), variance)
    uncertainty = np.sqrt(variance - noise * reduction)
    return DepthMap(index, values, uncertainty)


def limit_at_ends(values: np.ndarray, estimate: DepthMap, positions: np.ndarray) -> np.ndarray:
    """Keep depths whose peak is in the first or last plane there, in place; return where.

    Their surface may lie outside the stack, and smoothing draws them inwards. They may move half
    way to the next plane, beyond which that plane would be sharper.
    """
    at_end = np.zeros(values.shape, bool)
    for end, following in ((0, 1), (len(positions) - 1, len(positions) - 2)):
        here = np.isfinite(estimate.uncertainty) & (estimate.index == end)
        limit = positions[end] + END_RANGE_PLANES * (positions[following] - positions[end])
        values[here] = np.clip(values[here], *sorted((positions[end], limit)))
        at_end |= here
    return at_end


# With influence a and hinted depth h, the term t (v - d)² becomes t (1 - a) (v - d)² +
# t_h (v - h)²: one term of the summed weight around the weighted mean of d and h. For soft
# constraints t_h = c (a / `HINT_RANGE_PX`)², so that λ is `HINT_RANGE_PX` at a = 1. They leave out
# depths on other surfaces, which differ from h by more than `SURFACE_STEP_PLANES`.
def apply_hints_to_weights(
    depth: np.ndarray, weight: np.ndarray, hints: HintField, spacing: float, strength: np.float32
) -> None:
    """Mix the hints into `depth` and its `weight`, in place; `spacing` is that of planes."""
    target, hard = hints.target.depth / spacing, hints.influence == 1
    same_surface = np.abs(depth - target) <= SURFACE_STEP_PLANES
    affected = hard | ((hints.influence > 0) & same_surface)
    influence = hints.influence[affected]
    own_weight = weight[affected] * (1 - influence)
    soft_weight = strength * (influence / HINT_RANGE_PX) ** 2
    hint_weight = np.where(hard[affected], HARD_CONSTRAINT_WEIGHT * strength, soft_weight)
    weight[affected] = own_weight + hint_weight
    share = hint_weight / (own_weight + hint_weight)
    depth[affected] += share * (target[affected] - depth[affected])


def couplings(
    depth: np.ndarray,
    in_focus: np.ndarray,
    guide: np.ndarray,
    smooth: np.ndarray,
    strength: np.float32,
) -> tuple[np.ndarray, np.ndarray]:
    """Return c of each pixel and its right and its lower neighbour, (Y, X) float32 each.

    Depth jumps between pixels in focus, and at edges of the guide. Elsewhere pixels that are not in
    focus are filled in smoothly.
    """
    similarity = guide_similarity(guide)
    right, down = (strength * part for part in similarity)
    right[:, :-1] *= np.minimum(smooth[:, :-1], smooth[:, 1:])
    down[:-1] *= np.minimum(smooth[:-1], smooth[1:])
    sharp_depth = np.where(in_focus, depth, np.float32(np.nan))  # no comparison with NaN is true
    steps = zip(neighbour_differences(depth), neighbour_differences(sharp_depth), strict=True)
    for c, g, (step, sharp_step) in zip((right, down), similarity, steps, strict=True):
        at_edge = (np.abs(step) > SURFACE_STEP_PLANES) & (g < EDGE_SIMILARITY)
        c[at_edge | (np.abs(sharp_step) > SURFACE_STEP_PLANES)] = 0
    return right, down


def diffusivity(depth: np.ndarray, weight: np.ndarray, slope: float) -> np.ndarray:
    """Return f, (Y, X) float32: 1 where the surface is as flat as usual, near 0 at steps."""
    weight = weight + np.float32(1e-6)
    mean = _blur(weight * depth) / _blur(weight)
    gradient_y, gradient_x = np.gradient(mean)
    noise = _blur(1 / (CORRELATED_PX * weight)) * np.float32(1 / CORRELATION_LENGTH_PX**2)
    excess = np.maximum(gradient_y**2 + gradient_x**2 - noise, 0)
    steepness = excess / np.float32((STEEP_FACTOR * slope + STEEP_OFFSET) ** 2)
    return np.asarray(1 / (1 + steepness) ** 2, dtype=np.float32)


def _blur(values: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), SMOOTHING_SIGMA_PX)
