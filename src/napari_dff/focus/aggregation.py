"""From what an operator says of each pixel to a focus volume: whose neighbourhood speaks for whom.

A focus measure is averaged over a window, so what is measured at a pixel is the depth not of the
pixel but of the texture around it: of the centroid of the focus energy in the window. On a slope
that is the largest error there is, larger than the noise. Under a Gaussian window of variance s²
the centroid lies s² ∇ ln F away, which the focus volume F itself tells; `balance` takes each
pixel's curve from where the centroid falls on the pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, sqrt

import cv2
import numpy as np

from napari_dff.compiled import kernel
from napari_dff.curve import BEST_PEAK, NEIGHBOURHOOD, highest_in_row, noise_of, peaks, significance
from napari_dff.curve import REACH as NOISE_REACH
from napari_dff.focus.measurement import Measurement
from napari_dff.tiles import Window

SCALES = (1, 2, 4)  # of sigma and window, for `adaptive`
ENOUGH = 0.15  # planes: an uncertainty below this needs no larger window
LEAST_SHARE = 0.01  # of a larger window: less isn't worth its computing
FARTHEST = 1.5  # standard deviations of the window by which a pixel's window may be moved
OUTSIDE = (2.0, 1.25, 1.1)  # second moments, one a scale, beyond which a pixel has no texture
FADE = 0.01  # power to which curves are raised where no scale tells
SPECTRUM = np.float32(14)  # of ln(measure), about its range in a picture: `guided` scales by it
SMOOTH = 1.0  # pixels², variance of a window over which a measure is judged at every other pixel
TINY = np.float32(1e-30)


def plain(measure: Measurement, wanted: Window) -> np.ndarray:
    """The operator's own average over the window, as it is."""
    around = wanted.grown(measure.step(), measure.shape)
    return _enlarged(measure(around), measure.step(), wanted, around)


def balanced(measure: Measurement, wanted: Window) -> np.ndarray:
    """Windows moved so that the focus energy in each is centred on its pixel."""
    around = wanted.grown(_reach(measure), measure.shape)
    volume, _ = balance(measure(around), measure.variance())
    height = _levelled(volume)
    volume = _enlarged(volume, measure.step(), wanted, around)
    volume *= _enlarged(height[None], measure.step(), wanted, around)
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
        around = wanted.grown(_reach(measure, scale) + NOISE_REACH, measure.shape)
        volume, moment = balance(measure(around, scale), measure.variance(scale))
        maps = np.stack([_levelled(volume), moment <= outside]).astype(np.float32)
        height, textured = _enlarged(maps, step, wanted, around)
        every = 2 if measure.variance(scale) >= SMOOTH else 1
        doubt = _doubt(volume[:, ::every, ::every], NEIGHBOURHOOD / (every * step))
        known = np.isfinite(doubt)
        share = known / (1 + (doubt / ENOUGH) ** 4) if scale < SCALES[-1] else known
        maps = np.stack([share, known]).astype(np.float32)
        share, sure = textured * _enlarged(maps, every * step, wanted, around)
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
        _mix_in(out, weight, volume, step, wanted, around, afresh=k == 0)
    volume, step, around = parts[-1][:3]
    _mix_in(out, top * silent, _faded(volume), step, wanted, around, afresh=False)
    return out


def guided(measure: Measurement, wanted: Window) -> np.ndarray:
    """Every plane's measure filtered along the edges of the stack's sharpest picture.

    The guided filter (He, Sun & Tang 2013, doi:10.1109/TPAMI.2012.213) with the logarithm of the
    highest focus over all planes as its guide.
    """
    width = int(measure.window)
    around = wanted.grown(width, measure.shape)
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
    return volume[(..., *wanted.within(around))]


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
        highest_in_row(volume, y, best)
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


def _levelled(volume: np.ndarray) -> np.ndarray:
    """Divide every curve of `volume` by its highest value, in place; gives back these values.

    Curves that are mixed after that count alike, however much energy each has: to mix them doesn't
    move the centroid again.
    """
    height = np.maximum(volume.max(axis=0), TINY)
    volume /= height
    return height


def _reach(measure: Measurement, scale: int = 1) -> int:
    """How far from a pixel its balanced and interpolated measure looks."""
    return measure.step(scale) * (ceil(FARTHEST * sqrt(measure.variance(scale))) + 7)


