"""One peak of a focus curve: models, position and standard uncertainty."""

from __future__ import annotations

import numpy as np

from napari_dff.model.recipe import Peak
from napari_dff.runtime.jit import inline_kernel

ARGMAX_PEAK, PARABOLA_PEAK, GAUSSIAN_PEAK, LORENTZIAN_PEAK, CURVE_PEAK = range(5)
_NAMES: tuple[Peak, ...] = ("argmax", "parabola", "gaussian", "lorentzian", "curve")
PEAK_MODELS: dict[Peak, int] = {name: model for model, name in enumerate(_NAMES)}
# Each model is a parabola of F^power; of ln F for power 0.
POWERS: dict[Peak, float] = {"parabola": 1, "gaussian": 0, "lorentzian": -0.5, "curve": -0.5}
SHOULDER = 0.3  # of a peak's value: a fit of the peak takes the planes above this
LORENTZIAN_ERROR = 0.1  # of ln(measure): deviation of a noise-free curve from a squared Lorentzian
TINY = 1e-30

# Peak models
# -----------
# Each model is a parabola t(z) = c₀ + c₁ z + c₂ z² of a transformed measure, with its vertex at
# z₀ = -c₁ / 2 c₂: t is F (parabola), ln F (gaussian) or -F^(-1/2) (lorentzian) through three planes
# (`_parabola_vertex`), or F^(-1/2) fitted to all planes of the peak (curve, `_fit_peak`). The
# uncertainty follows to first order from the noise of t, which is equation (1) of `curve.noise`
# times |dt / d ln F|. It is limited to half the distance between the neighbouring planes.
# Derived in docs/methods.md, "Position and uncertainty of a peak".


def evaluate_fitted_peak(
    curve: np.ndarray, positions: np.ndarray, k: int, vertex: float, peak: Peak, where: np.ndarray
) -> np.ndarray:
    """Return the model of the peak in plane `k`, at the positions `where`, for display.

    Its height and width are fitted to the planes that determined `vertex`. NaN where it has no
    value, for "argmax", and for a peak in the first or last plane.
    """
    if peak == "argmax" or not 0 < k < len(curve) - 1:
        return np.full(len(where), np.nan)
    first, last = _peak_extent(curve, k) if peak == "curve" else (k - 1, k + 1)
    values = np.maximum(curve[first : last + 1].astype(np.float64) / curve[k], 1e-12)
    power = POWERS[peak]
    t, weight = values**power if power else np.log(values), values ** (1 - power)
    squared_distance = (positions[first : last + 1] - vertex) ** 2
    bend, height = np.polyfit(squared_distance, t, 1, w=weight)  # errors of t count as those of F
    fit = height + bend * (where - vertex) ** 2
    if power < 0:
        fit = np.where(fit > 0, fit, np.nan)
    return curve[k] * (fit ** (1 / power) if power else np.exp(fit))


@inline_kernel
def _parabola_vertex(x0, x1, x2, y0, y1, y2, e0, e1, e2):  # type: ignore[no-untyped-def]
    """Return the vertex of the parabola through three points, and its standard deviation.

    `e` are the standard deviations of `y`, and y1 is the largest `y`. The slopes `rise` and `fall`
    are those of the parabola half way between the points, so that its slope is 0 at
    (x0 + x1) / 2 + rise / (rise - fall) · (x2 - x0) / 2.
    """
    rise, fall = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    bend = rise - fall
    start, half = (x0 + x1) / 2, (x2 - x0) / 2
    if bend * half <= 0:  # three equal values
        return x1, abs(half)
    by_rise, by_fall = -half * fall / bend**2, half * rise / bend**2
    d0 = -by_rise / (x1 - x0)
    d1 = by_rise / (x1 - x0) - by_fall / (x2 - x1)
    d2 = by_fall / (x2 - x1)
    return start + half * rise / bend, np.sqrt((d0 * e0) ** 2 + (d1 * e1) ** 2 + (d2 * e2) ** 2)


@inline_kernel
def _peak_extent(curve, k):  # type: ignore[no-untyped-def]
    """Return the first and last plane of the peak at `k`: it falls to them, above `SHOULDER`."""
    first, last = k - 1, k + 1
    while first > 0 and SHOULDER * curve[k] < curve[first - 1] <= curve[first]:
        first -= 1
    while last < len(curve) - 1 and SHOULDER * curve[k] < curve[last + 1] <= curve[last]:
        last += 1
    return first, last


# Weighted least squares of all planes of a peak
# ----------------------------------------------
# Of v = F / F_k and u = (z - z_k) / scale, t = v^(-1/2) = c₀ + c₁ u + c₂ u² is fitted with weights
#     w = 4 v / (ρ² + h²),    ρ² = Var ln F = f² (2 - s) s,    s = F₀ / F.
# With the moments S_n = Σ w uⁿ and R_n = Σ w t uⁿ, Cramer's rule yields c₁ = a · R / det and
# c₂ = b · R / det, with the rows a, b of the adjugate of [S₀ S₁ S₂; S₁ S₂ S₃; S₂ S₃ S₄]. The vertex
# has the variance Σ_ij g_i g_j N_(i+j) with N_n = Σ w² uⁿ ρ² / 4 v and
# g = (-a / 2 c₂ + c₁ b / 2 c₂²) / det. Derived in docs/methods.md.
# Cost: 13 sums over the planes of one peak, no array is allocated.


