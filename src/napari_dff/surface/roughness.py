"""Areal roughness parameters of ISO 25178-2."""

import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module

import numpy as np

from napari_dff.model.stack import validate_pixel_size
from napari_dff.surface.filters import (
    NOISE_TOLERANCE,
    TOLERANCE,
    FilterType,
    check_filters,
    scale_limit,
    support,
)
from napari_dff.surface.quantity import Quantity, symbols
from napari_dff.surface.region import bounding_box, known_pixels
from napari_dff.surface.resampling import noise_samples, with_uncertainties


class SurfalizeMissing(ImportError):
    """surfalize is not installed. It is not a dependency because of its licence (GPL)."""


def roughness(
    heights: np.ndarray,  # (Y, X)
    pixel_size: tuple[float, float],
    unit: str = "micrometer",
    *,
    uncertainty: np.ndarray | None = None,  # (Y, X)
    where: np.ndarray | None = None,  # (Y, X)
    s_filter: float | None = None,
    l_filter: float | None = None,
    filter_type: FilterType = "gaussian",
) -> tuple[Quantity, ...]:
    """Compute height and hybrid parameters of the known pixels, about their mean height.

    Subtract the form first (`level`). Sq² is the sum of the variances of the surface and of the
    depth noise. The noise is not subtracted; the meaning of Sq contains its contribution.

    Parameters
    ----------
    heights : (Y, X) float array
        In `unit`; NaN where never in focus.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length, a napari name. For "pixel", heights are in planes, slopes are undefined,
        and Sdq and Sdr are left out.
    uncertainty : (Y, X) float array, optional
        Standard uncertainty of the heights, in `unit`; pixels with inf are unknown. It is
        propagated to all parameters: each uncertainty is the scatter of the parameter over 20
        height maps to which noise of this deviation, correlated over 5 × 5 pixels, is added. It is
        too large for a surface that is finer than that, and up to twice too large for Sz, Sp and Sv
        if many peaks or pits are about as high as the highest. Where noise changes a parameter by
        more than its uncertainty, its meaning contains the change.
    where : (Y, X) bool, optional
        The region; all pixels when None. The filters use the pixels around it, too.
    s_filter, l_filter : float, optional
        Nesting indices, in `unit`, as in `scale_limited_surface`; no filter when None.
    filter_type : {"gaussian", "spline"}
        Of both filters, as in `scale_limited_surface`.

    Returns
    -------
    tuple of Quantity
        Sa, Sq, Sz, Sp, Sv, Ssk, Sku, Sdq, Sdr. Sdq and Sdr (in %) use the differences of
        known neighbours: noise makes them too large.

    Raises
    ------
    ValueError
        For an invalid argument, or if no height is known.

    References
    ----------
    ISO 25178-2:2021; Sdr by equation D.15. ISO 16610-61:2015 and -22:2015 for the filters.
    """
    size = validate_pixel_size(pixel_size)
    mask = known_pixels(heights, where, uncertainty)
    filters = s_filter, l_filter, filter_type
    check_filters(size, heights.shape, *filters)
    margins = [sum(support(index, step, filter_type) for index in filters[:2]) for step in size]
    box = _surroundings(mask, margins)
    support_mask, mask = known_pixels(heights, None, uncertainty)[box], mask[box]
    limit = scale_limit(support_mask, size, *filters)
    sl_surface = np.where(mask, limit(heights[box].astype(np.float64), TOLERANCE), np.nan)
    high, squares = symbols(unit)["height"], []
    deviation = np.zeros(()) if uncertainty is None else np.where(support_mask, uncertainty[box], 0)

    def parameters(values: np.ndarray) -> list[float]:
        slopes = [] if unit == "pixel" else _hybrid_parameters(values, size)
        return [*_height_parameters(values[mask]), *slopes]

    def noises() -> Iterator[np.ndarray]:
        for sample in noise_samples(deviation):
            noise = limit(sample, NOISE_TOLERANCE)
            squares.append(np.mean(noise[mask] ** 2))
            yield noise

    quantities = [
        Quantity(name, value, high if kind == "height" else kind, None, meaning)
        for value, (name, kind, meaning) in zip(parameters(sl_surface), _PARAMETERS, strict=False)
    ]
    if uncertainty is not None:
        quantities = with_uncertainties(quantities, sl_surface, noises(), parameters)
        alone = f"; the noise alone would give {np.mean(squares) ** 0.5:.2g}"
        quantities[1] = quantities[1]._replace(meaning=quantities[1].meaning + alone)
    return tuple(quantities)


_PARAMETERS = (  # name, unit or "height", meaning
    ("Sa", "height", "arithmetic mean height"),
    ("Sq", "height", "root mean square height"),
    ("Sz", "height", "from the deepest pit to the highest peak"),
    ("Sp", "height", "highest peak above the mean"),
    ("Sv", "height", "deepest pit below the mean"),
    ("Ssk", "", "skewness: above 0 for peaks, below 0 for pits"),
    ("Sku", "", "kurtosis: 3 for normally distributed heights"),
    ("Sdq", "", "root mean square gradient"),
    ("Sdr", "%", "area in excess of the projected area"),
)


