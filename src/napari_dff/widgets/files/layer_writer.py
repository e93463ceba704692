"""Save a layer as OME-TIFF or OME-Zarr, with its look and metadata: it opens again as it was."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Image, Labels, Layer

import napari_dff
from napari_dff.io.image_metadata import ImageMetadata
from napari_dff.io.records import to_json_value
from napari_dff.io.writers.images import write_array
from napari_dff.model.acquisition import CHANNEL_LABELS
from napari_dff.model.units import EXPONENTS
from napari_dff.runtime.lazy import as_indexable
from napari_dff.widgets.app.axes import leading_axis_names
from napari_dff.widgets.app.layers import (
    pixel_size_of,
    planes_of,
    plugin_metadata,
    positions_of,
    unit_of,
)

SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".zarr")
AXIS_LETTERS = {"t": "T", "time": "T", "z": "Z", **dict.fromkeys(CHANNEL_LABELS, "C")}
SAVED_METADATA = (
    *("role", "root", "step", "settings", "recipe", "positions", "transforms", "focus_channel"),
    *("channels", "input"),
)


class SaveError(OSError):
    """Layers that cannot be saved.

    Not a ValueError, which napari takes for "this plugin does not write this kind of file".
    """


def write_image(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write an image layer as OME-TIFF or OME-Zarr, and return its path.

    Raises
    ------
    SaveError
        If its axes have no names, or names that these formats do not have.
    """
    with as_save_error():
        return [_write_layer(Path(path), Layer.create(data, meta, "image"))]


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a labels layer in the same way."""
    with as_save_error():
        return [_write_layer(Path(path), Layer.create(data, meta, "labels"))]


@contextlib.contextmanager
def as_save_error() -> Iterator[None]:
    """Raise a SaveError instead of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise SaveError(str(error)) from error


def _write_layer(path: Path, layer: Image | Labels) -> str:
    if not path.name.lower().endswith(SUFFIXES):
        path = path.with_name(f"{path.name}.ome.tif")
    axes, unit = _FileAxes.of(layer), unit_of(layer)
    data = axes.arrange(as_indexable(planes_of(layer), layer.ndim - 2))
    if getattr(layer, "rgb", False):
        data = data[..., :3]
    positions = None
    if "Z" in axes.letters:
        positions = positions_of(layer)
        positions = axes.arrange(positions) if positions.ndim > 1 else positions
    metadata = ImageMetadata(
        axes.letters,
        tuple(data.shape),
        _file_dtype(layer),
        pixel_size_of(layer),
        unit if unit in EXPONENTS else "pixel",
        positions,
        channels=_channel_names(layer) if "C" in axes.letters else (),
        record=_layer_record(layer, axes),
    )
    limits: tuple[float, float] | None = None
    if "C" in axes.letters and isinstance(layer, Image) and not layer.rgb:
        limits = float(layer.contrast_limits[0]), float(layer.contrast_limits[1])
    write_array(path, data, metadata, display_range=limits)
    return str(path)


class _FileAxes(NamedTuple):
    """The axes of a layer in the order of a file: T, C, Z, Y, X, S, without those of length 1.

    Attributes
    ----------
    letters : str
        Of the axes in the file.
    is_kept : list of bool
        For each axis of the layer before Y: whether it is longer than 1.
    order : list of int
        For each axis in the file before Y: its number among the kept axes of the layer.
    """

    letters: str
    is_kept: list[bool]
    order: list[int]

    @classmethod
    def of(cls, layer: Image | Labels) -> "_FileAxes":
        """Return the axes of a layer; ValueError if a file cannot have one of them."""
        is_kept = [n > 1 for n in planes_of(layer).shape[: layer.ndim - 2]]
        names = [name for name, keep in zip(_axis_names(layer), is_kept, strict=True) if keep]
        letters = [AXIS_LETTERS.get(name, "") for name in names]
        if "" in letters:
            raise ValueError(
                f"OME-TIFF and OME-Zarr have no axis {names[letters.index('')]!r}, only T, C, Z, Y "
                f"and X: save {layer.name!r} in parts"
            )
        if len(set(letters)) < len(letters):
            raise ValueError(f"two axes of {layer.name!r} have one meaning: {', '.join(names)}")
        order = sorted(range(len(letters)), key=lambda i: "TCZ".index(letters[i]))
        samples = "S" if getattr(layer, "rgb", False) else ""
        return cls("".join(letters[i] for i in order) + "YX" + samples, is_kept, order)

    @property
    def is_reordered(self) -> bool:
        """Whether the file has another order of axes than the layer."""
        return self.order != sorted(self.order)

    def arrange(self, values: Any) -> Any:
        """Return an array with the axes of the layer before Y, and others, as the file has it."""
        values = values[tuple(slice(None) if keep else 0 for keep in self.is_kept)]
        others = range(len(self.order), values.ndim)
        return values.transpose([*self.order, *others]) if self.is_reordered else values


def _axis_names(layer: Layer) -> list[str]:
    """Return the names of the axes before Y; ValueError if they have none."""
    if layer.ndim != 3:
        return [*leading_axis_names(layer), "z"][: layer.ndim - 2]
    name = layer.axis_labels[0].strip().lower()
    return [name if name in AXIS_LETTERS else "z"]


def _file_dtype(layer: Image | Labels) -> np.dtype[Any]:
    """Return a type of OME-TIFF that holds all values of a layer."""
    dtype = np.dtype(planes_of(layer).dtype)
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "f" and dtype.itemsize == 2:
        return np.dtype(np.float32)
    if dtype.kind not in "ui" or dtype.itemsize < 8:
        return dtype
    if isinstance(layer, Image):
        return np.dtype(np.float64)
    values = np.asarray(layer.data)
    for kind in (np.uint32, np.int32):
        if np.iinfo(kind).min <= values.min() and values.max() <= np.iinfo(kind).max:
            return np.dtype(kind)
    raise ValueError(f"labels of {layer.name!r} must be below 2³², got {values.max()}")


def _channel_names(layer: Layer) -> tuple[str, ...]:
    """Return the names of the channels, if there is one for each."""
    names = tuple(map(str, plugin_metadata(layer).get("channels", ())))
    axes = zip(_axis_names(layer), planes_of(layer).shape, strict=False)
    return names if any(axis in CHANNEL_LABELS and n == len(names) for axis, n in axes) else ()


def _layer_record(layer: Image | Labels, axes: _FileAxes) -> dict[str, Any]:
    """Return look and metadata of a layer as plain JSON, for `layer_data.saved_layer`."""
    metadata = plugin_metadata(layer)
    record: dict[str, Any] = {
        "kind": "labels" if isinstance(layer, Labels) else "image",
        "name": layer.name,
        "shape": list(planes_of(layer).shape[: layer.ndim]),
        "order": axes.order if axes.is_reordered else [],
        "scale": layer.scale,
        "translate": layer.translate,
        "units": [str(unit) for unit in layer.units],
        "axis_labels": list(layer.axis_labels),
        "visible": True,
        "ours": {key: value for key, value in metadata.items() if key in SAVED_METADATA},
    }
    if isinstance(layer, Image):
        record["rgb"] = bool(layer.rgb)
        if not layer.rgb:
            record["contrast_limits"] = [float(v) for v in layer.contrast_limits]
            record["colormap"] = layer.colormap.name
    text = json.dumps(
        {"napari_dff": napari_dff.__version__, "layer": record}, default=to_json_value
    )
    return dict(json.loads(text))
