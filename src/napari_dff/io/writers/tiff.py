"""OME-TIFF files, written window by window, and their metadata."""

import json
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_dff.io.image_metadata import ImageMetadata, image_name
from napari_dff.model.units import conversion_factor, unit_symbol
from napari_dff.runtime.windows import Window

CAMERA_TAGS = {  # of TIFF 6.0 and TIFF/EP
    "Make": 271,
    "Model": 272,
    "Artist": 315,
    "Copyright": 33432,
    "ExposureTime": 33434,
    "FNumber": 33437,
    "ISOSpeedRatings": 34855,
    "DateTimeOriginal": 36867,
    "FocalLength": 37386,
}
OME_DTYPES = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")


class OmeTiffWriter:
    """An uncompressed, contiguous OME-TIFF that is written window by window.

    Written by seek and write, not through a memory map: a full disk then raises an OSError instead
    of killing the process, and written data does not count as memory of this process.
    """

    def __init__(self, path: Path, metadata: ImageMetadata) -> None:
        self._path, self._metadata = path, metadata
        settings = imwrite_settings(path, metadata)
        settings |= {"shape": metadata.shape, "dtype": metadata.dtype, "returnoffset": True}
        offset_and_size: Any = tifffile.imwrite(path, **settings)
        self._offset: int = offset_and_size[0]

    def write(self, values: np.ndarray, window: Window, index: tuple[int, ...]) -> None:
        """Write a window of a plane."""
        values = np.ascontiguousarray(values, dtype=self._metadata.dtype)
        width = self._metadata.plane_shape[1]
        pixel_bytes = values[0, 0].nbytes
        rows = [values] if window.shape[1] == width else list(values)
        start = self._plane_offset(index) + (window.top * width + window.left) * pixel_bytes
        with self._path.open("r+b") as file:
            for i, row in enumerate(rows):
                file.seek(start + i * width * pixel_bytes)
                file.write(row.data)

    def read(self, window: Window, index: tuple[int, ...]) -> np.ndarray:
        """Read a window of a plane."""
        shape, dtype = self._metadata.shape[len(index) :], self._metadata.dtype
        plane = np.memmap(self._path, dtype, "r", self._plane_offset(index), shape)
        return np.array(plane[window.slices])

    def finish(self, ranges: Sequence[tuple[float, float]] = ()) -> None:
        """Do nothing: OME-TIFF stores no display ranges, and the image is complete."""

    def _plane_offset(self, index: tuple[int, ...]) -> int:
        """Return the first byte of a plane in the file."""
        leading_shape = self._metadata.leading_shape
        number = int(np.ravel_multi_index(index, leading_shape)) if index else 0
        return self._offset + number * self._metadata.nbytes // math.prod(leading_shape)


def imwrite_settings(path: Path, metadata: ImageMetadata) -> dict[str, Any]:
    """Return the arguments of `tifffile.imwrite` for an OME-TIFF."""
    if metadata.dtype.name not in OME_DTYPES:
        dtype = metadata.dtype
        raise ValueError(f"OME-TIFF can't hold {dtype}: write OME-Zarr, or planes of float32")
    ome: dict[str, Any] = {"axes": metadata.axes, "Name": image_name(path)}
    if metadata.record is not None:
        ome["Description"] = json.dumps(metadata.record)
    if any(metadata.channel_names):
        ome["Channel"] = {"Name": list(metadata.channel_names)}
    if metadata.time_increment:
        ome |= {"TimeIncrement": metadata.time_increment, "TimeIncrementUnit": "s"}
    photometric = "rgb" if metadata.is_colour else "minisblack"
    settings: dict[str, Any] = {"ome": True, "photometric": photometric}
    if metadata.icc_profile:
        settings["iccprofile"] = metadata.icc_profile
    if metadata.exif:
        settings["extratags"] = _camera_tags(metadata.exif)
    return settings | _resolution(metadata) | {"metadata": ome | _physical_sizes(metadata)}


def _camera_tags(exif: Mapping[str, Any]) -> list[tuple[int, int, int, Any, bool]]:
    """Return the values that TIFF has tags for, as `tifffile.imwrite` takes them."""
    tags: list[tuple[int, int, int, Any, bool]] = []
    for name, code in CAMERA_TAGS.items():
        value = exif.get(name)
        if isinstance(value, str):
            tags.append((code, 2, 0, value, True))
        elif isinstance(value, int | float) and name == "ISOSpeedRatings":
            tags.append((code, 3, 1, round(value), True))
        elif isinstance(value, int | float):
            fraction = Fraction(value).limit_denominator(1_000_000)
            tags.append((code, 5, 1, (fraction.numerator, fraction.denominator), True))
    return tags


def _resolution(metadata: ImageMetadata) -> dict[str, Any]:
    """Return pixels per centimeter, which ImageJ and others read instead of OME's sizes."""
    if metadata.unit == "pixel" or not metadata.has_pixel_size:
        return {}
    factor = conversion_factor(metadata.unit, "centimeter")
    height, width = (1 / (size * factor) for size in metadata.pixel_size)
    return {"resolution": (width, height), "resolutionunit": "CENTIMETER"}


def _physical_sizes(metadata: ImageMetadata) -> dict[str, Any]:
    if metadata.unit == "pixel" or not metadata.has_pixel_size:
        return {}
    symbol, (height, width) = unit_symbol(metadata.unit), metadata.pixel_size
    lengths = {"X": width, "Y": height}
    count, places = math.prod(metadata.leading_shape), {}
    if metadata.positions is not None:
        lengths["Z"] = metadata.plane_distance
        z = np.broadcast_to(metadata.positions, metadata.leading_shape).ravel()
        places["Z"] = z.tolist()
    if any(metadata.origin):
        places |= {axis: [place] * count for axis, place in zip("YX", metadata.origin, strict=True)}
    planes: dict[str, Any] = {f"Position{axis}": values for axis, values in places.items()}
    planes |= {f"Position{axis}Unit": [symbol] * count for axis in places}
    sizes = {f"PhysicalSize{axis}": length for axis, length in lengths.items()}
    units = {f"PhysicalSize{axis}Unit": symbol for axis in lengths}
    return sizes | units | ({"Plane": planes} if planes else {})
