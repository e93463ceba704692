"""Levelling: subtraction of the form (plane or polynomial) from a height map."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_dff.model import checks
from napari_dff.model.checks import as_numbers
from napari_dff.surface.filters import FilterType, scale_limited_surface
from napari_dff.surface.region import known_pixels

Levelling = Literal["none", "plane", "polynomial", "three_points"]
DEGREE = checks.Range(1, 5, 1)
POINT_RADIUS_PX = 2  # the height of a point is the median of the 5 × 5 pixels around it


class LevelledHeights(NamedTuple):
    """A height map, split into form and residual heights. Their sum is the height map.

    Attributes
    ----------
    heights : (Y, X) float32
        Residual heights, in the unit of the height map; NaN where unknown.
    form : (Y, X) float32
        Subtracted form; defined for every pixel.
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
    """Subtract the form from a height map.

    Parameters
    ----------
    heights : (Y, X) float array
        In any unit; NaN where never in focus.
    levelling : {"plane", "polynomial", "three_points", "none"}
        Form to subtract: the least-squares plane or polynomial; the plane through three points,
        each at the median height of the known pixels in the 5 × 5 pixels around it; none.
    degree : int
        Total degree of the polynomial, 1 to 5. Outside `where` a polynomial diverges.
    points : (3, 2) array, optional
        Row and column of each point, in pixels, for "three_points".
    where : (Y, X) bool, optional
        Pixels to which plane and polynomial are fitted; all when None. The form is subtracted
        from all pixels.

    Raises
    ------
    ValueError
        For an invalid argument; if the known pixels do not determine the form; if the points are
        collinear, outside the height map, or surrounded by unknown pixels.
    """
    checks.check_choice("levelling", levelling, LEVELLINGS)
    DEGREE.check("degree", degree)
    mask = known_pixels(heights, where)
    form = LEVELLINGS[levelling](heights, mask, degree, points)
    return LevelledHeights((heights - form).astype(np.float32), form.astype(np.float32))


def level_after_s_filter(
    heights: np.ndarray,  # (Y, X)
    pixel_size: tuple[float, float],
    *,
    s_filter: float | None,
    filter_type: FilterType = "gaussian",
    **settings: Any,  # of `level`
) -> np.ndarray:  # (Y, X)
    """Return the heights without the form of the S-filtered heights: S, F, L of ISO 25178-3.

    The S-filter is applied to levelled heights: it would bend a tilted surface at the border.
    """
    levelled = level(heights, **settings).heights
    if s_filter is None:
        return levelled
    filters: dict[str, Any] = {"s_filter": s_filter, "filter_type": filter_type}
    primary = scale_limited_surface(levelled, pixel_size, **filters)
    return np.asarray(levelled - level(primary, **settings).form, np.float32)


# The terms are products P_a(y) P_b(x) of Legendre polynomials with a + b <= degree. The normal
# matrix Σ P_a P_b P_c P_d over the known pixels is a product of three matrices over rows and
# columns, so that the design matrix of all pixels need not fit into memory.
def _polynomial(heights: np.ndarray, mask: np.ndarray, degree: int) -> np.ndarray:
    """Return the least-squares polynomial of total degree `degree`, (Y, X) float64."""
    count = degree + 1
    down, across = (_legendre(np.any(mask, axis=axis), degree) for axis in (1, 0))
    products = [(p[:, :, None] * p[:, None, :]).reshape(len(p), -1) for p in (down, across)]
    sums = products[0].T @ (mask.astype(np.float64) @ products[1])
    normal = sums.reshape([count] * 4).transpose(0, 2, 1, 3).reshape(count**2, count**2)
    middle = np.mean(heights, where=mask, dtype=np.float64)
    right = (down.T @ (np.where(mask, heights - middle, 0.0) @ across)).ravel()
    selected = np.flatnonzero(np.add.outer(np.arange(count), np.arange(count)) <= degree)
    normal = normal[np.ix_(selected, selected)]
    # Legendre terms are nearly orthogonal, so that their squares differ by far less than 1e12.
    tolerance = 1e-12 * np.abs(normal).max()
    if np.linalg.matrix_rank(normal, tolerance, hermitian=True) < len(selected):
        raise ValueError(
            f"where must hold enough known pixels for {len(selected)} terms of degree {degree}, "
            f"got {np.count_nonzero(mask)} pixels that don't determine them"
        )
    terms = np.zeros(count**2)
    terms[selected] = np.linalg.solve(normal, right[selected])
    return down @ terms.reshape(count, count) @ across.T + middle


def _legendre(mask: np.ndarray, degree: int) -> np.ndarray:
    """Return Legendre polynomials, (N, degree + 1), on -1 … 1 between the ends of `mask`, (N,)."""
    first, last = np.flatnonzero(mask)[[0, -1]]
    argument = (np.arange(len(mask)) - (first + last) / 2) / max((last - first) / 2, 0.5)
    return np.polynomial.legendre.legvander(argument, degree)


def _three_points(heights: np.ndarray, points: npt.ArrayLike | None) -> np.ndarray:
    corners = as_numbers("points", [] if points is None else points).astype(np.float64)
    if corners.shape != (3, 2) or not np.isfinite(corners).all():
        raise ValueError(f"points must be three (row, column) pairs, got {corners.tolist()}")
    centres, medians = zip(*(_local_median(heights, *corner) for corner in corners), strict=True)
    sides = np.diff([*centres, centres[0]], axis=0)
    area = abs(sides[0, 0] * sides[1, 1] - sides[0, 1] * sides[1, 0])
    if area < np.hypot(*sides.T).max():  # the third is less than a pixel off the line
        raise ValueError(f"points must not lie on a line, got {corners.tolist()}")
    offset, *slopes = np.linalg.solve(np.column_stack([np.ones(3), centres]), medians)
    rows, columns = np.ogrid[: heights.shape[0], : heights.shape[1]]
    return offset + slopes[0] * rows + slopes[1] * columns


def _local_median(heights: np.ndarray, row: float, column: float) -> tuple[np.ndarray, float]:
    """Return mean (row, column) and median height of the known pixels around a point."""
    centre = np.rint([row, column])
    if (centre < 0).any() or (centre >= heights.shape).any():
        raise ValueError(
            f"points must lie inside the {heights.shape[0]} × {heights.shape[1]} pixels, "
            f"got ({row:g}, {column:g})"
        )
    first = np.maximum(centre - POINT_RADIUS_PX, 0).astype(int)
    last = centre.astype(int) + POINT_RADIUS_PX + 1
    patch = heights[first[0] : last[0], first[1] : last[1]]
    mask = np.isfinite(patch)
    if not mask.any():
        raise ValueError(
            f"points must lie where heights are known, got none near ({row:g}, {column:g})"
        )
    # Not the point itself: the patch is cropped at the edges and may have holes.
    return first + np.argwhere(mask).mean(axis=0), float(np.median(patch[mask]))


# From heights, mask of known pixels, degree and points to the form.
LEVELLINGS: dict[Levelling, Callable[..., np.ndarray]] = {
    "plane": lambda heights, mask, degree, points: _polynomial(heights, mask, 1),
    "polynomial": lambda heights, mask, degree, points: _polynomial(heights, mask, degree),
    "three_points": lambda heights, mask, degree, points: _three_points(heights, points),
    "none": lambda heights, mask, degree, points: np.zeros(heights.shape, np.float32),
}
