"""Weighted least squares: as the curves say where they know, smooth where they don't."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numba
import numpy as np

from napari_dff.curve import deviations
from napari_dff.progress import Progress
from napari_dff.refinement.energy import likeness

if TYPE_CHECKING:
    from napari_dff.depth import DepthMap
    from napari_dff.refinement.sequence import Scene

SWEEPS = 120
OVERRELAXATION = 1.9
STEP = 2.0  # planes: neighbours farther apart than this are different surfaces
STEEP, GENTLE = 4.0, 0.1  # times the usual slope, plus planes a pixel: steeper is a step
NOISY = 1.0  # standard deviations by which a slope must exceed the noise to be a step
FOOT = 2.0  # pixels over which a slope is measured
FLATTEST = 0.005  # planes a pixel: no surface is taken to be smoother than this
COMMON = 4.0  # pixels over which errors of the estimate are alike
SHARED = 5.0  # pixels whose errors are one: their curves come from the same window


def least_squares(
    estimate: DepthMap, scene: Scene, smoothness: float, progress: Progress
) -> DepthMap:
    """Least sum of squared misfits to the depth and of squared steps between neighbours.

    Misfits are counted in the depth's uncertainty, steps in the slope that the surface usually has
    (read off where it is well known), less across edges of the guide and the feet of steps and
    not at all across jumps of more than `STEP` planes. Never-in-focus pixels follow their
    neighbours alone. Solved by
    red-black successive over-relaxation. The uncertainty shrinks with the number of independent
    pixels that are averaged.

    Farbman et al. 2008, doi:10.1145/1360612.1360666.
    """
    known = np.isfinite(estimate.uncertainty)
    if not known.any():
        return estimate
    spacing = np.float32(np.abs(np.diff(scene.positions)).mean())
    depth = estimate.depth / spacing
    # Noise alone: the scatter in the estimate's uncertainty is large at steps, which must stay.
    doubt = deviations(scene.focus, scene.positions, estimate.index, scene.noise) / spacing
    doubt[~known] = np.inf
    trust = np.where(known, 1 / (SHARED * np.maximum(doubt, 1e-3) ** 2), 1e-9).astype(np.float32)
    slope = usual_slope(depth, doubt)
    right, down = (part * smoothness / slope**2 for part in likeness(scene.guide))
    calm = calmness(depth, trust, slope)
    right[:, :-1] *= np.minimum(calm[:, :-1], calm[:, 1:])
    down[:-1] *= np.minimum(calm[:-1], calm[1:])
    reach = (
        calm * smoothness / slope**2 / np.maximum(trust, 1e-9)
    )  # pixels²: how far neighbours are heard
    right[:, :-1][np.abs(np.diff(depth, axis=1)) > STEP] = 0
    down[:-1][np.abs(np.diff(depth, axis=0)) > STEP] = 0
    right[:, -1] = 0
    down[-1] = 0
    found = depth.copy()
    right, down = right.astype(np.float32), down.astype(np.float32)
    for _ in progress(range(SWEEPS), desc="Least squares"):
        for colour in (0, 1):
            _relax(found, depth, trust, right, down, colour)
    order = np.argsort(scene.positions)
    values = (found * spacing).astype(np.float32)
    nearest = np.interp(values, scene.positions[order], order.astype(np.float64))
    uncertainty = estimate.uncertainty / (1 + reach / COMMON**2) ** 0.25
    return type(estimate)(np.rint(nearest).astype(np.uint16), values, uncertainty)


def calmness(depth: np.ndarray, trust: np.ndarray, slope: float) -> np.ndarray:
    """How usual the slope is at each pixel: (Y, X), 1 on smooth ground, 0 at the foot of a step."""
    weight = trust + np.float32(1e-6)
    mean = cv2.GaussianBlur(weight * depth, (0, 0), FOOT) / cv2.GaussianBlur(weight, (0, 0), FOOT)
    down, across = np.gradient(mean)
    # Errors of the depth are alike over COMMON pixels and look like slopes of this size.
    noise = cv2.GaussianBlur(1 / (SHARED * weight), (0, 0), FOOT) * (NOISY / COMMON) ** 2
    steep = np.maximum(down**2 + across**2 - noise, 0) / (STEEP * slope + GENTLE) ** 2
    return np.asarray(1 / (1 + steep) ** 2, dtype=np.float32)


def usual_slope(depth: np.ndarray, doubt: np.ndarray) -> float:
    """Median slope, planes a pixel, over eight pixels, where depth is best known."""
    sure = doubt <= np.median(doubt[np.isfinite(doubt)])
    slopes = []
    for axis in (0, 1):
        a = [slice(None)] * 2
        b = [slice(None)] * 2
        a[axis], b[axis] = slice(8, None), slice(None, -8)
        steps = np.abs(depth[tuple(a)] - depth[tuple(b)])[sure[tuple(a)] & sure[tuple(b)]]
        slopes.append(np.median(steps[steps < STEP]) / 8 if (steps < STEP).any() else 0.0)
    return max(float(np.mean(slopes)) / 0.6745, FLATTEST)


@numba.njit(parallel=True, cache=True, fastmath=True)
def _relax(found, depth, trust, right, down, colour):  # type: ignore[no-untyped-def]
    height, width = found.shape
    for y in numba.prange(height):
        for x in range((y + colour) % 2, width, 2):
            total, weight = trust[y, x] * depth[y, x], trust[y, x]
            if x > 0:
                weight += right[y, x - 1]
                total += right[y, x - 1] * found[y, x - 1]
            if x < width - 1:
                weight += right[y, x]
                total += right[y, x] * found[y, x + 1]
            if y > 0:
                weight += down[y - 1, x]
                total += down[y - 1, x] * found[y - 1, x]
            if y < height - 1:
                weight += down[y, x]
                total += down[y, x] * found[y + 1, x]
            found[y, x] += np.float32(OVERRELAXATION) * (total / weight - found[y, x])
