"""Sub-pixel transform between two planes from their grey levels."""

from typing import NamedTuple

import cv2
import numpy as np

from napari_dff.imaging.warp import evaluate_spline, project_point, spline_coefficients
from napari_dff.registration.motion import MotionModel, corner_points, transform_points
from napari_dff.runtime.jit import inline_kernel, kernel

# Standard deviations of the two Gaussians of the band-pass filter. The fine one removes the noise;
# the coarse one removes the illumination, which may flicker.
BAND_PX = (1.5, 4.0)
EDGE_PX = 8  # pixels this near to the border are not compared
MAX_ITERATIONS = 6
CONVERGENCE_PX = 0.01  # a smaller step ends the iteration
SAMPLE_COUNT = 60_000  # pixels of a pair that are compared, about
MIN_OVERLAP = 0.25  # share of the samples that both planes must have
MAX_CORRECTION_PX = 5.0  # a larger one means that the iteration diverged
MIN_DEVIATION_PX = 1e-3


class BandpassImage(NamedTuple):
    """Band-passed image, its spline coefficients and its gradient: (Y, X) float32 each."""

    values: np.ndarray
    coefficients: np.ndarray
    gradient_y: np.ndarray
    gradient_x: np.ndarray


class Samples(NamedTuple):
    """Pixels of the fixed plane at which two planes are compared."""

    y: np.ndarray  # (N,) float32, in pixels
    x: np.ndarray
    radius: float  # half the longer side of the plane, in pixels
    # (P - 2, 2, N) float32, G_k r: displacement (y, x) by a unit step of each parameter after the
    # two shifts, whose displacements are (1, 0) and (0, 1).
    displacements: np.ndarray
    values: np.ndarray  # (N,) float32, of the fixed plane
    gradient_y: np.ndarray
    gradient_x: np.ndarray


def bandpass(image: np.ndarray) -> BandpassImage:
    """Return the difference of two Gaussians of a (Y, X) float32 `image`."""
    fine, coarse = (cv2.GaussianBlur(image, (0, 0), width) for width in BAND_PX)
    detail = fine - coarse
    return BandpassImage(detail, spline_coefficients(detail), *np.gradient(detail))


# Gauss-Newton iteration of the transform T from the moving plane m to the fixed plane f.
#
# Let m_T(r) = m(T⁻¹ r) be the moving plane resampled by T. A step p adds the displacement
# δ(r) = Σ p_k G_k r, with the generators G_k of the motion model, so that T becomes (I + δ) T and
# m_T(r) becomes m_T(r - δ(r)). To first order, with a factor g for the exposure,
#     g m_T(r) - f(r) = ∇I(r) · δ(r) = Σ p_k J_k(r),    J_k(r) = ∇I(r) · G_k r.
# ∇I is the mean of the gradients of g m_T and of f. That makes the step exact to second order and
# treats both planes alike, though they are blurred differently (Benhimane & Malis 2004,
# doi:10.1109/IROS.2004.1389474). Weighted least squares give
#     (J W Jᵀ) p = J W (g m_T - f).
# W are Cauchy weights with the scale s from the median residual: dust on the sensor, which does not
# move with the specimen, has large residuals and small weights. The covariance of p is
# s² (J W Jᵀ)⁻¹; the square root of its trace is the deviation of the transform.
#
# r is measured from the centre of the plane in units of half its longer side, so that every p_k is
# in pixels. Samples lie on a grid: pixels closer together than the finer blur are redundant. Where
# the planes overlap too little or the iteration diverges, the deviation is infinite.
def refine_pair(
    moving: BandpassImage,
    fixed: BandpassImage,
    start: np.ndarray,  # (3, 3), moving plane → fixed plane, correct within a few pixels
    model: MotionModel,  # a linear one
) -> tuple[np.ndarray, float]:
    """Return the refined (3, 3) transform, or `start`, and its standard deviation in pixels."""
    shape = (fixed.values.shape[0], fixed.values.shape[1])
    samples = _sample_fixed(fixed, model)
    transform, deviation = start, np.inf
    for _ in range(MAX_ITERATIONS):
        inverse = np.linalg.inv(transform)
        values, down, across, covered = _resample(*moving[1:], samples.y, samples.x, inverse)
        if covered.mean() < MIN_OVERLAP:
            return start, np.inf
        gain = (values * samples.values)[covered].sum() / max((values[covered] ** 2).sum(), 1e-12)
        gain = float(np.clip(gain, 0.25, 4))
        residuals = (gain * values - samples.values)[covered]
        down = (gain * down + samples.gradient_y) / 2
        across = (gain * across + samples.gradient_x) / 2
        columns = [down, across, *(down * v + across * u for v, u in samples.displacements)]
        jacobian = np.stack([column[covered] for column in columns])
        scale = 1.4826 * np.median(np.abs(residuals)) + 1e-9
        weights = 1 / (1 + (residuals / (2 * scale)) ** 2)
        normal = (jacobian * weights) @ jacobian.T
        damping = 1e-9 * np.trace(normal) * np.eye(len(normal))
        step = np.linalg.solve(normal + damping, jacobian @ (weights * residuals))
        transform = model.increment(step, samples.radius, shape) @ transform
        covariance = np.linalg.inv(normal + 1e-12 * np.eye(len(normal)))
        deviation = float(scale * np.sqrt(np.trace(covariance)))
        if np.abs(step).max() < CONVERGENCE_PX:
            break
    corners = corner_points(shape)
    correction = transform_points(transform, corners) - transform_points(start, corners)
    if np.abs(correction).max() > MAX_CORRECTION_PX:
        return start, np.inf
    return transform, max(deviation, MIN_DEVIATION_PX)


