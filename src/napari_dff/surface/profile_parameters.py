"""Profile parameters of ISO 21920-2, with the filters λs and λc."""

import itertools

import numpy as np

from napari_dff.model import checks
from napari_dff.surface.filters import (
    NOISE_TOLERANCE,
    TOLERANCE,
    FilterType,
    check_filters,
    scale_limit,
)
from napari_dff.surface.profile import Profile
from napari_dff.surface.quantity import Quantity, symbols
from napari_dff.surface.resampling import noise_samples, with_uncertainties

MAX_STEP_DIFFERENCE = 0.01  # between samples, as a part of their mean distance
MAX_SECTIONS = 5  # of the length λc, over which Rz is a mean
_MEANINGS = {
    "a": "arithmetic mean height of the profile",
    "q": "root mean square height of the profile",
    "z": "from lowest to highest, mean of {sections} sections",
    "t": "from the lowest to the highest of the profile",
    "sk": "skewness: above 0 for peaks, below 0 for pits",
}


def scale_limited_profile(
    profile: Profile,
    *,
    s_filter: float | None = None,
    l_filter: float | None = None,
    filter_type: FilterType = "gaussian",
) -> Profile:
    """Remove short waves (λs) and long waves (λc) from a profile.

    The filters are those of `scale_limited_surface`, along the line.

    Parameters
    ----------
    profile : Profile
        Its samples must be evenly spaced.
    s_filter, l_filter : float, optional
        Nesting indices λs and λc, in the unit of `profile.distance`: at least 2 samples, at most
        the length of the profile, and `s_filter` below `l_filter`. No filter when None.
    filter_type : {"gaussian", "spline"}
        Of both filters.

    Returns
    -------
    Profile
        With other heights. The uncertainty is that of `profile`: filters make it smaller.

    Raises
    ------
    ValueError
        For an invalid argument, or if no height is known.

    References
    ----------
    ISO 16610-21:2025 (Gaussian filter of profiles), ISO 16610-28:2016 (ends), ISO 16610-22:2015
    (spline filter, without tension).
    """
    mask, step = _known_samples(profile, s_filter, l_filter, filter_type)
    heights = scale_limit(mask, (step,), s_filter, l_filter, filter_type)(profile.height, TOLERANCE)
    return profile._replace(height=np.where(mask, heights, np.nan))


def profile_parameters(
    profile: Profile,
    unit: str = "micrometer",
    *,
    s_filter: float | None = None,
    l_filter: float | None = None,
    filter_type: FilterType = "gaussian",
) -> tuple[Quantity, ...]:
    """Compute the height parameters of the known samples of a profile, about their mean height.

    Parameters
    ----------
    profile : Profile
        Its samples must be evenly spaced if there is a filter.
    unit : str
        Unit of length, a napari name.
    s_filter, l_filter : float, optional
        Nesting indices λs and λc, as in `scale_limited_profile`.
    filter_type : {"gaussian", "spline"}
        Of both filters.

    Returns
    -------
    tuple of Quantity
        Ra, Rq, Rz, Rt, Rsk of the roughness profile with an L-filter; else Pa, Pq, Pt, Psk of the
        primary profile. Rz is the mean of the heights of up to 5 sections of the length λc, in the
        middle of the profile. The uncertainties are the scatter over 20 profiles to which noise of
        `profile.uncertainty`, correlated over 5 samples, is added; None without it.

    Raises
    ------
    ValueError
        For an invalid argument, or if no height is known.

    References
    ----------
    ISO 21920-2:2021; ISO 4287:1997, with the same definitions of these parameters.
    """
    mask, step = _known_samples(profile, s_filter, l_filter, filter_type)
    limit = scale_limit(mask, (step,), s_filter, l_filter, filter_type)
    sections = [slice(None)]
    if l_filter is not None:
        sections = _sections(len(mask), l_filter / step)

    def parameters(values: np.ndarray) -> list[float]:
        z = values[mask] - values[mask].mean()
        rq = float(np.sqrt(np.mean(z**2)))
        flat = rq <= 1e-12 * np.abs(values[mask]).max()
        skewness = np.nan if flat else float(np.mean(z**3)) / rq**3
        parts = [values[part][mask[part]] for part in sections if mask[part].any()]
        mean_height = float(np.mean([np.ptp(part) for part in parts])) if parts else np.nan
        means = [] if l_filter is None else [mean_height]
        return [float(np.abs(z).mean()), rq, *means, float(np.ptp(z)), skewness]

    heights = limit(profile.height, TOLERANCE)
    letter, suffixes = ("P", ("a", "q", "t", "sk")) if l_filter is None else ("R", tuple(_MEANINGS))
    high = symbols(unit)["height"]
    quantities = [
        Quantity(
            letter + suffix,
            value,
            "" if suffix == "sk" else high,
            None,
            _MEANINGS[suffix].format(sections=len(sections)),
        )
        for value, suffix in zip(parameters(heights), suffixes, strict=True)
    ]
    if profile.uncertainty is not None:
        samples = noise_samples(profile.uncertainty)
        noises = (limit(noise, NOISE_TOLERANCE) for noise in samples)
        quantities = with_uncertainties(quantities, heights, noises, parameters)
    return tuple(quantities)


def _sections(count: int, length: float) -> list[slice]:
    """Return up to 5 sections of `length` samples in the middle of `count` samples."""
    number = min(max(int(count / length), 1), MAX_SECTIONS)
    first = (count - number * length) / 2
    bounds = np.rint(first + length * np.arange(number + 1)).astype(int)
    return [slice(*ends) for ends in itertools.pairwise(bounds)]


def _known_samples(
    profile: Profile, s_filter: float | None, l_filter: float | None, filter_type: FilterType
) -> tuple[np.ndarray, float]:
    """Return where the height is known, (N,) bool, and the distance between samples."""
    checks.check_type("profile", profile, Profile)
    checks.check_type("profile.height", profile.height, np.ndarray)
    for name, values in profile._asdict().items():
        if name != "points" and values is not None:
            numbers = checks.as_numbers(f"profile.{name}", values)
            if numbers.ndim != 1 or numbers.shape != profile.height.shape:
                got = f"{numbers.shape} beside {profile.height.shape} heights"
                raise ValueError(f"profile.{name} must have one value for each sample, got {got}")
    mask, steps = np.isfinite(profile.height), np.diff(profile.distance)
    if not mask.any():
        raise ValueError("profile must have a known height, got none")
    step = float(steps.mean())
    if s_filter is not None or l_filter is not None:
        if np.abs(steps - step).max() > MAX_STEP_DIFFERENCE * step:
            raise ValueError(
                "profile must have evenly spaced samples for a filter, got "
                f"{steps.min():g} to {steps.max():g} apart: use a straight line or square pixels"
            )
        check_filters((step,), mask.shape, s_filter, l_filter, filter_type)
    return mask, step