@inline_kernel
def _fit_peak(curve, k, positions, floor, fluctuation):  # type: ignore[no-untyped-def]
    """Return the vertex of a squared Lorentzian fitted to all planes of a peak, and its error."""
    first, last = _peak_extent(curve, k)
    by_peak, fluctuation_squared = 1 / curve[k], fluctuation * fluctuation
    scale = abs(positions[last] - positions[first]) / 2
    by_scale = 1 / scale
    s0 = s1 = s2 = s3 = s4 = r0 = r1 = r2 = n0 = n1 = n2 = n3 = n4 = 0.0
    for j in range(first, last + 1):
        value = max(curve[j] * by_peak, 1e-12)
        noise_share = min(floor / curve[j], 1.0)
        variance = fluctuation_squared * (2 - noise_share) * noise_share
        u = (positions[j] - positions[k]) * by_scale
        precision = 1 / (variance + LORENTZIAN_ERROR**2)
        weight = 4 * value * precision
        s0, s1, s2, s3, s4 = _add_moments(s0, s1, s2, s3, s4, weight, u)
        n0, n1, n2, n3, n4 = _add_moments(n0, n1, n2, n3, n4, weight * precision * variance, u)
        weighted_t = 4 * np.sqrt(value) * precision
        r0, r1, r2 = r0 + weighted_t, r1 + weighted_t * u, r2 + weighted_t * u * u
    ridge = 1e-9 * (s0 + s2 + s4)
    s0, s2_, s4 = s0 + ridge, s2 + ridge, s4 + ridge  # s2_: the S₂ on the diagonal
    a0, a1, a2 = s2 * s3 - s1 * s4, s0 * s4 - s2 * s2, s1 * s2 - s0 * s3
    b0, b1, b2 = s1 * s3 - s2 * s2_, s1 * s2 - s0 * s3, s0 * s2_ - s1 * s1
    determinant = s2 * b0 + s3 * b1 + s4 * b2
    tilt = (a0 * r0 + a1 * r1 + a2 * r2) / determinant
    bend = (b0 * r0 + b1 * r1 + b2 * r2) / determinant
    half = abs(positions[k + 1] - positions[k - 1]) / 2
    if not bend > 0:
        return positions[k], half
    by_tilt, by_bend = -1 / (2 * bend * determinant), tilt / (2 * bend * bend * determinant)
    g0, g1 = by_tilt * a0 + by_bend * b0, by_tilt * a1 + by_bend * b1
    g2 = by_tilt * a2 + by_bend * b2
    variance = g0 * g0 * n0 + 2 * g0 * g1 * n1 + (g1 * g1 + 2 * g0 * g2) * n2
    variance += 2 * g1 * g2 * n3 + g2 * g2 * n4
    low = min(positions[k - 1], positions[k + 1])
    high = max(positions[k - 1], positions[k + 1])
    vertex = min(max(positions[k] - tilt / (2 * bend) * scale, low), high)
    return vertex, min(scale * np.sqrt(max(variance, 0.0)), half)


@inline_kernel
def _add_moments(m0, m1, m2, m3, m4, weight, u):  # type: ignore[no-untyped-def]
    """Add `weight` times u⁰ … u⁴ to the moments."""
    v = weight * u
    w = v * u
    return m0 + weight, m1 + v, m2 + w, m3 + w * u, m4 + w * u * u


@inline_kernel
def locate_peak(curve, k, positions, model, floor, fluctuation):  # type: ignore[no-untyped-def]
    """Return position and standard uncertainty of the peak at the local maximum `k` of a curve.

    (Z,) float32 `curve`, (Z,) float64 `positions`; `model` is a value of `PEAK_MODELS`. A peak in
    the first or last plane is not interpolated.
    """
    count = len(curve)
    if k == 0 or k == count - 1:
        return positions[k], abs(positions[min(k + 1, count - 1)] - positions[max(k - 1, 0)])
    if model == ARGMAX_PEAK:  # rounding to a plane: uniformly distributed error
        return positions[k], abs(positions[k + 1] - positions[k - 1]) / 2 / np.sqrt(12.0)
    if model == CURVE_PEAK:
        return _fit_peak(curve, k, positions, floor, fluctuation)
    t = np.empty(3)
    error = np.empty(3)
    for j in range(3):
        value = max(curve[k - 1 + j], TINY)
        ratio = max(value / floor, 1.0)
        relative = fluctuation * np.sqrt(2 * ratio - 1) / ratio
        if model == PARABOLA_PEAK:
            t[j], error[j] = value, relative * value
        elif model == GAUSSIAN_PEAK:
            t[j], error[j] = np.log(value), relative
        else:
            t[j] = -1 / np.sqrt(value)
            error[j] = -t[j] * relative / 2
    below, here, above = positions[k - 1], positions[k], positions[k + 1]
    vertex, deviation = _parabola_vertex(
        below, here, above, t[0], t[1], t[2], error[0], error[1], error[2]
    )
    return vertex, min(deviation, abs(above - below) / 2)
