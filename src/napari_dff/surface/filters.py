"""S- and L-filters of ISO 16610, for height maps and profiles with unknown values."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from napari_dff.model import checks
from napari_dff.model.checks import MAX_MAGNITUDE
from napari_dff.model.stack import validate_pixel_size
from napari_dff.runtime.threads import thread_count
from napari_dff.surface.region import known_pixels

# The transmission of the Gaussian, exp(-2 π² σ² / λ²), is 1/2 at the nesting index λ.
SIGMA_OF_INDEX = np.sqrt(np.log(2) / 2) / np.pi
TRUNCATION = 4.0  # of the Gaussian, in σ: 0.75 λ
SPLINE_SUPPORT = 2.0  # nesting indices, beyond which the spline has weights below 2e-4
TOLERANCE, NOISE_TOLERANCE = 1e-7, 1e-2  # of the last steps of a spline, as a part of the values
MAX_SPLINE_STEPS, SMALL_STEPS = 300, 3  # iterations, and small ones in a row at the end
MIN_INDEX_PX = 2.0
FilterType = Literal["gaussian", "spline"]
Filter = Callable[[np.ndarray, float], np.ndarray]  # of values, 0 if unknown; and tolerance
NESTING_INDEX = checks.Range(0.0, MAX_MAGNITUDE, 0.1)


def scale_limited_surface(
    heights: np.ndarray,  # (Y, X)
    pixel_size: tuple[float, float],
    *,
    s_filter: float | None = None,
    l_filter: float | None = None,
    filter_type: FilterType = "gaussian",
) -> np.ndarray:
    """Remove short waves (S-filter) and long waves (L-filter) from a height map.

    Subtract the form first (`level`). Both filters transmit half of the amplitude at their nesting
    index. Unknown pixels, and those beyond the border, have no weight. The others are normalized to
    sum 1 by the Gaussian (normalized convolution); so its result differs from that of programs that
    mirror the surface at its border, over about 0.75 of the nesting index. The spline minimizes the
    squared differences from the known heights plus α⁴ times the squared second differences, so that
    a plane passes it unchanged up to the border.

    Parameters
    ----------
    heights : (Y, X) float array
        In any unit; NaN where never in focus.
    pixel_size : (float, float)
        Height and width of a pixel.
    s_filter, l_filter : float, optional
        Nesting indices (cut-off wavelengths), in the unit of `pixel_size`: at least 2 pixels, at
        most the longer side of the height map, and `s_filter` below `l_filter`. No filter when
        None.
    filter_type : {"gaussian", "spline"}
        Of both filters.

    Returns
    -------
    (Y, X) float64 array
        Heights about zero if there is an L-filter; NaN where `heights` are.

    Raises
    ------
    ValueError
        For an invalid argument, or if no height is known.

    References
    ----------
    ISO 16610-61:2015 (areal Gaussian filter); ISO 25178-3:2012 (S-L surface). ISO 16610-22:2015
    (spline filter of profiles, here with two axes and without tension).
    """
    size = validate_pixel_size(pixel_size)
    mask = known_pixels(heights)
    check_filters(size, heights.shape, s_filter, l_filter, filter_type)
    sl_surface = scale_limit(mask, size, s_filter, l_filter, filter_type)(heights, TOLERANCE)
    return np.where(mask, sl_surface, np.nan)


def check_filters(
    size: Sequence[float],
    shape: tuple[int, ...],
    s_filter: float | None,
    l_filter: float | None,
    filter_type: FilterType,
) -> None:
    """Raise a ValueError unless type and nesting indices suit samples of a size and number."""
    checks.check_choice("filter_type", filter_type, get_args(FilterType))
    low = MIN_INDEX_PX * max(size)
    high = max(n * step for n, step in zip(shape, size, strict=True))
    for name, index in (("s_filter", s_filter), ("l_filter", l_filter)):
        if index is not None and not low <= NESTING_INDEX.check(name, index) <= high:
            limits = f"from {low:g} (two pixels) to {high:g} (all of them)"
            raise ValueError(f"{name} must be {limits}, got {index:g}")
    if s_filter is not None and l_filter is not None and s_filter >= l_filter:
        raise ValueError(f"s_filter must be below l_filter, {l_filter:g}, got {s_filter:g}")


def scale_limit(
    mask: np.ndarray,
    size: Sequence[float],
    s_filter: float | None,
    l_filter: float | None,
    filter_type: FilterType,
) -> Filter:
    """Return the function that applies both filters to values, known where `mask` is True.

    It is linear: noise can be filtered apart from the heights. Values of unknown pixels are 0. The
    second argument is `TOLERANCE`, or `NOISE_TOLERANCE` for noise.
    """
    create = FILTERS[filter_type]
    smooth = [None if i is None else create(mask, size, i) for i in (s_filter, l_filter)]

    def limit(values: np.ndarray, tolerance: float) -> np.ndarray:
        # A constant passes the filters unchanged; without it, rounding errors are small.
        middle = np.mean(values, where=mask)
        result = np.where(mask, values - middle, 0.0)
        if smooth[0] is not None:
            result = smooth[0](result, tolerance)
        if smooth[1] is not None:
            return np.asarray(result - smooth[1](result, tolerance))
        return np.where(mask, result + middle, 0.0)

    return limit


def support(index: float | None, step: float, filter_type: FilterType) -> int:
    """Return the radius of the filter of a nesting index, in samples; 0 for None."""
    reach = {"gaussian": TRUNCATION * SIGMA_OF_INDEX, "spline": SPLINE_SUPPORT}[filter_type]
    return 0 if index is None else int(reach * index / step + 0.5)


def _gaussian(mask: np.ndarray, size: Sequence[float], index: float) -> Filter:
    """Return the Gaussian of a nesting index, normalized over the known pixels."""
    from scipy.signal import oaconvolve  # 0.3 s; its time does not grow with the nesting index

    kernels = []
    for axis, step in enumerate(size):
        offsets = np.arange(-(radius := support(index, step, "gaussian")), radius + 1)
        weights = np.exp(-((offsets * step / (SIGMA_OF_INDEX * index)) ** 2) / 2)
        shape = [-1 if k == axis else 1 for k in range(mask.ndim)]
        kernels.append((weights / weights.sum()).reshape(shape))

    def convolve(values: np.ndarray) -> np.ndarray:
        for axis, kernel in enumerate(kernels):
            full = oaconvolve(values, kernel, mode="full", axes=axis)
            first = kernel.size // 2
            values = np.take(full, range(first, first + mask.shape[axis]), axis=axis)
        return values

    coverage = np.where(mask, convolve(mask.astype(np.float64)), 1.0)
    return lambda values, tolerance: np.where(mask, convolve(values) / coverage, 0.0)


# The spline w of known values z minimizes
#     Σ m (w - z)² + Σ_ij a_i² a_j² |D_i D_j w|²,  a_i = 1 / (2 sin(π Δ_i / λ)),
# over the axes i and j, where m is 1 at known samples and 0 elsewhere, D_i are differences of
# neighbours and Δ_i is their distance. With one axis, a is the α of ISO 16610-22, and the equations
# are those of its filter with tension β = 0. Of a wave of the frequency f the share
#     1 / (1 + (Σ_i (2 a_i sin(π f_i Δ_i))²)²)
# passes: half at the nesting index λ, whatever its direction, up to the grid. Without unknown
# samples and with mirrored ends, a cosine transform would solve the equations at once; it is the
# preconditioner of conjugate gradients, which need about 20 iterations.
def _spline(mask: np.ndarray, size: Sequence[float], index: float) -> Filter:
    """Return the smoothing spline of a nesting index through the known pixels."""
    from scipy.fft import dctn, idctn

    options: dict[str, Any] = {"norm": "ortho", "workers": thread_count()}
    weights = mask.astype(np.float64)
    squares = [1 / (2 * np.sin(np.pi * step / index)) ** 2 for step in size]
    waves = [
        square * (2 * np.sin(np.pi * np.arange(n) / (2 * n))) ** 2
        for square, n in zip(squares, mask.shape, strict=True)
    ]
    response = 1 / (mask.mean() + sum(np.ix_(*waves)) ** 2)

    def precondition(values: np.ndarray) -> np.ndarray:
        return np.asarray(idctn(response * dctn(values, **options), **options))

    def equations(w: np.ndarray) -> np.ndarray:
        result = weights * w
        for i, j in itertools.combinations_with_replacement(range(w.ndim), 2):
            curvature = np.diff(np.diff(w, axis=i), axis=j)
            curvature *= squares[i] * squares[j] * (1 if i == j else 2)
            result += _adjoint(_adjoint(curvature, j), i)
        return result

    def smooth(values: np.ndarray, tolerance: float) -> np.ndarray:
        target = weights * values
        limit, small_steps = tolerance * float(np.linalg.norm(target)), 0
        w = precondition(target)
        residual = target - equations(w)
        direction = z = precondition(residual)
        product = float(np.vdot(residual, z))
        for _ in range(MAX_SPLINE_STEPS):
            if small_steps == SMALL_STEPS or product <= 0:
                break
            image = equations(direction)
            step = product / float(np.vdot(direction, image))
            w, residual = w + step * direction, residual - step * image
            # Far inside gaps the spline converges late; its values there are not used.
            size_of_step = step * float(np.linalg.norm(weights * direction))
            small_steps = small_steps + 1 if size_of_step <= limit else 0
            z = precondition(residual)
            product, former = float(np.vdot(residual, z)), product
            direction = z + product / former * direction
        return np.where(mask, w, 0.0)

    return smooth


def _adjoint(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the transpose of the differences of neighbours along an axis, times values."""
    first, last = ([slice(None)] * values.ndim for _ in range(2))
    first[axis], last[axis] = slice(None, -1), slice(1, None)
    shape = [n + (k == axis) for k, n in enumerate(values.shape)]
    result = np.zeros(shape)
    result[tuple(last)] = values
    result[tuple(first)] -= values
    return result


FILTERS: dict[FilterType, Callable[[np.ndarray, Sequence[float], float], Filter]] = {
    "gaussian": _gaussian,
    "spline": _spline,
}
