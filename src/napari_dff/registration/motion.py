"""Motion models, from the simplest to the most general, and their fits to matched points.

Points are (N, 2) float64 in the order (y, x), in pixels. Transforms are (3, 3) and act on
(y, x, 1). The weights of matches are (N,) inverse variances, up to a common factor.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from napari_dff.model.recipe import Motion

REWEIGHTING_STEPS = 12
HOMOGRAPHY_PASSES = 3
ERROR_FLOOR_PX = 1e-6  # smaller errors are rounding errors
MATCH_PRECISION_PX = 0.1  # with which features are located


def transform_points(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map (N, 2) points by a projective transform."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ transform.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:])


def corner_points(shape: tuple[int, int]) -> np.ndarray:
    """Return the centres of the four corner pixels of a plane of `shape`."""
    return np.array(list(itertools.product((0, shape[0] - 1.0), (0, shape[1] - 1.0))))


def fit_translation(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean shift."""
    return _affine(np.eye(2), np.zeros(2), _weighted_mean(target - source, weights))


# With z = y + i x measured from the weighted centroids, the transform is z → c z with a complex
# number c = a + i b, and least squares give c = Σ w z̄ z' / Σ w |z|².
def fit_similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit shift, rotation and one magnification by weighted least squares."""
    p, q = _weighted_mean(source, weights), _weighted_mean(target, weights)
    (y, x), (v, u) = (source - p).T, (target - q).T
    norm = np.sum(weights * (y**2 + x**2))
    a, b = np.sum(weights * (y * v + x * u)) / norm, np.sum(weights * (y * u - x * v)) / norm
    return _affine(np.array([[a, -b], [b, a]]), p, q)


def fit_affine(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit a linear map and a shift by weighted least squares."""
    centroid = source.mean(axis=0)
    root = np.sqrt(weights)[:, None]
    design = np.column_stack([source - centroid, np.ones(len(source))])
    solution = np.linalg.lstsq(root * design, root * target, rcond=None)[0]
    return _affine(solution[:2].T, centroid, solution[2])


