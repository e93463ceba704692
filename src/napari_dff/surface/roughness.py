"""Roughness of a surface by the parameters of ISO 25178-2."""

from __future__ import annotations

import warnings
from importlib import import_module

import numpy as np

from napari_dff.stack import validate_pixel_size
from napari_dff.surface.quantity import Quantity, symbols
from napari_dff.surface.region import PATCH, bounding_box, known_pixels


class SurfalizeMissing(ImportError):
    """surfalize isn't installed; it has its own licence (GPL), so it is no dependency."""


def roughness(
    heights: np.ndarray,  # (Y, X)
    pixel_size: tuple[float, float],
    unit: str = "micrometer",
    *,
    uncertainty: np.ndarray | None = None,  # (Y, X)
    where: np.ndarray | None = None,  # (Y, X)
) -> tuple[Quantity, ...]:
    """Height and hybrid parameters over the known pixels, about their mean height.

    Take the form out first (`level`). Noise of the depth counts as roughness: what is measured is
    the surface and its noise, added in squares. Nothing is subtracted; the meaning of Sq says what
    the noise alone would give.

    Parameters
    ----------
    heights : (Y, X) float array
        In `unit`; NaN where never in focus.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length as napari spells it. For "pixel" heights are planes, slopes have no meaning
        and Sdq and Sdr are left out.
    uncertainty : (Y, X) float array, optional
        One standard deviation of the heights, in `unit`; inf where never in focus, which counts
        as unknown. The standard deviations of Sa and Sq follow from it, to first order and with
        errors alike over 5 × 5 pixels; too large where the surface itself is finer than that.
    where : (Y, X) bool, optional
        The region; everything when None.

    Returns
    -------
    tuple of Quantity
        Sa, Sq, Sz, Sp, Sv, Ssk, Sku, Sdq, Sdr. Sdq and Sdr (in %) are of differences between
        neighbours, and count only those that are both known: noise makes them too large.

    Raises
    ------
    ValueError
        For a wrong argument, or where no height is known.

    References
    ----------
    ISO 25178-2:2021; Sdr by its equation D.15.
    """
    size = validate_pixel_size(pixel_size)
    known = known_pixels(heights, where, uncertainty)
    values = heights[known].astype(np.float64)
    z = values - values.mean()
    squares = z * z
    sa, sq = float(np.abs(z).mean()), float(np.sqrt(squares.mean()))
    peak, pit = float(z.max()), float(-z.min())
    flat = sq <= 1e-12 * np.abs(values).max()  # nothing but rounding
    skewness = np.nan if flat else float(np.mean(squares * z)) / sq**3
    kurtosis = np.nan if flat else float(np.mean(squares * squares)) / sq**4

    sa_deviation = sq_deviation = None
    noise = ""
    if uncertainty is not None:
        deviation = uncertainty[known].astype(np.float64)
        signs = np.sign(z)
        sa_deviation = _deviation(signs - signs.mean(), deviation)
        sq_deviation = _deviation(np.ones_like(z) if flat else z / sq, deviation)
        noise = f"; the noise alone would give {np.sqrt(np.mean(deviation**2)):.3g}"

    high = symbols(unit).height
    quantities = [
        Quantity("Sa", sa, high, sa_deviation, "arithmetic mean height"),
        Quantity("Sq", sq, high, sq_deviation, f"root mean square height{noise}"),
        Quantity("Sz", peak + pit, high, None, "from the deepest pit to the highest peak"),
        Quantity("Sp", peak, high, None, "highest peak above the mean"),
        Quantity("Sv", pit, high, None, "deepest pit below the mean"),
        Quantity("Ssk", skewness, "", None, "skewness: above 0 for peaks, below 0 for pits"),
        Quantity("Sku", kurtosis, "", None, "kurtosis: 3 for normally distributed heights"),
    ]
    if unit != "pixel":
        box = bounding_box(known)
        region = np.where(known[box], heights[box], np.nan).astype(np.float64)
        quantities += [
            Quantity("Sdq", _gradient(region, size), "", None, "root mean square gradient"),
            Quantity("Sdr", _developed(region, size), "%", None, "area more than a flat surface's"),
        ]
    return tuple(quantities)


