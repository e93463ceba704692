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
3. Depth: p = exp(-(k - d)² / 2 (s² + f² σ²)), for depth d and its uncertainty σ in planes; 0 below
   0.001. It is 1 for all planes where a pixel is never in focus: there sharpness alone decides.
4. Weights w = p g⁶ select nearly one plane, v = √p e average more of them. Of the means M and A
   with these weights, the finest levels are combined like in `blend_by_noise`:
   A + (M - A) max(0, 1 - n / |M - A|²), where n is the energy of noise in M - A,
   σ_noise² Σ_k (w_k / Σw - v_k / Σv)².
5. The result is limited to the range of the planes at that pixel and its eight neighbours, without
   single hot and dead pixels: see `value_range`.

Planes are read one after the other, twice: first for the noise, then for the bands. g⁶ exceeds
float32, so sums are stored over that of the sharpest plane so far, `reference`, and rescaled when a
sharper one comes (like a streaming softmax). The two finest bands are computed block by block, of
the planes that are likely there.

All filters have bounded support, and the pyramid a fixed number of levels, so a window with
`MARGIN_PX` around it, from multiples of `GRID_PX` on, gives the values of the whole plane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from napari_dff.fusion.bands import (
    LEVEL_COUNT,
    Band,
    PlanePyramids,
    coarsest_band,
    compute_band,
    discount,
    double,
    halve,
    plane_pyramids,
    pyramid,
    support_of,
)
from napari_dff.fusion.blends import noise_variance
from napari_dff.fusion.depth_prior import DepthPrior
from napari_dff.fusion.value_range import ValueRange
from napari_dff.imaging.images import luminance
from napari_dff.runtime.jit import exact_kernel
from napari_dff.runtime.progress import no_progress
from napari_dff.runtime.threads import run_parallel, thread_count
from napari_dff.runtime.windows import Window, full_window, window_grid

GRID_PX = 1 << LEVEL_COUNT  # of the pixels of the coarsest level
MARGIN_PX = 112  # support of the weights and the pyramid, 109 px, rounded up to `GRID_PX`
DEPTH_MARGIN_PX = 60  # of it, where the depth is of influence
FINE_LEVEL_COUNT = 2  # finest levels, computed block by block, in which noise is reduced
BLOCK_PX, STRIP_PX = 384, 128  # side of a block; height of a strip of rows
# Variance of each band for white noise of variance 1; `test_multiscale` computes them again.
BAND_NOISE = (0.8907, 0.05316, 0.01016, 0.002414)
WIENER_SIGMA_PX, WIENER_WINDOW_PX = 2.0, 9  # in which detail is compared with noise
WIENER_FACTOR = 3.0  # on the energy of noise
INVISIBLE_VARIANCE = 0.25  # of noise below half a grey level, which needs no averaging
MIN_VARIANCE = 0.001  # of noise of integers, in squares of the grey level
MIN_RELATIVE_VARIANCE = 1e-9  # of noise, over the mean squared value
FLOOR_WINDOW_PX = 9  # in which it is averaged
MAX_PLANES_AT_ONCE = 4  # more take more memory
TINY = np.float32(1e-30)
Reader = Callable[[int], np.ndarray]


class _Sums(NamedTuple):
    """Sums of one band over the planes, float32; `calm` and `noise` are empty in coarse levels."""

    reference: np.ndarray  # (Y, X): the largest g so far
    sharp: np.ndarray  # (C, Y, X): with the weights w, over the sixth power of `reference`
    sharp_total: np.ndarray  # (Y, X): of w, likewise
    calm: np.ndarray  # (C, Y, X): with the weights v
    noise: np.ndarray  # (4, Y, X): of v, v², w² and w v

    @classmethod
    def zeros(cls, shape: tuple[int, ...], is_fine: bool) -> _Sums:
        """Return sums of no plane, for bands of `shape` (C, Y, X)."""
        fine = shape[1:] if is_fine else (0, 0)
        shapes = shape[1:], shape, shape[1:], (shape[0], *fine), (4, *fine)
        sums = cls(*(np.zeros(each, np.float32) for each in shapes))
        sums.reference[:] = TINY
        return sums


