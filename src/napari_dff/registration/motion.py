"""Motions of the plane: fitting them to matched points, simplest first.

Points are (N, 2) in the order (y, x), matrices (3, 3) act on (y, x, 1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ROUNDS = 12  # of re-weighting
EXACT = 1e-6  # pixels: errors as small as this tell nothing


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map (N, 2) points."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:])


def translation(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean shift."""
    matrix = np.eye(3)
    matrix[:2, 2] = np.average(target - source, axis=0, weights=weights)
    return matrix


def similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Shift, rotation and one magnification, by weighted least squares."""
    middle, goal = (np.average(p, axis=0, weights=weights) for p in (source, target))
    y, x = (source - middle).T
    v, u = (target - goal).T
    size = np.sum(weights * (y**2 + x**2))
    a, b = np.sum(weights * (y * v + x * u)) / size, np.sum(weights * (y * u - x * v)) / size
    matrix = np.eye(3)
    matrix[:2, :2] = [[a, -b], [b, a]]
    matrix[:2, 2] = goal - matrix[:2, :2] @ middle
    return matrix


def affine(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Any linear map and a shift, by weighted least squares."""
    middle = source.mean(axis=0)
    root = np.sqrt(weights)[:, None]
    design = np.column_stack([source - middle, np.ones(len(source))])
    solution = np.linalg.lstsq(root * design, root * target, rcond=None)[0]
    matrix = np.eye(3)
    matrix[:2, :2] = solution[:2].T
    matrix[:2, 2] = solution[2] - matrix[:2, :2] @ middle
    return matrix


def homography(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Projective map by the normalised direct linear transform, re-weighted to pixels.

    References
    ----------
    Hartley 1997, doi:10.1109/34.601246.
    """
    before, after = _normalisation(source), _normalisation(target)
    p, q = apply(before, source), apply(after, target)
    one, zero = np.ones(len(p)), np.zeros((len(p), 3))
    points = np.column_stack([p, one])
    depth = one
    for _ in range(3):  # dividing by the projective depth turns the algebraic error into pixels
        root = (np.sqrt(weights) / depth)[:, None]
        rows = np.vstack(
            [
                root * np.hstack([points, zero, -q[:, :1] * points]),
                root * np.hstack([zero, points, -q[:, 1:] * points]),
            ]
        )
        matrix = np.linalg.eigh(rows.T @ rows)[1][:, 0].reshape(3, 3)
        depth = points @ matrix[2]
    matrix = np.linalg.inv(after) @ matrix @ before
    return np.asarray(matrix / matrix[2, 2])


MOTIONS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "translation": translation,
    "similarity": similarity,
    "affine": affine,
    "homography": homography,
}
PARAMETERS = {"translation": 2, "similarity": 4, "affine": 6, "homography": 8}


def fit(motion: str, source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit `motion` to matches of which some may be wrong.

    `weights` are inverse variances up to a factor; what lies far off counts less (Cauchy weights,
    with the scale from the median).
    """
    trust = weights
    matrix = np.eye(3)
    for _ in range(ROUNDS):
        matrix = MOTIONS[motion](source, target, trust)
        errors = np.hypot(*(apply(matrix, source) - target).T) * np.sqrt(weights)
        scale = max(float(np.median(errors)), 1e-6)
        trust = weights / (1 + (errors / (2 * scale)) ** 2)
    return matrix


def residual(matrix: np.ndarray, source: np.ndarray, target: np.ndarray) -> float:
    """Root mean square distance of the mapped points, in pixels."""
    return float(np.sqrt(np.mean(np.sum((apply(matrix, source) - target) ** 2, axis=1))))


def penalised_misfit(
    motion: str, matrix: np.ndarray, source: np.ndarray, target: np.ndarray, weights: np.ndarray
) -> float:
    """Bayesian information criterion of `motion`, fitted as `matrix`: the lower, the better.

    References
    ----------
    Schwarz 1978, doi:10.1214/aos/1176344136.
    """
    misses = apply(matrix, source) - target
    errors = (misses * np.sqrt(weights)[:, None]).ravel()
    # The spread of a Cauchy-like crowd, not the mean square: a few bad matches mustn't decide.
    spread = np.median(np.abs(errors)) / 0.6745 + EXACT
    clipped = np.minimum(np.abs(errors), 3 * spread)
    count = len(errors)
    misfit = np.log(np.mean(clipped**2) + EXACT**2)
    return float(count * misfit + PARAMETERS[motion] * np.log(count))


def project(matrix: np.ndarray, motion: str, shape: tuple[int, int]) -> np.ndarray:
    """Return the `motion` that comes closest to `matrix` over the whole plane."""
    y, x = np.meshgrid(np.linspace(0, shape[0], 9), np.linspace(0, shape[1], 9))
    grid = np.column_stack([y.ravel(), x.ravel()])
    return MOTIONS[motion](grid, apply(matrix, grid), np.ones(len(grid)))


def _normalisation(points: np.ndarray) -> np.ndarray:
    """Matrix that brings points to mean 0 and distance √2."""
    middle = points.mean(axis=0)
    scale = np.sqrt(2) / max(np.hypot(*(points - middle).T).mean(), 1e-9)
    return np.array([[scale, 0, -scale * middle[0]], [0, scale, -scale * middle[1]], [0, 0, 1]])
