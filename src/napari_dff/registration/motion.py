"""Motion models, from the simplest to the most general, and their fits to matched points.

Points are (N, 2) in the order (y, x). Transforms are (3, 3) and act on (y, x, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from napari_dff.model.recipe import Motion

REWEIGHTING_STEPS = 12
ERROR_FLOOR_PX = 1e-6  # smaller errors are rounding errors


def transform_points(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map (N, 2) points by a projective transform."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ transform.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:])


def fit_translation(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean shift."""
    transform = np.eye(3)
    transform[:2, 2] = np.average(target - source, axis=0, weights=weights)
    return transform


def fit_similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit shift, rotation and one magnification by weighted least squares.

    With z = y + i x measured from the weighted centroids, the transform is z → c z with a complex
    number c = a + i b, and least squares give c = Σ w z̄ z' / Σ w |z|².
    """
    source_centroid, target_centroid = (
        np.average(points, axis=0, weights=weights) for points in (source, target)
    )
    y, x = (source - source_centroid).T
    v, u = (target - target_centroid).T
    norm = np.sum(weights * (y**2 + x**2))
    a, b = np.sum(weights * (y * v + x * u)) / norm, np.sum(weights * (y * u - x * v)) / norm
    transform = np.eye(3)
    transform[:2, :2] = [[a, -b], [b, a]]
    transform[:2, 2] = target_centroid - transform[:2, :2] @ source_centroid
    return transform


def fit_affine(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit a linear map and a shift by weighted least squares."""
    centroid = source.mean(axis=0)
    root = np.sqrt(weights)[:, None]
    design = np.column_stack([source - centroid, np.ones(len(source))])
    solution = np.linalg.lstsq(root * design, root * target, rcond=None)[0]
    transform = np.eye(3)
    transform[:2, :2] = solution[:2].T
    transform[:2, 2] = solution[2] - transform[:2, :2] @ centroid
    return transform


