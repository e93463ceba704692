"""Blends of the planes around the depth of each pixel."""

from __future__ import annotations

import functools
from typing import NamedTuple

import cv2
import numpy as np

from napari_dff.curve.plane_mask import fill_gaps
from napari_dff.imaging.images import read_plane
from napari_dff.runtime.jit import kernel
from napari_dff.runtime.lazy import release_mapped_pages
from napari_dff.runtime.windows import Window

BLEND_SIGMAS_PLANES = (0.0, 0.7, 1.2)  # widths of the three blends of `blend_by_noise`; 0 is linear
DETAIL_SIGMA_PX = 1.5  # of the window in which detail is compared with noise
NOISE_SIGMA_PX = 8.0  # of the window over which noise is averaged
MIN_NOISE_SHARE = 0.02  # of the pixels around that have data, to estimate the noise
NOISE_STEP_PX = 4  # between the samples of the noise map
DEPTH_STEPS_PER_PLANE = 256  # the weights of blends are tabulated at these steps
BLEND_RADIUS_PLANES = 4  # planes on either side of the depth in a blend
TINY = np.float32(1e-12)
KERNEL_DTYPES = (np.uint8, np.uint16, np.float32)  # blended without a conversion first


class PlaneWindow(NamedTuple):
    """The planes of a stack (Z, Y, X[, 3]) in one window, and where each has data."""

    planes: np.ndarray
    window: Window
    mask: np.ndarray | None = None  # (Z, h, w) bool, of the window; None: everywhere

    def read(self, k: int) -> np.ndarray:
        """Return plane `k`, (Y, X[, 3]) float32."""
        return self.read_as_stored(k).astype(np.float32)

    def read_as_stored(self, k: int) -> np.ndarray:
        """Return plane `k`, (Y, X[, 3]) of its own dtype."""
        release_mapped_pages(self.planes)  # of the planes before
        return read_plane(self.planes, k, self.window.slices)

    def read_all(self) -> np.ndarray:
        """Return all planes, (Z, Y, X, C) of their own dtype; ValueError unless finite."""
        if self.planes.dtype.kind == "f":
            for k in range(len(self.planes)):
                read_plane(self.planes, k, self.window.slices)  # raises the error
        values = np.asarray(self.planes[(slice(None), *self.window.slices)])
        values = values if values.ndim == 4 else values[..., None]
        return values if self.mask is None else fill_gaps(values, self.mask)

    def mask_of(self, k: int) -> np.ndarray | None:
        """Return where plane `k` has data, (Y, X) bool; None: everywhere."""
        return None if self.mask is None else self.mask[k]

    def take(self, index: np.ndarray) -> np.ndarray:
        """Return each pixel from plane `index` (Y, X): (Y, X[, 3]), dtype of the planes."""
        values = np.take_along_axis(self.read_all(), index[None, ..., None], axis=0)[0]
        return values.reshape(index.shape + self.planes.shape[3:])


