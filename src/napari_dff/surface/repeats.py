"""Measurement noise and flatness from repeated height maps of one field (ISO 25178-700)."""

import itertools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from napari_dff.model.checks import as_list, check_type
from napari_dff.model.stack import validate_pixel_size
from napari_dff.surface.filters import (
    MIN_INDEX_PX,
    SIGMA_OF_INDEX,
    check_filters,
    scale_limited_surface,
)
from napari_dff.surface.levelling import level
from napari_dff.surface.quantity import Quantity, symbols
from napari_dff.surface.region import CORRELATED_PIXELS, known_pixels
from napari_dff.surface.resampling import noise_samples, with_uncertainties

MIN_PIXELS = 25
MAX_SHIFT_PX = 0.5  # a shift is subtracted to first order
MIN_SIGNIFICANCE = 5  # of a shift, in standard uncertainties
SMOOTHING_PX = 1.5  # standard deviation of the Gaussian before the slopes of the mean
MIN_GRADIENT = 1e-9  # of the largest, so that a flat surface determines no shift


class Repeats(NamedTuple):
    """Measurement noise and flatness of repeated height maps.

    Attributes
    ----------
    mean : (Y, X) float32
        Mean of the height maps, less its plane; NaN where one of them is unknown.
    deviation : (Y, X) float32
        Standard deviation of a single height map at each pixel, after its drift is subtracted.
    quantities : tuple of Quantity
    """

    mean: np.ndarray
    deviation: np.ndarray
    quantities: tuple[Quantity, ...]


def repeats(
    heights: Sequence[np.ndarray],  # N of (Y, X)
    pixel_size: tuple[float, float],
    unit: str = "micrometer",
    *,
    uncertainties: Sequence[np.ndarray] = (),  # N of (Y, X)
    s_filter: float | None = None,
) -> Repeats:
    """Compute measurement noise and flatness from repeated height maps of one field.

    Nothing but noise may differ between the maps. What differs from the mean in z, tilt, y and x is
    drift of the stage: it is fitted, subtracted and listed. Shifts in y and x are subtracted to
    first order, without interpolation, which would lower the noise. The noise is the root mean
    square of the remaining deviations, over all pairs: Sq of a difference divided by √2.

    Parameters
    ----------
    heights : sequence of N (Y, X) float arrays
        At least 2, in `unit`; NaN where never in focus. Only pixels that all maps have count.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length, a napari name.
    uncertainties : sequence of N (Y, X) float arrays, optional
        Standard uncertainties in `unit`, to compare with the noise; pixels with inf are unknown.
    s_filter : float, optional
        Nesting index of a Gaussian filter for the flatness, in `unit`, as in
        `scale_limited_surface`; no filter when None.

    Returns
    -------
    Repeats
        Its quantities: "noise" N_M of one map, with a standard uncertainty for noise that is
        correlated over 5 × 5 pixels; "noise of the mean"; with uncertainties "foretold noise", the
        root mean square of them, "noise / foretold", and the share of deviations "within 1 σ";
        "flatness Sz" and "flatness Sq" of the mean map less its plane: the flatness deviation if
        the sample is an optical flat; "drift z", "drift tilt" and "drift y, x", the largest of all
        maps; "used pixels".

    Raises
    ------
    ValueError
        For an invalid argument, or fewer than 25 pixels that all maps have.

    Warns
    -----
    UserWarning
        If two maps are the same, as then one is counted twice; or if a map is shifted by more than
        half a pixel, as then noise is not all that differs.

    References
    ----------
    ISO 25178-700:2022 (measurement noise, flatness deviation); Giusca et al. 2012,
    doi:10.1088/0957-0233/23/3/035008 (subtraction and averaging).
    """
    heights = as_list("heights", heights, "maps of one field")
    uncertainties = as_list("uncertainties", uncertainties, "one map for each of heights, or none")
    size, mask = validate_pixel_size(pixel_size), _common_pixels(heights, uncertainties)
    _warn_of_copies(heights)
    check_filters(size, mask.shape, s_filter, None, "gaussian")
    count = len(heights)
    mean = np.where(mask, sum(np.where(mask, each, 0.0) for each in heights) / count, np.nan)
    terms = _drift_terms(mean, mask)
    solve = np.linalg.pinv(terms.T @ terms, hermitian=True)
    squares, drifts, errors, shares = np.zeros(mask.shape), [], [], []
    for i, each in enumerate(heights):
        difference = (each - mean)[mask]
        drift = solve @ (terms.T @ difference)
        residual = difference - terms @ drift
        squares[mask] += residual**2
        drifts.append(drift)
        errors.append(np.sqrt(CORRELATED_PIXELS * residual.var() * np.diag(solve)))
        if uncertainties:
            limit = uncertainties[i][mask] * np.sqrt(1 - 1 / count)  # the mean contains the map
            shares.append(np.mean(np.abs(residual) <= limit))
    variance = np.where(mask, squares / (count - 1), np.nan)
    mean, deviation = level(mean).heights, np.sqrt(variance)
    quantities = _noise(variance[mask], count, unit)
    if uncertainties:
        squared = np.mean([each[mask].astype(np.float64) ** 2 for each in uncertainties])
        quantities += _foretold(quantities[0], float(squared**0.5), float(np.mean(shares)), unit)
    quantities += _flatness(mean, deviation / np.sqrt(count), size, unit, s_filter)
    quantities += _drift(np.array(drifts), np.array(errors), mask.shape, size, unit)
    share = 100 * float(mask.mean())
    quantities.append(Quantity("used pixels", share, "%", None, "known in all of the maps"))
    return Repeats(mean, deviation.astype(np.float32), tuple(quantities))


