"""From what an operator says of a pixel to a focus volume: whose neighbourhood speaks for whom."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from napari_dff.curve import (
    CURVE_PEAK,
    NOISE_RADIUS_PX,
    NOISE_SIGMA_PX,
    compute_noise,
    detection_z_score,
    find_peaks,
)
from napari_dff.focus import balance as balancing
from napari_dff.focus.balance import balance
from napari_dff.focus.measurement import Measurement
from napari_dff.focus.splines import REACH as SPLINE_REACH
from napari_dff.focus.splines import enlarged, mix_in
from napari_dff.images import block_means
from napari_dff.windows import GRID_PX, Window

SCALES = (1, 2, 4)  # of sigma and window, for `adaptive`
ENOUGH = 0.15  # planes: an uncertainty below this needs no larger window
LEAST_SHARE = 0.01  # of a larger window: less isn't worth its computing
OUTSIDE = (2.0, 1.25, 1.1)  # second moments, one a scale, beyond which a pixel has no texture
FADE = 0.01  # power to which curves are raised where no scale tells
SPECTRUM = np.float32(14)  # of ln(measure), about its range in a picture: `guided` scales by it
SMOOTH = 1.0  # pixels², variance of a window over which 2 × 2 pixels of a measure are judged as one
TINY = np.float32(1e-30)


def plain(measure: Measurement, wanted: Window) -> np.ndarray:
    """The operator's own average over the window, as it is."""
    around = wanted.expand(measure.step(), measure.shape)
    return enlarged(measure(around), measure.step(), wanted, around)


def balanced(measure: Measurement, wanted: Window) -> np.ndarray:
    """Windows moved so that the focus energy in each is centred on its pixel."""
    around = wanted.expand(spread(measure), measure.shape)
    volume, _ = balance(measure(around), measure.variance())
    height = _levelled(volume)
    volume = enlarged(volume, measure.step(), wanted, around)
    volume *= enlarged(height[None], measure.step(), wanted, around)
    return volume


def adaptive(measure: Measurement, wanted: Window) -> np.ndarray:
    """Balanced windows, small where there is signal and larger where there is noise.

    The planes as they are, at half and at a quarter of their size: each pixel's curve is taken
    where its depth is first known to `ENOUGH` planes, with a smooth passage from scale to scale;
    where no scale knows it that well, from the first that knows it at all. Where the focus energy
    lies far from the pixel on average, the pixel has no texture of its own, and what leaks in from
    around it doesn't count. Where no scale knows anything, the widest window's curve remains, made
    almost flat: its order of planes is a guess, not a peak.
    """
    parts = []
    left = np.ones(wanted.shape, np.float32)
    silent = np.ones(wanted.shape, bool)
    for scale, outside in zip(SCALES, OUTSIDE, strict=True):
        step = measure.step(scale)
        around = wanted.expand(spread(measure, scale) + NOISE_RADIUS_PX, measure.shape)
        volume, moment = balance(measure(around, scale), measure.variance(scale))
        maps = np.stack([_levelled(volume), moment <= outside]).astype(np.float32)
        height, textured = enlarged(maps, step, wanted, around)
        # Blocks are counted from where the window begins, which is on the grid.
        every = 2 if measure.variance(scale) >= SMOOTH and 2 * step <= GRID_PX else 1
        thinned = np.ascontiguousarray(volume)
        if every > 1:
            thinned = np.stack([block_means(plane, every) for plane in volume])
        doubt = _doubt(thinned, NOISE_SIGMA_PX / (every * step))
        known = np.isfinite(doubt)
        share = known / (1 + (doubt / ENOUGH) ** 4) if scale < SCALES[-1] else known
        maps = np.stack([share, known]).astype(np.float32)
        share, sure = textured * enlarged(maps, every * step, wanted, around)
        if scale == SCALES[0]:  # whose height all get: energies of different operators don't add up
            top = height * (height > 2 * TINY)
        new = silent & (sure > 0.5)
        silent &= ~new
        parts.append((volume, step, around, left * share, new))
        left = left * (1 - share)
        left[(left < LEAST_SHARE) & ~silent] = 0
        if not left.any():
            break
    out = np.empty((len(volume), *wanted.shape), np.float32)
    for k, (volume, step, around, share, new) in enumerate(parts):
        weight = top * ~silent * (share + left * new)
        mix_in(out, weight, volume, step, wanted, around, afresh=k == 0)
    volume, step, around = parts[-1][:3]
    mix_in(out, top * silent, _faded(volume), step, wanted, around, afresh=False)
    return out


def guided(measure: Measurement, wanted: Window) -> np.ndarray:
    """Every plane's measure filtered along the edges of the stack's sharpest picture.

    The guided filter (He, Sun & Tang 2013, doi:10.1109/TPAMI.2012.213) with the logarithm of the
    highest focus over all planes as its guide.
    """
    width = int(measure.window)
    around = wanted.expand(width, measure.shape)
    volume = plain(measure.with_window(max(1, 2 * (width // 4) + 1)), around)
    guide = np.log(volume.max(axis=0) + TINY) / SPECTRUM
    box = (width, width)
    mean = cv2.blur(guide, box)
    variance = cv2.blur(guide**2, box) - mean**2 + np.float32(1e-3)
    for plane in volume:
        level = cv2.blur(plane, box)
        slope = (cv2.blur(guide * plane, box) - mean * level) / variance
        offset = level - slope * mean
        plane[:] = np.maximum(cv2.blur(slope, box) * guide + cv2.blur(offset, box), 0)
    return volume[(..., *wanted.slices_in(around))]


def _levelled(volume: np.ndarray) -> np.ndarray:
    """Divide every curve of `volume` by its highest value, in place; gives back these values.

    Curves that are mixed after that count alike, however much energy each has: to mix them doesn't
    move the centroid again.
    """
    height = np.maximum(volume.max(axis=0), TINY)
    volume /= height
    return height


def spread(measure: Measurement, scale: int = 1) -> int:
    """How far from a pixel its balanced and interpolated measure looks."""
    around = balancing.reach(measure.variance(scale)) + 2 * SPLINE_REACH
    return measure.step(scale) * around


def _faded(volume: np.ndarray) -> np.ndarray:
    """Curves that tell nothing, hardly above or below their mean: nobody shall take them for peaks.

    The order of the planes stays.
    """
    level = np.maximum(volume.mean(axis=0), TINY)
    return level * np.maximum(volume / level, np.float32(1e-6)) ** np.float32(FADE)


def _doubt(volume: np.ndarray, neighbourhood: float) -> np.ndarray:
    """Uncertainty of each pixel's peak, in planes; inf where never in focus."""
    positions = np.arange(float(len(volume)))
    noise = compute_noise(volume, neighbourhood)
    return find_peaks(volume, positions, CURVE_PEAK, 0, noise, detection_z_score(len(volume)))[2]


AGGREGATIONS: dict[str, Callable[[Measurement, Window], np.ndarray]] = {
    "adaptive": adaptive,
    "balanced": balanced,
    "window": plain,
    "guided": guided,
}
