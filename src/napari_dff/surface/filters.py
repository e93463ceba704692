"""Gaussian S- and L-filters of ISO 16610, for height maps and profiles with unknown values."""

from collections.abc import Callable, Sequence

import numpy as np

from napari_dff.model import checks
from napari_dff.model.checks import MAX_MAGNITUDE
from napari_dff.model.stack import validate_pixel_size
from napari_dff.surface.region import known_pixels

# The transmission of the Gaussian, exp(-2 π² σ² / λ²), is 1/2 at the nesting index λ.
SIGMA_OF_INDEX = np.sqrt(np.log(2) / 2) / np.pi
TRUNCATION = 4.0  # of the Gaussian, in σ: 0.75 λ
MIN_INDEX_PX = 2.0
NESTING_INDEX = checks.Range(0.0, MAX_MAGNITUDE, 0.1)


def scale_limited_surface(
    heights: np.ndarray,  # (Y, X)
    pixel_size: tuple[float, float],
    *,
    s_filter: float | None = None,
    l_filter: float | None = None,
) -> np.ndarray:
    """Remove short waves (S-filter) and long waves (L-filter) from a height map.

    Subtract the form first (`level`). Both filters are Gaussians that transmit half of the
    amplitude at their nesting index. Weights of unknown pixels, and beyond the border, are zero,
    and the others are normalized to sum 1 (normalized convolution); so the result differs from that
    of programs that mirror the surface at its border, over about 0.75 of the nesting index.

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
    ISO 16610-61:2015 (areal Gaussian filter); ISO 25178-3:2012 (S-L surface).
    """
    size = validate_pixel_size(pixel_size)
    mask = known_pixels(heights)
    check_indices(size, heights.shape, s_filter, l_filter)
    sl_surface = scale_limit(mask, size, s_filter, l_filter)(heights)
    return np.where(mask, sl_surface, np.nan)


def check_indices(
    size: Sequence[float], shape: tuple[int, ...], s_filter: float | None, l_filter: float | None
) -> None:
    """Raise a ValueError unless the nesting indices suit samples of a size and number."""
    low = MIN_INDEX_PX * max(size)
    high = max(n * step for n, step in zip(shape, size, strict=True))
    for name, index in (("s_filter", s_filter), ("l_filter", l_filter)):
        if index is not None and not low <= NESTING_INDEX.check(name, index) <= high:
            limits = f"from {low:g} (two pixels) to {high:g} (all of them)"
            raise ValueError(f"{name} must be {limits}, got {index:g}")
    if s_filter is not None and l_filter is not None and s_filter >= l_filter:
        raise ValueError(f"s_filter must be below l_filter, {l_filter:g}, got {s_filter:g}")


def scale_limit(
    mask: np.ndarray, size: Sequence[float], s_filter: float | None, l_filter: float | None
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that applies both filters to values, known where `mask` is True.

    It is linear: noise can be filtered apart from the heights. Values of unknown pixels are 0.
    """
    smooth = [None if i is None else _gaussian(mask, size, i) for i in (s_filter, l_filter)]

    def limit(values: np.ndarray) -> np.ndarray:
        # A constant passes the Gaussian unchanged; without it, rounding errors are small.
        middle = np.mean(values, where=mask)
        result = np.where(mask, values - middle, 0.0)
        if smooth[0] is not None:
            result = smooth[0](result)
        if smooth[1] is not None:
            return np.asarray(result - smooth[1](result))
        return np.where(mask, result + middle, 0.0)

    return limit


def support(index: float | None, step: float) -> int:
    """Return the radius of the Gaussian of a nesting index, in samples; 0 for None."""
    return 0 if index is None else int(TRUNCATION * SIGMA_OF_INDEX * index / step + 0.5)


def _gaussian(
    mask: np.ndarray, size: Sequence[float], index: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the Gaussian of a nesting index, normalized over the known pixels."""
    from scipy.signal import oaconvolve  # 0.3 s; its time does not grow with the nesting index

    kernels = []
    for axis, step in enumerate(size):
        offsets = np.arange(-(radius := support(index, step)), radius + 1)
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
    return lambda values: np.where(mask, convolve(values) / coverage, 0.0)
