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

import itertools
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
from napari_dff.fusion.weighted_sums import TINY, Sums, add_band, add_fine_band
from napari_dff.imaging.images import luminance
from napari_dff.runtime.progress import no_progress
from napari_dff.runtime.threads import run_parallel, thread_count
from napari_dff.runtime.windows import Window, full_window, window_grid

GRID_PX = 1 << LEVEL_COUNT  # of the pixels of the coarsest level
MARGIN_PX = 112  # support of the weights and the pyramid, 109 px, rounded up to `GRID_PX`
DEPTH_MARGIN_PX = 60  # of it, where the depth is of influence
FINE_LEVEL_COUNT = 2  # finest levels, computed block by block, in which noise is reduced
BLOCK_PX = 128, 1024  # height and width of a block: long rows are read faster
STRIP_PX = 128  # height of a strip of rows
# Variance of each band for white noise of variance 1; `test_multiscale` computes them again.
BAND_NOISE = (0.8907, 0.05316, 0.01016, 0.002414)
WIENER_SIGMA_PX, WIENER_WINDOW_PX = 2.0, 9  # in which detail is compared with noise
WIENER_FACTOR = 3.0  # on the energy of noise
INVISIBLE_VARIANCE = 0.25  # of noise below half a grey level, which needs no averaging
MIN_VARIANCE = 0.001  # of noise of integers, in squares of the grey level
MIN_RELATIVE_VARIANCE = 1e-9  # of noise, over the mean squared value
FLOOR_WINDOW_PX = 9  # in which it is averaged
MAX_PLANES_AT_ONCE = 4  # more take more memory
Reader = Callable[[int], np.ndarray]


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
    windows = window_grid(index.shape, *BLOCK_PX)
    prior = DepthPrior(index, sigma, plane_mask, windows)
    shape = read(0).shape
    channels = int(np.prod(shape[2:]))
    blocks = [_Block(window, channels) for window in windows]
    coarse = [Sums.zeros((channels, *v.shape), False) for v in variances[FINE_LEVEL_COUNT:]]
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
                    plane.add_fine(blocks[i], noise)

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
            bands.append(compute_band(pyramids, noise, level, support))
            support = support_of(bands[-1].gain, pyramids.limited[level - 1].shape)
        bands = [*bands[::-1], coarsest_band(pyramids, bands[0].sharpness)]
        shares = pyramids.shares[FINE_LEVEL_COUNT:]
        coarse = [discount(band, share) for band, share in zip(bands, shares, strict=True)]
        return cls(pyramids, pyramid(prior), coarse, support)

    def add_coarse(self, sums: list[Sums]) -> None:
        """Add the coarse bands."""
        for level, (band, each) in enumerate(zip(self.coarse, sums, strict=True)):
            add_band(*band, self.priors[FINE_LEVEL_COUNT + level], tuple(each))

    def add_fine(self, block: _Block, noise: list[np.ndarray]) -> None:
        """Add the fine bands in a block."""
        support, covered = self.support, full_window(self.support.shape)
        for level in range(FINE_LEVEL_COUNT - 1, -1, -1):
            inner, shape = block.windows[level], self.priors[level].shape
            outer = inner.expand(2 * level, shape, 2)
            part = np.ascontiguousarray(support[outer.slices_in(covered)])
            gains = np.empty(outer.shape if level > 0 else (0, 0), np.float32)
            pairs = (each[level : level + 2] for each in self.pyramids[:2])
            levels = tuple(itertools.chain.from_iterable(pairs))
            maps = noise[level], part, self.pyramids.shares[level], self.priors[level]
            # Plain tuples: numba loses memory with each named one.
            windows, sums = (tuple(outer), tuple(inner)), tuple(block.sums[level])
            add_fine_band(levels, *maps, *windows, gains, sums)
            if level > 0:
                finer = self.priors[level - 1].shape
                top, bottom, left, right = (2 * edge for edge in outer)
                covered = Window(top, min(bottom, finer[0]), left, min(right, finer[1]))
                support = support_of(gains, covered.shape)


class _Block:
    """A window of the finest level, and the sums of the fine bands in it."""

    def __init__(self, window: Window, channels: int) -> None:
        self.windows = [window]  # in pixels of each fine level
        while len(self.windows) < FINE_LEVEL_COUNT:
            self.windows.append(halve(self.windows[-1]))
        self.sums = [Sums.zeros((channels, *each.shape), True) for each in self.windows]


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


def _combine(blocks: list[_Block], coarse: list[Sums], noise: list[np.ndarray]) -> np.ndarray:
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
        block.sums[level] = Sums.zeros((0, 0, 0), False)  # to free memory

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
