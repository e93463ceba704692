"""Curves, peaks and maps at every pixel, interpolated from those of blocks of pixels."""

from __future__ import annotations

import cv2
import numpy as np

from napari_dff.curve.noise import TINY, Noise
from napari_dff.model.depth_map import DepthMap
from napari_dff.runtime.jit import kernel
from napari_dff.runtime.progress import no_progress
from napari_dff.runtime.threads import run_parallel

ROWS_PER_BAND = 128
MAX_JUMP_PLANES = 1.0  # between neighbouring blocks of the same surface, beyond its slope


def crop_in_place(curves: np.ndarray, inner: tuple[slice, slice]) -> np.ndarray:
    """Return the part `inner` of (Z, Y, X) `curves`, contiguous.

    It is in the memory of `curves`, if they own it; the rest is freed, and `curves` have no use.
    """
    if not (curves.flags.owndata and curves.flags.c_contiguous):
        return np.ascontiguousarray(curves[(..., *inner)])
    count, (height, width) = len(curves), curves[0][inner].shape
    front = curves.reshape(-1)[: count * height * width].reshape(count, height, width)
    for k, plane in enumerate(curves):  # no plane is overwritten before it is read
        front[k] = plane[inner]
    del front, plane
    curves.resize((count, height, width), refcheck=False)
    return curves


def upsample_map(
    values: np.ndarray, step: int, interpolation: int = cv2.INTER_LINEAR
) -> np.ndarray:
    """Return (Y, X) `values` of blocks of `step` × `step` pixels at every pixel, float32."""
    size = values.shape[1] * step, values.shape[0] * step
    return cv2.resize(values, size, interpolation=interpolation)


def upsample_curves(curves: np.ndarray, step: int) -> np.ndarray:
    """Return (Z, Y, X) `curves` of blocks at every pixel.

    A curve between two others has the mean of their shapes: the stronger does not replace the
    weaker one. Interpolation is by cubics, which keep the ridge of a thin object.
    """
    if step == 1:
        return curves
    maximum = np.maximum(curves.max(axis=0), TINY)
    unit, inverse = _by_cubics(maximum, step), 1 / maximum
    return np.stack([unit * _by_cubics(plane * inverse, step) for plane in curves])


def _by_cubics(values: np.ndarray, step: int) -> np.ndarray:
    """Return `values` at every pixel, nowhere below the least of the 3 × 3 blocks around."""
    least = upsample_map(cv2.erode(values, np.ones((3, 3), np.uint8)), step, cv2.INTER_NEAREST)
    return np.maximum(upsample_map(values, step, cv2.INTER_CUBIC), least)


def upsample_noise(noise: Noise, curves: np.ndarray, step: int) -> Noise:
    """Return the noise of the (Z, Y, X) `curves` of blocks at every pixel."""
    maximum = np.maximum(curves.max(axis=0), TINY)
    floor = upsample_map(noise.floor / maximum, step) * _by_cubics(maximum, step)
    return Noise(floor, upsample_map(noise.fluctuation, step))


def upsample_peaks(peaks: DepthMap, step: int, shape: tuple[int, int], spacing: float) -> DepthMap:
    """Return peaks of blocks at the pixels of `shape`; `spacing` is that of planes.

    Depth and uncertainty are interpolated between blocks in focus whose depth differs by less than
    `MAX_JUMP_PLANES`, or by as much as that of the block on the other side: a slope is followed, a
    step stays one. Nothing is interpolated if `spacing` is 0. The plane is that of the block.
    """
    if step == 1:
        return peaks
    index = np.repeat(np.repeat(peaks.index, step, axis=0), step, axis=1)
    result = DepthMap(index[: shape[0], : shape[1]], *np.empty((2, *shape), np.float32))
    limit = MAX_JUMP_PLANES * spacing

    def fill(top: int) -> None:
        bottom = min(top + ROWS_PER_BAND, shape[0])
        _interpolate(*result[1:], *peaks[1:], step, limit, top, bottom)

    run_parallel(fill, range(0, shape[0], ROWS_PER_BAND), no_progress, desc="")
    return result


@kernel
def _interpolate(depth, uncertainty, block_depth, block_uncertainty, step, limit, top, bottom):  # type: ignore[no-untyped-def]
    """Write rows `top` to `bottom` of (Y, X) float32 `depth` and `uncertainty`."""
    rows, columns = block_depth.shape
    for y in range(top, bottom):
        i = y // step
        down = (np.float32(y % step) + np.float32(0.5)) / step - np.float32(0.5)
        other_i = min(max(i + (1 if down > 0 else -1), 0), rows - 1)
        down = abs(down)
        for x in range(depth.shape[1]):
            j = x // step
            own, deviation = block_depth[i, j], block_uncertainty[i, j]
            depth[y, x], uncertainty[y, x] = own, deviation
            if deviation == np.inf:
                continue
            across = (np.float32(x % step) + np.float32(0.5)) / step - np.float32(0.5)
            other_j = min(max(j + (1 if across > 0 else -1), 0), columns - 1)
            across = abs(across)
            total = (1 - down) * (1 - across)
            sum_depth, sum_deviation = total * own, total * deviation
            for k, m, weight in (
                (i, other_j, (1 - down) * across),
                (other_i, j, down * (1 - across)),
                (other_i, other_j, down * across),
            ):
                change = block_depth[k, m] - own
                opposite = block_depth[
                    min(max(2 * i - k, 0), rows - 1), min(max(2 * j - m, 0), columns - 1)
                ]
                jump = min(abs(change), abs(change - (own - opposite)))
                if block_uncertainty[k, m] < np.inf and jump < limit:
                    total += weight
                    sum_depth += weight * block_depth[k, m]
                    sum_deviation += weight * block_uncertainty[k, m]
            depth[y, x], uncertainty[y, x] = sum_depth / total, sum_deviation / total