def nearest_plane(stack: PlaneWindow, index: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Return each pixel from the plane nearest to its depth.

    As in all fusions, (Y, X) float32 arrays are the fractional plane index of the depth and its
    standard uncertainty in planes.
    """
    return stack.take(np.rint(index).astype(np.intp))


# Noise-aware blend
# -----------------
# B₀, B₁, B₂ are blends of the planes around the depth, with weights of growing width
# (`BLEND_SIGMAS_PLANES`): wider blends have less noise, and less detail. To the widest, the
# differences D_j = B_j - B_(j+1) are added with Wiener weights,
#     R = B₂ + Σ_j D_j max(0, 1 - n_j / e_j),
# where e_j is the local energy of D_j, and n_j the energy that noise alone would give it: the noise
# variance of a plane times Σ_k (w_j,k - w_(j+1),k)², the squared difference of the weights. The
# noise variance is the minimum over all planes, since detail in focus adds to it.


def blend_by_noise(stack: PlaneWindow, index: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Return the linear blend where there is detail, and wider blends where there is noise only."""
    noise = noise_variance(stack.read(0), stack.mask_of(0))
    for k in range(1, len(stack.planes)):
        np.minimum(noise, noise_variance(stack.read(k), stack.mask_of(k)), out=noise)
    noise = np.nan_to_num(noise, posinf=0)
    noise = cv2.resize(noise, index.shape[::-1], interpolation=cv2.INTER_LINEAR)
    weights = blend_weights()
    noise_gains = np.sum(np.diff(weights, axis=0) ** 2, axis=2)
    values = stack.read_all()
    if values.dtype not in KERNEL_DTYPES:
        values = values.astype(np.float32)
    blends, depth_step = _blend(values, index, weights)
    gain_maps = noise_gains[:, depth_step]
    blends = blends.reshape(-1, *noise.shape)
    result = blends[-1]
    for j in range(len(BLEND_SIGMAS_PLANES) - 2, -1, -1):
        difference = blends[j] - blends[j + 1]
        energy = cv2.GaussianBlur(difference**2, (0, 0), DETAIL_SIGMA_PX)
        noise_energy = noise * _with_channels(gain_maps[j], difference)
        result = result + difference * np.maximum(0, 1 - noise_energy / np.maximum(energy, TINY))
    return result


@functools.cache
def blend_weights() -> np.ndarray:
    """Return the weights of the planes around a depth, for each blend.

    (blends, `DEPTH_STEPS_PER_PLANE` + 1, 2 `BLEND_RADIUS_PLANES` + 1) float32. The second axis is
    the distance of the depth from the plane below it. Weights fall to 0 within one plane (sigma 0)
    or like a Gaussian, and sum to 1.
    """
    fraction = np.linspace(0, 1, DEPTH_STEPS_PER_PLANE + 1)[:, None]
    distance = np.abs(np.arange(-BLEND_RADIUS_PLANES, BLEND_RADIUS_PLANES + 1) - fraction)
    rows = [
        np.maximum(1 - distance, 0) if sigma == 0 else np.exp(-((distance / sigma) ** 2) / 2)
        for sigma in BLEND_SIGMAS_PLANES
    ]
    weights = np.array([row / row.sum(axis=1, keepdims=True) for row in rows], np.float32)
    weights.flags.writeable = False
    return weights


@kernel
def _blend(values, index, weights):  # type: ignore[no-untyped-def]
    """Blend the planes around a depth.

    Weights of planes before the first or after the last are distributed over the others.

    Parameters
    ----------
    values : (Z, Y, X, C) uint8, uint16 or float32
    index : (Y, X) float32
        Fractional plane index of the depth.
    weights : (blends, steps + 1, planes) float32
        See `blend_weights`.

    Returns
    -------
    (blends, Y, X, C) float32
    (Y, X) int64
        Index along the second axis of `weights`, for each pixel.
    """
    count, height, width, channels = values.shape
    blend_count, _, size = weights.shape
    blends = np.empty((blend_count, height, width, channels), np.float32)
    depth_step = np.empty((height, width), np.int64)
    near = np.zeros(size, np.float32)  # values of one pixel
    for y in range(height):
        for x in range(width):
            below = min(int(index[y, x]), count - 1)
            step = int((index[y, x] - below) * np.float32(DEPTH_STEPS_PER_PLANE) + np.float32(0.5))
            depth_step[y, x] = step
            first = max(BLEND_RADIUS_PLANES - below, 0)
            last = min(size, count - below + BLEND_RADIUS_PLANES)
            for c in range(channels):
                for d in range(first, last):
                    near[d] = np.float32(values[below + d - BLEND_RADIUS_PLANES, y, x, c])
                for j in range(blend_count):
                    blend, total = np.float32(0), np.float32(0)
                    for d in range(first, last):
                        blend += weights[j, step, d] * near[d]
                    if last - first < size:
                        for d in range(first, last):
                            total += weights[j, step, d]
                        blend /= total
                    blends[j, y, x, c] = blend
    return blends, depth_step


def noise_variance(image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Return the local variance of the noise, at every `NOISE_STEP_PX` pixels.

    Second differences along both axes remove smooth structure; for independent noise they have 36
    times its variance (Immerkær 1996, doi:10.1006/cviu.1996.0060). Only pixels where `mask`, (Y, X)
    bool, count; the variance is inf where there are too few.
    """
    second_difference = np.array([1.0, -2.0, 1.0])
    residual = cv2.sepFilter2D(image, cv2.CV_32F, second_difference, second_difference)
    size = tuple(-(-n // NOISE_STEP_PX) for n in residual.shape[1::-1])

    def mean(values: np.ndarray) -> np.ndarray:
        samples = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(samples, (0, 0), NOISE_SIGMA_PX / NOISE_STEP_PX)

    if mask is None:
        return mean(residual**2) / 36
    inside = cv2.erode(mask.astype(np.float32), np.ones((3, 3)))
    share = mean(inside)
    variance = mean(residual**2 * _with_channels(inside, residual))
    share = _with_channels(share, variance)
    variance = variance / (36 * np.maximum(share, MIN_NOISE_SHARE))
    return np.where(share > MIN_NOISE_SHARE, variance, np.float32(np.inf))


def _with_channels(weight: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return (…, Y, X) `weight` so that it broadcasts with the channels of `image`."""
    return weight if image.ndim == 2 else weight[..., None]
