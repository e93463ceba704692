"""The peak of a focus curve: where it is and how well it is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from napari_dff.compiled import inline_kernel, kernel
from napari_dff.curve.noise import Noise

PEAK_MODELS = {"argmax": 0, "parabola": 1, "gaussian": 2, "lorentzian": 3, "curve": 4}
CURVE_PEAK = PEAK_MODELS["curve"]
SHOULDER = 0.3  # of a peak: planes above this take part in a fit of the whole curve
HOLDS = 0.1  # of ln(measure), how far a squared Lorentzian describes a curve without noise


def find_peaks(
    focus: np.ndarray,  # (Z, Y, X) float32
    positions: np.ndarray,  # (Z,) float64
    kind: int,
    prefer: int,
    noise: Noise,
    threshold: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plane, position and its standard deviation (inf: never in focus) of each pixel's peak.

    `kind` is a value of `PEAK_MODELS`; `prefer` is 0 for the highest peak, 1 for the first and -1
    for the last; a peak counts if it stands `threshold` fluctuations above the floor.
    """
    found: tuple[np.ndarray, np.ndarray, np.ndarray] = _peaks(
        focus, positions, kind, prefer, noise.floor, noise.fluctuation, threshold
    )
    return found


def peak_uncertainty(
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


def evaluate_fitted_peak(
    curve: np.ndarray,  # (Z,)
    positions: np.ndarray,  # (Z,)
    k: int,
    at: float,
    kind: int,
    where: np.ndarray,  # (N,)
) -> np.ndarray:  # (N,)
    """The peak of `kind` with its vertex at `at`, for a look: its values at the positions `where`.

    It goes through the planes that the fit was made from. NaN where the model has none, and
    everywhere for "argmax" and for a peak in the first or last plane, which aren't fitted.
    """
    if kind == PEAK_MODELS["argmax"] or not 0 < k < len(curve) - 1:
        return np.full(len(where), np.nan)
    first, last = k - 1, k + 1
    if kind == CURVE_PEAK:
        while first > 0 and SHOULDER * curve[k] < curve[first - 1] <= curve[first]:
            first -= 1
        while last < len(curve) - 1 and SHOULDER * curve[k] < curve[last + 1] <= curve[last]:
            last += 1
    values = np.maximum(curve[first : last + 1].astype(np.float64) / curve[k], 1e-12)
    models: dict[int, tuple[Callable[..., np.ndarray], Callable[..., np.ndarray], np.ndarray]] = {
        PEAK_MODELS["parabola"]: (np.asarray, np.asarray, np.ones_like(values)),
        PEAK_MODELS["gaussian"]: (np.log, np.exp, values),
    }
    squared_lorentzian = (
        lambda v: v**-0.5,
        lambda t: np.where(t > 0, t, np.nan) ** -2,
        values**1.5,
    )
    straight, back, weight = models.get(kind, squared_lorentzian)
    away = (positions[first : last + 1] - at) ** 2
    terms = np.column_stack([np.ones_like(away), away]) * weight[:, None]
    height, bend = np.linalg.lstsq(terms, straight(values) * weight, rcond=None)[0]
    return curve[k] * back(height + bend * (where - at) ** 2)


@kernel
def _deviations(focus, positions, index, floor, fluctuation):  # type: ignore[no-untyped-def]
    count, height, width = focus.shape
    out = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            curve = focus[:, y, x]
            top = int(index[y, x])
            low, high = max(top - 1, 0), min(top + 1, count - 1)
            if curve[top] >= curve[low] and curve[top] >= curve[high]:
                _, out[y, x] = locate_peak(
                    curve, top, positions, CURVE_PEAK, floor[y, x], fluctuation[y, x]
                )
            else:
                out[y, x] = abs(positions[high] - positions[low]) / (high - low)
    return out


@inline_kernel
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


@inline_kernel
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
    by_peak, spread = 1 / curve[k], fluctuation * fluctuation
    scale = abs(positions[last] - positions[first]) / 2
    by_scale = 1 / scale
    # Moments of u: of the weights (s), of the weighted values (r), of the noise (n).
    s0 = s1 = s2 = s3 = s4 = r0 = r1 = r2 = n0 = n1 = n2 = n3 = n4 = 0.0
    for j in range(first, last + 1):
        value = max(curve[j] * by_peak, 1e-12)
        share = min(floor / curve[j], 1.0)  # of the noise
        relative = spread * (2 - share) * share
        u = (positions[j] - positions[k]) * by_scale
        trust = 1 / (relative + HOLDS**2)
        weight = 4 * value * trust
        s0, s1, s2, s3, s4 = _add_moments(s0, s1, s2, s3, s4, weight, u)
        n0, n1, n2, n3, n4 = _add_moments(n0, n1, n2, n3, n4, weight * trust * relative, u)
        goal = 4 * np.sqrt(value) * trust
        r0, r1, r2 = r0 + goal, r1 + goal * u, r2 + goal * u * u
    ridge = 1e-9 * (s0 + s2 + s4)
    s0, s2_, s4 = s0 + ridge, s2 + ridge, s4 + ridge  # the diagonal: s2 stands off it as well
    # Rows of the inverse of [[s0, s1, s2], [s1, s2_, s3], [s2, s3, s4]] for tilt and bend.
    a0, a1, a2 = s2 * s3 - s1 * s4, s0 * s4 - s2 * s2, s1 * s2 - s0 * s3
    b0, b1, b2 = s1 * s3 - s2 * s2_, s1 * s2 - s0 * s3, s0 * s2_ - s1 * s1
    determinant = s2 * b0 + s3 * b1 + s4 * b2
    tilt = (a0 * r0 + a1 * r1 + a2 * r2) / determinant
    bend = (b0 * r0 + b1 * r1 + b2 * r2) / determinant
    half = abs(positions[k + 1] - positions[k - 1]) / 2
    if not bend > 0:
        return positions[k], half
    # The vertex moves by c · (error of the values), c = -a / 2 bend + tilt b / 2 bend²: noise alone
    # counts, the model's error is no noise.
    by_tilt, by_bend = -1 / (2 * bend * determinant), tilt / (2 * bend * bend * determinant)
    c0, c1 = by_tilt * a0 + by_bend * b0, by_tilt * a1 + by_bend * b1
    c2 = by_tilt * a2 + by_bend * b2
    variance = c0 * c0 * n0 + 2 * c0 * c1 * n1 + (c1 * c1 + 2 * c0 * c2) * n2
    variance += 2 * c1 * c2 * n3 + c2 * c2 * n4
    low = min(positions[k - 1], positions[k + 1])
    high = max(positions[k - 1], positions[k + 1])
    at = min(max(positions[k] - tilt / (2 * bend) * scale, low), high)
    return at, min(scale * np.sqrt(max(variance, 0.0)), half)


@inline_kernel
def _add_moments(m0, m1, m2, m3, m4, weight, u):  # type: ignore[no-untyped-def]
    """Add `weight` times u to the powers 0 to 4."""
    v = weight * u
    w = v * u
    return m0 + weight, m1 + v, m2 + w, m3 + w * u, m4 + w * u * u


@inline_kernel
def locate_peak(curve, k, positions, kind, floor, fluctuation):  # type: ignore[no-untyped-def]
    """Position of the peak of `curve` at its local maximum `k`, and its standard deviation.

    `kind` is a value of `PEAK_MODELS`. A maximum in the first or last plane is not interpolated.
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
        above = max(value / floor, 1.0)
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


@kernel
def _peaks(focus, positions, kind, prefer, floor, fluctuation, threshold):  # type: ignore[no-untyped-def]
    _, height, width = focus.shape
    index = np.empty((height, width), np.uint16)
    depth = np.empty((height, width), np.float32)
    uncertainty = np.empty((height, width), np.float32)
    where = np.empty(width, np.int32)
    for y in range(height):
        argmax_in_row(focus, y, where)
        for x in range(width):
            curve, top = focus[:, y, x], int(where[x])
            enough = floor[y, x] * np.exp(threshold * max(fluctuation[y, x], 0.02))
            if prefer != 0:
                top = _outermost(curve, top, prefer, enough, fluctuation[y, x])
            at, deviation = locate_peak(curve, top, positions, kind, floor[y, x], fluctuation[y, x])
            index[y, x] = top
            depth[y, x] = at
            uncertainty[y, x] = deviation if curve[top] > enough else np.inf
    return index, depth, uncertainty


@inline_kernel
def argmax_in_row(focus, y, where):  # type: ignore[no-untyped-def]
    """Write the plane in which each pixel of row `y` is sharpest to (X,) int32 `where`."""
    count, _, width = focus.shape
    highest = np.empty(width, np.float32)
    highest[:] = focus[0, y]
    where[:] = 0
    for k in range(1, count):
        row, plane = focus[k, y], np.int32(k)
        for x in range(width):
            if row[x] > highest[x]:
                where[x] = plane
                highest[x] = row[x]


@inline_kernel
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


@kernel
def find_strongest_peaks(focus, positions, floor, fluctuation, threshold, wanted):  # type: ignore[no-untyped-def]
    """Positions and strengths of the `wanted` highest significant peaks of every pixel."""
    count, height, width = focus.shape
    depth = np.full((wanted, height, width), np.nan, np.float32)
    strength = np.zeros((wanted, height, width), np.float32)
    for y in range(height):
        for x in range(width):
            curve = focus[:, y, x]
            level = floor[y, x]
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
                depth[place, y, x], _ = locate_peak(
                    curve, k, positions, CURVE_PEAK, floor[y, x], fluctuation[y, x]
                )
    return depth, strength