def _weighted_mean(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of (N, 2) points, faster than `np.average`."""
    return np.asarray((points * weights[:, None]).sum(axis=0) / weights.sum())


def _median(values: np.ndarray) -> float:
    """Return the median of (N,) finite values, faster than `np.median`."""
    upper = len(values) // 2
    lower = (len(values) - 1) // 2
    middle = np.partition(values, (lower, upper))
    return float((middle[lower] + middle[upper]) / 2)


def _affine(linear: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the transform with (2, 2) `linear` that maps the point `source` to `target`."""
    transform = np.eye(3)
    transform[:2, :2] = linear
    transform[:2, 2] = target - transform[:2, :2] @ source
    return transform


# The direct linear transform, on normalised coordinates (Hartley 1997, doi:10.1109/34.601246),
# minimizes Σ w d² |H p / d - q|² with the projective depth d = h₃ · p: an algebraic error. Each
# further pass divides by the depth of the pass before, so that what is minimized approaches the
# distance in pixels.
def fit_homography(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit a projective transform by the normalised direct linear transform."""
    normalize_source, normalize_target = _normalisation(source), _normalisation(target)
    p = transform_points(normalize_source, source)
    q = transform_points(normalize_target, target)
    depth, zero = np.ones(len(p)), np.zeros((len(p), 3))
    points = np.column_stack([p, depth])
    for _ in range(HOMOGRAPHY_PASSES):
        root = (np.sqrt(weights) / depth)[:, None]
        down = root * np.hstack([points, zero, -q[:, :1] * points])
        across = root * np.hstack([zero, points, -q[:, 1:] * points])
        rows = np.vstack([down, across])
        transform = np.linalg.eigh(rows.T @ rows)[1][:, 0].reshape(3, 3)
        depth = points @ transform[2]
    transform = np.linalg.inv(normalize_target) @ transform @ normalize_source
    return np.asarray(transform / transform[2, 2])


def _normalisation(points: np.ndarray) -> np.ndarray:
    """Return the transform that brings points to mean 0 and mean distance √2 from it."""
    centroid = points.mean(axis=0)
    scale = np.sqrt(2) / max(np.hypot(*(points - centroid).T).mean(), 1e-9)
    y, x = -scale * centroid
    return np.array([[scale, 0, y], [0, scale, x], [0, 0, 1]])


# A linear motion model is the set of transforms M(p) = M₀ + Σ p_k G_k. Each generator G_k is the
# derivative by one parameter: a shift along y or x, a magnification, a rotation, or one element of
# the linear part. Mapped coordinates are linear in p, and so is the joint solve.
_E = np.eye(9).reshape(3, 3, 3, 3)  # _E[i, j] is 1 in row i and column j, and 0 elsewhere
_SHIFTS = _E[:2, 2]
_SCALE, _ROTATION = _E[0, 0] + _E[1, 1], _E[1, 0] - _E[0, 1]
_AFFINE = _E[:2].reshape(6, 3, 3)


@dataclass(frozen=True, eq=False)
class MotionModel:
    """A kind of motion between two planes."""

    parameter_count: int
    # Source, target and weights → transform: the exact weighted fit.
    least_squares: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    ecc_type: int  # the model by which cv2.findTransformECC approximates this one
    origin: np.ndarray  # (3, 3), M₀ of a linear model
    generators: np.ndarray  # (parameter_count, 3, 3), G_k of a linear model; else empty

    # Iteratively re-weighted least squares. With the error e_i of a match in units of its standard
    # deviation and the median error s, its weight is w_i / (1 + (e_i / 2 s)²): a Cauchy weight,
    # which falls off with the square of the error.
    def fit(self, source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Fit the model to matches of which some may be wrong."""
        robust_weights = weights
        for _ in range(REWEIGHTING_STEPS):
            transform = self.least_squares(source, target, robust_weights)
            distances = np.hypot(*(transform_points(transform, source) - target).T)
            errors = distances * np.sqrt(weights)
            scale = max(_median(errors), ERROR_FLOOR_PX)
            robust_weights = weights / (1 + (errors / (2 * scale)) ** 2)
        return transform

    def project(self, transform: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Return the transform of this model that is closest to `transform` over a whole plane."""
        y, x = np.meshgrid(np.linspace(0, shape[0], 9), np.linspace(0, shape[1], 9))
        grid = np.column_stack([y.ravel(), x.ravel()])
        return self.least_squares(grid, transform_points(transform, grid), np.ones(len(grid)))

    # The model is fitted to every other match, and predicts the rest; then the other way round.
    # Errors are clipped at three standard deviations (from their median), so that a few wrong
    # matches do not decide.
    def prediction_score(
        self, source: np.ndarray, target: np.ndarray, weights: np.ndarray
    ) -> float:
        """Return n ln σ² with the variance σ² of the errors of n coordinates that are predicted."""
        errors = np.empty_like(source)
        for half in (slice(0, None, 2), slice(1, None, 2)):
            fitted = np.ones(len(source), bool)
            fitted[half] = False
            transform = self.fit(source[fitted], target[fitted], weights[fitted])
            errors[half] = transform_points(transform, source[half]) - target[half]
        sizes = np.abs((errors * np.sqrt(weights)[:, None]).ravel())
        deviation = _median(sizes) / 0.6745 + ERROR_FLOOR_PX
        variance = np.mean(np.minimum(sizes, 3 * deviation) ** 2) + MATCH_PRECISION_PX**2
        return float(len(sizes) * np.log(variance))

    def linear_system(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return A (2 N, P) and b (2 N,): M(p) maps `points` to A p + b, all y, then all x."""
        homogeneous = np.column_stack([points, np.ones(len(points))])
        terms = self.generators[:, :2] @ homogeneous.T
        return terms.reshape(len(terms), -1).T, (self.origin[:2] @ homogeneous.T).ravel()

    @property
    def step_generators(self) -> np.ndarray:
        """The generators in the order of a Gauss-Newton step: shifts first."""
        return np.array(sorted(self.generators, key=lambda matrix: bool(matrix[:, :2].any())))

    def increment(self, step: np.ndarray, radius: float, shape: tuple[int, int]) -> np.ndarray:
        """Return the transform of a small step about the centre of a plane of `shape`.

        (P,) `step` is along `step_generators`, in pixels: shifts, then displacements at the
        distance `radius` from the centre.
        """
        derivative = np.tensordot(step, self.step_generators, 1)
        centre = (np.array(shape) - 1) / 2
        transform = _affine(np.eye(2) + derivative[:2, :2] / radius, centre, centre)
        transform[:2, 2] += derivative[:2, 2]
        return transform


MOTIONS: dict[Motion, MotionModel] = {
    "translation": MotionModel(2, fit_translation, cv2.MOTION_TRANSLATION, np.eye(3), _SHIFTS),
    "similarity": MotionModel(  # cv2 has none: its affine result is projected
        4, fit_similarity, cv2.MOTION_AFFINE, _E[2, 2], np.array([_SCALE, _ROTATION, *_SHIFTS])
    ),
    "affine": MotionModel(6, fit_affine, cv2.MOTION_AFFINE, _E[2, 2], _AFFINE),
    "homography": MotionModel(8, fit_homography, cv2.MOTION_HOMOGRAPHY, _E[2, 2], _E[:0, 0]),
}
