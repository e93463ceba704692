"""The focus curve of a pixel: its noise, its peak and how well the peak is known.

The focus measure of a pixel where nothing is ever sharp still goes up and down from plane to plane.
How much is read off the volume itself, so that nothing has to be known about camera or operator:

- *floor*: the mean of the logarithm of the lower half of a pixel's curve;
- *fluctuation*: the standard deviation of that logarithm, from the median of its squared second
  differences (noise has them everywhere, a smooth curve only at its peak), over the pixels around.

Where the measure is r times its noise floor, a measure of energy fluctuates by
``fluctuation * sqrt(2 r - 1) / r``: noise alone at r = 1, noise against signal beyond.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numba
import numpy as np
from scipy.special import ndtri

PEAKS = {"argmax": 0, "parabola": 1, "gaussian": 2, "lorentzian": 3, "curve": 4}
BEST_PEAK = PEAKS["curve"]
NEIGHBOURHOOD = 6.0  # pixels, standard deviation of what counts as "around" for the fluctuation
ROUGHNESS = 5.0  # pixels, standard deviation of the average that scatter is counted from
SHOULDER = 0.3  # of a peak: planes above this take part in a fit of the whole curve
HOLDS = 0.1  # of ln(measure), how far a squared Lorentzian describes a curve without noise
FLAT = 0.1  # of ln(measure): a curve that varies by less doesn't vary
DYNAMIC_RANGE = 1e-6  # of the strongest focus: weaker measures are no measures


FALSE_ALARM = 1e-3  # share of pixels without any texture that may still be called in focus


class Noise(NamedTuple):
    """What the focus measure does where nothing is sharp: (Y, X) float32 each, of ln(measure)."""

    floor: np.ndarray
    fluctuation: np.ndarray


def noise_of(focus: np.ndarray) -> Noise:
    """Floor and fluctuation of every pixel of a (Z, Y, X) focus volume."""
    tiny = np.float32(max(DYNAMIC_RANGE * float(focus.max()), 1e-38))
    floor, variance, extent = _floors(focus, tiny)
    # A curve that hardly varies was never measured; it must not make its neighbours look surer.
    counts = (extent > FLAT).astype(np.float32)
    around = cv2.GaussianBlur(counts * variance, (0, 0), NEIGHBOURHOOD)
    number = cv2.GaussianBlur(counts, (0, 0), NEIGHBOURHOOD)
    return Noise(
        floor, np.sqrt(np.where(number > 1e-3, around / np.maximum(number, 1e-3), variance))
    )


def significance(planes: int) -> float:
    """How many fluctuations above its floor a curve of noise stays, but for FALSE_ALARM of them.

    The highest of `planes` normal numbers, counted from the mean of their lower half (-0.8).
    """
    return float(ndtri((1 - FALSE_ALARM) ** (1 / planes))) + 0.8


def peaks(
    focus: np.ndarray,  # (Z, Y, X) float32
    positions: np.ndarray,  # (Z,) float64
    kind: int,
    prefer: int,
    noise: Noise,
    threshold: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plane, position and its standard deviation (inf: never in focus) of each pixel's peak.

    `kind` is a value of `PEAKS`; `prefer` is 0 for the highest peak, 1 for the first and -1 for
    the last; a peak counts if it stands `threshold` fluctuations above the floor.
    """
    found: tuple[np.ndarray, np.ndarray, np.ndarray] = _peaks(
        focus, positions, kind, prefer, noise.floor, noise.fluctuation, threshold
    )
    return found


def deviations(
    focus: np.ndarray,  # (Z, Y, X) float32
    positions: np.ndarray,  # (Z,) float64
    index: np.ndarray,  # (Y, X)
    noise: Noise,
) -> np.ndarray:  # (Y, X)
    """Standard deviation of the peak at plane `index`, from the noise of the curve alone.

    A plane's distance where `index` is no peak of the curve.
    """
    found: np.ndarray = _deviations(focus, positions, index, noise.floor, noise.fluctuation)
    return found


