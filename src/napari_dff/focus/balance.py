"""Balanced windows: shifted so that the centroid of the focus energy lies on the pixel."""

from __future__ import annotations

import cv2
import numpy as np

from napari_dff.curve.noise import TINY
from napari_dff.curve.search import argmax_in_row
from napari_dff.runtime.jit import kernel

MAX_SHIFT_SIGMAS = 1.5  # standard deviations of the window by which it may be shifted
FIXED_POINT_ITERATIONS = 3
PLANES_AT_ONCE = 16  # that are sampled: more need more memory, fewer compute the weights again
MAX_RATIO = np.float32(1e6)  # of the measure at neighbours; larger only beside a measure of 0

# Balancing
# ---------
# The peak of a focus curve is at the depth of the centroid c of the focus energy in the window, not
# of the pixel x. For a Gaussian window of variance s², c follows from the measure F itself:
#     c(x) - x = s² ∇ ln F.
# The balanced curve of x is the curve at the p whose centroid is x, found by the damped fixed-point
# iteration p ← (p + x - s² ∇ ln F(p)) / 2. Derivatives are taken in the plane of each pixel's
# maximum; a curve is moved as a whole. Derived in docs/methods.md, "Balanced windows".


def balance(volume: np.ndarray, variance: float) -> None:
    """Replace the curves in `volume`, (Z, Y, X) float32, by the balanced ones.

    They are the measure, averaged over a Gaussian window of `variance` pixels².
    """
    if variance == 0:
        return
    offsets = _centroids(volume, np.float32(variance))
    pixel = np.indices(offsets.shape[:2], dtype=np.float32).transpose(1, 2, 0)
    source = pixel - offsets
    for _ in range(FIXED_POINT_ITERATIONS):
        x, y = source[..., 1], source[..., 0]
        offset = cv2.remap(offsets, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        source = (source + pixel - offset) / 2
    for first in range(0, len(volume), PLANES_AT_ONCE):
        planes = volume[first : first + PLANES_AT_ONCE]
        planes[:] = _sample(planes, source)


@kernel
def _centroids(volume, variance):  # type: ignore[no-untyped-def]
    """Return c(x) - x, limited in length, (Y, X, 2) float32 down and across.

    `volume` is (Z, Y, X) float32, `variance` that of the window in pixels².
    """
    _, height, width = volume.shape
    offsets = np.empty((height, width, 2), np.float32)
    max_length = np.float32(MAX_SHIFT_SIGMAS) * np.sqrt(variance)
    best = np.empty(width, np.int32)
    for y in range(height):
        argmax_in_row(volume, y, best)
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            plane = volume[best[x]]
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            down = (plane[below, x] + TINY) / (plane[above, x] + TINY)
            across = (plane[y, right] + TINY) / (plane[y, left] + TINY)
            down = np.log(max(min(down, MAX_RATIO), 1 / MAX_RATIO)) / (below - above)
            across = np.log(max(min(across, MAX_RATIO), 1 / MAX_RATIO)) / (right - left)
            down, across = variance * down, variance * across
            length = np.sqrt(down * down + across * across)
            scale = min(1.0, max_length / max(length, 1e-12))
            offsets[y, x, 0], offsets[y, x, 1] = scale * down, scale * across
    return offsets


@kernel
def _sample(volume, coordinates):  # type: ignore[no-untyped-def]
    """Return (Z, Y, X) float32 planes sampled by bilinear interpolation, limited to the plane.

    (Y, X, 2) float32 `coordinates` are rows and columns. The four weights of each pixel are
    computed once for all planes, row by row.
    """
    count, height, width = volume.shape
    out = np.empty_like(volume)
    corner = np.empty(width, np.int64)
    weights = np.empty((4, width), np.float32)
    for y in range(height):
        for x in range(width):
            v = min(max(coordinates[y, x, 0], np.float32(0)), np.float32(height - 1))
            u = min(max(coordinates[y, x, 1], np.float32(0)), np.float32(width - 1))
            i, j = min(int(v), height - 2), min(int(u), width - 2)
            v, u = v - np.float32(i), u - np.float32(j)
            corner[x] = i * width + j
            weights[0, x] = (1 - v) * (1 - u)
            weights[1, x] = (1 - v) * u
            weights[2, x] = v * (1 - u)
            weights[3, x] = v * u
        for k in range(count):
            plane, row = volume[k].reshape(-1), out[k, y]
            for x in range(width):
                p = corner[x]
                row[x] = (
                    weights[0, x] * plane[p]
                    + weights[1, x] * plane[p + 1]
                    + weights[2, x] * plane[p + width]
                    + weights[3, x] * plane[p + width + 1]
                )
    return out
