"""Heights along a line."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from napari_dff import checks
from napari_dff.stack import validate_pixel_size
from napari_dff.surface.region import PATCH, known_pixels
from napari_dff.validation import as_numbers

WIDTH = checks.Range(1, 999, 1)
BEYOND = 10  # heights or widths of the picture that a line may reach outside
NOTHING = 1e-6  # weight of a pixel that only rounding gives it


class Profile(NamedTuple):
    """Heights along a line, at places about a pixel apart.

    Attributes
    ----------
    distance : (N,) float64
        From the start along the line, in the unit of the pixel size.
    height : (N,) float64
        In the unit of the heights; NaN where unknown.
    uncertainty : (N,) float64 or None
        One standard deviation of `height`; NaN where unknown, None if it wasn't given.
    points : (N, 2) float64
        Row and column of each place, in pixels.
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
    """Heights along a line of one or more straight parts.

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
        How many places a pixel apart, at right angles to the line, are averaged: 1 to 999. Those
        that are unknown are left out.

    Returns
    -------
    Profile
        Bilinear between pixels; unknown where any pixel it needs is. Errors are taken as alike
        over 5 pixels across the line.

    Raises
    ------
    ValueError
        For a wrong argument, or where no height is known.
    """
    size = np.array(validate_pixel_size(pixel_size))
    WIDTH.check("width", width)
    known = known_pixels(heights, uncertainty=uncertainty)
    vertices = as_numbers("line", line).astype(np.float64)
    far = BEYOND * max(heights.shape)
    if vertices.ndim != 2 or vertices.shape[1] != 2 or not (np.abs(vertices) <= far).all():
        raise ValueError(f"line must be (row, column) pairs up to {far}, got {vertices.tolist()}")
    steps = np.diff(vertices, axis=0)
    long = steps.any(axis=1)
    if not long.any():
        raise ValueError(f"line must have two vertices that differ, got {vertices.tolist()}")
    vertices, steps = vertices[np.append(True, long)], steps[long]

    pixels, lengths = (
        np.append(0, np.cumsum(np.hypot(*scaled.T))) for scaled in (steps, steps * size)
    )
    at = np.linspace(0, pixels[-1], max(round(pixels[-1]), 1) + 1)
    points = np.column_stack([np.interp(at, pixels, v) for v in vertices.T])
    part = np.clip(np.searchsorted(pixels, at, side="right") - 1, 0, len(steps) - 1)
    across = (steps * size)[part, ::-1] * (-1, 1) / size  # at right angles on the specimen
    across /= np.hypot(*across.T)[:, None]
    offsets = np.arange(width) - (width - 1) / 2
    places = points[:, None] + offsets[:, None] * across[:, None]  # (N, width, 2)

    height, count = _mean(_bilinear(np.where(known, heights, np.nan), places))
    deviation = None
    if uncertainty is not None:
        square, _ = _mean(_bilinear(np.where(known, uncertainty, np.nan), places) ** 2)
        deviation = np.sqrt(square / np.maximum(count / np.sqrt(PATCH), 1))
    return Profile(np.interp(at, pixels, lengths), height, deviation, points)


def _bilinear(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`values` (Y, X) at `places` (..., 2); NaN outside and where a pixel that counts is NaN."""
    last = np.array(values.shape) - 1
    inside = ((places >= -NOTHING) & (places <= last + NOTHING)).all(axis=-1)
    first = np.clip(np.floor(places), 0, last).astype(int)
    beyond = np.minimum(first + 1, last)
    part = np.clip(places - first, 0, 1)
    total = np.where(inside, 0.0, np.nan)
    for rows, down in ((first[..., 0], 1 - part[..., 0]), (beyond[..., 0], part[..., 0])):
        for columns, right in ((first[..., 1], 1 - part[..., 1]), (beyond[..., 1], part[..., 1])):
            weight = down * right
            total += np.where(weight > NOTHING, weight * values[rows, columns], 0)
    return total


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and count of the known ones along the last axis; NaN where there are none."""
    known = np.isfinite(values)
    count = np.count_nonzero(known, axis=-1)
    total = np.sum(values, axis=-1, where=known)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), count
