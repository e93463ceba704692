"""Exposure: gains of the planes, and whether they are those of light that drifts or flickers.

Light is compared in low frequencies, after alignment, at pixels of which every plane has data. Used
are, in each of `AREAS` × `AREAS` areas of the plane, the flattest pixels that are neither dark nor
saturated: defocus changes them least.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import cv2
import numpy as np

from napari_dff.imaging.warp import valid_mask
from napari_dff.registration import downsampling
from napari_dff.registration.lazy_stack import LazyAlignedStack
from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.threads import run_parallel

MAX_SIDE_PX = 384  # longer side of the planes that are compared
BLUR_PX, MIN_BLUR_PX = 8.0, 3.0  # of these, in pixels of the full planes, and at least
SAMPLE_COUNT = 8192  # pixels that are compared, about
AREAS = 6  # along each side of a plane
FLAT_SHARE = 1 / 3  # of the pixels of an area, those with the smallest slope in all planes
MIN_LEVEL = 0.1  # over percentile 99: darker pixels are not used
SATURATION = 0.97  # of the largest value of the integer type
MIN_AREA_PX, MIN_AREAS = 8, 8  # samples of an area, and areas, in which light is compared
# Light drifts if the range of ln(gain) is large over the median deviation of the areas from it, and
# if the areas then agree. The ratio is below 11 in 16 steady stacks of others and of ours, and from
# 13 to 200 if light drifts by 10 % over them; in fluorescence, areas deviate by 0.018 to 0.13.
MIN_DRIFT, MAX_DRIFT = 0.03, 0.7  # range of ln(gain); above, it is not that of a lamp
MIN_DRIFT_RATIO = 12.0
MAX_AREA_DEVIATION = 0.015  # of ln(gain)


class Light(NamedTuple):
    """Light of all planes at N pixels that all of them have, in C channels."""

    levels: np.ndarray  # (Z, N, C) float32: blurred values
    usable: np.ndarray  # (N, C) bool: flat, neither dark nor saturated in any plane
    area: np.ndarray  # (N,) number of the area
    black: np.ndarray  # (Z,) bool: planes without light


def measure_light(
    planes: Any,  # (Z, Y, X[, 3])
    transforms: np.ndarray,  # (Z, 3, 3)
    *,
    progress: Progress = no_progress,
) -> Light | None:
    """Return the light of all planes; None if no pixel has data in all of them. Reads them once."""
    count = len(transforms)
    factor = downsampling.compute_factor(planes.shape[1:3], MAX_SIDE_PX)
    blur = max(BLUR_PX / factor, MIN_BLUR_PX)
    upsampling = downsampling.upsampling_matrix(factor)
    small_transforms = np.linalg.inv(upsampling) @ transforms @ upsampling
    valid = np.ones([size // factor for size in planes.shape[1:3]], dtype=bool)
    for matrix in small_transforms:
        valid &= valid_mask(matrix, valid.shape)
    if not valid.any():
        return None
    step = np.count_nonzero(valid) // SAMPLE_COUNT | 1
    levels = np.empty((count, len(valid[valid][::step]), *planes.shape[3:]), np.float32)
    levels = levels.reshape(*levels.shape[:2], -1)

    def sample(i: int) -> np.ndarray:
        small = downsampling.read(planes, i, factor)[None]
        aligned = LazyAlignedStack(small, small_transforms[[i]])[0]
        blurred = cv2.GaussianBlur(aligned.astype(np.float32), (0, 0), blur)
        slope = np.hypot(*(cv2.Sobel(blurred, cv2.CV_32F, *axes) for axes in ((1, 0), (0, 1))))
        parts = (part[valid][::step] for part in (blurred, slope))
        levels[i], slopes = (part.reshape(len(part), -1) for part in parts)
        return np.divide(slopes, levels[i], out=np.zeros_like(slopes), where=levels[i] > 0)

    slopes = run_parallel(sample, range(count), progress, desc="Comparing light")
    rows, columns = (np.arange(size) * AREAS // size for size in valid.shape)
    area = (rows[:, None] * AREAS + columns)[valid][::step]
    black = np.asarray(~(np.median(levels, axis=1) > 0).all(axis=1))
    bright = np.flatnonzero(~black)
    usable = _usable(levels[bright], [slopes[i] for i in bright], area, np.dtype(planes.dtype))
    if min(valid.shape) < AREAS * blur:  # areas would have the same light
        usable[:] = False
    return Light(levels, usable, area, black)


def estimate_gains(
    planes: Any,
    transforms: np.ndarray,
    *,
    reference: int | None = None,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Return the factors (Z,) or (Z, 3) float64 that equalize the exposure of all planes."""
    light = measure_light(planes, transforms, progress=progress)
    return compute_gains(light, (len(transforms), *planes.shape[3:]), reference)


