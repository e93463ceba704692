"""Plane masks: which planes have data at a pixel, where alignment has moved the borders of planes.

A plane mask is a (Z, Y, X) bool array. Where it is None, every plane has data everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from napari_dff.model.checks import as_mask
from napari_dff.model.stack import MIN_PLANES
from napari_dff.runtime.jit import kernel
from napari_dff.runtime.windows import Window

MIN_PLANE_SHARE = 0.5  # of the planes must have data at a pixel whose depth is estimated
PlaneMaskReader = Callable[[Window], np.ndarray | None]


def check_plane_mask(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the argument `plane_mask`; ValueError unless it is bool and of `shape` (Z, Y, X)."""
    return as_mask("plane_mask", mask, shape)


def has_enough_planes(mask: np.ndarray) -> np.ndarray:
    """Return where at least half of the planes, and `MIN_PLANES`, have data: (Y, X) bool."""
    least = max(MIN_PLANES, MIN_PLANE_SHARE * len(mask))
    return np.asarray(np.count_nonzero(mask, axis=0) >= least)


def mask_for_fusion(mask: np.ndarray) -> np.ndarray | None:
    """Return a plane mask with all planes where none has data; None if all have data everywhere."""
    return None if mask.all() else mask | ~mask.any(axis=0)


@kernel
def is_peak_complete(curves, mask, index, floor):  # type: ignore[no-untyped-def]
    """Return where the peak at plane `index` ends before a plane without data: (Y, X) bool.

    `curves` are (Z, Y, X) float32, `mask` is (Z, Y, X) bool, `index` (Y, X) integer, and `floor`
    (Y, X) float32 that of the noise. A peak ends where the curve has fallen half way to the floor.
    If it has not fallen so far, it may be higher in the planes without data.
    """
    count, height, width = curves.shape
    out = np.empty((height, width), np.bool_)
    for y in range(height):
        for x in range(width):
            peak = int(index[y, x])
            end = (curves[peak, y, x] + floor[y, x]) / 2
            first, last = peak, peak
            while first > 0 and mask[first, y, x] and curves[first, y, x] > end:
                first -= 1
            while last < count - 1 and mask[last, y, x] and curves[last, y, x] > end:
                last += 1
            out[y, x] = mask[first, y, x] and mask[last, y, x]
    return out


@kernel
def without_gaps(curves, mask):  # type: ignore[no-untyped-def]
    """Return curves of their values where `mask`, repeated back and forth up to Z values.

    `curves` are (Z, Y, X) float32. Floor and fluctuation of the result are those of the planes that
    have data. A curve without data is returned as it is.
    """
    count, height, width = curves.shape
    out = np.empty((count, height, width), np.float32)
    used = np.empty(count, np.int64)
    for y in range(height):
        for x in range(width):
            size = 0
            for k in range(count):
                if mask[k, y, x]:
                    used[size] = k
                    size += 1
            if size == 0:
                size = count
                for k in range(count):
                    used[k] = k
            period = max(2 * size - 2, 1)
            for k in range(count):
                j = k % period
                out[k, y, x] = curves[used[j if j < size else period - j], y, x]
    return out


def fill_gaps(planes: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return planes (Z, Y, X, C) whose pixels without data are those of the nearest plane before.

    Of the first plane after it where no plane before it has data.
    """
    planes, mask = planes.copy(), mask.copy()
    count = len(planes)
    for k, source in [(k, k - 1) for k in range(1, count)] + [
        (k, k + 1) for k in range(count - 2, -1, -1)
    ]:
        where = ~mask[k] & mask[source]
        planes[k][where] = planes[source][where]
        mask[k] |= where
    return planes
