"""Weighted sums of the bands of all planes, and the kernels that add a plane: see `multiscale`."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from napari_dff.fusion.bands import (
    MASK_DOUBLINGS,
    MAX_SHARPNESS,
    MIN_SHARE,
    SHARPNESS_FLOOR,
    SHARPNESS_SIGMA_PX,
    SHARPNESS_WINDOW_PX,
)
from napari_dff.fusion.depth_prior import PART_PX
from napari_dff.runtime.jit import exact_kernel

TINY = np.float32(1e-30)
ENERGY_WEIGHTS = cv2.getGaussianKernel(SHARPNESS_WINDOW_PX, SHARPNESS_SIGMA_PX, cv2.CV_32F)[:3, 0]


class Sums(NamedTuple):
    """Sums of one band over the planes, float32; `calm` and `noise` are empty in coarse levels."""

    reference: np.ndarray  # (Y, X): the largest g so far
    sharp: np.ndarray  # (C, Y, X): with the weights w, over the sixth power of `reference`
    sharp_total: np.ndarray  # (Y, X): of w, likewise
    calm: np.ndarray  # (C, Y, X): with the weights v
    noise: np.ndarray  # (4, Y, X): of v, v², w² and w v

    @classmethod
    def zeros(cls, shape: tuple[int, ...], is_fine: bool) -> Sums:
        """Return sums of no plane, for bands of `shape` (C, Y, X)."""
        fine = shape[1:] if is_fine else (0, 0)
        shapes = shape[1:], shape, shape[1:], (shape[0], *fine), (4, *fine)
        sums = cls(*(np.zeros(each, np.float32) for each in shapes))
        sums.reference[:] = TINY
        return sums


# Loops over few arrays of one row: they are vectorized, one loop over all arrays would not be. The
# bounds are lengths of arrays, which the compiler knows not to be negative.


@exact_kernel
def _accumulate(total, decay, weight, value):  # type: ignore[no-untyped-def]
    """Compute total = decay total + weight value in place, all (X,) float32."""
    for x in range(len(total)):
        total[x] = decay[x] * total[x] + weight[x] * value[x]


@exact_kernel
def _add_row(y, values, row, gain, sharpness, prior, sums, work):  # type: ignore[no-untyped-def]
    """Add a `row` of a plane's band, (C, Y, X) values and (X,) g, e and p, to row `y` of the sums.

    Parts in which the plane is not likely anywhere are left out, as they add nothing.
    """
    start = 0
    while start < len(prior):
        end = start
        while end < len(prior) and _is_likely(prior[end : end + PART_PX]):
            end += PART_PX
        part = slice(start, min(end, len(prior)))
        if end > start:
            _add_part(y, part, values, row, gain[part], sharpness[part], prior[part], sums, work)
        start = end + PART_PX


@exact_kernel
def _is_likely(prior):  # type: ignore[no-untyped-def]
    """Return whether a plane is likely in any of the pixels."""
    highest = np.float32(0)
    for x in range(len(prior)):
        highest = prior[x] if prior[x] > highest else highest
    return highest > 0


@exact_kernel
def _add_part(y, part, values, row, gain, sharpness, prior, sums, work):  # type: ignore[no-untyped-def]
    """Add a part of a row."""
    reference, sharp, sharp_total, calm, noise = sums
    width, (decay, g, w, v, ones) = len(prior), work
    decay, g, w, v, ones = decay[:width], g[:width], w[:width], v[:width], ones[:width]
    largest = reference[y, part]
    decay[:] = largest
    for x in range(len(g)):
        gain_here = gain[x]  # read everywhere, so that the loop is vectorized
        g[x] = gain_here if prior[x] > 0 else np.float32(0)
    for x in range(len(g)):
        largest[x] = decay[x] if decay[x] > g[x] else g[x]  # max() is not vectorized
    for x in range(len(g)):
        ratio = decay[x] / largest[x]
        cube = ratio * ratio * ratio
        decay[x] = cube * cube
    for x in range(len(g)):
        ratio = g[x] / largest[x]
        cube = ratio * ratio * ratio
        w[x] = cube * cube * prior[x]
    _accumulate(sharp_total[y, part], decay, w, ones)
    for c in range(len(values)):
        _accumulate(sharp[c, y, part], decay, w, values[c, row, part])
    if noise.shape[1] > 0:
        for x in range(len(v)):
            v[x] = np.sqrt(prior[x]) * sharpness[x]
        for c in range(len(values)):
            _accumulate(calm[c, y, part], ones, v, values[c, row, part])
        _accumulate(noise[0, y, part], ones, v, ones)
        _accumulate(noise[1, y, part], ones, v, v)
        _accumulate(noise[3, y, part], decay, w, v)
        for x in range(len(decay)):
            decay[x] = decay[x] * decay[x]
        _accumulate(noise[2, y, part], decay, w, w)


@exact_kernel
def _work_rows(width):  # type: ignore[no-untyped-def]
    """Return the rows that `_add_part` works in."""
    rows = np.empty((4, width), np.float32)
    return rows[0], rows[1], rows[2], rows[3], np.ones(width, np.float32)


@exact_kernel
def add_band(values, gain, sharpness, prior, sums):  # type: ignore[no-untyped-def]
    """Add a band of a plane, (C, Y, X) values and (Y, X) g, e and p, to the sums, a tuple."""
    work = _work_rows(values.shape[2])
    for y in range(values.shape[1]):
        _add_row(y, values, y, gain[y], sharpness[y], prior[y], sums, work)


@exact_kernel
def _double_row(coarse, y, left, line, doubled):  # type: ignore[no-untyped-def]
    """Write row `y` of the doubled level, like `cv2.pyrUp`, from the even column `left` on.

    `line` is for the row before it is doubled along X: one element more at each end than half of
    `doubled`. Columns outside the level get any finite value.
    """
    rows, columns = coarse.shape
    i, first = y // 2, left // 2 - 1
    below = coarse[min(i + 1, rows - 1)]
    above = coarse[i - 1 if i > 0 else min(1, rows - 1)]
    start, stop = max(first, 0), min(first + len(line), columns)
    middle, here = line[start - first : stop - first], coarse[i, start:stop]
    above, below = above[start:stop], below[start:stop]
    if y % 2 == 0:
        for x in range(len(middle)):
            middle[x] = (above[x] + np.float32(6) * here[x] + below[x]) * np.float32(0.125)
    else:
        for x in range(len(middle)):
            middle[x] = (here[x] + below[x]) * np.float32(0.5)
    line[stop - first :] = middle[-1]
    line[: start - first] = middle[min(1, len(middle) - 1)]  # mirrored
    for x in range(len(doubled) // 2):
        doubled[2 * x] = (line[x] + np.float32(6) * line[x + 1] + line[x + 2]) * np.float32(0.125)
        doubled[2 * x + 1] = (line[x + 1] + line[x + 2]) * np.float32(0.5)


@exact_kernel
def _mirror(i, size):  # type: ignore[no-untyped-def]
    """Return index `i`, mirrored at both ends."""
    i = abs(i)
    return max(min(i, 2 * size - 2 - i), 0)


@exact_kernel
def _energy_row(fine, coarse, y, left, line, doubled, energy, out):  # type: ignore[no-untyped-def]
    """Write the energy of a band in row `y`, averaged along X from column `left` on, to (X,) `out`.

    `energy` begins two columns before it, `doubled`, too.
    """
    columns, begin = fine.shape[1], left - 2
    y = _mirror(y, len(fine))
    _double_row(coarse, y, begin, line, doubled)
    start, stop = max(begin, 0), min(begin + len(energy), columns)
    inside, row = energy[start - begin : stop - begin], fine[y, start:stop]
    smooth = doubled[start - begin : stop - begin]
    for x in range(len(inside)):
        difference = row[x] - smooth[x]
        inside[x] = difference * difference
    for x in range(start - begin):
        energy[x] = inside[_mirror(begin + x, columns)]
    for x in range(stop - begin, len(energy)):
        energy[x] = inside[_mirror(begin + x, columns) - start]
    far, near, here = ENERGY_WEIGHTS[0], ENERGY_WEIGHTS[1], ENERGY_WEIGHTS[2]
    for x in range(len(out)):
        sides = near * (energy[x + 1] + energy[x + 3]) + far * (energy[x] + energy[x + 4])
        out[x] = here * energy[x + 2] + sides


@exact_kernel
def _average_rows(rows, y, out):  # type: ignore[no-untyped-def]
    """Write the weighted mean of five rows, stored modulo 5, around row `y` to `out`."""
    far, near, here = ENERGY_WEIGHTS[0], ENERGY_WEIGHTS[1], ENERGY_WEIGHTS[2]
    a, b, c = rows[y % 5], rows[(y + 1) % 5], rows[(y + 2) % 5]
    d, e = rows[(y + 3) % 5], rows[(y + 4) % 5]
    for x in range(len(out)):
        out[x] = here * c[x] + (near * (b[x] + d[x]) + far * (a[x] + e[x]))


@exact_kernel
def add_fine_band(levels, noise, support, shares, prior, outer, inner, gains, sums):  # type: ignore[no-untyped-def]
    """Compute a part of a fine band of a plane, add it to the sums, and write g to `gains`.

    Parameters
    ----------
    levels : tuple of arrays
        This level and the next coarser one of all channels, (C, Y, X), then of the luminance
        without hot and dead pixels, (Y, X).
    noise, prior : (Y, X) float32
        Energy of noise in the band, and p, of the whole level.
    support : float32 array
        g^q of the next coarser level, in `outer`.
    shares : (Y, X) float32
        Of the pixels with data, of the whole level; (0, 0) if all have.
    outer, inner : tuple of int
        Windows where g is computed, and the part of it that is added.
    gains : float32 array
        Of `outer`, or (0, 0).
    sums : tuple of arrays
        `Sums` of `inner`.
    """
    channels, coarse_channels, limited, coarse_limited = levels
    top, bottom, left, right = outer
    width, begin, end = right - left, inner[2], inner[3]
    doubled = np.empty((width + 5) // 2 * 2, np.float32)
    line, energy = np.empty(len(doubled) // 2 + 2, np.float32), np.empty(width + 4, np.float32)
    rows = np.empty((5, width), np.float32)
    e, g = np.empty(width, np.float32), np.empty(width, np.float32)
    values = np.empty((len(channels), 1, end - begin), np.float32)
    only = values.shape[1] - 1  # with the constant 0, all callees would be compiled again
    work = _work_rows(end - begin)
    for y in range(top - 4, bottom):
        _energy_row(limited, coarse_limited, y + 2, left, line, doubled, energy, rows[(y + 4) % 5])
        if y < top:
            continue  # the energy of five rows is averaged
        _average_rows(rows, y, e)
        noise_row, support_row = noise[y, left:right], support[y - top]
        for x in range(len(e)):
            over_noise = e[x] / noise_row[x]
            over_noise = over_noise if over_noise > np.float32(1) else np.float32(1)
            e[x] = over_noise if over_noise < MAX_SHARPNESS else MAX_SHARPNESS
        for x in range(len(g)):
            g[x] = (e[x] + SHARPNESS_FLOOR) * support_row[x]
        if gains.shape[1] > 0:
            gains[y - top] = g
        if shares.shape[1] > 0:
            _discount_row(shares[y, left:right], e, g)
        if inner[0] <= y < inner[1]:
            for c in range(len(channels)):
                _double_row(coarse_channels[c], y, begin - 2, line, doubled)
                smooth, row, value = doubled[2:], channels[c, y, begin:end], values[c, 0]
                for x in range(len(value)):
                    value[x] = row[x] - smooth[x]
            part = slice(begin - left, end - left)
            _add_row(y - inner[0], values, only, g[part], e[part], prior[y, begin:end], sums, work)


@exact_kernel
def _discount_row(shares, e, g):  # type: ignore[no-untyped-def]
    """Compute `discount` of a row in place."""
    for x in range(len(shares)):
        factor = shares[x]
        for _ in range(MASK_DOUBLINGS):
            factor *= factor
        factor = max(factor, MIN_SHARE)
        e[x] *= factor
        g[x] *= factor
