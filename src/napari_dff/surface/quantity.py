"""A measured quantity: value, unit and uncertainty."""

from collections.abc import Iterable
from typing import NamedTuple

from napari_dff.model.units import depth_unit_symbol, unit_symbol, validate_unit

COLUMNS = ("what", "value", "±", "unit", "meaning")  # of a table for people


class Quantity(NamedTuple):
    """A quantity measured on a surface.

    Attributes
    ----------
    name : str
        Symbol in the standard ("Sa"), or words.
    value : float
        NaN if undefined, such as the skewness of a flat surface.
    unit : str
        Symbol ("µm", "µm²"), or "" for a dimensionless quantity.
    uncertainty : float or None
        Standard uncertainty of `value`, in the same unit; None if unknown.
    meaning : str
        One short phrase.
    """

    name: str
    value: float
    unit: str
    uncertainty: float | None
    meaning: str


def symbols(unit: str) -> dict[str, str]:
    """Return the symbols of height, length, area and volume for a napari unit of length."""
    unit = validate_unit(unit)
    height, length = depth_unit_symbol(unit), unit_symbol(unit)
    area = f"{length}²"
    volume = f"{length}³" if height == length else f"{height}·{area}"
    return {"height": height, "length": length, "area": area, "volume": volume}


def table_rows(quantities: Iterable[Quantity]) -> list[tuple[str, ...]]:
    """Return a row of texts for each quantity, with the columns `COLUMNS`."""
    rows: list[tuple[str, ...]] = []
    for name, value, unit, uncertainty, meaning in quantities:
        error = "" if uncertainty is None else f"{uncertainty:.2g}"
        rows.append((name, f"{value:.4g}", error, unit, meaning))
    return rows
