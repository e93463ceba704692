"""Taking the form out of a height map, so that what stands out from it is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_dff import checks
from napari_dff.surface.region import known_pixels
from napari_dff.validation import as_numbers

Levelling = Literal["none", "plane", "polynomial", "three_points"]
DEGREE = checks.Range(1, 5, 1)
REACH = 2  # pixels around a point that its height is the median of: 5 × 5


class LevelledHeights(NamedTuple):
    """A height map in two parts, which add up to it.

    Attributes
    ----------
    heights : (Y, X) float32
        What is left, in the unit of the heights; NaN where unknown.
    form : (Y, X) float32
        What was taken out, known everywhere.
    """

    heights: np.ndarray
    form: np.ndarray


def level(
    heights: np.ndarray,  # (Y, X)
    *,
    levelling: Levelling = "plane",
    degree: int = 2,
    points: npt.ArrayLike | None = None,  # (3, 2)
    where: np.ndarray | None = None,  # (Y, X)
) -> LevelledHeights:
    """Subtract a form from the heights.

    Parameters
    ----------
    heights : (Y, X) float array
        In any unit; NaN where never in focus.
    levelling : {"plane", "polynomial", "three_points", "none"}
        The plane or the polynomial that fits best by least squares; the plane through three
        points, the height at each being the median of the known pixels in 5 × 5 around it; or
        nothing.
    degree : int
        Total degree of the polynomial, 1 to 5. A polynomial grows quickly outside `where`.
    points : (3, 2) array, optional
        Row and column of each point, in pixels, for "three_points".
    where : (Y, X) bool, optional
        What plane and polynomial are fitted to; everything when None. The form is subtracted
        everywhere.

    Returns
    -------
    LevelledHeights

    Raises
    ------
    ValueError
        For a wrong argument; where the known pixels don't determine the form; where points lie on
        a line, outside, or where nothing is known.
    """
    checks.check_choice("levelling", levelling, LEVELLINGS)
    DEGREE.check("degree", degree)
    known = known_pixels(heights, where)
    form = LEVELLINGS[levelling](heights, known, degree, points)
    return LevelledHeights((heights - form).astype(np.float32), form.astype(np.float32))


def _nothing(
    heights: np.ndarray, known: np.ndarray, degree: int, points: npt.ArrayLike | None
) -> np.ndarray:
    return np.zeros(heights.shape, np.float32)


def _plane(
    heights: np.ndarray, known: np.ndarray, degree: int, points: npt.ArrayLike | None
) -> np.ndarray:
    return _polynomial(heights, known, 1, points)


def _polynomial(
    heights: np.ndarray, known: np.ndarray, degree: int, points: npt.ArrayLike | None
) -> np.ndarray:
    """Least squares by sums over rows and columns, so that no table of all terms is held."""
    count = degree + 1
    down, across = (_legendre(np.any(known, axis=axis), degree) for axis in (1, 0))
    products = [
        (terms[:, :, None] * terms[:, None, :]).reshape(len(terms), -1) for terms in (down, across)
    ]
    sums = products[0].T @ (known.astype(np.float64) @ products[1])
    normal = sums.reshape([count] * 4).transpose(0, 2, 1, 3).reshape(count**2, count**2)
    middle = np.mean(heights, where=known, dtype=np.float64)
    right = (down.T @ (np.where(known, heights - middle, 0.0) @ across)).ravel()

    kept = np.flatnonzero(np.add.outer(np.arange(count), np.arange(count)) <= degree)
    normal = normal[np.ix_(kept, kept)]
    # Legendre terms are nearly orthogonal: their squares differ by far less than this.
    if np.linalg.matrix_rank(normal, tol=1e-12 * np.abs(normal).max(), hermitian=True) < len(kept):
        raise ValueError(
            f"where must hold enough known pixels for {len(kept)} terms of degree {degree}, "
            f"got {np.count_nonzero(known)} pixels that don't determine them"
        )
    terms = np.zeros(count**2)
    terms[kept] = np.linalg.solve(normal, right[kept])
    return down @ terms.reshape(count, count) @ across.T + middle


def _legendre(used: np.ndarray, degree: int) -> np.ndarray:
    """Legendre polynomials along one axis, (N, degree + 1), -1 … 1 over the part in use."""
    first, last = np.flatnonzero(used)[[0, -1]]
    place = (np.arange(len(used)) - (first + last) / 2) / max((last - first) / 2, 0.5)
    return np.polynomial.legendre.legvander(place, degree)


def _three_points(
    heights: np.ndarray, known: np.ndarray, degree: int, points: npt.ArrayLike | None
) -> np.ndarray:
    corners = as_numbers("points", [] if points is None else points).astype(np.float64)
    if corners.shape != (3, 2) or not np.isfinite(corners).all():
        raise ValueError(f"points must be three (row, column) pairs, got {corners.tolist()}")
    places, medians = zip(*(_near(heights, *corner) for corner in corners), strict=True)
    sides = np.diff([*places, places[0]], axis=0)
    area = abs(sides[0, 0] * sides[1, 1] - sides[0, 1] * sides[1, 0])
    if area < np.hypot(*sides.T).max():  # the third is less than a pixel off the line
        raise ValueError(f"points must not lie on a line, got {corners.tolist()}")
    offset, *slopes = np.linalg.solve(np.column_stack([np.ones(3), places]), medians)
    rows, columns = np.ogrid[: heights.shape[0], : heights.shape[1]]
    return offset + slopes[0] * rows + slopes[1] * columns


def _near(heights: np.ndarray, row: float, column: float) -> tuple[np.ndarray, float]:
    """Mean place (row, column) and median height of the known pixels around a point."""
    centre = np.rint([row, column])
    if (centre < 0).any() or (centre >= heights.shape).any():
        raise ValueError(
            f"points must lie inside the {heights.shape[0]} × {heights.shape[1]} pixels, "
            f"got ({row:g}, {column:g})"
        )
    first, last = (np.maximum(centre + by, 0).astype(int) for by in (-REACH, REACH + 1))
    patch = heights[first[0] : last[0], first[1] : last[1]]
    known = np.isfinite(patch)
    if not known.any():
        raise ValueError(
            f"points must lie where heights are known, got none near ({row:g}, {column:g})"
        )
    # The mean place, because the window is cut off at the edges and may have holes.
    return first + np.argwhere(known).mean(axis=0), float(np.median(patch[known]))


LEVELLINGS: dict[str, Callable[[np.ndarray, np.ndarray, int, npt.ArrayLike | None], np.ndarray]] = {
    "plane": _plane,
    "polynomial": _polynomial,
    "three_points": _three_points,
    "none": _nothing,
}