def _enlarged(volume: np.ndarray, step: int, wanted: Window, around: Window) -> np.ndarray:
    """(Z, Y / step, X / step) `volume` of `around` at every pixel of `wanted`."""
    out = np.empty((len(volume), *wanted.shape), np.float32)
    _mix_in(out, np.ones(wanted.shape, np.float32), volume, step, wanted, around, afresh=True)
    return out


def _mix_in(
    out: np.ndarray,
    weight: np.ndarray,
    volume: np.ndarray,
    step: int,
    wanted: Window,
    around: Window,
    *,
    afresh: bool,
) -> None:
    """Add `weight` times the enlarged `volume` to (Z, Y, X) `out`, or begin with it `afresh`.

    Cubic B-splines over the shrunk pixels: smooth, and never below 0.
    """
    if not afresh and not weight.any():
        return
    rows, columns = wanted.within(around)
    if step == 1:
        part = weight * volume[:, rows, columns]
        np.copyto(out, part) if afresh else np.add(out, part, out=out)
        return
    t = (np.arange(step) + 0.5) / step - 0.5
    t -= np.floor(t)
    taps = np.stack([(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 0 * t, t**3]) / 6
    taps[2] = 1 - taps.sum(axis=0)
    start = rows.start // step, columns.start // step
    _mix_splines(out, weight, volume, taps.astype(np.float32), *start, afresh)


@kernel
def _mix_splines(out, weight, volume, taps, top, left, afresh):  # type: ignore[no-untyped-def]
    """`_mix_in` from shrunk row `top` and column `left` on; `taps` are (4, step), a column a phase.

    A pixel in the first half of a shrunk pixel lies between that and the one before, in the second
    half between that and the next: four around it begin two, or one, before.
    """
    count, height, width = out.shape
    _, rows, columns = volume.shape
    step = taps.shape[1]
    high, broad = -(-height // step), -(-width // step)
    lines = np.empty((high + 4, broad * step), np.float32)  # of shrunk rows, enlarged across
    padded, part = np.empty(broad + 4, np.float32), np.empty(broad, np.float32)
    for k in range(count):
        for i in range(high + 4):
            shrunk, line = volume[k, min(max(top + i - 2, 0), rows - 1)], lines[i]
            for j in range(broad + 4):
                padded[j] = shrunk[min(max(left + j - 2, 0), columns - 1)]
            for phase in range(step):
                four = padded[(2 * phase + 1) // step :]
                a, b, c, d = taps[0, phase], taps[1, phase], taps[2, phase], taps[3, phase]
                for j in range(broad):
                    part[j] = a * four[j] + b * four[j + 1] + c * four[j + 2] + d * four[j + 3]
                for j in range(broad):
                    line[j * step + phase] = part[j]
        for y in range(height):
            phase = y % step
            first = y // step + (2 * phase + 1) // step
            a, b, c, d = taps[0, phase], taps[1, phase], taps[2, phase], taps[3, phase]
            one, two = lines[first], lines[first + 1]
            three, four = lines[first + 2], lines[first + 3]
            mine, whose = out[k, y], weight[y]
            if afresh:
                for x in range(width):
                    mine[x] = whose[x] * (a * one[x] + b * two[x] + c * three[x] + d * four[x])
            else:
                for x in range(width):
                    mine[x] += whose[x] * (a * one[x] + b * two[x] + c * three[x] + d * four[x])


def _faded(volume: np.ndarray) -> np.ndarray:
    """Curves that tell nothing, hardly above or below their mean: nobody shall take them for peaks.

    The order of the planes stays.
    """
    level = np.maximum(volume.mean(axis=0), TINY)
    return level * np.maximum(volume / level, np.float32(1e-6)) ** np.float32(FADE)


def _doubt(volume: np.ndarray, neighbourhood: float) -> np.ndarray:
    """Uncertainty of each pixel's peak, in planes; inf where never in focus."""
    volume, positions = np.ascontiguousarray(volume), np.arange(float(len(volume)))
    noise = noise_of(volume, neighbourhood)
    return peaks(volume, positions, BEST_PEAK, 0, noise, significance(len(volume)))[2]


AGGREGATIONS: dict[str, Callable[[Measurement, Window], np.ndarray]] = {
    "adaptive": adaptive,
    "balanced": balanced,
    "window": plain,
    "guided": guided,
}
