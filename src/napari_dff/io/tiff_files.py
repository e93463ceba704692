"""OME-TIFF: files that are filled window by window, and whole ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_dff.io.pixels import Pixels
from napari_dff.units import unit_symbol
from napari_dff.windows import Window

KINDS = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")  # of OME


class GrowingTiff:
    """An uncompressed OME-TIFF, in one piece, that is filled window by window.

    Written through the file, not through a map of it: a full disk is then an error and not the end
    of the process, and what was written doesn't count as this process's memory.

    `positions` are those of all planes, where not every Z-stack has the same.
    """

    def __init__(self, path: Path, pixels: Pixels, positions: np.ndarray | None = None) -> None:
        self._path, self._pixels = path, pixels
        settings = {"shape": pixels.shape, "dtype": pixels.dtype, **_described(pixels, positions)}
        place: Any = tifffile.imwrite(path, returnoffset=True, **settings)
        self._offset: int = place[0]

    def put(self, values: np.ndarray, window: Window, where: tuple[int, ...]) -> None:
        """Write a window of one plane."""
        values = np.ascontiguousarray(values, dtype=self._pixels.dtype)
        width = self._pixels.plane[1]
        pixel = values[0, 0].nbytes
        rows = [values] if window.shape[1] == width else list(values)
        start = self._first(where) + (window.top * width + window.left) * pixel
        with self._path.open("r+b") as file:
            for i, row in enumerate(rows):
                file.seek(start + i * width * pixel)
                file.write(row.data)

    def get(self, window: Window, where: tuple[int, ...]) -> np.ndarray:
        """Read a window of one plane."""
        shape = self._pixels.shape[len(where) :]
        plane = np.memmap(self._path, self._pixels.dtype, "r", self._first(where), shape)
        return np.array(plane[window.slices])

    def shown(self, limits: list[tuple[float, float]]) -> None:
        """Nothing: OME-TIFF has no place for it."""

    def _first(self, where: tuple[int, ...]) -> int:
        """Where a plane begins in the file."""
        number = int(np.ravel_multi_index(where, self._pixels.leading)) if where else 0
        return self._offset + number * self._pixels.nbytes // math.prod(self._pixels.leading)


def write_tiff(path: Path, data: np.ndarray, pixels: Pixels, **settings: Any) -> None:
    """Write a whole array; `settings` are those of `tifffile.imwrite`, as ``compression``."""
    tifffile.imwrite(path, data, **_described(pixels), **settings)


def _described(pixels: Pixels, positions: np.ndarray | None = None) -> dict[str, Any]:
    if pixels.dtype.name not in KINDS:
        raise ValueError(
            f"OME-TIFF can't hold {pixels.dtype}: write OME-Zarr, or planes of float32"
        )
    metadata: dict[str, Any] = {"axes": pixels.axes}
    if pixels.record is not None:
        metadata["Description"] = json.dumps(pixels.record)
    if any(pixels.channels):
        metadata["Channel"] = {"Name": list(pixels.channels)}
    return {
        "ome": True,
        "photometric": "rgb" if pixels.colour else "minisblack",
        "metadata": metadata | _sizes(pixels, positions),
    }


def _sizes(pixels: Pixels, positions: np.ndarray | None) -> dict[str, Any]:
    if pixels.unit == "pixel":
        return {}
    height, width = pixels.pixel_size
    short = unit_symbol(pixels.unit)
    sizes: dict[str, Any] = {
        "PhysicalSizeX": width,
        "PhysicalSizeXUnit": short,
        "PhysicalSizeY": height,
        "PhysicalSizeYUnit": short,
    }
    if pixels.positions:
        given = np.asarray(pixels.positions if positions is None else positions)
        every = np.broadcast_to(given, pixels.leading).ravel().tolist()
        sizes |= {
            "PhysicalSizeZ": abs(float(np.diff(pixels.positions).mean())),
            "PhysicalSizeZUnit": short,
            "Plane": {"PositionZ": every, "PositionZUnit": [short] * len(every)},
        }
    return sizes