def fuse_scales(
    read: Reader,
    count: int,
    index: np.ndarray,
    sigma: np.ndarray,
    variance: np.ndarray,
    values: ValueRange,
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
    variance : (Y, X) float32
        Of noise in the luminance of the planes.
    values : ValueRange
        Of the planes; both as from `survey`.
    plane_mask : (Z, Y, X) bool, optional
        Where each plane has data; everywhere if None. At each pixel, at least one has.

    Returns
    -------
    (Y, X[, 3]) float32
    """
    variances = pyramid(variance)
    noise = [each * np.float32(gain) for each, gain in zip(variances, BAND_NOISE, strict=False)]
    windows = window_grid(index.shape, BLOCK_PX)
    prior = DepthPrior(index, sigma, plane_mask, windows)
    shape = read(0).shape
    channels = int(np.prod(shape[2:]))
    blocks = [_Block(window, channels) for window in windows]
    coarse = [_Sums.zeros((channels, *v.shape), False) for v in variances[FINE_LEVEL_COUNT:]]
    group = planes_at_once()
    for first in range(*prior.likely_planes(count), group):

        def divide(k: int) -> _DividedPlane:
            mask = None if plane_mask is None else plane_mask[k]
            return _DividedPlane.of(read(k), prior.of_plane(k), noise, mask)

        indices = range(first, min(first + group, prior.likely_planes(count)[1]))
        planes = run_parallel(divide, indices, no_progress, desc="Fusing")

        def add(i: int | None, planes: Any = planes, first: int = first) -> None:
            for k, plane in enumerate(planes, start=first):
                if i is None:
                    plane.add_coarse(coarse)
                elif prior.is_likely(k, i):
                    blocks[i].add(plane, noise)

        run_parallel(add, [None, *range(len(blocks))], no_progress, desc="Fusing")
    return values.clip(_combine(blocks, coarse, noise).reshape(shape))


class _DividedPlane(NamedTuple):
    """A plane, what makes it likely, and its coarse bands."""

    pyramids: PlanePyramids
    priors: list[np.ndarray]  # of each level
    coarse: list[Band]  # from `FINE_LEVEL_COUNT` on
    support: np.ndarray  # of the coarsest fine level

    @classmethod
    def of(
        cls, plane: np.ndarray, prior: np.ndarray, noise: list[np.ndarray], mask: np.ndarray | None
    ) -> _DividedPlane:
        """Divide a plane."""
        pyramids, bands = plane_pyramids(plane, mask), []
        support = np.ones_like(pyramids.limited[LEVEL_COUNT - 1])
        for level in range(LEVEL_COUNT - 1, FINE_LEVEL_COUNT - 1, -1):
            window = full_window(support.shape)
            bands.append(compute_band(pyramids, noise, level, window, support))
            support = support_of(bands[-1].gain, pyramids.limited[level - 1].shape)
        bands = [*bands[::-1], coarsest_band(pyramids, bands[0].sharpness)]
        coarse = [
            discount(band, pyramids.shares, level, full_window(band.gain.shape))
            for level, band in enumerate(bands, start=FINE_LEVEL_COUNT)
        ]
        return cls(pyramids, pyramid(prior), coarse, support)

    def add_coarse(self, sums: list[_Sums]) -> None:
        """Add the coarse bands."""
        for level, (band, each) in enumerate(zip(self.coarse, sums, strict=True)):
            _add(*band, self.priors[FINE_LEVEL_COUNT + level], *each)


class _Block:
    """A window of the finest level, and the sums of the fine bands in it."""

    def __init__(self, window: Window, channels: int) -> None:
        self.windows = [window]  # in pixels of each fine level
        while len(self.windows) < FINE_LEVEL_COUNT:
            self.windows.append(halve(self.windows[-1]))
        self.sums = [_Sums.zeros((channels, *each.shape), True) for each in self.windows]

    def add(self, plane: _DividedPlane, noise: list[np.ndarray]) -> None:
        """Add the fine bands of a plane."""
        support, covered = plane.support, full_window(plane.support.shape)
        for level in range(FINE_LEVEL_COUNT - 1, -1, -1):
            here = self.windows[level]
            window = here.expand(2 * level, plane.priors[level].shape, 2)
            part = support[window.slices_in(covered)]
            band = compute_band(plane.pyramids, noise, level, window, part)
            inner = here.slices_in(window)
            added = discount(band, plane.pyramids.shares, level, window)
            parts = *(each[(..., *inner)] for each in added), plane.priors[level][here.slices]
            _add(*map(np.ascontiguousarray, parts), *self.sums[level])
            if level > 0:
                height, width = plane.priors[level - 1].shape
                top, bottom, left, right = (2 * edge for edge in window)
                covered = Window(top, min(bottom, height), left, min(right, width))
                support = support_of(band.gain, covered.shape)


def planes_at_once() -> int:
    """Return the number of planes that are divided in parallel."""
    return min(thread_count(), MAX_PLANES_AT_ONCE)


def images_per_window(channels: int) -> int:
    """Return how many float32 images of a window are in memory while it is fused."""
    return 14 + 7 * channels + planes_at_once() * (5 + 3 * channels)


def survey(
    read: Reader, count: int, plane_mask: np.ndarray | None
) -> tuple[np.ndarray, ValueRange]:
    """Return the local noise variance of the least noisy plane, and the range of all planes.

    Detail adds to the variance, so the least is that of noise. Noise that cannot be seen counts as
    none.
    """
    first = read(0)
    values, group = ValueRange(first.shape, first.dtype), planes_at_once()
    masks = [None] * count if plane_mask is None else plane_mask
    strips = [slice(top, top + STRIP_PX) for top in range(0, len(first), STRIP_PX)]
    variances = []
    for start in range(0, count, group):
        indices = range(start, min(start + group, count))
        planes = [read(k) for k in indices]

        def estimate(k: int, start: int = start, planes: Any = planes) -> np.ndarray:
            return noise_variance(luminance(planes[k - start]), masks[k])

        def add(rows: slice, start: int = start, planes: Any = planes) -> None:
            for k, plane in enumerate(planes, start=start):
                values.add(plane, masks[k], rows)

        variances += run_parallel(estimate, indices, no_progress, desc="Fusing")
        run_parallel(add, strips, no_progress, desc="Fusing")
    least = np.nan_to_num(np.minimum.reduce(variances), posinf=0)
    least = cv2.resize(least, first.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    if first.dtype.kind != "f":
        least = np.maximum(least - np.float32(INVISIBLE_VARIANCE), np.float32(MIN_VARIANCE))
    energy = cv2.blur(luminance(first) ** 2, (FLOOR_WINDOW_PX, FLOOR_WINDOW_PX))
    least = np.maximum(least, np.float32(MIN_RELATIVE_VARIANCE) * energy)
    return np.maximum(least, TINY), values


@exact_kernel
def _accumulate(total, decay, weight, value):  # type: ignore[no-untyped-def]
    """Compute total = decay total + weight value in place, all (X,) float32."""
    for x in range(len(total)):
        total[x] = decay[x] * total[x] + weight[x] * value[x]


# Loops over few arrays of one row: they are vectorized, one loop over all arrays would not be.
@exact_kernel
def _add(values, gain, sharpness, prior, reference, sharp, sharp_total, calm, noise):  # type: ignore[no-untyped-def]
    """Add a part of a band of a plane, `Band` and its prior, to the sums, `_Sums`."""
    channels, height, width = values.shape
    decay, w = np.empty(width, np.float32), np.empty(width, np.float32)
    g = np.empty(width, np.float32)
    v, ones = np.empty(width, np.float32), np.ones(width, np.float32)
    for y in range(height):
        all_gains, largest, p = gain[y], reference[y], prior[y]
        decay[:] = largest
        for x in range(width):
            gain_here = all_gains[x]  # read everywhere, so that the loop is vectorized
            g[x] = gain_here if p[x] > 0 else np.float32(0)
        for x in range(width):
            largest[x] = decay[x] if decay[x] > g[x] else g[x]  # max() is not vectorized
        for x in range(width):
            ratio = decay[x] / largest[x]
            cube = ratio * ratio * ratio
            decay[x] = cube * cube
        for x in range(width):
            ratio = g[x] / largest[x]
            cube = ratio * ratio * ratio
            w[x] = cube * cube * p[x]
        _accumulate(sharp_total[y], decay, w, ones)
        for c in range(channels):
            _accumulate(sharp[c, y], decay, w, values[c, y])
        if noise.shape[1] > 0:
            e = sharpness[y]
            for x in range(width):
                v[x] = np.sqrt(p[x]) * e[x]
            for c in range(channels):
                _accumulate(calm[c, y], ones, v, values[c, y])
            _accumulate(noise[0, y], ones, v, ones)
            _accumulate(noise[1, y], ones, v, v)
            _accumulate(noise[3, y], decay, w, v)
            for x in range(width):
                decay[x] = decay[x] * decay[x]
            _accumulate(noise[2, y], decay, w, w)


def _combine(blocks: list[_Block], coarse: list[_Sums], noise: list[np.ndarray]) -> np.ndarray:
    """Return the image from the sums of all its bands, with less noise in the finest ones.

    `noise` is the energy of noise in each band.
    """
    bands = [_join(blocks, level, noise[level]) for level in range(FINE_LEVEL_COUNT)]
    bands += [_mean(each.sharp, each.sharp_total) for each in coarse]
    result = bands.pop()
    while bands:
        band = bands.pop()
        result = np.atleast_3d(double(result, band.shape))
        result += band
    return result


def _mean(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weighted mean (Y, X, C) of sums (C, Y, X)."""
    return np.ascontiguousarray(np.moveaxis(total / weight, 0, -1))


def _join(blocks: list[_Block], level: int, variance: np.ndarray) -> np.ndarray:
    """Return M of a fine band, moved to A where M - A is only noise; see the top of the module."""
    channels = len(blocks[0].sums[level].sharp)
    sharp, calm = np.empty((2, *variance.shape, channels), np.float32)
    noise = np.empty_like(variance)

    def fill(block: _Block) -> None:
        here, sums = block.windows[level].slices, block.sums[level]
        (v, vv, ww, wv), w = sums.noise, sums.sharp_total
        sharp[here], calm[here] = _mean(sums.sharp, w), _mean(sums.calm, v)
        noise[here] = np.maximum(ww / w**2 + vv / v**2 - 2 * wv / (w * v), 0)
        block.sums[level] = _Sums.zeros((0, 0, 0), False)  # to free memory

    run_parallel(fill, blocks, no_progress, desc="Fusing")
    sharp -= calm
    noise *= variance
    window = (WIENER_WINDOW_PX, WIENER_WINDOW_PX)
    grey = sharp[..., 0] if channels == 1 else luminance(sharp)
    energy = cv2.GaussianBlur(grey * grey, window, WIENER_SIGMA_PX)
    signal = np.maximum(energy - np.float32(WIENER_FACTOR) * noise, 0)
    sharp *= (signal / np.maximum(energy, TINY))[..., None]
    sharp += calm
    return sharp