def _sample_fixed(fixed: BandpassImage, model: MotionModel) -> Samples:
    height, width = fixed.values.shape
    spacing = max(1, round(np.sqrt(height * width / SAMPLE_COUNT)))
    edge = min(EDGE_PX, height // 4, width // 4)
    rows, columns = (np.arange(edge, size - edge, spacing) for size in (height, width))
    grid = tuple(np.meshgrid(rows, columns, indexing="ij"))
    values = [part[grid].ravel() for part in (fixed.values, fixed.gradient_y, fixed.gradient_x)]
    y, x = (part.ravel().astype(np.float32) for part in grid)
    radius = max(height, width) / 2
    r = np.stack([y - (height - 1) / 2, x - (width - 1) / 2]) / np.float32(radius)
    displacements = model.step_generators[2:, :2, :2].astype(np.float32) @ r
    return Samples(y, x, radius, displacements, *values)


@kernel
def _resample(coefficients, gradient_y, gradient_x, y, x, inverse):  # type: ignore[no-untyped-def]
    """Resample a (Y, X) float32 image m and its gradient at (N,) float32 pixels of another.

    (3, 3) float64 `inverse` B maps a pixel r to m; it is linear. Returns (N,) float32 m(B r), by
    cubic splines, and both components of Bᵀ ∇m(B r), by bilinear interpolation, and (N,) bool
    whether B r is in the image. Where it is not, all else is 0.
    """
    rows, columns = coefficients.shape
    values, down = np.zeros(len(y), np.float32), np.zeros(len(y), np.float32)
    across, covered = np.zeros(len(y), np.float32), np.zeros(len(y), np.bool_)
    for p in range(len(y)):
        v, u = project_point(inverse, y[p], x[p])
        if not (0 <= v <= rows - 1 and 0 <= u <= columns - 1):
            continue
        covered[p] = True
        values[p] = evaluate_spline(coefficients, v, u)
        i, j = min(int(v), rows - 2), min(int(u), columns - 2)
        g_y = _bilinear(gradient_y, i, j, v - i, u - j)
        g_x = _bilinear(gradient_x, i, j, v - i, u - j)
        down[p] = inverse[0, 0] * g_y + inverse[1, 0] * g_x
        across[p] = inverse[0, 1] * g_y + inverse[1, 1] * g_x
    return values, down, across, covered


@inline_kernel
def _bilinear(values, i, j, t, s):  # type: ignore[no-untyped-def]
    """Interpolate at (i + t, j + s) with 0 ≤ t, s ≤ 1."""
    above = (1 - s) * values[i, j] + s * values[i, j + 1]
    below = (1 - s) * values[i + 1, j] + s * values[i + 1, j + 1]
    return (1 - t) * above + t * below
