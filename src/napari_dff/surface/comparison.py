"""Difference of two height maps after registration in z, tilt, y and x."""

from typing import NamedTuple

import numpy as np

from napari_dff.model.stack import validate_pixel_size
from napari_dff.surface.filters import MIN_INDEX_PX, SIGMA_OF_INDEX, scale_limited_surface
from napari_dff.surface.levelling import level
from napari_dff.surface.quantity import Quantity, symbols
from napari_dff.surface.region import CORRELATED_PIXELS, known_pixels

MAX_SEARCH_PX = 256  # longer sides are reduced for the first search of the shift
MIN_OVERLAP = 0.3  # of the smaller map, in the first search
ITERATIONS = 20
MIN_COVERAGE = 0.98  # weight of known pixels in a smoothed height
CONVERGED_PX, CONVERGED_SHARE = 1e-3, 0.1  # in pixels, and of the uncertainty of the shift
MIN_PIXELS = 25
MIN_LENGTH_PX = 16
SMOOTHING_PX = 1.5  # standard deviation of the Gaussian before the registration
MIN_SLOPE = 1e-5  # per pixel, as a part of the height
MIN_TEXTURE = 1e-6  # as a part of the largest height, of float32
MAX_CONDITION = 1e10  # of the scaled normal matrix
MIN_WEIGHT = 0.999  # of known pixels in an interpolated height
NO_TEXTURE = "heights have no texture that determines the shift in y and x: give lateral=False"
TOO_FEW = (
    "heights and reference must overlap where both are known, with few gaps for a registration in "
    f"y and x, got fewer than {MIN_PIXELS} such pixels: fill the gaps, or give lateral=False"
)


class Comparison(NamedTuple):
    """Difference of two height maps.

    Attributes
    ----------
    difference : (Y, X) float32
        Heights minus reference after registration, on the pixels of the reference; NaN where one of
        them is unknown.
    uncertainty : (Y, X) float32 or None
        Standard uncertainty of `difference`; None without uncertainties.
    quantities : tuple of Quantity
    """

    difference: np.ndarray
    uncertainty: np.ndarray | None
    quantities: tuple[Quantity, ...]


class ComparisonError(ValueError):
    """Height maps that cannot be registered."""


def compare(
    heights: np.ndarray,  # (Y, X)
    reference: np.ndarray,  # (Y', X')
    pixel_size: tuple[float, float],
    unit: str = "micrometer",
    *,
    reference_pixel_size: tuple[float, float] | None = None,
    uncertainty: np.ndarray | None = None,  # (Y, X)
    reference_uncertainty: np.ndarray | None = None,  # (Y', X')
    lateral: bool = True,
) -> Comparison:
    """Register a height map to a reference and subtract the reference.

    Offset in z, tilt and the shift in y and x minimize the mean square of the difference. The first
    shift is that of the largest masked correlation of both maps without their tilt. Rotation about
    z and scale are not registered.

    Parameters
    ----------
    heights, reference : float arrays
        In `unit`; NaN where unknown.
    pixel_size : (float, float)
        Height and width of a pixel of `heights`, in `unit`.
    unit : str
        Unit of length, a napari name.
    reference_pixel_size : (float, float), optional
        That of `reference`; `pixel_size` when None. Heights are interpolated at its pixels.
    uncertainty, reference_uncertainty : float arrays, optional
        Standard uncertainties in `unit`; pixels with inf are unknown.
    lateral : bool
        Register y and x, too. Not needed for one field of view; not possible without texture.

    Returns
    -------
    Comparison
        Its quantities: "shift y" and "shift x" of `heights`, with standard uncertainties for errors
        that are correlated over 5 × 5 pixels; "offset" and "tilt" that were removed; "Sq" of the
        difference; "overlap" with the reference in %; with uncertainties "expected Sq" and the
        share of pixels "within 2 σ".

    Raises
    ------
    ComparisonError
        A ValueError, if the maps do not overlap or have no texture to register them.
    ValueError
        For an invalid argument, or if no height is known.
    """
    size = np.array(validate_pixel_size(pixel_size))
    step = np.array(validate_pixel_size(reference_pixel_size or pixel_size))
    mask = known_pixels(heights, None, uncertainty)
    target = np.where(
        known_pixels(reference, None, reference_uncertainty, "reference"), reference, np.nan
    )
    sampled = _Interpolation(np.where(mask, heights, np.nan), step / size, reference.shape)
    fit = _Fit(np.zeros(2))
    if lateral:
        fit = _register(np.where(mask, heights, np.nan), step / size, target)
    fit = fit._replace(plane=_refine(sampled, target, fit.shift, lateral=False).plane)
    difference, deviation = sampled.at(fit.shift) - fit.plane - target, None
    quantities = _quantities(difference, target, fit, step, unit)
    if uncertainty is not None or reference_uncertainty is not None:
        squares = (
            np.zeros(reference.shape)
            if reference_uncertainty is None
            else (np.where(np.isfinite(target), reference_uncertainty, np.nan) ** 2)
        )
        if uncertainty is not None:
            own = _Interpolation(np.where(mask, uncertainty, np.nan), step / size, reference.shape)
            squares = squares + own.at(fit.shift) ** 2
        deviation = np.sqrt(squares).astype(np.float32)
        quantities += _agreement(difference, deviation, unit)
    return Comparison(difference.astype(np.float32), deviation, tuple(quantities))


