"""Read heights with their uncertainty: of results, and of files of surface metrology."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from napari_dff.io.readers.axes import StackError, reason
from napari_dff.io.readers.height_maps import DECODERS, read_height_map
from napari_dff.io.readers.results import find_image, read_image, read_provenance
from napari_dff.model.checks import as_path
from napari_dff.model.stack import validate_pixel_size
from napari_dff.model.units import validate_unit


class MeasuredHeights(NamedTuple):
    """A height map, with its uncertainty if it is known.

    Attributes
    ----------
    heights : (Y, X) float array
        In `unit`; NaN where not measured.
    uncertainty : (Y, X) float array or None
        Standard uncertainty, in `unit`; inf where not measured.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        A napari name of a unit of length.
    """

    heights: np.ndarray
    uncertainty: np.ndarray | None
    pixel_size: tuple[float, float]
    unit: str


def read_heights(path: str | os.PathLike[str]) -> list[MeasuredHeights]:
    """Read the height map of each time of a result, or the one of a file.

    Parameters
    ----------
    path : path
        Folder of a run, or a file that ends in ``.x3p``, ``.sdf`` or ``.sur``.

    Returns
    -------
    list of MeasuredHeights

    Raises
    ------
    StackError
        A ValueError, if the folder holds no result, or the file no height map.
    OSError
        If a file cannot be opened.
    """
    place = as_path("path", path)
    if place.suffix.lower() in DECODERS:
        heights, size = read_height_map(place)
        return [MeasuredHeights(heights, None, size, "micrometer")]
    if not place.is_dir():
        kinds = ", ".join(DECODERS)
        raise StackError(f"{place} must be the folder of a run, or a file that ends in {kinds}")
    try:
        record = read_provenance(place)
        size, unit = validate_pixel_size(record["pixel_size"]), validate_unit(record["unit"])
        depth, uncertainty = (_read_maps(place, name) for name in ("depth", "uncertainty"))
        if depth.shape != uncertainty.shape:
            raise ValueError(f"its maps have the shapes {depth.shape} and {uncertainty.shape}")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StackError(f"{place} holds no result of a run: {reason(error)}") from error
    return [
        MeasuredHeights(np.where(np.isfinite(error), heights, np.nan), error, size, unit)
        for heights, error in zip(depth, uncertainty, strict=True)
    ]


def _read_maps(folder: Path, name: str) -> np.ndarray:
    """Return a map of all times, (T, Y, X)."""
    path = find_image(folder, name)
    if path is None:
        raise ValueError(f"{name} is missing")
    values = np.asarray(read_image(path))
    return values if values.ndim == 3 else values[np.newaxis]
