"""Bands of a plane, the levels of a Laplacian pyramid, and their sharpness: see `multiscale`."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from napari_dff.imaging.images import luminance
from napari_dff.runtime.jit import kernel

LEVEL_COUNT = 4  # of bands; the mean of the planes at 1/16 of their size remains
SHARPNESS_SIGMA_PX, SHARPNESS_WINDOW_PX = 1.1, 5  # in which band energy is averaged, at its level
SHARPNESS_FLOOR = 80.0  # c: energies below it, over that of noise, hardly select a plane
GUIDE_POWER = 0.65  # q: on g of the next coarser level
MASK_POWER = 64  # of the share of a plane with data in a band, as a factor of g
MIN_LOG_PRIOR = -40.0  # of planes so unlikely that ε decides; denormal numbers would be slow
MAX_SHARPNESS = 1e12  # so that squares of weights stay within float32
NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)


class Band(NamedTuple):
    """One band of a plane, and its weights."""

    values: np.ndarray  # (C, Y, X) float32
    gain: np.ndarray  # (Y, X) float32: g
    sharpness: np.ndarray  # (Y, X) float32: e
    prior: np.ndarray  # (Y, X) float32: p


def pyramid(image: np.ndarray) -> list[np.ndarray]:
    """Return `image` and its halvings."""
    levels = [image]
    for _ in range(LEVEL_COUNT):
        levels.append(cv2.pyrDown(levels[-1]))
    return levels


def divide_plane(
    plane: np.ndarray, log_prior: np.ndarray, noise: list[np.ndarray], mask: np.ndarray | None
) -> list[Band]:
    """Return the bands of a plane that has data where `mask`, (Y, X) bool; None: everywhere."""
    channels = [plane] if plane.ndim == 2 else np.moveaxis(plane, -1, 0)
    bands = [split_bands(np.ascontiguousarray(channel, np.float32)) for channel in channels]
    values = [np.stack(level) for level in zip(*bands, strict=True)]
    sharpness = _sharpness(luminance(plane), noise)
    gains = _guided(sharpness)
    if mask is not None:
        _discount(gains, sharpness, mask)
    np.maximum(log_prior, np.float32(MIN_LOG_PRIOR), out=log_prior)
    priors = pyramid(cv2.exp(log_prior, dst=log_prior))
    return list(map(Band, values, gains, sharpness, priors))


def double(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return `image` at the next finer level, whose shape is (Y, X, …)."""
    return cv2.pyrUp(image, dstsize=(shape[1], shape[0]))


def split_bands(image: np.ndarray) -> list[np.ndarray]:
    """Return the differences between levels from fine to coarse, then the coarsest level."""
    levels = pyramid(image)
    for level in range(LEVEL_COUNT):
        smooth = double(levels[level + 1], levels[level].shape)
        levels[level] = cv2.subtract(levels[level], smooth, dst=smooth)
    return levels


def _sharpness(plane: np.ndarray, noise: list[np.ndarray]) -> list[np.ndarray]:
    """Return the energy of each band over that of noise, at least 1; of the rest, that of the last.

    Single pixels outside the range of their neighbours, such as hot ones, are limited to it.
    """
    bands = split_bands(limit_to_neighbours(plane))
    window, sharpness = (SHARPNESS_WINDOW_PX, SHARPNESS_WINDOW_PX), []
    for band, variance in zip(bands, noise, strict=False):
        np.multiply(band, band, out=band)
        energy = cv2.GaussianBlur(band, window, SHARPNESS_SIGMA_PX)
        np.divide(energy, variance, out=energy)
        sharpness.append(np.clip(energy, np.float32(1), np.float32(MAX_SHARPNESS), out=energy))
    return [*sharpness, cv2.pyrDown(cv2.sqrt(sharpness[-1])) ** 2]


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


def _guided(sharpness: list[np.ndarray]) -> list[np.ndarray]:
    """Return g of all levels from their sharpness e, from coarse to fine."""
    gains = [sharpness[-1] + np.float32(SHARPNESS_FLOOR)]
    guide = np.ones_like(gains[0])
    for energy in sharpness[-2::-1]:
        guide = double(cv2.pow(guide, GUIDE_POWER), energy.shape)
        guide *= energy + np.float32(SHARPNESS_FLOOR)
        gains.append(guide)
    return gains[::-1]


def _discount(gains: list[np.ndarray], sharpness: list[np.ndarray], mask: np.ndarray) -> None:
    """Reduce g and e where a plane has no data, and next to it as far as filters reach."""
    for level, share in enumerate(pyramid(mask.astype(np.float32))):
        factor = np.maximum(share**MASK_POWER, np.float32(1e-15))
        gains[level], sharpness[level] = gains[level] * factor, sharpness[level] * factor
