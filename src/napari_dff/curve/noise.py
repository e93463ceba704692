"""How much a focus curve goes up and down where nothing is sharp.

The focus measure of a pixel where nothing is ever sharp still goes up and down from plane to plane.
How much is read off the volume itself, so that nothing has to be known about camera or operator:

- *floor*: the geometric mean of the lower half of a pixel's curve;
- *fluctuation*: the standard deviation of the logarithm of the curve, from the median of its
  squared second differences (noise has them everywhere, a smooth curve only at its peak), over the
  pixels around.

Where the measure is r times its noise floor, a measure of energy fluctuates by
``fluctuation * sqrt(2 r - 1) / r``: noise alone at r = 1, noise against signal beyond.
"""

from __future__ import annotations

import functools
from statistics import NormalDist
from typing import NamedTuple

import cv2
import numpy as np

from napari_dff.compiled import inline_kernel, kernel

NOISE_SIGMA_PX = 6.0  # pixels, standard deviation of what counts as "around" for the fluctuation
NOISE_RADIUS_PX = 18  # pixels around a window that its noise depends on: three standard deviations
FLAT = 0.1  # of ln(measure): a curve that varies by less doesn't vary
DYNAMIC_RANGE = 1e-6  # of a curve's highest value: lower ones are no measures
LEAST = np.float32(1e-30)
ROWS = 16  # taken at a time
BLOCK = 64  # curves that are sorted by the same vector operations
FALSE_ALARM = 1e-3  # share of pixels without any texture that may still be called in focus


class Noise(NamedTuple):
    """What the focus measure does where nothing is sharp: (Y, X) float32 each.

    The floor is one of the measure, the fluctuation one of its logarithm.
    """

    floor: np.ndarray
    fluctuation: np.ndarray


def compute_noise(focus: np.ndarray, neighbourhood: float = NOISE_SIGMA_PX) -> Noise:
    """Floor and fluctuation of every pixel of a (Z, Y, X) focus volume."""
    count, height, width = focus.shape
    floor, variance, extent = (np.empty((height, width), np.float32) for _ in range(3))
    for top in range(0, height, ROWS):
        rows = slice(top, top + ROWS)
        logarithms = np.log(np.maximum(focus[:, rows], LEAST)).reshape(count, -1)
        _floors(
            logarithms,
            sorting_network(count),
            sorting_network(count - 2),
            *(part[rows].reshape(-1) for part in (floor, variance, extent)),
        )
    # A curve that hardly varies was never measured; it must not make its neighbours look surer.
    counts = (extent > FLAT).astype(np.float32)
    size = (2 * round(NOISE_RADIUS_PX / NOISE_SIGMA_PX * neighbourhood) + 1,) * 2
    around = cv2.GaussianBlur(counts * variance, size, neighbourhood)
    number = cv2.GaussianBlur(counts, size, neighbourhood)
    return Noise(
        np.exp(floor), np.sqrt(np.where(number > 1e-3, around / np.maximum(number, 1e-3), variance))
    )


def detection_z_score(planes: int) -> float:
    """How many fluctuations above its floor a curve of noise stays, but for FALSE_ALARM of them.

    The highest of `planes` normal numbers, counted from the mean of their lower half (-0.8).
    """
    return NormalDist().inv_cdf((1 - FALSE_ALARM) ** (1 / planes)) + 0.8


@functools.cache
def sorting_network(count: int) -> np.ndarray:
    """Pairs (i, j) to put in order, one after the other, that sort `count` values: (N, 2) int64.

    The same for all values, so that many curves are sorted by the same vector operations.

    References
    ----------
    Batcher 1968, doi:10.1145/1468075.1468121 (odd-even merge sort).
    """
    pairs = []
    size = 1
    while size < count:
        step = size
        while step >= 1:
            for start in range(step % size, count - step, 2 * step):
                for i in range(start, start + min(step, count - start - step)):
                    if i // (2 * size) == (i + step) // (2 * size):
                        pairs.append((i, i + step))
            step //= 2
        size *= 2
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


@inline_kernel
def _sort(rows, network):  # type: ignore[no-untyped-def]
    """Sort every column of (N, BLOCK) `rows` in place."""
    for c in range(len(network)):
        low, high = rows[network[c, 0]], rows[network[c, 1]]
        for p in range(BLOCK):
            a, b = low[p], high[p]
            low[p] = min(a, b)
            high[p] = max(a, b)


@kernel
def _floors(curves, network, network_of_bends, floor, variance, extent):  # type: ignore[no-untyped-def]
    """Mean of the lower half, robust variance and range of (Z, N) logarithms, a block at a time."""
    count, pixels = curves.shape
    half, middle = (count + 1) // 2, (count - 2) // 2
    reach = np.float32(np.log(DYNAMIC_RANGE))
    rows = np.zeros((count, BLOCK), np.float32)
    bends = np.empty((count - 2, BLOCK), np.float32)
    top, total = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for start in range(0, pixels, BLOCK):
        size = min(BLOCK, pixels - start)
        for k in range(count):
            rows[k, :size] = curves[k, start : start + size]
        top[:] = rows[0]
        for k in range(1, count):
            for p in range(BLOCK):
                top[p] = max(top[p], rows[k, p])
        for k in range(count):
            for p in range(BLOCK):
                rows[k, p] = max(rows[k, p], top[p] + reach)
        for k in range(count - 2):
            for p in range(BLOCK):
                bends[k, p] = (rows[k, p] - 2 * rows[k + 1, p] + rows[k + 2, p]) ** 2
        _sort(rows, network)
        _sort(bends, network_of_bends)
        total[:] = 0
        for k in range(half):
            for p in range(BLOCK):
                total[p] += rows[k, p]
        for p in range(size):
            floor[start + p] = total[p] / half
            extent[start + p] = rows[count - 1, p] - rows[0, p]
            median = (bends[(count - 3) // 2, p] + bends[middle, p]) / 2
            # 6 is the variance of a second difference, 0.4549 the median of a squared normal number
            variance[start + p] = median * np.float32(1 / 6 / 0.4549)
