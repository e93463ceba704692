"""Operations on single images that several steps share."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from napari_dff.model.checks import check_finite


def read_plane(
    planes: Any, i: int, where: tuple[slice, slice] = (slice(None), slice(None))
) -> np.ndarray:
    """Return plane `i`, or the part `where` of it, in memory; ValueError if it is not finite."""
    plane = np.asarray(planes[(i, *where)])
    check_finite("planes", plane, f" in plane {i}")
    return plane


def luminance(plane: np.ndarray) -> np.ndarray:
    """Return the luminance of (Y, X) or (Y, X, 3) of any number type as (Y, X) float32.

    The result is contiguous, writeable and of no subclass of `np.ndarray`: kernels refuse masked
    arrays, and are compiled again for other layouts.
    """
    values = np.require(np.asarray(plane), np.float32, ["C", "W"])
    return values if values.ndim == 2 else cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)


def block_means(plane: np.ndarray, step: int) -> np.ndarray:
    """Return means of `step` × `step` pixels of (Y, X[, 3]); incomplete blocks are mirrored."""
    if step == 1:
        return plane
    missing = [-size % step for size in plane.shape[:2]]
    if any(missing):
        plane = cv2.copyMakeBorder(plane, 0, missing[0], 0, missing[1], cv2.BORDER_REFLECT_101)
    size = (plane.shape[1] // step, plane.shape[0] // step)
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)


def as_dtype(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Convert float `values` to `dtype`, rounded and clipped to its range."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    highest: float = limits.max
    if dtype.itemsize > 2:  # float32 cannot represent this maximum: it would round up
        values = values.astype(np.float64)
        highest = np.nextafter(limits.max + 1.0, 0) if dtype.itemsize == 8 else highest
    return np.clip(np.rint(values), limits.min, highest).astype(dtype)
