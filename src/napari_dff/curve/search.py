"""Peaks of every curve of a focus volume: the highest, the outermost, several, or a given one.

In all kernels, `focus` is (Z, Y, X) float32, `positions` are the (Z,) float64 focus positions of
its planes, `floor` and `fluctuation` the (Y, X) float32 fields of `Noise`, and `z_score` is the
result of `detection_z_score`. Positions and uncertainties have the unit of `positions`.
"""

from __future__ import annotations

import numpy as np

from napari_dff.curve.noise import MIN_FLUCTUATION, detection_threshold
from napari_dff.curve.peak import CURVE_PEAK, locate_peak
from napari_dff.model.recipe import Prefer
from napari_dff.runtime.jit import inline_kernel, kernel

HIGHEST_PEAK, FIRST_PEAK, LAST_PEAK = 0, 1, -1  # the last two are also directions of search
PREFERENCES: dict[Prefer, int] = {"sharpest": HIGHEST_PEAK, "first": FIRST_PEAK, "last": LAST_PEAK}
MIN_PEAK_SHARE = 0.05  # of the highest peak: lower ones are not taken as the first or last peak
MIN_OTHER_PEAK = 0.4  # of the chosen peak: lower ones are not considered
MIN_OTHER_SURFACE = 0.2  # the same, for another surface at the pixel
OTHER_SURFACE_PLANES = 8  # least distance of another surface, so that one of them is much blurred
SEPARATING_DIP = 0.7  # of the lower of two peaks
OTHER_PEAK_LN = 0.3  # standard deviation of ln of the ratio of two peaks of the same surface
DIP_FLUCTUATIONS = 3  # depth of the dip that separates two peaks, in fluctuations


@kernel
def find_peaks(focus, positions, model, preference, floor, fluctuation, z_score):  # type: ignore[no-untyped-def]
    """Return plane, position and standard uncertainty of one peak of every curve.

    They are (Y, X) uint16, float32 and float32; the uncertainty is inf where no peak is detected.
    `model` is a value of `PEAK_MODELS`, `preference` is `HIGHEST_PEAK`, `FIRST_PEAK` or
    `LAST_PEAK`.
    """
    _, height, width = focus.shape
    index = np.empty((height, width), np.uint16)
    position, uncertainty = np.empty((2, height, width), np.float32)
    best = np.empty(width, np.int32)
    for y in range(height):
        argmax_in_row(focus, y, best)
        for x in range(width):
            curve, k, noise = focus[:, y, x], int(best[x]), (floor[y, x], fluctuation[y, x])
            threshold = detection_threshold(*noise, z_score)
            if preference != HIGHEST_PEAK:
                k = _find_outermost_peak(curve, k, preference, threshold, fluctuation[y, x])
            index[y, x] = k
            position[y, x], deviation = locate_peak(curve, k, positions, model, *noise)
            uncertainty[y, x] = deviation if curve[k] > threshold else np.inf
    return index, position, uncertainty


