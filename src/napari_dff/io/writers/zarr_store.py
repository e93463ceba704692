"""OME-Zarr 0.5 in Zarr format 3, and 0.4 in Zarr format 2, for programs that read no other.

zarr and ome_zarr_models take 0.5 s to import, therefore only where they are used.
"""

import base64
import itertools
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np

from napari_dff.imaging.images import as_dtype, block_means
from napari_dff.io.image_metadata import ImageMetadata, image_name
from napari_dff.io.records import ZARR_RECORD_KEY
from napari_dff.runtime.windows import Window

CHUNK_SIZE_PX = 512
MAX_LEVEL_PX = 1024  # height and width of the smallest level; larger images get one more
CV2_DTYPES = ("uint8", "uint16", "int16", "float32", "float64")  # supported by cv2.resize
AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
RGB_COLOURS = {"red": "FF0000", "green": "00FF00", "blue": "0000FF"}
CHANNEL_COLOURS = ("FF00FF", "00FF00", "00FFFF", "FFFF00", "FF0000", "0000FF")  # as in napari
Version = Literal["0.4", "0.5"]


class OmeZarrWriter:
    """A compressed OME-Zarr image, written window by window; colour becomes three channels.

    `finish` adds the levels of the pyramid, each of half the height and width of the one before.
    """

    def __init__(self, path: Path, metadata: ImageMetadata, version: Version = "0.5") -> None:
        import zarr

        self._metadata, self._version, self._lock = metadata, version, Lock()
        axes, shape = _axes_and_shape(metadata)
        attributes = _attributes(path, metadata, version)
        self._group = zarr.create_group(
            path, zarr_format=3 if version == "0.5" else 2, attributes=attributes
        )
        self._levels = [self._create_array(k, axes, shape) for k in range(_level_count(shape))]
        self._array = self._levels[0]

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

    def finish(self, ranges: Sequence[tuple[float, float]] = ()) -> None:
        """Write the reduced levels, and the lowest and highest value to display of each channel."""
        for source, target in itertools.pairwise(self._levels):
            corners = (range(0, n, CHUNK_SIZE_PX) for n in target.shape[-2:])
            for *index, y, x in itertools.product(*map(range, target.shape[:-2]), *corners):
                large = slice(2 * y, 2 * (y + CHUNK_SIZE_PX)), slice(2 * x, 2 * (x + CHUNK_SIZE_PX))
                small = slice(y, y + CHUNK_SIZE_PX), slice(x, x + CHUNK_SIZE_PX)
                target[(*index, *small)] = self._halve(np.asarray(source[(*index, *large)]))
        if ranges:
            omero = _omero_channels(self._metadata, self._version, ranges)
            ome: Any = self._group.attrs.get("ome")
            self._group.attrs.update({"ome": ome | omero} if ome else omero)

    def _create_array(self, level: int, axes: str, shape: tuple[int, ...]) -> Any:
        leading, plane = shape[:-2], [-(-n // 2**level) for n in shape[-2:]]
        settings: dict[str, Any] = {"config": {"write_empty_chunks": True}}  # others are missing
        if self._version == "0.5":
            from zarr.codecs import BloscCodec

            settings["compressors"] = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
            settings["dimension_names"] = list(axes)
        else:
            from numcodecs import Blosc  # type: ignore[import-untyped]

            settings["compressors"] = Blosc("zstd", clevel=1, shuffle=Blosc.SHUFFLE)
            settings["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
        return self._group.create_array(
            str(level),
            shape=(*leading, *plane),
            dtype=self._metadata.dtype,
            chunks=(*(1 for _ in leading), *(min(n, CHUNK_SIZE_PX) for n in plane)),
            **settings,
        )

    def _halve(self, block: np.ndarray) -> np.ndarray:
        """Return means of 2 × 2 pixels; of values without means, every second pixel."""
        if not self._metadata.has_means:
            return block[::2, ::2]
        is_supported = block.dtype.name in CV2_DTYPES
        values = block_means(block if is_supported else block.astype(np.float64), 2)
        return values if is_supported else as_dtype(values, block.dtype)

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


def _level_count(shape: tuple[int, ...]) -> int:
    """Return the number of levels: the smallest has at most `MAX_LEVEL_PX` rows and columns."""
    return 1 + max(0, (-(-max(shape[-2:]) // MAX_LEVEL_PX) - 1).bit_length())


def _attributes(path: Path, metadata: ImageMetadata, version: Version) -> dict[str, Any]:
    import ome_zarr_models.v04.image
    import ome_zarr_models.v05.image

    (axes, shape), positions = _axes_and_shape(metadata), metadata.first_positions
    units = {} if metadata.unit == "pixel" else dict.fromkeys("zyx", metadata.unit)
    if metadata.time_increment:
        units["t"] = "second"
    axis_list = [
        {"name": a, "type": AXIS_TYPES[a], **({"unit": units[a]} if a in units else {})}
        for a in axes
    ]
    image: dict[str, Any] = {"version": version} if version == "0.4" else {}
    image |= {
        "name": image_name(path),
        "axes": axis_list,
        "datasets": [
            {"path": str(k), "coordinateTransformations": _transforms(metadata, axes, 2**k)}
            for k in range(_level_count(shape))
        ],
    }
    ome: dict[str, Any] = {"multiscales": [image]}
    if "c" in axes:
        full_range = _dtype_range(metadata.dtype) or (0.0, 1.0)
        ranges = [full_range] * max(1, len(metadata.channels))
        ome |= _omero_channels(metadata, version, ranges)
    if version == "0.5":
        ome["version"] = version
        ome_zarr_models.v05.image.ImageAttrs.model_validate(ome)
    else:
        ome_zarr_models.v04.image.ImageAttrs.model_validate(ome)
    record = {
        **(metadata.record or {}),
        **({"positions": positions} if positions else {}),
        **({"values": metadata.value_name} if metadata.value_name else {}),
    }
    if metadata.is_colour:
        record["colour"] = True  # so that the reader joins red, green and blue
    if metadata.icc_profile:
        record["icc_profile"] = base64.b64encode(metadata.icc_profile).decode()
    attributes = {"ome": ome} if version == "0.5" else ome
    return attributes | ({ZARR_RECORD_KEY: record} if record else {})


def _transforms(metadata: ImageMetadata, axes: str, factor: int) -> list[dict[str, Any]]:
    """Return scale and translation of a level whose pixels are `factor` times as large."""
    positions, (height, width) = metadata.first_positions, metadata.pixel_size
    scale = {"y": factor * height, "x": factor * width, "t": metadata.time_increment or 1.0}
    origin = dict(zip("yx", metadata.origin, strict=True))
    if factor > 1 and metadata.has_means:  # the centre of the first pixel is between others
        origin = {a: origin[a] + (factor - 1) / 2 * scale[a] / factor for a in "yx"}
    if positions:
        scale["z"], origin["z"] = metadata.plane_distance, positions[0]
    transforms: list[dict[str, Any]] = [
        {"type": "scale", "scale": [float(scale.get(a, 1.0)) for a in axes]}
    ]
    if positions or any(origin.values()):
        places = [float(origin.get(a, 0.0)) for a in axes]
        transforms.append({"type": "translation", "translation": places})
    return transforms


def _omero_channels(
    metadata: ImageMetadata, version: Version, ranges: Sequence[tuple[float, float]]
) -> dict[str, Any]:
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
    return {"omero": {"version": version, "channels": channels}}


def _dtype_range(dtype: np.dtype[Any]) -> tuple[float, float] | None:
    """Return the lowest and highest value of an integer type; None for floats."""
    return (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "ui" else None
