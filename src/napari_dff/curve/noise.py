"""Noise of a focus curve: floor, fluctuation, and the threshold above which a peak is detected."""

from __future__ import annotations

import functools
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import cv2
import numpy as np

from napari_dff.runtime.jit import inline_kernel, kernel

NOISE_SIGMA_PX = 6.0  # standard deviation of the Gaussian that averages the fluctuation
NOISE_RADIUS_PX = 18  # pixels up to this distance affect the noise of a pixel: 3 σ
FALSE_ALARM_RATE = 1e-3  # share of pixels without texture in which a peak is detected
MIN_FLUCTUATION = 0.02  # of ln(measure): in thresholds, smaller ones are raised to it
MIN_LOG_RANGE = 0.1  # of ln(measure): curves of smaller range are taken as constant
DYNAMIC_RANGE = 1e-6  # share of a curve's maximum to which smaller values are raised
MEDIAN_CHI_SQUARED = 0.4549  # median of the square of a standard normal number
LOWER_HALF_OFFSET = 0.8  # √(2/π): the mean of the lower half of normal numbers is -0.8 σ
FEW_PLANES, MANY_PLANES = 7, 16  # up to, from: a peak may fill the curve, fills less than half
EXPECTED_FLUCTUATION = 0.27  # under white noise: LoG with σ = 1 pixel, window of 9 pixels
TINY = np.float32(1e-30)  # smaller measures are raised to it before the logarithm
ROWS_PER_CHUNK = 16  # rows of pixels whose logarithms are in memory at a time
BLOCK = 64  # curves that are sorted together, by vector operations

# Noise model
# -----------
# Out of focus, a focus measure F is a mean of squared noise, about F₀ (the floor); in focus, signal
# is added. With the fluctuation f and r = F / F₀, the standard deviation of ln F is
#     f √(2 r - 1) / r.                                                                          (1)
# ln F₀ is the mean of the lower half of a curve's logarithms. f² is the median of their squared
# second differences, divided by 6 · 0.4549 and averaged over the pixels around. Where a peak fills
# the curve, in a stack of few planes, it bends it everywhere: f is at most what white noise gives
# (`max_fluctuation`). A peak is detected if it exceeds F₀ exp(z f). Derived in docs/methods.md,
# "Noise of a focus curve".
# Cost: one logarithm a value, and two sorts. A sorting network has no branches and the same pairs
# for all curves, so that it sorts `BLOCK` curves at a time by vector operations.


def expected_fluctuation(sigma: float, window: float) -> float:
    """Return the fluctuation under white noise, of the Laplacian of Gaussian with this scale."""
    return min(EXPECTED_FLUCTUATION * (9 / window) * sqrt(0.25 + 0.75 * sigma**2), 1.0)


class Noise(NamedTuple):
    """Noise of every focus curve: two (Y, X) float32 arrays."""

    floor: np.ndarray  # geometric mean of the measure out of focus, in its unit
    fluctuation: np.ndarray  # standard deviation of ln(measure) out of focus

    def part(self, place: tuple[slice, slice]) -> Noise:
        """Return the noise of a part, contiguous: kernels are compiled for such arrays only."""
        floor, fluctuation = (np.ascontiguousarray(each[place]) for each in self)
        return Noise(floor, fluctuation)


def max_fluctuation(plane_count: int, expected: float) -> float:
    """Return the upper limit of the fluctuation of curves with `plane_count` planes.

    `expected` is the fluctuation under white noise.
    """
    if plane_count >= MANY_PLANES:
        return np.inf
    return expected * max(1.0, plane_count / FEW_PLANES)


