"""Write tables as CSV."""

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from napari_dff.io.atomic import write_file
from napari_dff.model.checks import as_list, as_path, check_type
from napari_dff.model.units import depth_unit_symbol, unit_symbol
from napari_dff.runtime.words import printable
from napari_dff.surface import Profile, Quantity

FORMULA_START = re.compile(r"(^|;)(\s*[=+@＝＋－＠-])")


def write_table(
    path: str | os.PathLike[str], columns: Mapping[str, Sequence[Any] | np.ndarray]
) -> None:
    """Write named columns of equal length as CSV in UTF-8; None and NaN become empty cells."""
    path = as_path("path", path)
    check_type("columns", columns, Mapping)
    lengths = {
        name: len(as_list("columns", column, "sequences")) for name, column in columns.items()
    }
    if len(set(lengths.values())) != 1:
        raise ValueError(f"columns must be of one length, got {lengths}")
    with write_file(path) as new, new.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(map(_cell, columns))
        table.writerows(map(_cell, row) for row in zip(*columns.values(), strict=True))


def write_profile(
    path: str | os.PathLike[str], profile: Profile, unit: str, *, levelling: str = ""
) -> None:
    """Write distance, height, uncertainty if known, row and column of each point of a profile.

    A last column names the levelling, if given.
    """
    length, height = unit_symbol(unit), depth_unit_symbol(unit)
    columns = {f"distance ({length})": profile.distance, f"height ({height})": profile.height}
    if profile.uncertainty is not None:
        columns[f"uncertainty ({height})"] = profile.uncertainty
    rows, profile_columns = profile.points.T
    columns |= {"row (pixel)": rows, "column (pixel)": profile_columns}
    write_table(path, columns | _levelling_column(levelling, len(rows)))


def write_quantities(
    path: str | os.PathLike[str], quantities: Iterable[Quantity], *, levelling: str = ""
) -> None:
    """Write one quantity per line: its fields, and the levelling if given."""
    table = list(quantities)
    columns = {field: [getattr(q, field) for q in table] for field in Quantity._fields}
    write_table(path, columns | _levelling_column(levelling, len(table)))


def _levelling_column(levelling: str, length: int) -> dict[str, Any]:
    return {"levelling": [levelling] * length} if levelling else {}


def _cell(value: Any) -> str:
    """Return a value with all its digits; "" for None and NaN, which differs from itself.

    Text is printable. What spreadsheets would compute gets an apostrophe before it, also after a
    semicolon, which separates cells in many countries.
    """
    if isinstance(value, str):
        return FORMULA_START.sub(r"\1'\2", printable(value))
    return "" if value is None or value != value else str(value)
