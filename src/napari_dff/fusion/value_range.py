"""The range of the planes around each pixel, to which an all-in-focus image is limited."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from napari_dff.fusion.bands import NEIGHBOURS

NEAR = np.ones((3, 3), np.uint8)
OUTLIER_RANGES = 2.0  # beyond the range of other values; a point of 1.6 px width stays within it


class ValueRange:
    """Lowest and highest values of the planes around each pixel, without hot and dead pixels.

    The highest value at a pixel is an outlier if it exceeds the other planes at the pixel, and all
    planes at its eight neighbours, by more than `OUTLIER_RANGES` times their range. The second
    highest value replaces it. The lowest value is treated likewise.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        float_type = np.float16 if dtype.itemsize == 2 else np.float32  # clip computes in float32
        limits = np.finfo(float_type) if dtype.kind == "f" else np.iinfo(dtype)
        self._limits = limits.max, limits.min
        self._lows = np.full((2, *shape), limits.max, dtype)  # lowest, second lowest
        self._highs = np.full((2, *shape), limits.min, dtype)

    def add(self, plane: np.ndarray, mask: np.ndarray | None, rows: slice) -> None:
        """Add `rows` of a plane, (Y, X[, 3]), with data where `mask`, (Y, X); None: everywhere."""
        low = high = plane[rows]
        if mask is not None:
            where = mask[rows].reshape(mask[rows].shape + (1,) * (plane.ndim - 2))
            low, high = (np.where(where, low, limit).astype(plane.dtype) for limit in self._limits)
        lowest, second_low, highest, second_high = (
            each[i, rows] for each in (self._lows, self._highs) for i in (0, 1)
        )
        np.minimum(second_low, np.maximum(lowest, low), out=second_low)
        np.minimum(lowest, low, out=lowest)
        np.maximum(second_high, np.minimum(highest, high), out=second_high)
        np.maximum(highest, high, out=highest)

    def clip(self, image: np.ndarray) -> np.ndarray:
        """Return `image`, (Y, X[, 3]) float32, limited to the range around each pixel."""
        low, second_low = self._lows.astype(np.float32)
        high, second_high = self._highs.astype(np.float32)
        bottom = np.minimum(second_low, cv2.erode(low, NEIGHBOURS))
        top = np.maximum(second_high, cv2.dilate(high, NEIGHBOURS))
        tolerance = np.float32(OUTLIER_RANGES) * (top - bottom)
        low = np.where(low < bottom - tolerance, second_low, low)
        high = np.where(high > top + tolerance, second_high, high)
        return np.clip(image, cv2.erode(low, NEAR), cv2.dilate(high, NEAR))