def _usable(
    levels: np.ndarray, slopes: list[np.ndarray], area: np.ndarray, dtype: np.dtype[Any]
) -> np.ndarray:
    """Return which (N, C) samples are flat, and neither dark nor saturated, in all planes."""
    if not len(levels):
        return np.zeros(levels.shape[1:], bool)
    usable = (levels > MIN_LEVEL * np.percentile(levels, 99, axis=(0, 1))).all(axis=0)
    least, most = (functools.reduce(choose, slopes) for choose in (np.minimum, np.maximum))
    usable &= least > 0  # saturated at a level below that of the type
    if dtype.kind != "f":
        usable &= (levels < SATURATION * np.iinfo(dtype).max).all(axis=0)
    slope = np.where(usable, most, np.inf)
    for number in range(AREAS**2):
        for c in range(usable.shape[1]):
            here = (area == number) & usable[:, c]
            if here.any():
                limit = np.quantile(slope[here, c], FLAT_SHARE)
                usable[here, c] = slope[here, c] <= limit
    return usable


# The gain from a plane to the next is the median ratio of the usable pixels; of all if few are
# usable. The gain to the reference plane is the product of these. A black plane has the gain of its
# neighbour, and a black reference plane is replaced by the nearest plane that is not black.
def compute_gains(light: Light | None, shape: tuple[int, ...], reference: int | None) -> np.ndarray:
    """Return the factors, of `shape` (Z,) or (Z, 3), that equalize the light of all planes."""
    gains, count = np.ones(shape), shape[0]
    if light is None or light.black.all():
        return gains
    bright = np.flatnonzero(~light.black)
    start = count // 2 if reference is None else reference
    start = int(min(bright, key=lambda i: abs(i - start)))
    too_few = np.count_nonzero(light.usable, axis=0) < MIN_AREA_PX * MIN_AREAS
    weight = np.where(light.usable | too_few, 1.0, np.nan)  # float64: ratios overflow float32
    for side in (1, -1):
        last_bright = start
        for i in range(start + side, count if side > 0 else -1, side):
            gains[i] = gains[last_bright]
            if i in bright:
                tiny = np.finfo(np.float32).tiny
                ratio = weight * light.levels[last_bright] / np.maximum(light.levels[i], tiny)
                gains[i] *= np.nanmedian(ratio, axis=0).reshape(shape[1:])
                last_bright = i
    return gains


def find_drift(light: Light | None) -> float:
    """Return by which share the light drifts or flickers over the planes; 0 if it does not.

    It does where it changes by the same factor in all areas of the plane.
    """
    if light is None:
        return 0.0
    drift = 0.0
    for c in range(light.usable.shape[1]):
        logs = np.log(light.levels[~light.black][:, light.usable[:, c], c])
        area = light.area[light.usable[:, c]]
        numbers = [n for n in range(AREAS**2) if np.count_nonzero(area == n) >= MIN_AREA_PX]
        if len(numbers) < MIN_AREAS:
            continue
        changes = np.stack([np.median(logs[:, area == n], axis=1) for n in numbers])
        changes -= changes.mean(axis=1, keepdims=True)
        common = np.median(changes, axis=0)
        deviations = np.abs(changes - common)
        similar = np.median(deviations, axis=0) < MAX_AREA_DEVIATION  # other planes differ by more
        if np.count_nonzero(similar) < len(similar) / 2:
            continue
        extent = float(np.ptp(common[similar]))
        is_drift = extent > MIN_DRIFT_RATIO * np.median(deviations[:, similar])
        if is_drift and MIN_DRIFT < extent < MAX_DRIFT:
            drift = max(drift, float(np.expm1(extent)))
    return drift