@kernel
def peak_width(focus, index):  # type: ignore[no-untyped-def]
    """Return the number of planes around plane `index` that exceed half its value, (Y, X)."""
    count, height, width = focus.shape
    out = np.zeros((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            k = int(index[y, x])
            peak = focus[k, y, x]
            first, last = k, k
            while first > 0 and focus[first - 1, y, x] > peak / 2:
                first -= 1
            while last < count - 1 and focus[last + 1, y, x] > peak / 2:
                last += 1
            out[y, x] = last - first + 1
    return out


# Other peaks of a curve may be the surface. A peak of drop d = ln(F / F_k) below the chosen one has
# the likelihood p = exp(-d² / 2 s²), s = `OTHER_PEAK_LN`, relative to it. A normal distribution at
# the chosen peak with the same second moment has the variance Σ p (z_k - z)² / (1 + Σ p).
#
# The peak of a curve whose maximum is in the first or last plane may lie outside the stack, as far
# as its other side extends inside. The distance to the plane where it falls to half is added.
@kernel
def find_other_peaks(focus, positions, index):  # type: ignore[no-untyped-def]
    """Return the standard deviation due to other peaks than the one at plane `index`, and a plane.

    (Y, X) float32, in the unit of `positions`, and (Y, X) uint16: of the highest peak that may be
    another surface, `index` if there is none. Dips to less than `SEPARATING_DIP` separate the
    peaks. Of a peak in the first or last plane, another one may lie outside the stack.
    """
    count, height, width = focus.shape
    out, other = np.zeros((height, width), np.float32), index.copy()
    for y in range(height):
        for x in range(width):
            chosen = int(index[y, x])
            peak, total, square = focus[chosen, y, x], 0.0, 0.0
            least, highest = np.float32(MIN_OTHER_SURFACE) * peak, np.float32(0)
            if chosen == 0 or chosen == count - 1:
                k, direction = chosen, 1 if chosen == 0 else -1
                while 0 < k + direction < count - 1 and focus[k, y, x] > peak / 2:
                    k += direction
                out[y, x] = abs(positions[k] - positions[chosen])
            for direction in (-1, 1):
                lowest, top, k = peak, np.float32(0), chosen + direction
                while 0 <= k < count:
                    value = focus[k, y, x]
                    lowest = min(lowest, value)
                    following = focus[k + direction, y, x] if 0 <= k + direction < count else 0
                    is_peak = value > least and value >= following
                    if is_peak and lowest < SEPARATING_DIP * value:
                        if value > highest and abs(k - chosen) >= OTHER_SURFACE_PLANES:
                            other[y, x] = k
                            highest = value
                        if value > top and value > MIN_OTHER_PEAK * peak:
                            drop = np.log(peak / value)
                            p = np.exp(-(drop**2) / (2 * OTHER_PEAK_LN**2))
                            total += p
                            square += p * (positions[k] - positions[chosen]) ** 2
                            top = value
                    k += direction
            if total > 0:
                out[y, x] = np.sqrt(out[y, x] ** 2 + square / (1 + total))
    return out, other


@kernel
def locate_other_peaks(focus, positions, model, index, other, floor, fluctuation, z_score):  # type: ignore[no-untyped-def]
    """Return the positions of the peaks at planes `other`, (Y, X) float32.

    NaN where it is not detected, and where `other` is `index`.
    """
    _, height, width = focus.shape
    out = np.full((height, width), np.nan, np.float32)
    for y in range(height):
        for x in range(width):
            k = int(other[y, x])
            noise = floor[y, x], fluctuation[y, x]
            if k != index[y, x] and focus[k, y, x] > detection_threshold(*noise, z_score):
                out[y, x], _ = locate_peak(focus[:, y, x], k, positions, model, *noise)
    return out


@kernel
def peak_uncertainty(focus, positions, index, floor, fluctuation):  # type: ignore[no-untyped-def]
    """Return the standard uncertainty, from noise alone, of a peak at plane `index` (Y, X).

    Where `index` is not a maximum of the curve, it is the distance between planes.
    """
    count, height, width = focus.shape
    out = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            curve = focus[:, y, x]
            top = int(index[y, x])
            low, high = max(top - 1, 0), min(top + 1, count - 1)
            noise = floor[y, x], fluctuation[y, x]
            if curve[top] >= curve[low] and curve[top] >= curve[high]:
                _, out[y, x] = locate_peak(curve, top, positions, CURVE_PEAK, *noise)
            else:
                out[y, x] = abs(positions[high] - positions[low]) / (high - low)
    return out


@inline_kernel
def argmax_in_row(focus, y, planes):  # type: ignore[no-untyped-def]
    """Write the plane of the maximum of each curve in row `y` to (X,) int32 `planes`.

    Plane by plane, since the memory of `focus` is contiguous along X.
    """
    count, _, width = focus.shape
    maximum = np.empty(width, np.float32)
    maximum[:] = focus[0, y]
    planes[:] = 0
    for k in range(1, count):
        row, plane = focus[k, y], np.int32(k)
        for x in range(width):
            if row[x] > maximum[x]:
                planes[x] = plane
                maximum[x] = row[x]


@inline_kernel
def _find_outermost_peak(curve, best, direction, threshold, fluctuation):  # type: ignore[no-untyped-def]
    """Return the plane of the first or last detected peak, by `direction`.

    It must exceed `threshold`, and a dip must separate it from the highest one, at plane `best`.
    """
    count = len(curve)
    k = 0 if direction == FIRST_PEAK else count - 1
    dip = np.exp(-DIP_FLUCTUATIONS * max(fluctuation, MIN_FLUCTUATION))
    while k != best:
        neighbour = max(curve[max(k - 1, 0)], curve[min(k + 1, count - 1)])
        is_high = curve[k] > threshold and curve[k] > MIN_PEAK_SHARE * curve[best]
        is_peak = is_high and curve[k] >= neighbour
        if is_peak and curve[min(k, best) : max(k, best) + 1].min() < dip * curve[k]:
            return k
        k += direction
    return best


@kernel
def find_strongest_peaks(focus, positions, floor, fluctuation, z_score, max_count):  # type: ignore[no-untyped-def]
    """Return positions and strengths of the highest detected peaks of every curve.

    Both are (max_count, Y, X) float32, the strongest peak first. Strength is the peak over the
    floor. Where there are fewer peaks, the position is NaN and the strength 0.
    """
    count, height, width = focus.shape
    depth = np.full((max_count, height, width), np.nan, np.float32)
    strength = np.zeros((max_count, height, width), np.float32)
    for y in range(height):
        for x in range(width):
            curve, level, spread = focus[:, y, x], floor[y, x], fluctuation[y, x]
            threshold = detection_threshold(level, spread, z_score)
            for k in range(count):
                previous = curve[k - 1] if k > 0 else np.float32(-1)
                following = curve[k + 1] if k < count - 1 else np.float32(-1)
                if curve[k] <= threshold or curve[k] < previous or curve[k] <= following:
                    continue
                ratio = curve[k] / level
                rank = max_count
                while rank > 0 and ratio > strength[rank - 1, y, x]:
                    rank -= 1
                if rank == max_count:
                    continue
                for j in range(max_count - 1, rank, -1):
                    strength[j, y, x] = strength[j - 1, y, x]
                    depth[j, y, x] = depth[j - 1, y, x]
                strength[rank, y, x] = ratio
                depth[rank, y, x], _ = locate_peak(curve, k, positions, CURVE_PEAK, level, spread)
    return depth, strength
