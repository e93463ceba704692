"""Bands of a plane, the levels of a Laplacian pyramid, and their sharpness: see `multiscale`."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from napari_dff.imaging.images import luminance
from napari_dff.runtime.jit import kernel
from napari_dff.runtime.windows import Window, full_window

LEVEL_COUNT = 4  # of bands; the mean of the planes at 1/16 of their size remains
SHARPNESS_SIGMA_PX, SHARPNESS_WINDOW_PX = 1.1, 5  # in which band energy is averaged, at its level
SHARPNESS_FLOOR = 80.0  # c: energies below it, over that of noise, hardly select a plane
GUIDE_POWER = 0.65  # q: on g of the next coarser level
MASK_POWER = 64  # of the share of a plane with data in a band, as a factor of g
BAND_MARGIN_PX = 4  # around a part of a band, in pixels of its level, of influence on it
MAX_SHARPNESS = 1e12  # so that squares of weights stay within float32
NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)


class Band(NamedTuple):
    """A part of one band of a plane."""

    values: np.ndarray  # (C, Y, X) float32
    gain: np.ndarray  # (Y, X) float32: g
    sharpness: np.ndarray  # (Y, X) float32: e


class PlanePyramids(NamedTuple):
    """Levels of a plane from fine to coarse, each (Y, X) float32."""

    channels: list[list[np.ndarray]]  # levels of each channel
    limited: list[np.ndarray]  # of the luminance without single hot and dead pixels
    shares: list[np.ndarray] | None  # of the pixels with data; None: all have


def pyramid(image: np.ndarray) -> list[np.ndarray]:
    """Return `image` and its halvings."""
    levels = [image]
    for _ in range(LEVEL_COUNT):
        levels.append(cv2.pyrDown(levels[-1]))
    return levels


def plane_pyramids(plane: np.ndarray, mask: np.ndarray | None) -> PlanePyramids:
    """Return the levels of a plane that has data where `mask`, (Y, X) bool; None: everywhere."""
    grey = luminance(plane)
    channels = [grey] if plane.ndim == 2 else np.moveaxis(np.asarray(plane, np.float32), -1, 0)
    levels = [pyramid(np.ascontiguousarray(channel)) for channel in channels]
    shares = None if mask is None else pyramid(mask.astype(np.float32))
    return PlanePyramids(levels, pyramid(limit_to_neighbours(grey)), shares)


def double(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return `image` at the next finer level, whose shape is (Y, X, …)."""
    return cv2.pyrUp(image, dstsize=(shape[1], shape[0]))


def halve(window: Window) -> Window:
    """Return `window`, which starts at even pixels, at the next coarser level."""
    return Window(*(-(-edge // 2) for edge in window))


def compute_band(
    plane: PlanePyramids, noise: list[np.ndarray], level: int, window: Window, support: np.ndarray
) -> Band:
    """Return the part of a band in `window`, in pixels of its level.

    `noise` is the energy of noise in each band, `support` is g^q of the next coarser level.
    """
    outer = window.expand(BAND_MARGIN_PX, plane.limited[level].shape, 2)
    inner = window.slices_in(outer)
    values = np.stack([_difference(levels, level, outer)[inner] for levels in plane.channels])
    energy = _difference(plane.limited, level, outer)
    np.multiply(energy, energy, out=energy)
    size = (SHARPNESS_WINDOW_PX, SHARPNESS_WINDOW_PX)
    energy = cv2.GaussianBlur(energy, size, SHARPNESS_SIGMA_PX)[inner]
    energy = cv2.divide(energy, noise[level][window.slices])
    np.clip(energy, np.float32(1), np.float32(MAX_SHARPNESS), out=energy)
    gain = (energy + np.float32(SHARPNESS_FLOOR)) * support
    return Band(values, gain, energy)


def discount(band: Band, shares: list[np.ndarray] | None, level: int, window: Window) -> Band:
    """Reduce g and e where a plane has no data, and next to it as far as filters reach."""
    if shares is None:
        return band
    factor = np.maximum(shares[level][window.slices] ** MASK_POWER, np.float32(1e-15))
    return band._replace(gain=band.gain * factor, sharpness=band.sharpness * factor)


def coarsest_band(plane: PlanePyramids, sharpness: np.ndarray) -> Band:
    """Return the mean of a plane that remains, from the `sharpness` of the last difference."""
    values = np.stack([levels[-1] for levels in plane.channels])
    energy = cv2.pyrDown(cv2.sqrt(sharpness)) ** 2
    return Band(values, energy + np.float32(SHARPNESS_FLOOR), energy)


def support_of(gain: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return g^q of a level at the next finer one, whose shape is (Y, X)."""
    return double(cv2.pow(gain, GUIDE_POWER), shape)


def split_bands(image: np.ndarray) -> list[np.ndarray]:
    """Return the differences between levels from fine to coarse, then the coarsest level."""
    levels = pyramid(image)
    windows = [full_window(level.shape) for level in levels[:-1]]
    return [_difference(levels, i, window) for i, window in enumerate(windows)] + levels[-1:]


def _difference(levels: list[np.ndarray], level: int, window: Window) -> np.ndarray:
    """Return what a level has in `window` and the next coarser one lacks."""
    smooth = double(levels[level + 1][halve(window).slices], window.shape)
    return cv2.subtract(levels[level][window.slices], smooth, dst=smooth)


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