def _common_pixels(
    heights: Sequence[np.ndarray], uncertainties: Sequence[np.ndarray]
) -> np.ndarray:
    """Return where all maps are known, (Y, X) bool; ValueError if they do not fit each other."""
    if len(heights) < 2:
        raise ValueError(f"heights must be at least 2 maps of one field, got {len(heights)}")
    if len(uncertainties) not in (0, len(heights)):
        numbers = f"{len(heights)}, or none, got {len(uncertainties)}"
        raise ValueError(f"uncertainties must be one for each map, {numbers}")
    for each in uncertainties:  # None would be a map without uncertainty
        check_type("uncertainties", each, np.ndarray)
    masks = [
        known_pixels(each, None, uncertainties[i] if uncertainties else None)
        for i, each in enumerate(heights)
    ]
    shapes = {mask.shape for mask in masks}
    if len(shapes) > 1:
        raise ValueError(f"heights must be of one shape, got {sorted(shapes)}")
    mask = np.logical_and.reduce(masks)
    if np.count_nonzero(mask) < MIN_PIXELS:
        number = np.count_nonzero(mask)
        raise ValueError(f"heights must have {MIN_PIXELS} pixels known in all maps, got {number}")
    return mask


def _warn_of_copies(heights: Sequence[np.ndarray]) -> None:
    """Warn if two maps are the same: the noise would be too small."""
    for i, k in itertools.combinations(range(len(heights)), 2):
        if np.array_equal(heights[i], heights[k], equal_nan=True):
            warnings.warn(
                f"heights {i + 1} and {k + 1} are the same map, so the noise is too small: give "
                "each stack once",
                stacklevel=3,
            )
            return


