"""Bands of a plane, the levels of a Laplacian pyramid, and their sharpness: see `multiscale`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from napari_dff.imaging.images import luminance
from napari_dff.runtime.jit import kernel
from napari_dff.runtime.windows import Window

LEVEL_COUNT = 4  # of bands; the mean of the planes at 1/16 of their size remains
SHARPNESS_SIGMA_PX, SHARPNESS_WINDOW_PX = 1.1, 5  # in which band energy is averaged, at its level
SHARPNESS_FLOOR = np.float32(80)  # c: energies below it, over that of noise, hardly select a plane
GUIDE_POWER = 0.65  # q: on g of the next coarser level
MASK_DOUBLINGS = 6  # power 2^6 of the share of a plane with data in a band, as a factor of g
MIN_SHARE = np.float32(1e-15)  # least factor
MAX_SHARPNESS = np.float32(1e12)  # so that squares of weights stay within float32
NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)


class Band(NamedTuple):
    """A part of one band of a plane."""

    values: np.ndarray  # (C, Y, X) float32
    gain: np.ndarray  # (Y, X) float32: g
    sharpness: np.ndarray  # (Y, X) float32: e


class PlanePyramids(NamedTuple):
    """Levels of a plane from fine to coarse, float32."""

    channels: list[np.ndarray]  # (C, Y, X)
    limited: list[np.ndarray]  # (Y, X), of the luminance without single hot and dead pixels
    shares: list[np.ndarray]  # (Y, X), of the pixels with data; (0, 0) if all have


def pyramid(image: np.ndarray) -> list[np.ndarray]:
    """Return (Y, X) or (C, Y, X) `image` and its halvings."""
    levels = [image]
    for _ in range(LEVEL_COUNT):
        levels.append(_per_channel(cv2.pyrDown, levels[-1]))
    return levels


def plane_pyramids(plane: np.ndarray, mask: np.ndarray | None) -> PlanePyramids:
    """Return the levels of a plane that has data where `mask`, (Y, X) bool; None: everywhere."""
    grey = luminance(plane)
    channels = grey if plane.ndim == 2 else np.moveaxis(np.asarray(plane, np.float32), -1, 0)
    levels = pyramid(np.ascontiguousarray(channels.reshape(-1, *grey.shape)))
    nothing = [np.empty((0, 0), np.float32)] * (LEVEL_COUNT + 1)
    shares = nothing if mask is None else pyramid(mask.astype(np.float32))
    return PlanePyramids(levels, pyramid(limit_to_neighbours(grey)), shares)


def double(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return `image` at the next finer level, whose shape is (Y, X, …)."""
    return cv2.pyrUp(image, dstsize=(shape[1], shape[0]))


def halve(window: Window) -> Window:
    """Return `window`, which starts at even pixels, at the next coarser level."""
    return Window(*(-(-edge // 2) for edge in window))


def compute_band(
    plane: PlanePyramids, noise: list[np.ndarray], level: int, support: np.ndarray
) -> Band:
    """Return a band of a plane.

    `noise` is the energy of noise in each band, `support` is g^q of the next coarser level. For
    fine levels, `add_fine_band` computes the same.
    """
    values, energy = split_band(plane.channels, level), split_band(plane.limited, level)
    size = (SHARPNESS_WINDOW_PX, SHARPNESS_WINDOW_PX)
    energy = cv2.GaussianBlur(energy * energy, size, SHARPNESS_SIGMA_PX)
    energy = cv2.divide(energy, noise[level])
    np.clip(energy, np.float32(1), MAX_SHARPNESS, out=energy)
    return Band(values, (energy + SHARPNESS_FLOOR) * support, energy)


def discount(band: Band, shares: np.ndarray) -> Band:
    """Reduce g and e where a plane has no data, and next to it as far as filters reach.

    `shares` are those of the band's level.
    """
    if shares.size == 0:
        return band
    factor = np.maximum(shares ** (1 << MASK_DOUBLINGS), MIN_SHARE)
    return band._replace(gain=band.gain * factor, sharpness=band.sharpness * factor)


def coarsest_band(plane: PlanePyramids, sharpness: np.ndarray) -> Band:
    """Return the mean of a plane that remains, from the `sharpness` of the last difference."""
    energy = cv2.pyrDown(cv2.sqrt(sharpness)) ** 2
    return Band(plane.channels[-1], energy + SHARPNESS_FLOOR, energy)


def support_of(gain: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return g^q of a level at the next finer one, whose shape is (Y, X)."""
    return double(cv2.pow(gain, GUIDE_POWER), shape)


def split_band(levels: list[np.ndarray], level: int) -> np.ndarray:
    """Return what a level of a pyramid has and the next coarser one lacks."""
    shape = levels[level].shape[-2:]
    return levels[level] - _per_channel(lambda each: double(each, shape), levels[level + 1])


def _per_channel(function: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """Apply a function of (Y, X) to (Y, X) or (C, Y, X)."""
    if image.ndim == 2:
        return function(image)
    return function(image[0])[None] if len(image) == 1 else np.stack([*map(function, image)])


@kernel
def limit_to_neighbours(plane):  # type: ignore[no-untyped-def]
    """Return (Y, X) float32 values, limited to the range of their eight neighbours."""
    height, width = plane.shape
    out = np.empty_like(plane)
    # Lowest and highest value of the pixels above and below, and the row itself; mirrored at the
    # ends, where the mirrored pixels are neighbours, too.
    low, high = np.empty(width + 2, np.float32), np.empty(width + 2, np.float32)
    row = np.empty(width + 2, np.float32)
    for y in range(height):
        above, below = plane[y - 1 if y > 0 else y + 1], plane[y + 1 if y < height - 1 else y - 1]
        for x in range(width):
            low[x + 1], high[x + 1] = min(above[x], below[x]), max(above[x], below[x])
            row[x + 1] = plane[y, x]
        for line in (low, high, row):
            line[0], line[width + 1] = line[2], line[width - 1]
        for x in range(width):
            least = min(min(low[x], low[x + 1]), min(low[x + 2], min(row[x], row[x + 2])))
            most = max(max(high[x], high[x + 1]), max(high[x + 2], max(row[x], row[x + 2])))
            out[y, x] = min(max(row[x + 1], least), most)
    return out