def _quantities(
    difference: np.ndarray, target: np.ndarray, fit: "_Fit", step: np.ndarray, unit: str
) -> list[Quantity]:
    overlap, names = np.isfinite(difference), symbols(unit)
    count, sq = np.count_nonzero(overlap), float(np.sqrt(np.nanmean(difference**2)))
    independent = max(count / CORRELATED_PIXELS, 1)
    quantities = [
        Quantity(f"shift {axis}", float(distance), names["length"], float(error), "of the heights")
        for axis, distance, error in zip("yx", fit.shift * step, fit.deviation * step, strict=True)
    ]
    offset, share = float(fit.plane[overlap].mean()), 100 * count / np.isfinite(target).sum()
    quantities += [
        Quantity("offset", offset, names["height"], None, "removed"),
        Quantity("Sq", sq, names["height"], sq / (2 * independent) ** 0.5, "of the difference"),
        Quantity("overlap", float(share), "%", None, "of the known pixels of the reference"),
    ]
    if unit != "pixel":
        slopes = [
            np.diff(fit.plane[:2, :2], axis=axis)[0, 0] / step[axis] if n > 1 else 0.0
            for axis, n in enumerate(fit.plane.shape)
        ]
        tilt = float(np.degrees(np.arctan(np.hypot(slopes[0], slopes[1]))))
        quantities.append(Quantity("tilt", tilt, "°", None, "removed"))
    return quantities


def _agreement(difference: np.ndarray, deviation: np.ndarray, unit: str) -> list[Quantity]:
    overlap = np.isfinite(difference)
    values, errors, high = difference[overlap], deviation[overlap], symbols(unit)["height"]
    expected, share = float(np.sqrt(np.mean(errors**2))), np.mean(np.abs(values) <= 2 * errors)
    return [
        Quantity("expected Sq", expected, high, None, "of the difference, from the uncertainties"),
        Quantity("within 2 σ", 100 * float(share), "%", None, "95 for normally distributed errors"),
    ]


class _Interpolation:
    """Cubic interpolation of a map with unknown pixels at the pixels of another map."""

    def __init__(self, values: np.ndarray, ratio: np.ndarray, shape: tuple[int, ...]) -> None:
        from scipy.ndimage import distance_transform_edt, spline_filter

        self._mask, self._ratio, self._shape = np.isfinite(values), ratio, shape
        nearest = distance_transform_edt(~self._mask, return_distances=False, return_indices=True)
        self._coefficients = spline_filter(values[tuple(nearest)].astype(np.float64))
        self._weights = self._mask.astype(np.float64)

    def at(self, shift: np.ndarray) -> np.ndarray:
        """Return the values at the pixels plus `shift`, in pixels of the other map; NaN outside."""
        from scipy.ndimage import affine_transform

        matrix = np.diag(self._ratio)  # older SciPy warns of a vector
        place = {"matrix": matrix, "offset": shift * self._ratio, "output_shape": self._shape}
        values = affine_transform(
            self._coefficients, **place, order=3, prefilter=False, mode="mirror"
        )
        weights = affine_transform(self._weights, **place, order=1, mode="constant")
        return np.where(weights >= MIN_WEIGHT, values, np.nan)


# Both maps are smoothed for the registration: the gradient of white noise would slow it down, and
# interpolation between pixels, which lowers the noise, would attract it. Large maps are registered
# as reduced maps first.
def _register(heights: np.ndarray, ratio: np.ndarray, target: np.ndarray) -> "_Fit":
    """Return the shift of heights, in pixels of the target, and its uncertainty."""
    if max(target.shape) < MIN_LENGTH_PX:
        size = f"{target.shape[0]} × {target.shape[1]}"
        raise ComparisonError(f"reference must have {MIN_LENGTH_PX} rows or columns, got {size}")
    heights, target = _texture(heights), _texture(target)
    step, fit = max(1, round(max(target.shape) / MAX_SEARCH_PX)), None
    for sigma in [step, SMOOTHING_PX] if step > SMOOTHING_PX else [SMOOTHING_PX]:
        index = max(sigma / SIGMA_OF_INDEX, MIN_INDEX_PX * max(1 / ratio))
        sampled = _Interpolation(_smooth(heights, 1 / ratio, index), ratio, target.shape)
        smooth_target = _smooth(target, np.ones(2), index)
        if fit is None:
            fit = _Fit(_search(sampled.at(np.zeros(2)), smooth_target, step))
        fit = _refine(sampled, smooth_target, fit.shift, lateral=True)
    assert fit is not None
    return fit


