"""Multi-scale fusion: at every scale the planes that are sharp there, guided by the depth.

Strategy
--------
Every plane is divided into bands, the levels of a Laplacian pyramid (Burt & Adelson 1983,
doi:10.1109/TCOM.1983.1095851). Each band of the result is a weighted mean of the bands of the
planes (Burt & Kolczynski 1993, doi:10.1109/ICCV.1993.378222), with the same weights for all
channels.

1. Sharpness: e_k,l, the energy of band l of plane k in a small window, over the energy that noise
   alone would have there. It is 1 where there is only noise.
2. A coarse level guides the next finer one, so that neighbouring pixels and levels take the same
   plane: g_l = (c + e_l) g_(l+1)^q. Edges that no plane has arise where they do not.
3. Depth: p = exp(-(k - d)² / 2 (s² + f² σ²)), for depth d and its uncertainty σ in planes. It is 1
   for all planes where a pixel is never in focus: there sharpness alone decides.
4. Weights w = (ε + p) g⁶ select nearly one plane, v = (ε + √p) e average more of them. Of the
   means M and A with these weights, the finest levels are combined like in `blend_by_noise`:
   A + (M - A) max(0, 1 - n / |M - A|²), where n is the energy of noise in M - A,
   σ_noise² Σ_k (w_k / Σw - v_k / Σv)².
5. The result is limited to the range of the planes at that pixel and its eight neighbours, without
   single hot and dead pixels: see `value_range`.

Planes are read one after the other, twice: first for the noise, then for the bands. g⁶ exceeds
float32, so sums are stored over that of the sharpest plane so far, `reference`, and rescaled when a
sharper one comes (like a streaming softmax).

All filters have bounded support, and the pyramid a fixed number of levels, so a window with
`MARGIN_PX` around it, from multiples of `GRID_PX` on, gives the values of the whole plane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from napari_dff.fusion.bands import LEVEL_COUNT, Band, divide_plane, double, pyramid
from napari_dff.fusion.value_range import ValueRange
from napari_dff.imaging.images import luminance
from napari_dff.runtime.jit import exact_kernel
from napari_dff.runtime.progress import no_progress
from napari_dff.runtime.threads import run_parallel, thread_count

GRID_PX = 1 << LEVEL_COUNT  # of the pixels of the coarsest level
MARGIN_PX = 112  # support of the weights and the pyramid, 109 px, rounded up to `GRID_PX`
DEPTH_MARGIN_PX = 60  # of it, where the depth is of influence
NOISE_LEVEL_COUNT = 2  # finest levels, in which noise is reduced
# Variance of each band for white noise of variance 1; `test_multiscale` computes them again.
BAND_NOISE = (0.8907, 0.05316, 0.01016, 0.002414)
DEPTH_SIGMA_PLANES = 0.55  # s: of the planes around a depth that is exactly known
SIGMA_FACTOR = 0.5  # f: on the uncertainty of the depth
UNLIKELY_WEIGHT = 1e-6  # ε: of planes far from the depth
WIENER_SIGMA_PX, WIENER_WINDOW_PX = 2.0, 9  # in which detail is compared with noise
WIENER_FACTOR = 3.0  # on the energy of noise
INVISIBLE_VARIANCE = 0.25  # of noise below half a grey level, which needs no averaging
MIN_VARIANCE = 0.001  # of noise of integers, in squares of the grey level
MIN_RELATIVE_VARIANCE = 1e-9  # of noise, over the mean squared value
FLOOR_WINDOW_PX = 9  # in which it is averaged
MAX_PLANES_AT_ONCE = 4  # more take more memory
MAX_SIGMA_PLANES = 1e4  # where a pixel is never in focus
TINY = np.float32(1e-30)
Reader = Callable[[int], np.ndarray]
Estimator = Callable[[int], np.ndarray]


class _Sums(NamedTuple):
    """Sums of one band over the planes, float32; `calm` and `noise` are empty in coarse levels."""

    reference: np.ndarray  # (Y, X): the largest g so far
    sharp: np.ndarray  # (C, Y, X): with the weights w, over the sixth power of `reference`
    sharp_total: np.ndarray  # (Y, X): of w, likewise
    calm: np.ndarray  # (C, Y, X): with the weights v
    noise: np.ndarray  # (4, Y, X): of v, v², w² and w v

    @classmethod
    def zeros(cls, shape: tuple[int, ...], level: int) -> _Sums:
        """Return sums of no plane, for bands of `shape` (C, Y, X)."""
        fine = shape[1:] if level < NOISE_LEVEL_COUNT else (0, 0)
        shapes = shape[1:], shape, shape[1:], (shape[0], *fine), (4, *fine)
        return cls(*(np.zeros(each, np.float32) for each in shapes))


def fuse_scales(
    read: Reader,
    count: int,
    index: np.ndarray,
    sigma: np.ndarray,
    noise_variance: np.ndarray,
    plane_mask: np.ndarray | None = None,
) -> np.ndarray:
    """Return the multi-scale fusion of all planes in one window.

    Parameters
    ----------
    read : callable
        Returns plane k, (Y, X[, 3]) of any number type.
    count : int
        Number of planes.
    index, sigma : (Y, X) float32
        Depth as a fractional plane index, and its standard uncertainty in planes; inf where a pixel
        is never in focus.
    noise_variance : (Y, X) float32
        Of the luminance of the planes; see `least_noise`.
    plane_mask : (Z, Y, X) bool, optional
        Where each plane has data; everywhere if None. At each pixel, at least one has.

    Returns
    -------
    (Y, X[, 3]) float32
    """
    noise = pyramid(noise_variance)[:LEVEL_COUNT]
    noise = [level * np.float32(gain) for level, gain in zip(noise, BAND_NOISE, strict=True)]
    error = SIGMA_FACTOR * np.minimum(sigma, MAX_SIGMA_PLANES)
    spread = (-0.5 / (DEPTH_SIGMA_PLANES**2 + error**2)).astype(np.float32)
    shape, dtype = read(0).shape, read(0).dtype
    values = ValueRange(shape, dtype)
    sums: list[_Sums] = []
    group = planes_at_once()
    for first in range(0, count, group):
        planes = [read(k) for k in range(first, min(first + group, count))]
        bands: list[list[Band]] = [[] for _ in planes]

        def divide(i: int, first: int = first, planes: Any = planes, bands: Any = bands) -> None:
            log_prior = index - np.float32(first + i)
            log_prior *= log_prior
            log_prior *= spread
            mask = None if plane_mask is None else plane_mask[first + i]
            bands[i] = divide_plane(planes[i], log_prior, noise, mask)

        run_parallel(divide, range(len(planes)), no_progress, desc="Fusing")
        for i, plane in enumerate(planes):
            values.add(plane, None if plane_mask is None else plane_mask[first + i])
        sums = sums or [_Sums.zeros(band.values.shape, i) for i, band in enumerate(bands[0])]

        def add(part: tuple[int, slice], bands: Any = bands, sums: list[_Sums] = sums) -> None:
            level, rows = part
            for plane in bands:
                _add(*(each[..., rows, :] for each in (*plane[level], *sums[level])))

        run_parallel(add, _row_blocks(sums, group), no_progress, desc="Fusing")
    return values.clip(_combine(sums, noise).reshape(shape))


def planes_at_once() -> int:
    """Return the number of planes that are divided in parallel."""
    return min(thread_count(), MAX_PLANES_AT_ONCE)


def images_per_window(channels: int) -> int:
    """Return how many float32 images of a window are in memory while it is fused."""
    return 14 + 7 * channels + planes_at_once() * (8 + 3 * channels)


def least_noise(read: Reader, count: int, estimate: Estimator) -> np.ndarray:
    """Return the local noise variance of the least noisy plane, since detail adds to it.

    `estimate` returns that of plane k, at some of its pixels. Noise that cannot be seen counts as
    none.
    """
    plane = read(0)
    grey = luminance(plane)
    least = estimate(0)
    for k in range(1, count):
        np.minimum(least, estimate(k), out=least)
    least = np.nan_to_num(least, posinf=0)
    least = cv2.resize(least, grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
    if plane.dtype.kind != "f":
        least = np.maximum(least - np.float32(INVISIBLE_VARIANCE), np.float32(MIN_VARIANCE))
    floor = np.float32(MIN_RELATIVE_VARIANCE) * cv2.blur(grey * grey, (FLOOR_WINDOW_PX,) * 2)
    return np.maximum(least, np.maximum(floor, TINY))


@exact_kernel
def _accumulate(total, decay, weight, value):  # type: ignore[no-untyped-def]
    """Compute total = decay total + weight value in place, all (X,) float32."""
    for x in range(len(total)):
        total[x] = decay[x] * total[x] + weight[x] * value[x]


# Loops over few arrays of one row: they are vectorized, one loop over all arrays would not be.
@exact_kernel
def _add(values, gain, sharpness, prior, reference, sharp, sharp_total, calm, noise):  # type: ignore[no-untyped-def]
    """Add one band of a plane, `Band`, to the sums, `_Sums`."""
    channels, height, width = values.shape
    unlikely = np.float32(UNLIKELY_WEIGHT)
    decay, w = np.empty(width, np.float32), np.empty(width, np.float32)
    v, ones = np.empty(width, np.float32), np.ones(width, np.float32)
    for y in range(height):
        g, largest, p = gain[y], reference[y], prior[y]
        decay[:] = largest
        for x in range(width):
            largest[x] = decay[x] if decay[x] > g[x] else g[x]  # max() is not vectorized
        for x in range(width):
            ratio = decay[x] / largest[x]
            cube = ratio * ratio * ratio
            decay[x] = cube * cube
        for x in range(width):
            ratio = g[x] / largest[x]
            cube = ratio * ratio * ratio
            w[x] = cube * cube * (unlikely + p[x])
        _accumulate(sharp_total[y], decay, w, ones)
        for c in range(channels):
            _accumulate(sharp[c, y], decay, w, values[c, y])
        if noise.shape[1] > 0:
            e = sharpness[y]
            for x in range(width):
                v[x] = (unlikely + np.sqrt(p[x])) * e[x]
            for c in range(channels):
                _accumulate(calm[c, y], ones, v, values[c, y])
            _accumulate(noise[0, y], ones, v, ones)
            _accumulate(noise[1, y], ones, v, v)
            _accumulate(noise[3, y], decay, w, v)
            for x in range(width):
                decay[x] = decay[x] * decay[x]
            _accumulate(noise[2, y], decay, w, w)


def _row_blocks(sums: list[_Sums], count: int) -> list[tuple[int, slice]]:
    """Return the levels, each with `count` blocks of its rows."""
    heights = [len(each.reference) for each in sums]
    return [
        (level, slice(height * i // count, height * (i + 1) // count))
        for level, height in enumerate(heights)
        for i in range(count)
    ]


def _combine(sums: list[_Sums], noise: list[np.ndarray]) -> np.ndarray:
    """Return the image from the sums of all its bands, with less noise in the finest ones.

    `noise` is the energy of noise in each band.
    """
    result = np.empty(0)
    for level in range(LEVEL_COUNT, -1, -1):
        each = sums[level]
        band = np.ascontiguousarray(np.moveaxis(each.sharp / each.sharp_total, 0, -1))
        if level < NOISE_LEVEL_COUNT:
            band = _reduce_noise(band, each, noise[level])
        result = np.atleast_3d(double(result, band.shape)) + band if result.size else band
    return result


def _reduce_noise(band: np.ndarray, sums: _Sums, variance: np.ndarray) -> np.ndarray:
    """Return M of a band, moved to A where M - A is only noise; see the top of the module."""
    (v, vv, ww, wv), w = sums.noise, sums.sharp_total
    calm = np.ascontiguousarray(np.moveaxis(sums.calm / v, 0, -1))
    detail = band - calm
    noise = np.maximum(ww / w**2 + vv / v**2 - 2 * wv / (w * v), 0) * variance
    window = (WIENER_WINDOW_PX, WIENER_WINDOW_PX)
    grey = detail[..., 0] if detail.shape[2] == 1 else luminance(detail)
    energy = cv2.GaussianBlur(grey * grey, window, WIENER_SIGMA_PX)
    signal = np.maximum(energy - np.float32(WIENER_FACTOR) * noise, 0)
    share = signal / np.maximum(energy, TINY)
    return calm + share[..., None] * detail
