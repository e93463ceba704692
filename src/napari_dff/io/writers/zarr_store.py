"""OME-Zarr 0.4 in Zarr format 2, which all programs that read OME-Zarr open.

zarr and ome_zarr_models take 0.5 s to import, therefore only where they are used.
"""

import itertools
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from napari_dff.io.image_metadata import ImageMetadata
from napari_dff.io.records import ZARR_RECORD_KEY
from napari_dff.runtime.windows import Window

CHUNK_SIZE_PX = 512
AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
RGB_COLOURS = {"red": "FF0000", "green": "00FF00", "blue": "0000FF"}
CHANNEL_COLOURS = ("FF00FF", "00FF00", "00FFFF", "FFFF00", "FF0000", "0000FF")  # as in napari


class OmeZarrWriter:
    """A compressed OME-Zarr image, written window by window; colour becomes three channels."""

    def __init__(self, path: Path, metadata: ImageMetadata) -> None:
        import zarr
        from numcodecs import Blosc  # type: ignore[import-untyped]

        self._metadata, self._lock = metadata, Lock()
        axes, shape = _axes_and_shape(metadata)
        chunk = [min(size, CHUNK_SIZE_PX) for size in shape[-2:]]
        attributes = _attributes(path, metadata)
        self._group = zarr.create_group(path, zarr_format=2, attributes=attributes)
        self._array: Any = self._group.create_array(
            "0",
            shape=shape,
            dtype=metadata.dtype,
            chunks=(*(1 for _ in axes[:-2]), *chunk),
            compressors=Blosc("zstd", clevel=1, shuffle=Blosc.SHUFFLE),
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )

    def write(self, values: np.ndarray, window: Window, index: tuple[int, ...]) -> None:
        """Write a window of a plane."""
        if self._metadata.is_colour:
            values = np.moveaxis(values, -1, 0)
        with self._lock:  # windows may share a chunk
            self._array[self._array_index(window, index)] = values

    def read(self, window: Window, index: tuple[int, ...]) -> np.ndarray:
        """Read a window of a plane."""
        with self._lock:
            values = np.asarray(self._array[self._array_index(window, index)])
        return np.moveaxis(values, 0, -1) if self._metadata.is_colour else values

    def set_display_ranges(self, ranges: list[tuple[float, float]]) -> None:
        """Store the lowest and highest value to display of each channel."""
        self._group.attrs.update(_omero_channels(self._metadata, ranges))

    def _array_index(self, window: Window, index: tuple[int, ...]) -> tuple[int | slice, ...]:
        axes = self._metadata.axes
        by_axis: dict[str, int | slice] = dict(zip(axes, index, strict=False))
        if self._metadata.is_colour:
            first = 3 * (index[axes.index("C")] if "C" in by_axis else 0)
            by_axis["C"] = slice(first, first + 3)
        return (*(by_axis[a] for a in "TCZ" if a in by_axis), *window.slices)


def _axes_and_shape(metadata: ImageMetadata) -> tuple[str, tuple[int, ...]]:
    """Return axes, in the order t, c, z, y, x of OME-Zarr, and the shape along them."""
    sizes = dict(zip(metadata.axes, metadata.shape, strict=True))
    sizes["C"] = sizes.get("C", 1) * sizes.pop("S", 1)
    axes = "".join(a for a in "TCZYX" if a in metadata.axes or (a == "C" and metadata.is_colour))
    return axes.lower(), tuple(sizes[a] for a in axes)


def _attributes(path: Path, metadata: ImageMetadata) -> dict[str, Any]:
    from ome_zarr_models.v04.image import ImageAttrs

    (axes, _), positions = _axes_and_shape(metadata), metadata.first_positions
    spacing = dict(zip("yx", metadata.pixel_size, strict=True))
    if positions:
        spacing["z"] = metadata.plane_distance
    unit = {} if metadata.unit == "pixel" else {"unit": metadata.unit}
    axis_list = [{"name": a, "type": AXIS_TYPES[a], **(unit if a in "zyx" else {})} for a in axes]
    scale = [float(spacing.get(a, 1.0)) for a in axes]
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    origin = dict(zip("yx", metadata.origin, strict=True), z=positions[0] if positions else 0.0)
    if positions or any(metadata.origin):
        places = [float(origin.get(a, 0.0)) for a in axes]
        transforms.append({"type": "translation", "translation": places})
    image = {
        "version": "0.4",
        "name": path.name.removesuffix(".zarr").removesuffix(".ome"),
        "axes": axis_list,
        "datasets": [{"path": "0", "coordinateTransformations": transforms}],
    }
    attributes: dict[str, Any] = {"multiscales": [image]}
    if "c" in axes:
        full_range = _dtype_range(metadata.dtype) or (0.0, 1.0)
        attributes |= _omero_channels(metadata, [full_range] * max(1, len(metadata.channels)))
    ImageAttrs.model_validate(attributes)
    record = {**(metadata.record or {}), **({"positions": positions} if positions else {})}
    return attributes | ({ZARR_RECORD_KEY: record} if record else {})


def _omero_channels(metadata: ImageMetadata, ranges: list[tuple[float, float]]) -> dict[str, Any]:
    """Return names, colours and display ranges as OMERO metadata; empty without an axis c."""
    if not (metadata.is_colour or "C" in metadata.axes):
        return {}
    names = metadata.channels or ("",)
    dtype_range = _dtype_range(metadata.dtype)
    colours, channels = itertools.cycle(CHANNEL_COLOURS), []
    for name, colour, (low, high) in zip(names, colours, ranges, strict=False):
        limits = map(float, (*(dtype_range or (low, high)), low, high))
        window = dict(zip(("min", "max", "start", "end"), limits, strict=True))
        labels: dict[str, str] = {name: colour}
        if metadata.is_colour:
            labels = {f"{name} {primary}".strip(): c for primary, c in RGB_COLOURS.items()}
        style = {"window": window, "active": True}
        channels += [{"label": label, "color": c, **style} for label, c in labels.items()]
    return {"omero": {"version": "0.4", "channels": channels}}


def _dtype_range(dtype: np.dtype[Any]) -> tuple[float, float] | None:
    """Return the lowest and highest value of an integer type; None for floats."""
    return (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "ui" else None