def _texture(values: np.ndarray) -> np.ndarray:
    """Return a map without its tilt; ComparisonError if nothing is left."""
    if np.count_nonzero(np.isfinite(values)) < MIN_PIXELS:
        raise ComparisonError(TOO_FEW)
    texture = level(values).heights
    if np.nanstd(texture) <= MIN_TEXTURE * np.nanmax(np.abs(values)):
        raise ComparisonError(NO_TEXTURE)
    return texture


def _smooth(values: np.ndarray, size: np.ndarray, index: float) -> np.ndarray:
    """Return an S-filtered map, unknown where too much of the weight is that of unknown pixels."""
    from scipy.ndimage import gaussian_filter

    result = scale_limited_surface(values, (size[0], size[1]), s_filter=index)
    mask = np.isfinite(values).astype(np.float64)
    coverage = gaussian_filter(mask, SIGMA_OF_INDEX * index / size, mode="constant")
    result = np.where(coverage >= MIN_COVERAGE, result, np.nan)
    if np.count_nonzero(np.isfinite(result)) < MIN_PIXELS:
        raise ComparisonError(TOO_FEW)
    return result


def _search(values: np.ndarray, target: np.ndarray, step: int) -> np.ndarray:
    """Return the shift of maps of which each `step`-th row and column is used."""
    from skimage.registration import phase_cross_correlation as correlate

    maps = []
    for each in (target, values):
        if np.count_nonzero(np.isfinite(each[::step, ::step])) < MIN_PIXELS:
            raise ComparisonError(TOO_FEW)
        maps.append(each[::step, ::step])
    masks = [np.isfinite(each) for each in maps]
    pair = [np.where(mask, each, 0) for mask, each in zip(masks, maps, strict=True)]
    shift, _, _ = correlate(  # type: ignore[no-untyped-call]
        *pair, reference_mask=masks[0], moving_mask=masks[1], overlap_ratio=MIN_OVERLAP
    )
    return -np.asarray(shift, np.float64) * step


class _Fit(NamedTuple):
    shift: np.ndarray  # (2,) of the heights, in pixels of the reference
    deviation: np.ndarray = np.zeros(2)  # its standard uncertainty, in pixels
    plane: np.ndarray = np.zeros(())  # (Y, X) that the heights lie above the reference


# Gauss-Newton: with the gradient g of the shifted heights h(x + s), a step ds and a plane p solve
# h + g · ds - p = reference in the least-squares sense.
def _refine(
    sampled: _Interpolation, target: np.ndarray, shift: np.ndarray, *, lateral: bool
) -> _Fit:
    y, x = np.indices(target.shape) / max(target.shape)
    mask = np.isfinite(target)  # smaller in each iteration, so that pixels do not come and go
    for _ in range(ITERATIONS):
        values = sampled.at(shift)
        slopes = list(np.gradient(values)) if lateral else []
        terms = [np.ones(target.shape), y, x, *(-slope for slope in slopes)]
        mask = mask & np.isfinite(sum(slopes, values - target))
        if np.count_nonzero(mask) < MIN_PIXELS:
            raise ComparisonError(TOO_FEW)
        matrix = np.stack([term[mask] for term in terms])
        normal, right = matrix @ matrix.T, matrix @ (values - target)[mask]
        scale = np.sqrt(np.diag(normal))
        flat = scale[3:] <= MIN_SLOPE * np.linalg.norm(target[mask] - target[mask].mean())
        if flat.any() or np.linalg.cond(normal / np.outer(scale, scale)) > MAX_CONDITION:
            raise ComparisonError(NO_TEXTURE)
        solution = np.linalg.solve(normal, right)
        residual = (values - target)[mask] - solution @ matrix
        inverse = np.diag(np.linalg.inv(normal))[3:]
        deviation: np.ndarray = np.sqrt(CORRELATED_PIXELS * np.mean(residual**2) * inverse)
        shift = shift + solution[3:] if lateral else shift
        if (np.abs(solution[3:]) <= CONVERGED_PX + CONVERGED_SHARE * deviation).all():
            return _Fit(shift, deviation, solution[0] + solution[1] * y + solution[2] * x)
    place = ", ".join(f"{each:.3g}" for each in shift)
    raise ComparisonError(f"the shift in y and x did not converge, last at {place} pixels")