def _surroundings(mask: np.ndarray, margins: Sequence[int]) -> tuple[slice, slice]:
    """Return rows and columns of the region with margins, all that the filters need."""
    rows, columns = (
        slice(max(part.start - margin, 0), part.stop + margin)
        for part, margin in zip(bounding_box(mask), margins, strict=True)
    )
    return rows, columns


def _height_parameters(values: np.ndarray) -> list[float]:
    """Return Sa, Sq, Sz, Sp, Sv, Ssk, Sku of known heights, (N,) float64."""
    z = values - values.mean()
    squares = z * z
    sq, peak, pit = float(np.sqrt(squares.mean())), float(z.max()), float(-z.min())
    flat = sq <= 1e-12 * np.abs(values).max()  # up to rounding errors
    skewness = np.nan if flat else float(np.mean(squares * z)) / sq**3
    kurtosis = np.nan if flat else float(np.mean(squares * squares)) / sq**4
    return [float(np.abs(z).mean()), sq, peak + pit, peak, pit, skewness, kurtosis]


def further_parameters(
    heights: np.ndarray,  # (Y, X)
    pixel_size: tuple[float, float],
    unit: str = "micrometer",
    *,
    where: np.ndarray | None = None,  # (Y, X)
) -> tuple[Quantity, ...]:
    """Compute spatial and functional parameters with the package surfalize.

    The functional parameters use only the known pixels. The spatial parameters need a rectangle:
    unknown pixels in the bounding box of the region get the height of the nearest known pixel. The
    parameters are unreliable if many pixels are unknown.

    Parameters
    ----------
    heights : (Y, X) float array
        In `unit`, levelled; NaN where never in focus.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length, a napari name.
    where : (Y, X) bool, optional
        The region; all pixels when None.

    Returns
    -------
    tuple of Quantity
        Sal, Str (NaN where the region is too small for them), Sk, Spk, Svk, Smrk1, Smrk2, Vmp,
        Vmc, Vvv, Vvc (volumes per area), without uncertainties.

    Raises
    ------
    SurfalizeMissing
        If surfalize is not installed.
    ValueError
        For an invalid argument, too few known pixels, or constant height.

    References
    ----------
    ISO 25178-2:2021. https://github.com/fredericjs/surfalize
    """
    size = validate_pixel_size(pixel_size)
    mask = known_pixels(heights, where)
    box = bounding_box(mask)
    mask = mask[box]
    if min(mask.shape) < 3 or np.ptp(heights[box][mask]) == 0:
        raise ValueError(
            "heights must differ, over at least 3 × 3 pixels of the region, "
            f"got {mask.shape[0]} × {mask.shape[1]} pixels of one height or too few"
        )
    try:
        surfalize = import_module("surfalize")  # 2 s, matplotlib with it; carries no types
    except ImportError as error:
        raise SurfalizeMissing(
            "Sal, Str, Sk and the like need the package surfalize (licence GPL): "
            "pip install 'napari-dff[roughness]'"
        ) from error

    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    filled = heights[box][tuple(nearest)].astype(np.float64)
    units = symbols(unit)
    with warnings.catch_warnings():
        # It warns of non-square pixels, which do not affect these parameters, and of NaN results.
        warnings.simplefilter("ignore")
        surface = surfalize.Surface(filled, step_x=size[1], step_y=size[0], mask=~mask)
        values = [float(getattr(surface, name)()) for name, _, _ in _FURTHER]
    return tuple(
        Quantity(name, value, units.get(kind, kind), None, meaning)
        for value, (name, kind, meaning) in zip(values, _FURTHER, strict=True)
    )


_FURTHER = (  # name, unit or key of `symbols`, meaning
    ("Sal", "length", "shortest distance at which the autocorrelation falls to 0.2"),
    ("Str", "", "texture aspect ratio: 1 for an isotropic surface, near 0 with a lay"),
    ("Sk", "height", "height of the core"),
    ("Spk", "height", "height of the peaks above the core"),
    ("Svk", "height", "depth of the pits below the core"),
    ("Smrk1", "%", "areal fraction of the peaks"),
    ("Smrk2", "%", "areal fraction without the pits"),
    ("Vmp", "height", "material in the peaks, volume per area"),
    ("Vmc", "height", "material in the core, volume per area"),
    ("Vvv", "height", "void in the pits, volume per area"),
    ("Vvc", "height", "void in the core, volume per area"),
)


def _hybrid_parameters(region: np.ndarray, size: tuple[float, float]) -> list[float]:
    """Return Sdq and Sdr (in %); NaN pixels are left out."""
    down, across = (np.diff(region, axis=k) / size[k] for k in (0, 1))
    sdq = float(np.sqrt(_mean_known(down**2) + _mean_known(across**2)))
    area = sum(  # of a cell of four pixels: the mean of its two triangulations
        np.sqrt(1 + side**2 + edge**2) / 4
        for side in (down[:, :-1], down[:, 1:])
        for edge in (across[:-1], across[1:])
    )
    return [sdq, 100 * (_mean_known(np.asarray(area)) - 1)]


def _mean_known(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else np.nan