def scatter(depth: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """How much `depth` (in planes) scatters about a smooth surface: (Y, X), standard deviation.

    What the noise of the curve doesn't tell: texture that differs from plane to plane, leaks from
    beside, a curve of another shape. The smooth surface is a Gaussian average over `ROUGHNESS`
    pixels, twice (Tukey's twicing leaves slopes and curvature to it), each pixel weighted by its
    `deviation`; inf counts for nothing.
    """
    weight = np.where(np.isfinite(deviation), 1 / (np.minimum(deviation, 1e3) ** 2 + 0.05**2), 0)
    weight = (weight + 1e-6).astype(np.float32)

    def mean(values: np.ndarray) -> np.ndarray:
        summed = cv2.GaussianBlur(weight * values.astype(np.float32), (0, 0), ROUGHNESS)
        return summed / cv2.GaussianBlur(weight, (0, 0), ROUGHNESS)

    surface = mean(depth)
    surface += mean(depth - surface)
    # A step is no scatter of the whole neighbourhood: a pixel counts for one plane at most.
    return np.sqrt(mean(np.minimum((depth - surface) ** 2, 1)))


@numba.njit(parallel=True, cache=True)
def _deviations(focus, positions, index, floor, fluctuation):  # type: ignore[no-untyped-def]
    count, height, width = focus.shape
    out = np.empty((height, width), np.float32)
    for y in numba.prange(height):
        curve = np.empty(count, np.float32)
        for x in range(width):
            for k in range(count):
                curve[k] = focus[k, y, x]
            top = int(index[y, x])
            low, high = max(top - 1, 0), min(top + 1, count - 1)
            if curve[top] >= curve[low] and curve[top] >= curve[high]:
                _, out[y, x] = peak_at(
                    curve, top, positions, BEST_PEAK, floor[y, x], fluctuation[y, x]
                )
            else:
                out[y, x] = abs(positions[high] - positions[low]) / (high - low)
    return out


@numba.njit(parallel=True, cache=True)
def _floors(focus, tiny):  # type: ignore[no-untyped-def]
    count, height, width = focus.shape
    floor = np.empty((height, width), np.float32)
    variance = np.empty((height, width), np.float32)
    extent = np.empty((height, width), np.float32)
    half = (count + 1) // 2
    for y in numba.prange(height):
        row = np.empty((width, count), np.float32)
        bends = np.empty(count - 2, np.float32)
        for k in range(count):
            for x in range(width):
                row[x, k] = np.log(max(focus[k, y, x], tiny))
        for x in range(width):
            curve = row[x]
            ordered = np.sort(curve)
            floor[y, x] = ordered[:half].mean()
            extent[y, x] = ordered[-1] - ordered[0]
            for k in range(1, count - 1):
                bends[k - 1] = (curve[k - 1] - 2 * curve[k] + curve[k + 1]) ** 2
            # 6 is the variance of a second difference, 0.4549 the median of a squared normal number
            variance[y, x] = np.median(bends) / 6 / 0.4549
    return floor, variance, extent


@numba.njit(cache=True)
def vertex(x0, x1, x2, y0, y1, y2, e0, e1, e2):  # type: ignore[no-untyped-def]
    """Vertex of the parabola through three points and its standard deviation.

    `e` are the standard deviations of `y`; y1 must be the largest of the three.
    """
    rise, fall = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    bend = rise - fall
    start, reach = (x0 + x1) / 2, (x2 - x0) / 2
    if bend * reach <= 0:  # three equal values
        return x1, abs(reach)
    by_rise, by_fall = -reach * fall / bend**2, reach * rise / bend**2
    d0 = -by_rise / (x1 - x0)
    d1 = by_rise / (x1 - x0) - by_fall / (x2 - x1)
    d2 = by_fall / (x2 - x1)
    return start + reach * rise / bend, np.sqrt((d0 * e0) ** 2 + (d1 * e1) ** 2 + (d2 * e2) ** 2)


@numba.njit(cache=True)
def _fitted(curve, k, positions, floor, fluctuation):  # type: ignore[no-untyped-def]
    """Vertex of a squared Lorentzian through all planes of the peak that reach `SHOULDER` of it.

    F^(-1/2) is a parabola in the position; it is fitted by least squares, each plane weighted by
    its noise and by how far the model itself holds.
    """
    count = len(curve)
    first, last = k - 1, k + 1
    while first > 0 and SHOULDER * curve[k] < curve[first - 1] <= curve[first]:
        first -= 1
    while last < count - 1 and SHOULDER * curve[k] < curve[last + 1] <= curve[last]:
        last += 1
    normal, right, noisy = np.zeros((3, 3)), np.zeros(3), np.zeros((3, 3))
    scale = abs(positions[last] - positions[first]) / 2
    for j in range(first, last + 1):
        value = max(curve[j] / curve[k], 1e-12)
        above = max(curve[j] / np.exp(floor), 1.0)
        relative = fluctuation**2 * (2 * above - 1) / above**2
        u = (positions[j] - positions[k]) / scale
        weight = 4 * value / (relative + HOLDS**2)
        row = np.array([1.0, u, u * u])
        for a in range(3):
            right[a] += weight * row[a] / np.sqrt(value)
            for b in range(3):
                normal[a, b] += weight * row[a] * row[b]
                noisy[a, b] += weight**2 * relative / (4 * value) * row[a] * row[b]
    inverse = np.linalg.inv(normal + 1e-9 * np.trace(normal) * np.eye(3))
    covariance = inverse @ noisy @ inverse  # of the noise alone: the model's error is no noise
    _, tilt, bend = inverse @ right
    half = abs(positions[k + 1] - positions[k - 1]) / 2
    if bend <= 0:
        return positions[k], half
    vertex_u = -tilt / (2 * bend)
    by_tilt, by_bend = -1 / (2 * bend), tilt / (2 * bend * bend)
    variance = (
        by_tilt**2 * covariance[1, 1]
        + by_bend**2 * covariance[2, 2]
        + 2 * by_tilt * by_bend * covariance[1, 2]
    )
    low = min(positions[k - 1], positions[k + 1])
    high = max(positions[k - 1], positions[k + 1])
    at = min(max(positions[k] + vertex_u * scale, low), high)
    return at, min(scale * np.sqrt(max(variance, 0.0)), half)


@numba.njit(cache=True)
def peak_at(curve, k, positions, kind, floor, fluctuation):  # type: ignore[no-untyped-def]
    """Position of the peak of `curve` at its local maximum `k`, and its standard deviation.

    `kind` is a value of `PEAKS`. A maximum in the first or last plane is not interpolated.
    """
    count = len(curve)
    if k == 0 or k == count - 1:
        return positions[k], abs(positions[min(k + 1, count - 1)] - positions[max(k - 1, 0)])
    if kind == 0:
        return positions[k], abs(positions[k + 1] - positions[k - 1]) / 2 / np.sqrt(12.0)
    if kind == 4:
        return _fitted(curve, k, positions, floor, fluctuation)
    y = np.empty(3)
    e = np.empty(3)
    for j in range(3):
        value = max(curve[k - 1 + j], 1e-30)
        above = max(value / np.exp(floor), 1.0)
        relative = fluctuation * np.sqrt(2 * above - 1) / above
        if kind == 1:
            y[j], e[j] = value, relative * value
        elif kind == 2:
            y[j], e[j] = np.log(value), relative
        else:
            y[j] = -1 / np.sqrt(value)
            e[j] = -y[j] * relative / 2
    at, deviation = vertex(
        positions[k - 1], positions[k], positions[k + 1], y[0], y[1], y[2], e[0], e[1], e[2]
    )
    # A peak is somewhere between the planes beside it, however flat its top.
    return at, min(deviation, abs(positions[k + 1] - positions[k - 1]) / 2)


@numba.njit(parallel=True, cache=True)
def _peaks(focus, positions, kind, prefer, floor, fluctuation, threshold):  # type: ignore[no-untyped-def]
    count, height, width = focus.shape
    index = np.empty((height, width), np.uint16)
    depth = np.empty((height, width), np.float32)
    uncertainty = np.empty((height, width), np.float32)
    for y in numba.prange(height):
        rows = np.empty((width, count), np.float32)
        for k in range(count):
            for x in range(width):
                rows[x, k] = focus[k, y, x]
        for x in range(width):
            curve = rows[x]
            enough = np.exp(floor[y, x] + threshold * max(fluctuation[y, x], 0.02))
            top = int(np.argmax(curve))
            if prefer != 0:
                top = _outermost(curve, top, prefer, enough, fluctuation[y, x])
            at, deviation = peak_at(curve, top, positions, kind, floor[y, x], fluctuation[y, x])
            index[y, x] = top
            depth[y, x] = at
            uncertainty[y, x] = deviation if curve[top] > enough else np.inf
    return index, depth, uncertainty


@numba.njit(cache=True)
def _outermost(curve, best, prefer, enough, fluctuation):  # type: ignore[no-untyped-def]
    """Find the first (or last) significant peak: high enough, and with a dip before the best."""
    count = len(curve)
    k = 0 if prefer > 0 else count - 1
    dip = np.exp(-3 * max(fluctuation, 0.02))
    while k != best:
        beside = max(curve[max(k - 1, 0)], curve[min(k + 1, count - 1)])
        if curve[k] > enough and curve[k] > 0.05 * curve[best] and curve[k] >= beside:
            lowest = curve[k]
            for j in range(min(k, best), max(k, best) + 1):
                lowest = min(lowest, curve[j])
            if lowest < dip * curve[k]:
                return k
        k += prefer
    return best


@numba.njit(parallel=True, cache=True)
def strongest(focus, positions, floor, fluctuation, threshold, wanted):  # type: ignore[no-untyped-def]
    """Positions and strengths of the `wanted` highest significant peaks of every pixel."""
    count, height, width = focus.shape
    depth = np.full((wanted, height, width), np.nan, np.float32)
    strength = np.zeros((wanted, height, width), np.float32)
    for y in numba.prange(height):
        curve = np.empty(count, np.float32)
        for x in range(width):
            for k in range(count):
                curve[k] = focus[k, y, x]
            level = np.exp(floor[y, x])
            enough = level * np.exp(threshold * max(fluctuation[y, x], 0.02))
            for k in range(count):
                before = curve[k - 1] if k > 0 else np.float32(-1)
                after = curve[k + 1] if k < count - 1 else np.float32(-1)
                if curve[k] <= enough or curve[k] < before or curve[k] <= after:
                    continue
                ratio = curve[k] / level
                place = wanted
                while place > 0 and ratio > strength[place - 1, y, x]:
                    place -= 1
                if place == wanted:
                    continue
                for j in range(wanted - 1, place, -1):
                    strength[j, y, x] = strength[j - 1, y, x]
                    depth[j, y, x] = depth[j - 1, y, x]
                strength[place, y, x] = ratio
                depth[place, y, x], _ = peak_at(
                    curve, k, positions, BEST_PEAK, floor[y, x], fluctuation[y, x]
                )
    return depth, strength
