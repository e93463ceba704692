"""Noise of a focus curve: floor, fluctuation, and the threshold above which a peak is detected."""

from __future__ import annotations

import functools
from statistics import NormalDist
from typing import NamedTuple

import cv2
import numpy as np

from napari_dff.runtime.jit import inline_kernel, kernel

NOISE_SIGMA_PX = 6.0  # standard deviation of the Gaussian that averages the fluctuation
NOISE_RADIUS_PX = 18  # how far from a pixel its noise depends on the volume: 3 standard deviations
FALSE_ALARM_RATE = 1e-3  # share of pixels without texture in which a peak is detected
MIN_FLUCTUATION = 0.02  # of ln(measure): thresholds assume it where less is measured
MIN_LOG_RANGE = 0.1  # of ln(measure): a curve of smaller range has no noise to measure
DYNAMIC_RANGE = 1e-6  # of a curve's maximum: smaller values are raised to it
MEDIAN_CHI_SQUARED = 0.4549  # of one degree of freedom: median of a squared normal number
MEAN_LOWER_HALF = 0.8  # mean of the negative half of the standard normal distribution: -√(2/π)
TINY = np.float32(1e-30)
ROWS_PER_CHUNK = 16  # rows of pixels whose logarithms are in memory at a time
BLOCK = 64  # curves that are sorted together, by vector operations

# Noise model
# -----------
# A focus measure is a mean of squared noise out of focus (the floor F₀), plus signal in focus. With
# the fluctuation f and r = F / F₀, the standard deviation of ln F is
#     f √(2 r - 1) / r.                                                                          (1)
# ln F₀ is the mean of the lower half of a curve's logarithms. f² is the median of their squared
# second differences over 6 · 0.4549, averaged over the pixels around. A peak is detected if it
# exceeds F₀ exp(z f). Derived in docs/methods.md, "Noise of a focus curve".
# Cost: one logarithm a value, and two sorts. A sorting network has no branches and the same pairs
# for all curves, so that it sorts `BLOCK` curves at a time by vector operations.


class Noise(NamedTuple):
    """Noise of every focus curve: two (Y, X) float32 arrays."""

    floor: np.ndarray  # geometric mean of the measure out of focus, in its unit
    fluctuation: np.ndarray  # standard deviation of ln(measure) out of focus


def compute_noise(focus: np.ndarray, sigma: float = NOISE_SIGMA_PX) -> Noise:
    """Return the noise of (Z, Y, X) float32 curves, averaged by a Gaussian of `sigma` pixels."""
    count, height, width = focus.shape
    statistics = np.empty((3, height, width), np.float32)
    networks = sorting_network(count), sorting_network(count - 2)
    for top in range(0, height, ROWS_PER_CHUNK):
        rows = slice(top, top + ROWS_PER_CHUNK)
        logarithms = np.log(np.maximum(focus[:, rows], TINY)).reshape(count, -1)
        _log_statistics(logarithms, networks, *(part[rows].reshape(-1) for part in statistics))
    floor, variance, extent = statistics
    # Saturated or black pixels have constant curves: they must not lower their neighbours' noise.
    weight = (extent > MIN_LOG_RANGE).astype(np.float32)
    size = (2 * round(NOISE_RADIUS_PX / NOISE_SIGMA_PX * sigma) + 1,) * 2
    weighted = cv2.GaussianBlur(weight * variance, size, sigma)
    total = cv2.GaussianBlur(weight, size, sigma)
    variance = np.where(total > 1e-3, weighted / np.maximum(total, 1e-3), variance)
    return Noise(np.exp(floor), np.sqrt(variance))


def detection_z_score(plane_count: int) -> float:
    """Return how many fluctuations above its floor a peak must stand to be detected."""
    quantile = (1 - FALSE_ALARM_RATE) ** (1 / plane_count)
    return NormalDist().inv_cdf(quantile) + MEAN_LOWER_HALF


@inline_kernel
def detection_threshold(floor, fluctuation, z_score):  # type: ignore[no-untyped-def]
    """Return the value that a peak must exceed to be detected, in the unit of `floor`."""
    return floor * np.exp(z_score * max(fluctuation, MIN_FLUCTUATION))


@functools.cache
def sorting_network(count: int) -> np.ndarray:
    """Return the (N, 2) int64 index pairs that, put in order one by one, sort `count` values.

    Odd-even merge sort (Batcher 1968, doi:10.1145/1468075.1468121).
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
def _sort_columns(rows, network):  # type: ignore[no-untyped-def]
    """Sort each column of (N, BLOCK) float32 `rows` in place."""
    for c in range(len(network)):
        low, high = rows[network[c, 0]], rows[network[c, 1]]
        for p in range(BLOCK):
            a, b = low[p], high[p]
            low[p] = min(a, b)
            high[p] = max(a, b)


@kernel
def _log_statistics(logarithms, networks, floor, variance, extent):  # type: ignore[no-untyped-def]
    """Write ln F₀, f² and the range of (Z, N) float32 `logarithms` to three (N,) float32 arrays.

    `networks` sort Z and Z - 2 values.
    """
    count, pixels = logarithms.shape
    half, middle = (count + 1) // 2, (count - 2) // 2
    lowest = np.float32(np.log(DYNAMIC_RANGE))
    rows = np.zeros((count, BLOCK), np.float32)
    squares = np.empty((count - 2, BLOCK), np.float32)
    top, total = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for start in range(0, pixels, BLOCK):
        size = min(BLOCK, pixels - start)
        for k in range(count):
            rows[k, :size] = logarithms[k, start : start + size]
        top[:] = rows[0]
        for k in range(1, count):
            for p in range(BLOCK):
                top[p] = max(top[p], rows[k, p])
        for k in range(count):
            for p in range(BLOCK):
                rows[k, p] = max(rows[k, p], top[p] + lowest)
        for k in range(count - 2):
            for p in range(BLOCK):
                squares[k, p] = (rows[k, p] - 2 * rows[k + 1, p] + rows[k + 2, p]) ** 2
        _sort_columns(rows, networks[0])
        _sort_columns(squares, networks[1])
        total[:] = 0
        for k in range(half):
            for p in range(BLOCK):
                total[p] += rows[k, p]
        for p in range(size):
            floor[start + p] = total[p] / half
            extent[start + p] = rows[count - 1, p] - rows[0, p]
            median = (squares[(count - 3) // 2, p] + squares[middle, p]) / 2
            variance[start + p] = median * np.float32(1 / 6 / MEDIAN_CHI_SQUARED)
