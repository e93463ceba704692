"""OME-Zarr 0.4 and 0.5: single images, several of bioformats2raw, plates; and bare Zarr arrays."""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.io.axes import ORDER, Source, StackError, reason, unread
from napari_dff.io.calibration import UNCALIBRATED, Calibration, Length, calibration

MARKS = (".zgroup", ".zarray", ".zattrs", "zarr.json")
MODELS = {"image": "ImageAttrs", "hcs": "HCSAttrs", "well": "WellAttrs"}
LAYOUT = "bioformats2raw.layout"
TYPES = {"time": "T", "channel": "C"}
FEW = 0.01  # share of the chunks, of which fewer are nothing to work with


def is_zarr(path: Path) -> bool:
    """Whether a folder holds Zarr."""
    return path.suffix.lower() == ".zarr" or any((path / mark).exists() for mark in MARKS)


def zarr_sources(path: Path) -> list[Source]:
    """Every image in OME-Zarr, unread, at its full resolution; or one bare array."""
    try:
        return _sources(path)
    except StackError:
        raise
    except Exception as error:  # zarr raises many kinds for a broken one
        raise StackError(f"{path.name} can't be read as Zarr: {reason(error)}") from error


def _sources(path: Path) -> list[Source]:
    import zarr  # 0.3 s, needed only here

    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        named = getattr(node.metadata, "dimension_names", None)  # Zarr 3 has them
        axes = tuple(_axis(name, None) for name in named) if named else ()
        axes = axes or ("",) * (node.ndim - 2) + ("Y", "X")
        doubts = _lacking(path, node)
        return [Source(_pixels(path, node, axes), axes, path.name, doubts=doubts)]
    found = [_source(path, name, group) for name, group in _images(path, node)]
    if not found:
        raise StackError(f"{path.name} is OME-Zarr that holds no images")
    return found


def _images(path: Path, group: Any) -> Iterator[tuple[str, Any]]:
    """Name and group of every image."""
    attributes = _attributes(group)
    if "plate" in attributes:
        for well in _checked(path, group, "hcs").plate.wells:
            if well.path in group:  # wells needn't all be there
                inside = _images(path, group[well.path])
                yield from ((f"{well.path}/{name}", image) for name, image in inside)
    elif "well" in attributes:
        for field in _checked(path, group, "well").well.images:
            yield field.path, _child(path, group, field.path)
    elif "multiscales" in attributes:
        yield "", group
    elif LAYOUT in attributes:
        listed = _attributes(group["OME"]).get("series") if "OME" in group else None
        numbers = [str(i) for i in range(len(list(group.group_keys())))]
        for name in listed or [number for number in numbers if number in group]:
            yield "", _child(path, group, name)
    else:
        arrays = ", ".join(sorted(group.array_keys())) or "none"
        raise StackError(
            f"{path.name} is a Zarr group without OME metadata: give one of its arrays ({arrays})"
        )


def _source(path: Path, name: str, group: Any) -> Source:
    image = _checked(path, group, "image").multiscales[0]
    largest = image.datasets[0]
    array = _child(path, group, largest.path)
    if getattr(array, "ndim", 0) != len(image.axes):
        raise StackError(
            f"{path.name} isn't valid OME-Zarr: {len(image.axes)} axes are named, "
            f"{array.name} has {getattr(array, 'ndim', 'none')}"
        )
    doubts = _lacking(path, array)
    axes = tuple(_axis(axis.name, axis.type) for axis in image.axes)
    omero = _attributes(group).get("omero")
    channels = omero.get("channels", []) if isinstance(omero, dict) else []
    return Source(
        _pixels(path, array, axes),
        axes,
        path.name,
        name or str(image.name or ""),
        tuple(str(channel.get("label", "")) for channel in channels),
        _with_heights(_calibration(image, axes), group),
        doubts,
    )


def _pixels(path: Path, array: Any, axes: tuple[str, ...]) -> Any:
    """Pixels of an array, unread."""
    check_unpickled(path.name, array)
    return unread(array, array.chunks, axes, path.name)


