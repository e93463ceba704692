"""Windows moved so that what is measured at a pixel is the depth of the pixel.

A focus measure is averaged over a window, so what is measured at a pixel is the depth not of the
pixel but of the texture around it: of the centroid of the focus energy in the window. On a slope
that is the largest error there is, larger than the noise. Under a Gaussian window of variance s²
the centroid lies s² ∇ ln F away, which the focus volume F itself tells; `balance` takes each
pixel's curve from where the centroid falls on the pixel.
"""

from __future__ import annotations

from math import ceil, sqrt

import cv2
import numpy as np

from napari_dff.compiled import kernel
from napari_dff.curve import argmax_in_row

FARTHEST = 1.5  # standard deviations of the window by which a pixel's window may be moved
TINY = np.float32(1e-30)


def reach(variance: float) -> int:
    """How many pixels from a pixel `balance` looks."""
    return ceil(FARTHEST * sqrt(variance)) + 3


def balance(volume: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Take each pixel's curve from where the centroid of the focus energy falls on the pixel.

    Parameters
    ----------
    volume : (Z, Y, X) float32
        Averaged over a Gaussian window.
    variance : float
        That of the window, in pixels².

    Returns
    -------
    (Z, Y, X) float32
        The balanced volume.
    (Y, X) float32
        Second moment of the focus energy in the window about the pixel, before it was balanced: 1
        for even texture, more where the energy lies around the pixel. Under a Gaussian window
        that is 1 + s² ∇²F / 2F.
    """
    if variance == 0:
        return volume, np.ones(volume.shape[1:], np.float32)
    offsets, moment = _centroids(volume, np.float32(variance))
    pixel = np.indices(moment.shape, dtype=np.float32).transpose(1, 2, 0)
    at = pixel - offsets
    for _ in range(3):  # solve: where I look, plus the centroid's offset there, is this pixel
        there = cv2.remap(
            offsets, at[..., 1], at[..., 0], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        at = (at + pixel - there) / 2
    return _sampled(volume, at), moment


@kernel
def _centroids(volume, variance):  # type: ignore[no-untyped-def]
    """Offset (down, across) of the centroid and second moment, from each pixel's best plane."""
    _, height, width = volume.shape
    offsets = np.empty((height, width, 2), np.float32)
    moment = np.empty((height, width), np.float32)
    farthest = np.float32(FARTHEST) * np.sqrt(variance)
    best = np.empty(width, np.int32)
    for y in range(height):
        argmax_in_row(volume, y, best)
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            plane = volume[best[x]]
            before, after = max(x - 1, 0), min(x + 1, width - 1)
            fall = np.log((plane[below, x] + TINY) / (plane[above, x] + TINY)) / (below - above)
            rise = np.log((plane[y, after] + TINY) / (plane[y, before] + TINY)) / (after - before)
            # Beyond the border the picture is mirrored about its last pixel.
            around = plane[above if y > 0 else 1, x] + plane[below if y < height - 1 else y - 1, x]
            around += plane[y, before if x > 0 else 1] + plane[y, after if x < width - 1 else x - 1]
            moment[y, x] = 1 + variance / 2 * (around / (plane[y, x] + TINY) - 4)
            fall, rise = variance * fall, variance * rise
            length = np.sqrt(fall * fall + rise * rise)
            held = min(1.0, farthest / max(length, 1e-12))
            offsets[y, x, 0], offsets[y, x, 1] = held * fall, held * rise
    return offsets, moment


@kernel
def _sampled(volume, at):  # type: ignore[no-untyped-def]
    """Every plane of `volume` between its pixels, linearly, at (Y, X, 2) places."""
    count, height, width = volume.shape
    out = np.empty_like(volume)
    place = np.empty(width, np.int64)
    weights = np.empty((4, width), np.float32)
    for y in range(height):
        for x in range(width):
            v = min(max(at[y, x, 0], np.float32(0)), np.float32(height - 1))
            u = min(max(at[y, x, 1], np.float32(0)), np.float32(width - 1))
            i, j = min(int(v), height - 2), min(int(u), width - 2)
            v, u = v - np.float32(i), u - np.float32(j)
            place[x] = i * width + j
            weights[0, x] = (1 - v) * (1 - u)
            weights[1, x] = (1 - v) * u
            weights[2, x] = v * (1 - u)
            weights[3, x] = v * u
        for k in range(count):
            plane, row = volume[k].reshape(-1), out[k, y]
            for x in range(width):
                p = place[x]
                row[x] = (
                    weights[0, x] * plane[p]
                    + weights[1, x] * plane[p + 1]
                    + weights[2, x] * plane[p + width]
                    + weights[3, x] * plane[p + width + 1]
                )
    return out