def _drift_terms(mean: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return offset, slopes in y and x, and derivatives in y and x of known pixels, (N, 5)."""
    y, x = np.indices(mask.shape) / max(mask.shape)
    slopes = []
    if min(mask.shape) > MIN_INDEX_PX:  # smoothed, since noise of the slopes would lower the shift
        smooth = scale_limited_surface(mean, (1.0, 1.0), s_filter=SMOOTHING_PX / SIGMA_OF_INDEX)
        slopes = [np.nan_to_num(slope) for slope in np.gradient(smooth)]
    terms = np.stack([np.ones(mask.shape), y, x, *slopes], axis=-1)[mask]
    scale, largest = np.sqrt(np.mean(terms**2, axis=0)), np.nanmax(np.abs(mean))
    scale[:3] = np.inf
    return terms * (scale > MIN_GRADIENT * largest)  # of a zero column the solution is 0


def _noise(variance: np.ndarray, count: int, unit: str) -> list[Quantity]:
    """Return the noise of one map and of the mean; `variance` is that of known pixels, (N,)."""
    high, square = symbols(unit)["height"], float(variance.mean())
    error = float(variance.std()) * (CORRELATED_PIXELS / variance.size) ** 0.5
    noise = square**0.5
    of_noise = error / (2 * noise) if noise else 0.0
    meaning = f"N_M of one map, from {count} maps: Sq of a difference / √2"
    return [
        Quantity("noise", noise, high, of_noise, meaning),
        Quantity(
            "noise of the mean",
            noise / count**0.5,
            high,
            of_noise / count**0.5,
            "of all maps averaged",
        ),
    ]


def _foretold(noise: Quantity, foretold: float, share: float, unit: str) -> list[Quantity]:
    high = symbols(unit)["height"]
    ratio = noise.value / foretold if foretold else np.nan
    error = (noise.uncertainty or 0.0) / foretold if foretold else None
    return [
        Quantity("foretold noise", foretold, high, None, "root mean square of the uncertainties"),
        Quantity(
            "noise / foretold", ratio, "", error, "below 1: the rest is error that repeats share"
        ),
        Quantity("within 1 σ", 100 * share, "%", None, "of the deviations; 68 if all is noise"),
    ]


def _flatness(
    mean: np.ndarray,
    deviation: np.ndarray,  # of the mean
    size: tuple[float, float],
    unit: str,
    s_filter: float | None,
) -> list[Quantity]:
    """Return Sz and Sq of the levelled mean map after the S-filter."""
    high, mask = symbols(unit)["height"], np.isfinite(mean)

    def parameters(values: np.ndarray) -> list[float]:
        if s_filter is not None:
            values = scale_limited_surface(values, size, s_filter=s_filter)
        z = values[mask]
        return [float(np.ptp(z)), float(z.std())]

    filtered = "" if s_filter is None else f", S-filter {s_filter:g}"
    meaning = (
        f"of the mean less its plane{filtered}; the deviation if the sample is an optical flat"
    )
    quantities = [
        Quantity(f"flatness {name}", value, high, None, meaning)
        for name, value in zip(("Sz", "Sq"), parameters(mean), strict=True)
    ]
    return with_uncertainties(quantities, mean, noise_samples(deviation), parameters)


def _drift(
    drifts: np.ndarray,  # (N, 3 or 5)
    errors: np.ndarray,  # their standard uncertainties
    shape: tuple[int, ...],
    size: tuple[float, float],
    unit: str,
) -> list[Quantity]:
    """Return the largest drift from the mean in z, tilt, y and x; warn if that is large."""
    names, side = symbols(unit), max(shape)
    centre = np.array([1, (shape[0] - 1) / 2 / side, (shape[1] - 1) / 2 / side])
    offsets = drifts[:, :3] @ centre
    meaning = "largest difference from the mean, subtracted"
    quantities = [Quantity("drift z", float(np.abs(offsets).max()), names["height"], None, meaning)]
    if unit != "pixel":
        slopes = np.hypot(*(drifts[:, 1:3] / side / size).T)
        tilt = float(np.degrees(np.arctan(slopes.max())))
        quantities.append(Quantity("drift tilt", tilt, "°", None, meaning))
    shifts = drifts[:, 3:]
    if shifts.shape[1]:
        largest = float(np.abs(shifts).max())
        if (np.abs(shifts) > np.maximum(MAX_SHIFT_PX, MIN_SIGNIFICANCE * errors[:, 3:])).any():
            warnings.warn(
                f"a height map is shifted by {largest:.2g} pixels in y or x: register the maps "
                "first, or keep the stage still, as the noise contains what the shift leaves",
                stacklevel=3,
            )
        distance = float(np.hypot(*(shifts * size).T).max())
        quantities.append(Quantity("drift y, x", distance, names["length"], None, meaning))
    return quantities
