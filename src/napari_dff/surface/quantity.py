"""A number with its unit, and how well it is known."""

from __future__ import annotations

from typing import NamedTuple

from napari_dff.units import depth_unit_symbol, unit_symbol, validate_unit


class Quantity(NamedTuple):
    """One number measured on a surface.

    Attributes
    ----------
    name : str
        As the standard calls it ("Sa"), or plain words.
    value : float
        NaN where it has no meaning, as the skewness of a flat surface.
    unit : str
        Symbol ("µm", "µm²"), or "" for a plain number.
    uncertainty : float or None
        One standard deviation of `value`, in the same unit; None where unknown.
    meaning : str
        One short phrase.
    """

    name: str
    value: float
    unit: str
    uncertainty: float | None
    meaning: str


class Symbols(NamedTuple):
    """Symbols of the units that follow from the unit of length."""

    height: str
    length: str
    area: str
    volume: str


def symbols(unit: str) -> Symbols:
    """Symbols for a unit as napari spells it; heights are planes where nothing is calibrated."""
    unit = validate_unit(unit)
    height, length = depth_unit_symbol(unit), unit_symbol(unit)
    area = f"{length}²"
    return Symbols(height, length, area, f"{length}³" if height == length else f"{height}·{area}")
