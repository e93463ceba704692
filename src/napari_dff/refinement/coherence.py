"""Coherence in time: combine the depth of one time with that of the time before.

With depths d and p of now and before, and their standard uncertainties s and r, in planes:

    p' = p + m,  q² = max(v - 1, 0) (s² + r²),  P = r² + q²,  k = P / (s² + P)
    depth = p' + k (d - p'),  variance = k² s² + (1 - k)² P + 2 k (1 - k) ρ s r

m is the weighted mean of d - p around the pixel, the motion that the pixels there have in common,
and v the mean of (d - p')² there over that of s² + r²: its excess over 1 is q², the variance of the
motion that they do not have in common (process noise of a Kalman filter, from the innovations:
Mehra 1970, doi:10.1109/TAC.1970.1099422). Errors of both times are correlated by ρ, since the same
texture and the same filters cause most of them; without it the uncertainty would be too small. k
rises to 1 for steps |d - p'| from half the limit of a jump to the limit, so that no edges appear.
Only one time before is needed, as p and r already contain the earlier ones.
"""

import cv2
import numpy as np

from napari_dff.model.depth_map import DepthMap

RADIUS_PX = 31  # of the square over which motion is averaged; 7 to 31 do, 31 best at 50 photons
CORRELATION = 0.8  # ρ; measured on `moving_surface`, 0.7 to 0.9 with and without motion and noise
JUMP_SIGMAS = 3.0  # a larger step between times, or one of more than `JUMP_PLANES`, is kept
JUMP_PLANES = 1.0
GAP_GROWTH = 2.0  # of the variance of a depth that is kept for one more time
MAX_GAP_DEVIATION = 1.0  # planes; a less certain depth fills no gap
MIN_KNOWN_SHARE = 0.1  # of the pixels around a gap that must be known at both times
MIN_VARIANCE = np.float32(1e-12)  # and weight, against division by zero
ITERATIONS = 2  # of the robust mean


def combine_with_previous(
    current: DepthMap, previous: DepthMap, positions: np.ndarray, valid: np.ndarray
) -> DepthMap:
    """Return the depth of `current` combined with that of the time before, where it is `valid`.

    `positions`, (Z,), are those of the planes. A pixel that is never in focus now gets the previous
    depth, if it is known, with a larger uncertainty.
    """
    scale = np.float32(np.abs(np.diff(positions)).mean())  # distance of planes
    depth, deviation = current.depth / scale, current.uncertainty / scale
    earlier_deviation = previous.uncertainty / scale
    in_focus, has_earlier = np.isfinite(deviation), np.isfinite(earlier_deviation) & valid
    both = in_focus & has_earlier
    s, r = (np.where(both, each, np.float32(1)) for each in (deviation, earlier_deviation))
    variance = np.maximum(s**2 + r**2, MIN_VARIANCE)
    step = np.where(both, depth - previous.depth / scale, np.float32(0))
    motion = _common_motion(step, both / variance, variance)
    step -= motion
    square, limit = step**2, np.minimum(JUMP_PLANES, JUMP_SIGMAS * np.sqrt(variance))
    jump = np.where(both, np.clip(2 * np.abs(step) / limit - 1, 0, 1), np.float32(1))
    calm = jump < 1
    excess = _mean(square, calm) / np.maximum(_mean(variance, calm), MIN_VARIANCE)
    prior = np.maximum(r**2 + np.maximum(excess - 1, 0) * variance, MIN_VARIANCE)
    k = prior / (s**2 + prior)
    k += (1 - k) * jump
    new_depth = depth - (1 - k) * step
    new_variance = (k * s) ** 2 + (1 - k) ** 2 * prior + 2 * k * (1 - k) * CORRELATION * s * r
    new_deviation = np.where(both, np.sqrt(new_variance), deviation)
    gap_deviation = np.float32(np.sqrt(GAP_GROWTH)) * earlier_deviation
    is_gap = ~in_focus & has_earlier & (gap_deviation <= MAX_GAP_DEVIATION)
    is_gap &= _mean(both, np.ones(both.shape, bool)) >= MIN_KNOWN_SHARE
    new_depth = np.where(is_gap, previous.depth / scale + motion, new_depth)
    new_deviation = np.where(is_gap, gap_deviation, new_deviation)
    return DepthMap(current.index, scale * new_depth, scale * new_deviation)


def _common_motion(step: np.ndarray, weight: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the mean step around each pixel; jumps and outliers have nearly no weight."""
    motion = np.zeros_like(step)
    for _ in range(ITERATIONS):
        robust = weight / (1 + (step - motion) ** 2 / (JUMP_SIGMAS**2 * variance)) ** 2
        motion = _mean(step, robust)
    return motion


def _mean(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weighted mean of `values` in a square around each pixel; 0 without weight."""
    side = (2 * RADIUS_PX + 1,) * 2
    weight = np.asarray(weight, np.float32)  # OpenCV adds in float64
    total, weights = (
        cv2.boxFilter(each, -1, side, normalize=False) for each in (values * weight, weight)
    )
    return np.asarray(total / np.maximum(weights, MIN_VARIANCE))
