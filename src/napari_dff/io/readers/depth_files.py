"""Reuse the depth map of a result for other planes of the same field."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.io.atomic import has_interrupted_moves
from napari_dff.io.moves import PROVENANCE_FILE
from napari_dff.io.readers.acquisitions import read_transforms
from napari_dff.io.readers.axes import FileArray, reason
from napari_dff.io.readers.tiff_opening import map_tiff
from napari_dff.io.readers.zarr_store import check_unpickled
from napari_dff.io.records import read_json
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.depth_map import DepthMap
from napari_dff.runtime.windows import Window


class DepthFiles:
    """Depth map and transforms in a folder of results, for planes of the same field.

    Parameters
    ----------
    folder : path
        Result of a run.
    acquisition : Acquisition
        Planes of the same height, width, number and focus positions. A result of one time is
        used for all times.

    Attributes
    ----------
    transforms : (Z, 3, 3) or (T, Z, 3, 3) float64

    Raises
    ------
    ValueError
        If the folder contains no result, or one of another field.
    """

    def __init__(self, folder: str | os.PathLike[str], acquisition: Acquisition) -> None:
        path = Path(folder)
        try:
            provenance = read_json(path / PROVENANCE_FILE, "the record of a run")
            self.transforms = read_transforms(path / "transforms.json")
            self._maps = DepthMap(*(_open_map(path, name) for name in DepthMap._fields))
            positions = np.asarray(provenance["positions"], float)
            unit = provenance["unit"]
            if positions.shape != self.transforms.shape[:-2] or 0 in positions.shape:
                raise ValueError(
                    f"positions of shape {positions.shape} and transforms of shape "
                    f"{self.transforms.shape} do not match"
                )
            positions = np.atleast_2d(positions)
            _check_maps(self._maps, len(positions))
        except (OSError, KeyError, TypeError, ValueError) as error:
            message = "a run was interrupted while it moved its result there: run it again"
            message = message if has_interrupted_moves(path) else reason(error)
            raise ValueError(f"{folder} holds no result of a run: {message}") from error
        shape, expected = self._maps.depth.shape[-2:], tuple(acquisition.data.shape[3:5])
        if shape != expected:
            raise ValueError(
                f"depth_from must be of planes of {expected[0]} × {expected[1]} pixels, "
                f"got {shape[0]} × {shape[1]} in {folder}"
            )
        if len(positions) not in (1, acquisition.times):
            raise ValueError(
                f"depth_from must have one time, or {acquisition.times}, got {len(positions)} "
                f"in {folder}"
            )
        span = _describe_span(positions, unit)
        required_span = _describe_span(acquisition.positions, acquisition.unit)
        if span != required_span:
            raise ValueError(
                f"depth_from must be of planes at the same positions: {folder} has {span}, "
                f"these are {required_span}"
            )

    def at(self, time: int) -> Callable[[Window], DepthMap]:
        """Return a function that reads windows of the depth map of one time."""
        time_index: tuple[Any, ...] = () if self._maps.depth.ndim == 2 else (time,)

        def read(window: Window) -> DepthMap:
            index = (*time_index, *window.slices)
            return DepthMap(*(np.array(part[index]) for part in self._maps))

        return read


def _open_map(folder: Path, name: str) -> Any:
    """Open one map of a result, ([T,] Y, X), loaded on demand."""
    file = f"{name}.tif" if (folder / f"{name}.tif").exists() else f"{name}.ome.zarr"
    try:
        if file.endswith(".tif"):
            return map_tiff(folder / file)
        import zarr

        array = zarr.open_array(folder / file / "0", mode="r")
        check_unpickled(file, array)
        return FileArray(array, file)
    except Exception as error:  # both raise many types for damaged files
        raise ValueError(f"{file} can't be read: {reason(error)}") from error


def _check_maps(maps: DepthMap, times: int) -> None:
    """Raise ValueError unless all maps have one shape and this number of times."""
    shapes = [each.shape for each in maps]
    if len(set(shapes)) > 1 or shapes[0][:-2] != ((times,) if times > 1 else ()):
        raise ValueError(f"its maps have the shapes {', '.join(map(str, shapes))}")


def _describe_span(positions: np.ndarray, unit: str) -> str:
    first = positions[0]
    return f"{len(first)} planes from {first[0]:g} to {first[-1]:g} {unit}"