def compute_noise(
    focus: np.ndarray,
    sigma: float = NOISE_SIGMA_PX,
    expected_fluctuation: float = EXPECTED_FLUCTUATION,
) -> Noise:
    """Return the noise of (Z, Y, X) float32 curves, averaged by a Gaussian of `sigma` pixels.

    `expected_fluctuation` is that under white noise, which limits it if there are few planes.
    """
    count, height, width = focus.shape
    statistics = np.empty((3, height, width), np.float32)
    networks = sorting_network(count), sorting_network(count - 2)
    for top in range(0, height, ROWS_PER_CHUNK):
        rows = slice(top, top + ROWS_PER_CHUNK)
        logarithms = np.log(np.maximum(focus[:, rows], TINY)).reshape(count, -1)
        _log_statistics(logarithms, networks, *(part[rows].reshape(-1) for part in statistics))
    floor, variance, log_range = statistics
    # Saturated or black pixels have constant curves: they must not lower their neighbours' noise.
    weight = (log_range > MIN_LOG_RANGE).astype(np.float32)
    size = (2 * round(NOISE_RADIUS_PX / NOISE_SIGMA_PX * sigma) + 1,) * 2
    weighted = cv2.GaussianBlur(weight * variance, size, sigma)
    total = cv2.GaussianBlur(weight, size, sigma)
    variance = np.where(total > 1e-3, weighted / np.maximum(total, 1e-3), variance)
    limit = np.float32(max_fluctuation(count, expected_fluctuation))
    return Noise(np.exp(floor), np.minimum(np.sqrt(variance), limit))


def detection_z_score(plane_count: int) -> float:
    """Return z: a peak is detected if its ln F exceeds ln F₀ by more than z fluctuations."""
    quantile = (1 - FALSE_ALARM_RATE) ** (1 / plane_count)
    return NormalDist().inv_cdf(quantile) + LOWER_HALF_OFFSET


@inline_kernel
def detection_threshold(floor, fluctuation, z_score):  # type: ignore[no-untyped-def]
    """Return the value that a peak must exceed to be detected, in the unit of `floor`."""
    return floor * np.exp(z_score * max(fluctuation, MIN_FLUCTUATION))


@functools.cache
def sorting_network(count: int) -> np.ndarray:
    """Return the (N, 2) int64 index pairs of a sorting network for `count` values.

    Each pair in turn is ordered: odd-even merge sort (Batcher 1968, doi:10.1145/1468075.1468121).
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
def _sort_columns(values, network):  # type: ignore[no-untyped-def]
    """Sort each column of (N, BLOCK) float32 `values` in place."""
    for c in range(len(network)):
        low, high = values[network[c, 0]], values[network[c, 1]]
        for p in range(BLOCK):
            a, b = low[p], high[p]
            low[p] = min(a, b)
            high[p] = max(a, b)


@kernel
def _log_statistics(logarithms, networks, floor, variance, log_range):  # type: ignore[no-untyped-def]
    """Write ln F₀, f² and the range of (Z, N) float32 `logarithms` to three (N,) float32 arrays.

    `networks` sort Z and Z - 2 values.
    """
    count, pixels = logarithms.shape
    half, middle = (count + 1) // 2, (count - 2) // 2
    lowest = np.float32(np.log(DYNAMIC_RANGE))
    curves = np.zeros((count, BLOCK), np.float32)
    squares = np.empty((count - 2, BLOCK), np.float32)
    maximum, total = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for start in range(0, pixels, BLOCK):
        size = min(BLOCK, pixels - start)
        for k in range(count):
            curves[k, :size] = logarithms[k, start : start + size]
        maximum[:] = curves[0]
        for k in range(1, count):
            for p in range(BLOCK):
                maximum[p] = max(maximum[p], curves[k, p])
        for k in range(count):
            for p in range(BLOCK):
                curves[k, p] = max(curves[k, p], maximum[p] + lowest)
        for k in range(count - 2):
            for p in range(BLOCK):
                squares[k, p] = (curves[k, p] - 2 * curves[k + 1, p] + curves[k + 2, p]) ** 2
        _sort_columns(curves, networks[0])
        _sort_columns(squares, networks[1])
        total[:] = 0
        for k in range(half):
            for p in range(BLOCK):
                total[p] += curves[k, p]
        for p in range(size):
            floor[start + p] = total[p] / half
            log_range[start + p] = curves[count - 1, p] - curves[0, p]
            median = (squares[(count - 3) // 2, p] + squares[middle, p]) / 2
            variance[start + p] = median * np.float32(1 / 6 / MEDIAN_CHI_SQUARED)
