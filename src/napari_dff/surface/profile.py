"""Height profiles along a line."""

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from napari_dff.model import checks
from napari_dff.model.checks import as_numbers
from napari_dff.model.stack import validate_pixel_size
from napari_dff.surface.region import CORRELATED_PIXELS, known_pixels

WIDTH = checks.Range(1, 999, 1)
MAX_EXTENT = 10  # largest coordinate of a vertex, as a multiple of the longer side
MIN_WEIGHT = 1e-6  # smaller interpolation weights are rounding errors


class Profile(NamedTuple):
    """Heights along a line, sampled about one pixel apart.

    Attributes
    ----------
    distance : (N,) float64
        From the start along the line, in the unit of the pixel size.
    height : (N,) float64
        In the unit of the heights; NaN where unknown.
    uncertainty : (N,) float64 or None
        Standard uncertainty of `height`; NaN where unknown, None without uncertainty.
    points : (N, 2) float64
        Row and column of each sample, in pixels.
    """

    distance: np.ndarray
    height: np.ndarray
    uncertainty: np.ndarray | None
    points: np.ndarray


def profile(
    heights: np.ndarray,  # (Y, X)
    line: npt.ArrayLike,  # (N, 2)
    pixel_size: tuple[float, float],
    *,
    uncertainty: np.ndarray | None = None,  # (Y, X)
    width: int = 1,
) -> Profile:
    """Sample the heights along a polyline.

    Parameters
    ----------
    heights : (Y, X) float array
        In any unit; NaN where never in focus.
    line : (N, 2) array
        Row and column of its vertices, in pixels; at least two that differ. Outside the pixels'
        centres the height is unknown.
    pixel_size : (float, float)
        Height and width of a pixel.
    uncertainty : (Y, X) float array, optional
        One standard deviation of the heights; inf where never in focus, which counts as unknown.
    width : int
        Number of samples, one pixel apart and perpendicular to the line, that are averaged: 1 to
        999. Unknown samples are left out.

    Returns
    -------
    Profile
        Bilinear interpolation; unknown where one of the interpolated pixels is. The uncertainty
        assumes that errors are fully correlated over 5 pixels across the line.

    Raises
    ------
    ValueError
        For an invalid argument, or if no height is known.
    """
    size = np.array(validate_pixel_size(pixel_size))
    WIDTH.check("width", width)
    mask = known_pixels(heights, uncertainty=uncertainty)
    vertices = as_numbers("line", line).astype(np.float64)
    limit = MAX_EXTENT * max(heights.shape)
    if vertices.ndim != 2 or vertices.shape[1] != 2 or not (np.abs(vertices) <= limit).all():
        raise ValueError(f"line must be (row, column) pairs up to {limit}, got {vertices.tolist()}")
    steps = np.diff(vertices, axis=0)
    nonzero = steps.any(axis=1)
    if not nonzero.any():
        raise ValueError(f"line must have two vertices that differ, got {vertices.tolist()}")
    vertices, steps = vertices[np.append(True, nonzero)], steps[nonzero]
    pixels, lengths = (np.append(0, np.cumsum(np.hypot(*s.T))) for s in (steps, steps * size))
    samples = np.linspace(0, pixels[-1], max(round(pixels[-1]), 1) + 1)
    points = np.column_stack([np.interp(samples, pixels, v) for v in vertices.T])
    part = np.clip(np.searchsorted(pixels, samples, side="right") - 1, 0, len(steps) - 1)
    across = (steps * size)[part, ::-1] * (-1, 1) / size  # perpendicular on the specimen
    across /= np.hypot(*across.T)[:, None]
    offsets = np.arange(width) - (width - 1) / 2
    positions = points[:, None] + offsets[:, None] * across[:, None]  # (N, width, 2)
    height, count = _mean(_bilinear(np.where(mask, heights, np.nan), positions))
    deviation = None
    if uncertainty is not None:
        square, _ = _mean(_bilinear(np.where(mask, uncertainty, np.nan), positions) ** 2)
        deviation = np.sqrt(square / np.maximum(count / np.sqrt(CORRELATED_PIXELS), 1))
    return Profile(np.interp(samples, pixels, lengths), height, deviation, points)


def _bilinear(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Interpolate `values` (Y, X) at `positions` (..., 2); NaN outside and next to NaN."""
    last = np.array(values.shape) - 1
    inside = ((positions >= -MIN_WEIGHT) & (positions <= last + MIN_WEIGHT)).all(axis=-1)
    first = np.clip(np.floor(positions), 0, last).astype(int)
    following = np.minimum(first + 1, last)
    part = np.clip(positions - first, 0, 1)
    total = np.where(inside, 0.0, np.nan)
    corners = (first, 1 - part), (following, part)
    for (rows, down), (columns, right) in itertools.product(corners, repeat=2):
        weight = down[..., 0] * right[..., 1]
        value = values[rows[..., 0], columns[..., 1]]
        total += np.where(weight > MIN_WEIGHT, weight * value, 0)
    return total


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and number of the known values along the last axis; NaN without any."""
    mask = np.isfinite(values)
    count = np.count_nonzero(mask, axis=-1)
    total = np.sum(values, axis=-1, where=mask)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), count
