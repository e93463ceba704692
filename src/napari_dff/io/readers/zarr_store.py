"""OME-Zarr 0.4 and 0.5 (images, bioformats2raw, plates), and bare Zarr arrays."""

import base64
import importlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.io.readers.axes import AXIS_ORDER, Source, StackError, as_dask_array, as_stack_error
from napari_dff.io.readers.calibration import UNCALIBRATED, Calibration, Length, make_calibration
from napari_dff.io.readers.regular_files import check_regular_tree
from napari_dff.io.records import ZARR_RECORD_KEY, read_json
from napari_dff.runtime.file_array import FileState, file_state

ZARR_FILES = (".zgroup", ".zarray", ".zattrs", "zarr.json")
METADATA_FILES = {*ZARR_FILES, ".zmetadata"}
DTYPE_SETTINGS = {"dtype", "astype", "encode_dtype", "decode_dtype"}  # of filters
SMALL_BYTES = 1_000_000  # of metadata, whose values take little memory
OME_ZARR_MODELS = {"image": "ImageAttrs", "hcs": "HCSAttrs", "well": "WellAttrs"}
BIOFORMATS2RAW_KEY = "bioformats2raw.layout"
AXIS_TYPES = {"time": "T", "channel": "C"}
MIN_CHUNK_SHARE = 0.01  # of the chunks; with fewer, reading is refused


def is_zarr(path: Path) -> bool:
    """Return whether a folder contains Zarr."""
    return path.suffix.lower() == ".zarr" or any((path / name).exists() for name in ZARR_FILES)


def zarr_sources(path: Path) -> list[Source]:
    """Return every image in OME-Zarr at full resolution, or one bare array, as lazy sources."""
    import zarr  # 0.3 s, needed only here

    with as_stack_error(f"{path.name} can't be read as Zarr"):
        check_zarr_tree(path)
        node = zarr.open(path, mode="r")
        if isinstance(node, zarr.Array):
            names = getattr(node.metadata, "dimension_names", None) or ()  # only Zarr 3
            axes = tuple(_axis_letter(name, None) for name in names)
            axes = axes or ("",) * (node.ndim - 2) + ("Y", "X")
            pixels, warnings = _lazy_pixels(path, node, axes)
            return [Source(pixels, axes, path.name, warnings=warnings)]
        sources = [_source(path, name, group) for name, group in _images(path, node)]
        if not sources:
            raise StackError(f"{path.name} is OME-Zarr that holds no images")
        return sources


def check_zarr_tree(folder: Path) -> None:
    """Raise an error if not all files are regular, or metadata would fill too much memory."""
    for entry in check_regular_tree(folder):
        if entry.name in METADATA_FILES and entry.stat().st_size > SMALL_BYTES:
            read_json(entry.path, "Zarr metadata")