def check_unpickled(file: str, array: Any) -> None:
    """StackError where the pixels of a Zarr array are made by running what lies in its chunks."""
    coders = (*array.filters, *array.compressors)
    if any(getattr(coder, "codec_id", "") == "pickle" for coder in coders):
        raise StackError(f"{file} has pickled pixels, which could run any program")


def _lacking(path: Path, array: Any) -> tuple[str, ...]:
    """What is to be said of the chunks of an array: how many are missing.

    StackError where that are nearly all, as where its metadata claims more than was ever written.
    """
    together = array.shards or array.chunks
    wanted = math.prod(-(-n // each) for n, each in zip(array.shape, together, strict=True))
    files = (name for *_, names in os.walk(path / array.path) for name in names)
    missing = wanted - sum(name not in MARKS for name in files)
    if missing > (1 - FEW) * wanted:
        raise StackError(f"{path.name} lacks {missing} of its {wanted} chunks of pixels")
    if missing <= 0:
        return ()
    return (
        f"{path.name} lacks {missing} of its {wanted} chunks of pixels, taken as "
        f"{array.fill_value or 0}: that's right only where nothing was to be seen",
    )


def _with_heights(found: Calibration, group: Any) -> Calibration:
    """With the focus position of every plane, where we wrote it: scale and shift tell no others."""
    record = dict(group.attrs).get("napari-dff")
    written = record.get("positions") if isinstance(record, dict) else None
    if found.unit == "pixel" or not written or np.ndim(written) != 1:
        return found
    return dataclasses.replace(found, heights=np.array([written], float))


def _axis(name: object, kind: str | None) -> str:
    """Letter of an axis: its type's where that tells, else its name's, else its name."""
    word = str(name or "")
    letter = word.upper()
    return TYPES.get(kind or "") or (letter if len(word) == 1 and letter in ORDER else word)


def _calibration(image: Any, axes: tuple[str, ...]) -> Calibration:
    """Scales and translations of the full resolution, then of the whole image."""
    scale, shift = [1.0] * len(axes), [0.0] * len(axes)
    moves = (*image.datasets[0].coordinateTransformations, *(image.coordinateTransformations or ()))
    for move in moves:
        factors, offsets = getattr(move, "scale", None), getattr(move, "translation", None)
        if isinstance(factors, list):
            scale = [old * new for old, new in zip(scale, factors, strict=True)]
            shift = [old * new for old, new in zip(shift, factors, strict=True)]
        elif isinstance(offsets, list):
            shift = [old + new for old, new in zip(shift, offsets, strict=True)]
        else:  # numbers in an array of their own, which nobody writes
            return UNCALIBRATED
    sizes = {
        name: Length(size, axis.unit)
        for name, size, axis in zip(axes, scale, image.axes, strict=True)
    }
    z, y, x = (sizes.get(axis) for axis in "ZYX")
    return calibration(z, y, x, start=dict(zip(axes, shift, strict=True)).get("Z", 0.0))


def _attributes(group: Any) -> dict[str, Any]:
    attributes = dict(group.attrs)
    return dict(attributes.get("ome", attributes))  # 0.5 has all in "ome"


def _child(path: Path, group: Any, name: str) -> Any:
    try:
        return group[name]
    except KeyError as error:
        where = f"{group.path}/{name}".strip("/")
        raise StackError(f"{path.name} isn't valid OME-Zarr: {where} is missing") from error


def _checked(path: Path, group: Any, kind: str) -> Any:
    """Metadata of a group, checked against the specification; how it is shown counts for nothing.

    Raises
    ------
    StackError
        Where it isn't as specified; says what isn't.
    """
    import pydantic

    version = "v05" if "ome" in group.attrs else "v04"
    model = getattr(importlib.import_module(f"ome_zarr_models.{version}.{kind}"), MODELS[kind])
    attributes = _attributes(group)
    attributes.pop("omero", None)
    try:
        return model.model_validate(attributes)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        why = " ".join(first["msg"].removeprefix("Value error, ").split())
        raise StackError(f"{path.name} isn't valid OME-Zarr: {place}: {why}") from error