def fit_homography(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit a projective transform by the normalised direct linear transform.

    The direct linear transform minimizes Σ w d² |H p / d - q|² with the projective depth
    d = h₃ · p: an algebraic error. Each further pass divides by the depth of the pass before, so
    that what is minimized approaches the distance in pixels.

    References
    ----------
    Hartley 1997, doi:10.1109/34.601246.
    """
    normalize_source, normalize_target = _normalisation(source), _normalisation(target)
    p = transform_points(normalize_source, source)
    q = transform_points(normalize_target, target)
    one, zero = np.ones(len(p)), np.zeros((len(p), 3))
    points = np.column_stack([p, one])
    depth = one
    for _ in range(3):
        root = (np.sqrt(weights) / depth)[:, None]
        rows = np.vstack(
            [
                root * np.hstack([points, zero, -q[:, :1] * points]),
                root * np.hstack([zero, points, -q[:, 1:] * points]),
            ]
        )
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
def _element(row: int, column: int) -> np.ndarray:
    matrix = np.zeros((3, 3))
    matrix[row, column] = 1
    return matrix


_SHIFT_Y, _SHIFT_X = _element(0, 2), _element(1, 2)
_SCALE, _ROTATION = _element(0, 0) + _element(1, 1), _element(1, 0) - _element(0, 1)
_AFFINE = [_element(row, column) for row in (0, 1) for column in (0, 1, 2)]
_PROJECTIVE_ROW = _element(2, 2)


@dataclass(frozen=True, eq=False)
class MotionModel:
    """A kind of motion between two planes.

    Parameters
    ----------
    parameter_count : int
    least_squares : callable
        (N, 2) source, (N, 2) target, (N,) weights → (3, 3): the exact weighted fit.
    ecc_type : int
        The model by which ``cv2.findTransformECC`` approximates this one.
    origin : (3, 3) array
        M₀ of a linear model.
    generators : (parameter_count, 3, 3) array
        G_k of a linear model, M(p) = M₀ + Σ p_k G_k; empty where transforms are not linear in
        their parameters.
    """

    parameter_count: int
    least_squares: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    ecc_type: int
    origin: np.ndarray
    generators: np.ndarray

    @property
    def is_linear(self) -> bool:
        """Whether the model has generators."""
        return len(self.generators) > 0

    def fit(self, source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Fit the model to matches of which some may be wrong.

        Iteratively re-weighted least squares. With the error e_i of a match in units of its
        standard deviation and the median error s, its weight is w_i / (1 + (e_i / 2 s)²): a Cauchy
        weight, which falls off with the square of the error.

        Parameters
        ----------
        source, target : (N, 2) array
            Matched points (y, x), in pixels.
        weights : (N,) array
            Inverse variances w_i of the matches, up to a common factor.

        Returns
        -------
        (3, 3) float64
        """
        robust_weights = weights
        transform = np.eye(3)
        for _ in range(REWEIGHTING_STEPS):
            transform = self.least_squares(source, target, robust_weights)
            distances = np.hypot(*(transform_points(transform, source) - target).T)
            errors = distances * np.sqrt(weights)
            scale = max(float(np.median(errors)), 1e-6)
            robust_weights = weights / (1 + (errors / (2 * scale)) ** 2)
        return transform

    def project(self, transform: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Return the transform of this model that is closest to `transform` over a whole plane."""
        y, x = np.meshgrid(np.linspace(0, shape[0], 9), np.linspace(0, shape[1], 9))
        grid = np.column_stack([y.ravel(), x.ravel()])
        return self.least_squares(grid, transform_points(transform, grid), np.ones(len(grid)))

    def information_criterion(
        self, transform: np.ndarray, source: np.ndarray, target: np.ndarray, weights: np.ndarray
    ) -> float:
        """Return the Bayesian information criterion of a fit: lower is better.

        n ln σ² + k ln n, with n coordinates, k parameters and the variance σ² of the errors.

        References
        ----------
        Schwarz 1978, doi:10.1214/aos/1176344136.
        """
        distances = transform_points(transform, source) - target
        errors = (distances * np.sqrt(weights)[:, None]).ravel()
        # Errors are clipped at three standard deviations (from their median), so that a few wrong
        # matches do not decide.
        deviation = np.median(np.abs(errors)) / 0.6745 + ERROR_FLOOR_PX
        clipped = np.minimum(np.abs(errors), 3 * deviation)
        count = len(errors)
        log_variance = np.log(np.mean(clipped**2) + ERROR_FLOOR_PX**2)
        return float(count * log_variance + self.parameter_count * np.log(count))

    def matrix(self, parameters: np.ndarray) -> np.ndarray:
        """Return the transform M(p) of a linear model."""
        return np.asarray(self.origin + np.tensordot(parameters, self.generators, 1))

    def linear_system(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return A (2 N, P) and b (2 N,) with which `points` are mapped to A p + b.

        The mapped coordinates are all y, then all x. For linear models.
        """
        homogeneous = np.column_stack([points, np.ones(len(points))])
        terms = self.generators[:, :2] @ homogeneous.T
        return terms.reshape(len(terms), -1).T, (self.origin[:2] @ homogeneous.T).ravel()

    @property
    def step_generators(self) -> np.ndarray:
        """The generators in the order of a Gauss-Newton step: shifts first."""
        return np.array(sorted(self.generators, key=lambda matrix: bool(matrix[:, :2].any())))

    def increment(self, step: np.ndarray, radius: float, shape: tuple[int, int]) -> np.ndarray:
        """Return the transform of a small step about the centre of a plane.

        Parameters
        ----------
        step : (P,) array
            Along `step_generators`, in pixels: shifts, then displacements at distance `radius`
            from the centre.
        radius : float
            In pixels.
        shape : (int, int)
            Height and width of the plane.
        """
        derivative = np.tensordot(step, self.step_generators, 1)
        transform = np.eye(3)
        transform[:2, :2] += derivative[:2, :2] / radius
        centre = (np.array(shape) - 1) / 2
        transform[:2, 2] = centre - transform[:2, :2] @ centre + derivative[:2, 2]
        return transform


MOTIONS: dict[Motion, MotionModel] = {
    "translation": MotionModel(
        2, fit_translation, cv2.MOTION_TRANSLATION, np.eye(3), np.array([_SHIFT_Y, _SHIFT_X])
    ),
    "similarity": MotionModel(
        4,
        fit_similarity,
        cv2.MOTION_AFFINE,  # cv2 has no similarity: its affine result is projected
        _PROJECTIVE_ROW,
        np.array([_SCALE, _ROTATION, _SHIFT_Y, _SHIFT_X]),
    ),
    "affine": MotionModel(6, fit_affine, cv2.MOTION_AFFINE, _PROJECTIVE_ROW, np.array(_AFFINE)),
    "homography": MotionModel(
        8, fit_homography, cv2.MOTION_HOMOGRAPHY, _PROJECTIVE_ROW, np.empty((0, 3, 3))
    ),
}


def rms_distance(transform: np.ndarray, source: np.ndarray, target: np.ndarray) -> float:
    """Return the root mean square distance of mapped `source` points to `target`, in pixels."""
    distances = transform_points(transform, source) - target
    return float(np.sqrt(np.mean(np.sum(distances**2, axis=1))))
