"""A layer into a file, OME-TIFF or OME-Zarr, with all that is needed to have it again.

It is written beside its place first and moved there when it is complete.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Image, Labels, Layer

import napari_dff
from napari_dff.io.folders import check_space, in_place
from napari_dff.io.pixels import Pixels, fill
from napari_dff.io.records import plainly
from napari_dff.io.tiff_files import GrowingTiff
from napari_dff.io.zarr_files import GrowingZarr
from napari_dff.units import EXPONENTS
from napari_dff.widgets.axes import CHANNEL_LABELS, leading_axis_names
from napari_dff.widgets.layers import (
    pixel_size_of,
    planes_of,
    plugin_metadata,
    positions_of,
    unit_of,
)
from napari_dff.widgets.series import unread

ENDINGS = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".zarr")
LETTERS = {"t": "T", "time": "T", "z": "Z", **dict.fromkeys(CHANNEL_LABELS, "C")}
KEPT = ("role", "root", "step", "settings", "recipe", "positions", "transforms", "focus_channel")
TOLD = (*KEPT, "channels", "input")  # of our metadata, what a file tells again
LayerData = tuple[Any, dict[str, Any], str]


class SaveError(OSError):
    """Layers that can't be saved; the sentence says why.

    No ValueError: napari takes those for a plugin that doesn't know the kind of file.
    """


def write_image(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write an Image layer as OME-TIFF or OME-Zarr; the path that was written.

    SaveError where its axes aren't named, or these files have no such axes.
    """
    with as_save_error():
        return [_written(Path(path), Layer.create(data, meta, "image"))]


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer likewise."""
    with as_save_error():
        return [_written(Path(path), Layer.create(data, meta, "labels"))]


@contextlib.contextmanager
def as_save_error() -> Iterator[None]:
    """Whatever can't be is told by a SaveError."""
    try:
        yield
    except ValueError as error:
        raise SaveError(str(error)) from error


def _written(path: Path, layer: Image | Labels) -> str:
    """Write a layer, with all that is needed to make it again."""
    if not path.name.lower().endswith(ENDINGS):
        path = path.with_name(f"{path.name}.ome.tif")
    order = _Order.of(layer)
    data, unit = order.arranged(unread(planes_of(layer), layer.ndim - 2)), unit_of(layer)
    if getattr(layer, "rgb", False):
        data = data[..., :3]
    positions = None
    if "Z" in order.letters:
        positions = positions_of(layer)
        if positions.ndim > 1:
            positions = order.arranged(positions)
    pixels = Pixels(
        order.letters,
        tuple(data.shape),
        _stored(layer),
        pixel_size_of(layer),
        unit if unit in EXPONENTS else "pixel",
        positions=() if positions is None else tuple(positions.reshape(-1, positions.shape[-1])[0]),
        channels=_channels(layer, order.letters),
        record=_record(layer, order),
    )
    with in_place(path) as new:
        check_space(path.parent, pixels.nbytes)
        zarr = path.suffix == ".zarr"
        file = GrowingZarr(new, pixels) if zarr else GrowingTiff(new, pixels, positions)
        fill(file, data, pixels)
        if "C" in pixels.axes and isinstance(layer, Image) and not layer.rgb:
            low, high = (float(v) for v in layer.contrast_limits)
            file.shown([(low, high)] * pixels.shape[pixels.axes.index("C")])
    return str(path)


class _Order(NamedTuple):
    """How the axes of a layer become T, C, Z, Y, X, S.

    Attributes
    ----------
    letters : str
        Of the axes that are left, as they lie in the file.
    kept : list of int
        Axes before Y that are longer than 1.
    places : list of int
        Where in the file each of these comes, by its number among them: those of the layer.
    """

    letters: str
    kept: list[int]
    places: list[int]

    @classmethod
    def of(cls, layer: Image | Labels) -> "_Order":
        """The order of a layer; ValueError with a sentence where a file has no such axis."""
        names, shape = _names(layer), planes_of(layer).shape
        kept = [i for i in range(layer.ndim - 2) if shape[i] > 1]
        letters = [LETTERS.get(names[i], "") for i in kept]
        if "" in letters:
            raise ValueError(
                f"OME-TIFF and OME-Zarr have no axis {names[kept[letters.index('')]]!r}, only T, "
                f"C, Z, Y and X: save {layer.name!r} in parts"
            )
        if len(set(letters)) < len(letters):
            raise ValueError(f"two axes of {layer.name!r} are named alike: {', '.join(names)}")
        places = sorted(range(len(kept)), key=lambda i: "TCZ".index(letters[i]))
        colour = "S" * bool(getattr(layer, "rgb", False))
        return cls("".join(letters[i] for i in places) + "YX" + colour, kept, places)

    @property
    def moved(self) -> bool:
        """Whether the axes come in another order than in the layer."""
        return self.places != sorted(self.places)

    def arranged(self, values: Any) -> Any:
        """An array that has at least the axes before Y, in the order of the file."""
        before = max(self.kept, default=-1) + 1
        values = values[tuple(slice(None) if i in self.kept else 0 for i in range(before))]
        rest = range(len(self.kept), values.ndim)
        return values.transpose([*self.places, *rest]) if self.moved else values


def _names(layer: Layer) -> list[str]:
    """Names of the axes before Y; ValueError with a sentence where nobody told."""
    if layer.ndim == 2:
        return []
    if layer.ndim == 3:
        first = layer.axis_labels[0].strip().lower()
        return [first if first in LETTERS else "z"]
    return [*leading_axis_names(layer), "z"]


def _stored(layer: Image | Labels) -> np.dtype[Any]:
    """The type in which values are stored: what OME-TIFF doesn't know becomes one it does."""
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


def _channels(layer: Layer, letters: str) -> tuple[str, ...]:
    """Names of the channels, as far as they are known."""
    names = tuple(map(str, plugin_metadata(layer).get("channels", ())))
    counts = zip(_names(layer), planes_of(layer).shape, strict=False)
    fits = any(name in CHANNEL_LABELS and n == len(names) for name, n in counts)
    return names if "C" in letters and fits else ()


def _record(layer: Image | Labels, order: _Order) -> dict[str, Any]:
    """What the file tells of the layer, as JSON has it."""
    kind = "labels" if isinstance(layer, Labels) else "image"
    says: dict[str, Any] = {
        "kind": kind,
        "name": layer.name,
        "shape": list(planes_of(layer).shape[: layer.ndim]),
        "order": order.places if order.moved else [],
        "scale": layer.scale,
        "translate": layer.translate,
        "units": [str(unit) for unit in layer.units],
        "axis_labels": list(layer.axis_labels),
        "visible": True,
        "ours": {name: value for name, value in plugin_metadata(layer).items() if name in TOLD},
    }
    if kind == "image":
        says["rgb"] = bool(layer.rgb)
        if not layer.rgb:
            says["contrast_limits"] = [float(v) for v in layer.contrast_limits]
            says["colormap"] = layer.colormap.name
    plain = json.loads(
        json.dumps({"napari_dff": napari_dff.__version__, "layer": says}, default=plainly)
    )
    return dict(plain)
