"""Save a layer as OME-TIFF or OME-Zarr, with its look and metadata: it opens again as it was."""

import contextlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Image, Labels, Layer

import napari_dff
from napari_dff.io.image_metadata import ImageMetadata
from napari_dff.io.records import to_json_value, without_folders
from napari_dff.io.writers.images import write_array
from napari_dff.model.units import EXPONENTS
from napari_dff.runtime.lazy import as_indexable
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.axes import FILE_AXES, check_axis_order, leading_axis_names

SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".zarr")
SAVED_METADATA = (
    *("role", "root", "step", "settings", "recipe", "positions", "transforms", "focus_channel"),
    *("channels", "input", "retouched"),
)


class SaveError(OSError):
    """Layers that cannot be saved.

    Not a ValueError, which napari takes for "this plugin does not write this kind of file".
    """


@contextlib.contextmanager
def as_save_error() -> Iterator[None]:
    """Raise a SaveError instead of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise SaveError(str(error)) from error


@as_save_error()
def write_layer(kind: str, path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a layer as OME-TIFF or OME-Zarr; SaveError if the format cannot have its axes."""
    layer, file = Layer.create(data, meta, kind), Path(path)
    if not file.name.lower().endswith(SUFFIXES):
        file = file.with_name(f"{file.name}.ome.tif")
    axes, unit, rgb = _FileAxes.of(layer), layers.unit_of(layer), getattr(layer, "rgb", False)
    planes, positions = layers.full_values(layer), None
    if "Z" in axes.letters:
        leading = planes.shape[: layer.ndim - 2]
        positions = axes.arrange(np.broadcast_to(layers.positions_of(layer), leading))
    data = axes.arrange(as_indexable(planes, layer.ndim - 2))
    data = data[..., :3] if rgb else data
    channels = data.shape[axes.letters.index("C")] if "C" in axes.letters else 0
    metadata = ImageMetadata(
        axes.letters,
        tuple(data.shape),
        _file_dtype(layer),
        layers.pixel_size_of(layer),
        unit if unit in EXPONENTS else "pixel",
        positions,
        channels=layers.channel_names(layer, channels),
        record=_layer_record(layer, axes),
        time_increment=layers.plugin_metadata(layer).get("input", {}).get("time_increment"),
        has_means=kind == "image",
    )
    limits: tuple[float, float] | None = None
    if channels and kind == "image" and not rgb:
        limits = float(layer.contrast_limits[0]), float(layer.contrast_limits[1])
    write_array(file, data, metadata, display_range=limits)
    return [str(file)]


write_image = partial(write_layer, "image")
write_labels = partial(write_layer, "labels")


class _FileAxes(NamedTuple):
    """The axes of a layer in the order of a file: T, C, Z, Y, X, S, without those of length 1."""

    letters: str  # of the axes in the file
    is_kept: list[bool]  # for each axis of the layer before Y: whether it is longer than 1
    order: list[int]  # of the kept axes of the layer in the file; empty if it is the same

    @classmethod
    def of(cls, layer: Image | Labels) -> "_FileAxes":
        """Return the axes of a layer; ValueError if a file cannot have one of them."""
        check_axis_order(layer)
        is_kept = [n > 1 for n in layers.planes_of(layer).shape[: layer.ndim - 2]]
        if layer.ndim == 3:
            name = layer.axis_labels[0].strip().lower()
            names = [name if name in FILE_AXES else "z"]
        else:
            names = [*leading_axis_names(layer), "z"][: layer.ndim - 2]
        names = [name for name, keep in zip(names, is_kept, strict=True) if keep]
        letters = [FILE_AXES.get(name, "") for name in names]
        if "" in letters:
            raise ValueError(
                f"OME-TIFF and OME-Zarr have no axis {names[letters.index('')]!r}, only T, C, Z, Y "
                f"and X: save {layer.name!r} in parts"
            )
        if len(set(letters)) < len(letters):
            raise ValueError(f"two axes of {layer.name!r} have one meaning: {', '.join(names)}")
        order = sorted(range(len(letters)), key=lambda i: "TCZ".index(letters[i]))
        samples = "S" if getattr(layer, "rgb", False) else ""
        sorted_letters = "".join(letters[i] for i in order) + "YX" + samples
        return cls(sorted_letters, is_kept, order if order != sorted(order) else [])

    def arrange(self, values: Any) -> Any:
        """Return an array with the axes of the layer before Y, and others, as the file has it."""
        values = values[tuple(slice(None) if keep else 0 for keep in self.is_kept)]
        if not self.order:
            return values
        return values.transpose([*self.order, *range(len(self.order), values.ndim)])


def _file_dtype(layer: Image | Labels) -> np.dtype[Any]:
    dtype = np.dtype(layers.planes_of(layer).dtype)
    if dtype.kind not in "ui" or dtype.itemsize < 8:
        return np.dtype({"bool": "uint8", "float16": "float32"}.get(dtype.name, dtype))
    if isinstance(layer, Image):
        return np.dtype(np.float64)
    values = np.asarray(layer.data)
    for kind in (np.uint32, np.int32):
        if np.iinfo(kind).min <= values.min() and values.max() <= np.iinfo(kind).max:
            return np.dtype(kind)
    raise ValueError(f"labels of {layer.name!r} must be below 2³², got {values.max()}")


def _layer_record(layer: Image | Labels, axes: _FileAxes) -> dict[str, Any]:
    """Return look and metadata of a layer as plain JSON, for `layer_data.saved_layer`."""
    metadata = layers.plugin_metadata(layer)
    record: dict[str, Any] = {
        "kind": "labels" if isinstance(layer, Labels) else "image",
        "name": layer.name,
        "shape": list(layers.planes_of(layer).shape[: layer.ndim]),
        "order": axes.order,
        "scale": layer.scale,
        "translate": layer.translate,
        "units": layers.units_of(layer),
        "axis_labels": list(layer.axis_labels),
        "visible": True,
        "ours": {key: value for key, value in metadata.items() if key in SAVED_METADATA},
    }
    if "input" in metadata:
        record["ours"]["input"] = without_folders(metadata["input"])
    if isinstance(layer, Image):
        record["rgb"] = bool(layer.rgb)
        if not layer.rgb:
            record["contrast_limits"] = [float(v) for v in layer.contrast_limits]
            record["colormap"] = layer.colormap.name
    content = {"napari_dff": napari_dff.__version__, "layer": record}
    return dict(json.loads(json.dumps(content, default=to_json_value)))