def further_parameters(
    heights: np.ndarray,  # (Y, X)
    pixel_size: tuple[float, float],
    unit: str = "micrometer",
    *,
    where: np.ndarray | None = None,  # (Y, X)
) -> tuple[Quantity, ...]:
    """Spatial and functional parameters, by the package surfalize.

    The functional ones are of the known pixels alone. The spatial ones need a full rectangle: the
    one around the region, each unknown pixel taking the height of the nearest known one. They mean
    little where much had to be filled.

    Parameters
    ----------
    heights : (Y, X) float array
        In `unit`, levelled; NaN where never in focus.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length as napari spells it.
    where : (Y, X) bool, optional
        The region; everything when None.

    Returns
    -------
    tuple of Quantity
        Sal, Str (NaN where the region is too small for them), Sk, Spk, Svk, Smrk1, Smrk2, Vmp,
        Vmc, Vvv, Vvc (volumes per area). Uncertainties are not known.

    Raises
    ------
    SurfalizeMissing
        Where surfalize isn't installed.
    ValueError
        For a wrong argument, or where too little is known or everything is of one height.

    References
    ----------
    ISO 25178-2:2021. https://github.com/fredericjs/surfalize
    """
    size = validate_pixel_size(pixel_size)
    known = known_pixels(heights, where)
    box = bounding_box(known)
    known = known[box]
    if min(known.shape) < 3 or np.ptp(heights[box][known]) == 0:
        raise ValueError(
            "heights must differ, over at least 3 × 3 pixels of the region, "
            f"got {known.shape[0]} × {known.shape[1]} pixels of one height or too few"
        )
    try:
        surfalize = import_module("surfalize")  # 2 s, matplotlib with it; carries no types
    except ImportError as error:
        raise SurfalizeMissing(
            "Sal, Str, Sk and the like need the package surfalize (licence GPL): "
            "pip install 'napari-dff[roughness]'"
        ) from error

    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = heights[box][tuple(nearest)].astype(np.float64)
    units = symbols(unit)
    with warnings.catch_warnings():
        # It warns of oblong pixels, which these don't mind, and of NaN, which speaks for itself.
        warnings.simplefilter("ignore")
        surface = surfalize.Surface(filled, step_x=size[1], step_y=size[0], mask=~known)
        return tuple(
            Quantity(
                name, float(getattr(surface, name)()), getattr(units, kind, kind), None, phrase
            )
            for name, kind, phrase in _FURTHER
        )


_FURTHER = (  # name, unit or which of the units of length, meaning
    ("Sal", "length", "shortest distance over which heights become unlike"),
    ("Str", "", "texture aspect: 1 alike in all directions, near 0 with a lay"),
    ("Sk", "height", "height of the core"),
    ("Spk", "height", "height of the peaks above the core"),
    ("Svk", "height", "depth of the pits below the core"),
    ("Smrk1", "%", "share of the area that is peaks"),
    ("Smrk2", "%", "share of the area that is not pits"),
    ("Vmp", "height", "material in the peaks, volume per area"),
    ("Vmc", "height", "material in the core, volume per area"),
    ("Vvv", "height", "void in the pits, volume per area"),
    ("Vvc", "height", "void in the core, volume per area"),
)


def _deviation(weights: np.ndarray, deviation: np.ndarray) -> float:
    """Standard deviation of a mean of errors with such weights, which vary little over a patch."""
    return float(np.sqrt(PATCH * np.sum((weights * deviation) ** 2)) / weights.size)


def _gradient(region: np.ndarray, size: tuple[float, float]) -> float:
    return float(
        np.sqrt(sum(_mean_known((np.diff(region, axis=k) / size[k]) ** 2) for k in (0, 1)))
    )


def _developed(region: np.ndarray, size: tuple[float, float]) -> float:
    """Area of four triangles at the corners of each cell, two for each of its two diagonals."""
    down, across = (np.diff(region, axis=k) / size[k] for k in (0, 1))
    area = sum(
        np.sqrt(1 + side**2 + edge**2) / 4
        for side in (down[:, :-1], down[:, 1:])
        for edge in (across[:-1], across[1:])
    )
    return 100 * (_mean_known(np.asarray(area)) - 1)


def _mean_known(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan
