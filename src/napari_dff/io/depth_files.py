"""A plane map that a run wrote, read again for other planes of the same field."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_dff.acquisition import Acquisition
from napari_dff.depth import DepthMap
from napari_dff.tiles import Window


class DepthFiles:
    """The plane map and the motion in a folder of results, for planes of the same field.

    Parameters
    ----------
    folder : path
        As a run wrote it.
    acquisition : Acquisition
        The planes it shall serve: of the same height, width, number and positions. A result of one
        time serves all times.

    Attributes
    ----------
    transforms : (Z, 3, 3) or (T, Z, 3, 3) float64

    Raises
    ------
    ValueError
        When the folder holds no result, or one of another field, with one sentence.
    """

    def __init__(self, folder: str | os.PathLike[str], acquisition: Acquisition) -> None:
        place = Path(folder)
        try:
            told = json.loads((place / "provenance.json").read_text(encoding="utf-8"))
            moved = json.loads((place / "transforms.json").read_text(encoding="utf-8"))
            self._maps = DepthMap(*(_opened(place, name) for name in DepthMap._fields))
            positions = np.atleast_2d(np.asarray(told["positions"], float))
            self.transforms = np.asarray(moved["transforms"], float)
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{folder} holds no result of a run: {error}") from error
        shape, wanted = self._maps.depth.shape[-2:], tuple(acquisition.data.shape[3:5])
        if shape != wanted:
            raise ValueError(
                f"depth_from must be of planes of {wanted[0]} × {wanted[1]} pixels, "
                f"got {shape[0]} × {shape[1]} in {folder}"
            )
        if len(positions) not in (1, acquisition.times):
            raise ValueError(
                f"depth_from must have one time, or {acquisition.times}, got {len(positions)} "
                f"in {folder}"
            )
        here, there = (positions, told["unit"]), (acquisition.positions, acquisition.unit)
        if _span(*here) != _span(*there):
            raise ValueError(
                f"depth_from must be of planes at the same positions: {folder} has "
                f"{_span(*here)}, these are {_span(*there)}"
            )

    def at(self, time: int) -> Callable[[Window], DepthMap]:
        """The depth map of one time, window by window."""
        where: tuple[Any, ...] = () if self._maps.depth.ndim == 2 else (time,)

        def read(window: Window) -> DepthMap:
            here = (*where, *window.slices)
            return DepthMap(*(np.array(part[here]) for part in self._maps))

        return read


def _opened(place: Path, name: str) -> Any:
    """One map of a result, unread: ([T,] Y, X)."""
    if (place / f"{name}.tif").exists():
        return tifffile.memmap(place / f"{name}.tif", mode="r")
    import zarr

    return zarr.open_array(place / f"{name}.ome.zarr" / "0", mode="r")


def _span(positions: np.ndarray, unit: str) -> str:
    first = positions[0]
    return f"{len(first)} planes from {first[0]:g} to {first[-1]:g} {unit}"