def _images(path: Path, group: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and group of every image."""
    attributes = ome_attributes(group)
    if "plate" in attributes:
        for well in _validate(path, group, "hcs").plate.wells:
            if well.path in group:  # wells may be missing
                images = _images(path, group[well.path])
                yield from ((f"{well.path}/{name}", image) for name, image in images)
    elif "well" in attributes:
        for field in _validate(path, group, "well").well.images:
            yield field.path, _child(path, group, field.path)
    elif "multiscales" in attributes:
        yield "", group
    elif BIOFORMATS2RAW_KEY in attributes:
        series = ome_attributes(group["OME"]).get("series") if "OME" in group else None
        numbers = [str(i) for i in range(len(list(group.group_keys())))]
        for name in series or [number for number in numbers if number in group]:
            yield "", _child(path, group, name)
    else:
        arrays = ", ".join(sorted(group.array_keys())) or "none"
        raise StackError(
            f"{path.name} is a Zarr group without OME metadata: give one of its arrays ({arrays})"
        )


def _source(path: Path, name: str, group: Any) -> Source:
    image = _validate(path, group, "image").multiscales[0]
    dataset = image.datasets[0]
    array = _child(path, group, dataset.path)
    ndim = getattr(array, "ndim", "none")
    if ndim != len(image.axes):
        problem = f"{len(image.axes)} axes are named, {array.name} has {ndim}"
        raise StackError(f"{path.name} isn't valid OME-Zarr: {problem}")
    axes = tuple(_axis_letter(axis.name, axis.type) for axis in image.axes)
    omero = ome_attributes(group).get("omero")
    channels = omero.get("channels", []) if isinstance(omero, dict) else []
    labels = tuple(str(channel.get("label", "")) for channel in channels)
    name = name or str(image.name or "")
    pixels, warnings = _lazy_pixels(path, array, axes)
    calibration = _calibrate(image, axes, group)
    if _record(group).get("colour") and "C" in axes:
        pixels, axes = join_colours(pixels, axes.index("C")), (*axes, "S")
        labels = tuple(label.removesuffix("red").strip() for label in labels[::3])
    profile = _record(group).get("icc_profile", "")
    details: dict[str, Any] = {"warnings": warnings, "icc_profile": base64.b64decode(profile)}
    return Source(pixels, axes, path.name, name, labels, calibration, **details)


def join_colours(values: Any, channel_axis: int) -> Any:
    """Return (…, 3 · C, …, Y, X), of red, green and blue in turn, as (…, C, …, Y, X, 3)."""
    shape = (*values.shape[:channel_axis], -1, 3, *values.shape[channel_axis + 1 :])
    values = np.moveaxis(values.reshape(shape), channel_axis + 1, -1)
    return values.rechunk({values.ndim - 1: 3}) if hasattr(values, "rechunk") else values


def _record(group: Any) -> dict[str, Any]:
    """Return what this program has written beside the OME metadata."""
    record = group.attrs.get(ZARR_RECORD_KEY)
    return record if isinstance(record, dict) else {}


def _lazy_pixels(path: Path, array: Any, axes: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """Return the pixels, read on demand, and a message if chunks are missing."""
    from napari_dff.io.readers.bounded_zarr import BoundedArray  # imports zarr

    check_coders(path.name, array)
    states = _chunk_states(path, array)
    warnings = _chunk_warnings(path, array, len(states))
    return as_dask_array(BoundedArray(array, states), array.chunks, axes, path.name), warnings


def check_coders(file: str, array: Any) -> None:
    """Raise StackError for pickled pixels, which can run code, and filters of no numbers."""
    for coder in (*array.filters, *array.compressors):
        if getattr(coder, "codec_id", "") == "pickle":
            raise StackError(f"{file} has pickled pixels, which could run any program")
        is_old = hasattr(coder, "get_config")
        settings = coder.get_config() if is_old else coder.to_dict().get("configuration", {})
        for name in DTYPE_SETTINGS & settings.keys():
            dtype = np.dtype(settings[name])
            if dtype.kind not in "biufc":  # texts of any length, of which decoders make arrays
                raise StackError(f"{file} has a filter whose {name} must be numbers, got {dtype}")


def _chunk_states(path: Path, array: Any) -> dict[str, FileState]:
    """Return the states of the files of the chunks of an array, by their names in the store."""
    states: dict[str, FileState] = {}
    for folder, _, names in os.walk(path / array.path):
        prefix = Path(folder).relative_to(path).as_posix()
        prefix = "" if prefix == "." else f"{prefix}/"
        files = (name for name in names if name not in ZARR_FILES)
        states |= {prefix + name: file_state(f"{folder}/{name}") for name in files}
    return states


def _chunk_warnings(path: Path, array: Any, count: int) -> tuple[str, ...]:
    """Return a message if chunks of an array are missing; StackError if nearly all are."""
    chunks = array.shards or array.chunks
    chunk_count = math.prod(-(-n // each) for n, each in zip(array.shape, chunks, strict=True))
    missing = chunk_count - count
    message = f"{missing} of the {chunk_count} chunks of {path.name} are missing"
    if missing > (1 - MIN_CHUNK_SHARE) * chunk_count:
        raise StackError(message)
    value = array.fill_value or 0
    return (f"{message}; their pixels are set to {value}",) if missing > 0 else ()


def _axis_letter(name: object, kind: str | None) -> str:
    """Return the letter of an axis by its type, else by its name, else its name."""
    word = str(name or "")
    is_letter = len(word) == 1 and word.upper() in AXIS_ORDER
    return AXIS_TYPES.get(kind or "") or (word.upper() if is_letter else word)


def _calibrate(image: Any, axes: tuple[str, ...], group: Any) -> Calibration:
    """Combine scales and translations of the full resolution, then of the whole image."""
    scale, shift = [1.0] * len(axes), [0.0] * len(axes)
    first, then = image.datasets[0].coordinateTransformations, image.coordinateTransformations
    for transform in (*first, *(then or ())):
        factors = getattr(transform, "scale", None)
        offsets = getattr(transform, "translation", None)
        if isinstance(factors, list):
            scale = [old * new for old, new in zip(scale, factors, strict=True)]
            shift = [old * new for old, new in zip(shift, factors, strict=True)]
        elif isinstance(offsets, list):
            shift = [old + new for old, new in zip(shift, offsets, strict=True)]
        else:  # parameters in a separate array are not supported
            return UNCALIBRATED
    sizes = (Length(size, axis.unit) for size, axis in zip(scale, image.axes, strict=True))
    lengths = dict(zip(axes, sizes, strict=True))
    z, y, x = (lengths.get(axis, Length()) for axis in "ZYX")
    start = dict(zip(axes, shift, strict=True)).get("Z", 0.0)
    positions, focus_positions = _record(group).get("positions"), None
    if "X" in lengths and positions and np.ndim(positions) == 1:
        focus_positions = np.array([positions], float), x.unit
    calibration = make_calibration(z, y, x, start=start, focus_positions=focus_positions)
    return calibration.with_time_increment(*lengths.get("T", Length()))


def ome_attributes(group: Any) -> dict[str, Any]:
    """Return the OME metadata of a group, of version 0.4 or 0.5."""
    attributes = dict(group.attrs)
    return dict(attributes.get("ome", attributes))  # "ome": version 0.5


def _child(path: Path, group: Any, name: str) -> Any:
    try:
        return group[name]
    except KeyError as error:
        missing_path = f"{group.path}/{name}".strip("/")
        raise StackError(f"{path.name} isn't valid OME-Zarr: {missing_path} is missing") from error


def _validate(path: Path, group: Any, kind: str) -> Any:
    """Return the metadata of a group, validated except for display settings; or StackError."""
    import pydantic

    version = "v05" if "ome" in group.attrs else "v04"
    models = importlib.import_module(f"ome_zarr_models.{version}.{kind}")
    attributes = ome_attributes(group)
    attributes.pop("omero", None)
    try:
        return getattr(models, OME_ZARR_MODELS[kind]).model_validate(attributes)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"])
        message = " ".join(first["msg"].removeprefix("Value error, ").split())
        raise StackError(f"{path.name} isn't valid OME-Zarr: {field}: {message}") from error
