"""From what an operator says of each pixel to a focus volume: whose neighbourhood speaks for whom.

A focus measure is averaged over a window, so what is measured at a pixel is the depth not of the
pixel but of the texture around it: of the centroid of the focus energy in the window. On a slope
that is the largest error there is, larger than the noise. Under a Gaussian window of variance s²
the centroid lies s² ∇ ln F away, which the focus volume F itself tells; `balance` takes each
pixel's curve from where the centroid falls on the pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from napari_dff.curve import BEST_PEAK, noise_of, peaks, significance

SCALES = (1, 2, 4)  # of sigma and window, for `adaptive`
ENOUGH = 0.15  # planes: an uncertainty below this needs no larger window
FARTHEST = 1.5  # standard deviations of the window by which a pixel's window may be moved
OUTSIDE = (2.0, 1.25, 1.1)  # second moments, one a scale, beyond which a pixel has no texture
FADE = 0.01  # power to which curves are raised where no scale tells
TINY = 1e-12

Measure = Callable[[float, int], np.ndarray]  # sigma, window → focus volume (Z, Y, X)


def plain(measure: Measure, sigma: float, window: int) -> np.ndarray:
    """The operator's own average over the window, as it is."""
    return measure(sigma, window)


def balanced(measure: Measure, sigma: float, window: int) -> np.ndarray:
    """Windows moved so that the focus energy in each is centred on its pixel."""
    return balance(measure(sigma, window), window)[0]


def adaptive(measure: Measure, sigma: float, window: int) -> np.ndarray:
    """Balanced windows, small where there is signal and larger where there is noise.

    At one, two and four times `sigma` and `window`, each pixel's curve is taken where its depth is
    first known to `ENOUGH` planes, with a smooth passage from scale to scale; where no scale knows
    it that well, from the first that knows it at all. Where the focus energy lies far from the
    pixel on average, the pixel has no texture of its own, and what leaks in from around it doesn't
    count. Where no scale knows anything, the widest window's curve remains, made almost flat: its
    order of planes is a guess, not a peak.
    """
    for scale, outside in zip(SCALES, OUTSIDE, strict=True):
        wide = scale * (window - 1) + 1
        volume, moment = balance(measure(scale * sigma, wide), wide)
        height = volume.max(axis=0)
        if scale == SCALES[0]:
            total, top, left = np.zeros_like(volume), height, np.ones_like(height)
            first, silent = np.zeros_like(volume), np.ones(height.shape, dtype=bool)
        doubt = _doubt(volume)
        last = scale == SCALES[-1]
        known = np.isfinite(doubt) & (moment <= outside)
        share = known if last else np.where(known, 1 / (1 + (doubt / ENOUGH) ** 4), 0)
        # All scales at the height of the finest: energies of different operators don't add up.
        level = top / np.maximum(height, TINY)
        total += (left * share * level) * volume
        left = left * (1 - share.astype(np.float32))
        new = known & silent
        first[:, new] = (level * volume)[:, new]
        silent &= ~known
    total += left * first
    total[:, silent] = _faded(volume[:, silent])
    return total


def guided(measure: Measure, sigma: float, window: int) -> np.ndarray:
    """Every plane's measure filtered along the edges of the stack's sharpest picture.

    The guided filter (He, Sun & Tang 2013, doi:10.1109/TPAMI.2012.213) with the logarithm of the
    highest focus over all planes as its guide.
    """
    volume = measure(sigma, max(1, 2 * (window // 4) + 1))
    guide = np.log(volume.max(axis=0) + np.float32(1e-6 * volume.max()))
    guide = (guide - guide.min()) / max(float(np.ptp(guide)), TINY)
    box = (window, window)
    mean = cv2.blur(guide, box)
    variance = cv2.blur(guide**2, box) - mean**2 + 1e-3
    for plane in volume:
        level = cv2.blur(plane, box)
        slope = (cv2.blur(guide * plane, box) - mean * level) / variance
        offset = level - slope * mean
        plane[:] = np.maximum(cv2.blur(slope, box) * guide + cv2.blur(offset, box), 0)
    return volume


def balance(volume: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Take each pixel's curve from where the centroid of the focus energy falls on the pixel.

    Parameters
    ----------
    volume : (Z, Y, X) float32
        Averaged over a Gaussian with the variance of a box `window` wide.
    window : int
        That width, in pixels.

    Returns
    -------
    (Z, Y, X) float32
        The balanced volume.
    (Y, X) float32
        Second moment of the focus energy in the window about the pixel, before it was balanced: 1
        for even texture, more where the energy lies around the pixel. Under a Gaussian window
        that is 1 + s² ∇²F / 2F.
    """
    variance = (window**2 - 1) / 12
    if variance == 0:
        return volume, np.ones(volume.shape[1:], np.float32)
    best = volume.argmax(axis=0)
    down, across, moment = (np.zeros(best.shape, np.float32) for _ in range(3))
    tiny = np.float32(TINY * volume.max())
    for k, plane in enumerate(volume):
        here = best == k
        if here.any():
            slope = np.gradient(np.log(plane + tiny))
            bend = cv2.Laplacian(plane, cv2.CV_32F) / (plane + tiny)
            moment[here] = 1 + np.float32(variance / 2) * bend[here]
            down[here], across[here] = (variance * part[here] for part in slope)
    length = np.hypot(down, across)
    held = np.minimum(1, FARTHEST * np.sqrt(variance) / np.maximum(length, TINY)).astype(np.float32)
    down, across = down * held, across * held
    y, x = np.indices(best.shape, dtype=np.float32)
    at_y, at_x = y - down, x - across
    for _ in range(3):  # solve: where I look, plus the centroid's offset there, is this pixel
        off_y, off_x = (_sample(part, at_y, at_x) for part in (down, across))
        at_y, at_x = (at_y + y - off_y) / 2, (at_x + x - off_x) / 2
    return np.stack([_sample(plane, at_y, at_x) for plane in volume]), moment


def _sample(plane: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _faded(volume: np.ndarray) -> np.ndarray:
    """Curves that tell nothing, hardly above or below their mean: nobody shall take them for peaks.

    The order of the planes stays.
    """
    level = np.maximum(volume.mean(axis=0), np.float32(1e-30))
    return level * np.maximum(volume / level, np.float32(1e-6)) ** np.float32(FADE)


def _doubt(volume: np.ndarray) -> np.ndarray:
    """Uncertainty of each pixel's peak, in planes; inf where never in focus."""
    positions = np.arange(float(len(volume)))
    return peaks(volume, positions, BEST_PEAK, 0, noise_of(volume), significance(len(volume)))[2]


AGGREGATIONS: dict[str, Callable[[Measure, float, int], np.ndarray]] = {
    "adaptive": adaptive,
    "balanced": balanced,
    "window": plain,
    "guided": guided,
}
