"""Filters that focus operators are built from: local mean and variance, transforms, ratios."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import cv2
import numpy as np
import numpy.typing as npt

from napari_dff.imaging.images import block_means

FLOAT32_ROUNDING = 1e-6  # relative: a smaller standard deviation is a rounding error
MIN_RELATIVE_ENERGY = np.float32(1e-9)  # of the squared brightness: less contrast energy is none


def windowed_mean(values: np.ndarray, window: float, step: int = 1) -> np.ndarray:
    """Return means over a Gaussian window with the variance of a box `window` pixels wide.

    The result is (Y / step, X / step): means of step × step pixels, blurred by the remaining
    variance. Windows are not boxes, whose corners would show in the depth map.
    """
    variance = (window**2 - 1) / 12
    if step == 1:
        return gaussian_blur(values, sqrt(variance))
    remaining = sqrt((variance - (step**2 - 1) / 12) / step**2)
    return gaussian_blur(block_means(values, step), remaining)


def gaussian_blur(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Return (Y, X) `plane` blurred by a Gaussian of `sigma` pixels; unchanged if `sigma` is 0."""
    return plane if sigma == 0 else cv2.GaussianBlur(plane, (0, 0), sigma)


def windowed_variance(values: np.ndarray, window: float, step: int = 1) -> np.ndarray:
    """Return the variance within the window, with `window` and `step` of `windowed_mean`."""
    exact = values.astype(np.float64)  # in float32 the difference would have no digits left
    squares = windowed_mean(exact**2, window, step)
    variance = squares - windowed_mean(exact, window, step) ** 2
    variance[variance < FLOAT32_ROUNDING**2 * squares] = 0  # saturated or black
    return variance.astype(np.float32)


def correlate(plane: np.ndarray, down: npt.ArrayLike, across: npt.ArrayLike) -> np.ndarray:
    """Return the correlation with a separable kernel, the outer product of `down` and `across`."""
    return cv2.sepFilter2D(plane, cv2.CV_32F, np.array(across, float), np.array(down, float))


def derivatives(plane: np.ndarray, kernel: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation with a centred kernel along X, and along Y."""
    identity = np.zeros(len(kernel))
    identity[len(kernel) // 2] = 1
    return correlate(plane, identity, kernel), correlate(plane, kernel, identity)


def ratio(numerator: np.ndarray, denominator: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Return a ratio whose denominator is at least a tiny share of the squared brightness."""
    return numerator / np.maximum(denominator, MIN_RELATIVE_ENERGY * light + np.float32(1e-30))


def ring_kernel(sigma: float) -> np.ndarray:
    """Return disc minus ring, each of sum 1, so that the kernel sums to 0."""
    inner = max(sigma, 0.5)
    half = int(np.ceil(3 * inner))
    radius = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    disc, ring = radius <= inner, (radius >= 2 * inner) & (radius <= 3 * inner)
    return disc / disc.sum() - ring / ring.sum()


def sobel_energy(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Return the squared magnitude of the Sobel gradient after a Gaussian."""
    blurred = gaussian_blur(plane, sigma)
    return cv2.Sobel(blurred, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(blurred, cv2.CV_32F, 0, 1) ** 2


def wavelet_bands(plane: np.ndarray, sigma: float) -> list[np.ndarray]:
    """Return one level of the undecimated db2 wavelet: three details, then the approximation."""
    root = np.sqrt(3.0)
    low = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * np.sqrt(2.0))
    high = low[::-1] * [1, -1, 1, -1]
    a, d = [0.0, *low], [0.0, *high]  # a leading 0 centres both filters, of even length, alike
    blurred = gaussian_blur(plane, sigma)
    return [correlate(blurred, *pair) for pair in ((a, d), (d, a), (d, d), (a, a))]


def cosine_bands(plane: np.ndarray, sigma: float) -> dict[tuple[int, int], np.ndarray]:
    """Return the cosine transform of 4 × 4 pixels around each pixel, by (row, column) frequency."""
    blurred = gaussian_blur(plane, sigma)
    frequency, pixel = np.mgrid[:4, :4]
    basis = np.cos(np.pi * frequency * (2 * pixel + 1) / 8) / np.sqrt(2.0)
    basis[0] /= np.sqrt(2.0)
    basis = np.pad(basis, ((0, 0), (1, 0)))  # a leading 0 centres filters of even length
    return {(u, v): correlate(blurred, basis[u], basis[v]) for u, v in np.ndindex(4, 4)}
