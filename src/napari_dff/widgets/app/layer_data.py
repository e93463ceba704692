"""Focal stacks and results as layer data, in the tuples that napari makes layers of.

The reader of files uses it, and the forms for what they have computed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from napari.layers import Image, Layer

from napari_dff.io.records import describe_planes
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.units import EXPONENTS
from napari_dff.registration import LazyAlignedStack
from napari_dff.runtime.windows import full_window
from napari_dff.widgets.app.geometry import placement
from napari_dff.widgets.app.layers import (
    METADATA_KEY,
    PluginMetadata,
    leading_shape,
    plane_spacing,
    plugin_metadata,
    stack_name_of,
)

RESULT_IMAGES = {  # role of each image in the folder of a result, from the lowest layer
    "uncertainty": "uncertainty",
    "index": "plane index",
    "all_in_focus": "all in focus",
    "depth": "depth",
}
RUN_STEP = "Depth from focus"  # the form that does what the command line does
MAX_LOADED_BYTES = 500e6  # smaller arrays are loaded, so that the sliders do not wait
SAMPLE_PX = 1 << 20  # enough for percentiles
LayerData = tuple[Any, dict[str, Any], str]


class ResultLayer(NamedTuple):
    """Data of one layer of a result, its role without prefix, and how it looks."""

    role: str
    data: np.ndarray
    kind: Literal["image", "labels"]
    look: dict[str, Any]


def result_layer(
    name: str,
    data: np.ndarray,
    positions: np.ndarray,
    *,
    uncertainty: np.ndarray | None = None,
    rgb: bool = False,
) -> ResultLayer:
    """Return the layer of one image of a result.

    Parameters
    ----------
    name : str
        A key of `RESULT_IMAGES`.
    data : (…, Y, X) or (…, Y, X, 3) array
    positions : (…, Z) array
        Focus positions, from which the contrast limits of the depth follow.
    uncertainty : (…, Y, X) array, optional
        For the plane index: where it is infinite, the label is 0. Label k + 1 is plane k.
    rgb : bool
        Whether the image has colour.
    """
    role = RESULT_IMAGES[name]
    if name == "index":
        in_focus = np.ones(data.shape, bool) if uncertainty is None else np.isfinite(uncertainty)
        labels = np.where(in_focus, data + np.uint16(1), np.uint16(0))
        return ResultLayer(role, labels, "labels", {"visible": False})
    if name == "all_in_focus":
        return ResultLayer(role, data, "image", picture_look(data, rgb=rgb))
    if name == "depth":
        limits = float(positions.min()), float(positions.max())
        return ResultLayer(role, data, "image", {"colormap": "gray", "contrast_limits": limits})
    values = subsample(data)
    values = values[np.isfinite(values)]
    limits = 0.0, max(float(np.percentile(values, 99)), 1e-6) if values.size else 1.0
    look = {"colormap": "magma", "contrast_limits": limits, "visible": False}
    return ResultLayer(role, data, "image", look)


def picture_look(pictures: np.ndarray, *, rgb: bool) -> dict[str, Any]:
    """Return how all-in-focus images, (…, Y, X) or (…, Y, X, 3), look."""
    if rgb:
        return {"rgb": True}
    low, high = (float(v) for v in np.percentile(subsample(pictures), (0.1, 99.9)))
    return {"contrast_limits": (low, max(high, low + 1e-6))}


def subsample(values: np.ndarray) -> np.ndarray:
    """Return about `SAMPLE_PX` pixels of (…, Y, X)."""
    step = max(1, round((values.size / SAMPLE_PX) ** 0.5))
    return values[..., ::step, ::step]


def layer_on_stack(
    source: Layer,
    role: str,
    data: Any,
    kind: str = "image",
    metadata: Mapping[str, Any] | None = None,
    **look: Any,
) -> LayerData:
    """Return a layer that lies exactly on a stack, and is named after it.

    Parameters
    ----------
    source : Layer
        The stack.
    role : str
    data : array or tuple
        With the last axes of the source, or all of them. An axis along which the data are constant
        may have length 1.
    kind : str
        The napari layer type.
    metadata : dict
        Metadata of the plugin, besides the role.
    **look
        Further attributes of the layer.
    """
    if kind == "surface":
        place = placement(source, 3)
    elif kind == "vectors":
        place = placement(source, data.shape[-1])
    else:
        shape = tuple(data.shape)[: data.ndim - bool(look.get("rgb", False))]
        place = placement(source, len(shape), shape=shape)
    if kind == "image":
        look.setdefault("rgb", False)
    root = stack_name_of(source)
    own = {"role": role, "root": root, **(metadata or {})}
    place |= {"name": f"{role} · {root}", "metadata": {METADATA_KEY: own}}
    return data, {**place, **look}, kind


def stack_layer(
    acquisition: Acquisition, name: str, path: str = "", *, load: bool = True
) -> LayerData:
    """Return all times and channels of one position as an image layer ([t, ][c, ]z, y, x).

    Axes of length 1 are left out. Scale and translation are the mean distance of the planes and the
    first position; all positions are in the metadata. Pixels are loaded if there are few.
    """
    axes = [axis for axis, n in zip("tc", acquisition.data.shape, strict=False) if n > 1]
    data = acquisition.data[tuple(slice(None) if axis in axes else 0 for axis in "tc")]
    if load and data.nbytes <= MAX_LOADED_BYTES:
        data = np.array(data)
    step, first = plane_spacing(acquisition.positions)
    place = {
        "scale": (*(1.0 for _ in axes), step, *acquisition.pixel_size),
        "translate": (*(0.0 for _ in axes), first, 0.0, 0.0),
        "units": (*("pixel" for _ in axes), *[acquisition.unit] * 3),
        "axis_labels": (*axes, "z", "y", "x"),
    }
    positions = acquisition.positions[0]
    if (acquisition.positions != positions).any():
        by_time = acquisition.positions[:, np.newaxis] if "c" in axes else acquisition.positions
        positions = np.broadcast_to(by_time, data.shape[: len(axes) + 1]).copy()
    metadata: PluginMetadata = {
        "positions": positions,
        "channels": acquisition.channels,
        "input": describe_planes(acquisition) | {"path": path},
        "in_file": {key: place[key] for key in ("scale", "translate", "units")},
    }
    look = {"name": name, "rgb": acquisition.data.ndim == 6, "metadata": {METADATA_KEY: metadata}}
    return data, {**look, **place}, "image"


def stack_title(path: str, position: str = "") -> str:
    """Return the name of a stack: that of its file without endings, and that of its position."""
    file = Path(path)
    stem = file.name if file.is_dir() else file.stem
    return f"{stem.removesuffix('.zarr').removesuffix('.ome')} {position}".strip()


def run_layers(
    images: Mapping[str, Any],
    record: Mapping[str, Any],
    folder: Path,
    uncertainty: np.ndarray | None,
) -> list[LayerData]:
    """Return images from the folder of a result as the layers that the form of all steps shows.

    Parameters
    ----------
    images : mapping of arrays
        With keys of `RESULT_IMAGES`.
    record : mapping
        As `io.records.make_provenance` returns it, and "transforms" if they are known.
    folder : Path
    uncertainty : array, optional
        For the plane index, as in `result_layer`.
    """
    stack, positions = record["input"], np.atleast_2d(np.asarray(record["positions"], float))
    saved = stack.get("layer", {})  # of a result that was saved from napari
    source = _stack_without_pixels(record, positions, folder)
    leading = list(zip(source.axis_labels[:-3], leading_shape(source), strict=True))
    metadata: PluginMetadata = {
        "step": saved.get("step", RUN_STEP),
        "source": f"file {folder.absolute()}",
        "settings": record["recipe"],
        "recipe": record["recipe"],
        "positions": plugin_metadata(source)["positions"],
        "channels": stack["channels"],
        "input": stack,
    }
    if len(stack["channels"]) > 1:
        metadata["focus_channel"] = record["focus_channel"]
    if "transforms" in record:
        transforms = np.asarray(record["transforms"], float)
        per_time = transforms.ndim == 4 and len(leading) == 2
        metadata["transforms"] = transforms[:, np.newaxis] if per_time else transforms
    layers = []
    for name, image in images.items():
        picture = name == "all_in_focus"
        rgb = picture and source.rgb
        layer = result_layer(name, image, positions, uncertainty=uncertainty, rgb=rgb)
        role, data = saved.get("prefix", "refined ") + layer.role, layer.data
        if leading:
            lengths = [n if axis == "t" or picture else 1 for axis, n in leading]
            data = data.reshape(*lengths, 1, *data.shape[data.ndim - 2 - rgb :])
        layers.append(layer_on_stack(source, role, data, layer.kind, metadata, **layer.look))
    return layers


def _stack_without_pixels(record: Mapping[str, Any], positions: np.ndarray, folder: Path) -> Image:
    """Return the layer on which the images of a result lie."""
    stack = record["input"]
    saved = stack.get("layer", {})
    title = stack_title(stack.get("path", ""), stack.get("position", ""))
    acquisition = Acquisition(
        np.broadcast_to(np.uint8(0), stack["shape"]),
        positions,
        record["pixel_size"],
        record["unit"],
        tuple(stack["channels"]),
    )
    root = saved.get("root") or title or folder.name
    data, look, _ = stack_layer(acquisition, root, load=False)
    source = Image(data, **look, contrast_limits=(0, 1), visible=False)
    source.translate = (*source.translate[:-2], *saved.get("translate", (0.0, 0.0)))
    return source


def saved_layer(data: np.ndarray, record: Mapping[str, Any], path: Path) -> LayerData:
    """Return a layer as it was before it was saved.

    Parameters
    ----------
    data : array
        In the order of axes of the file.
    record : mapping
        As `saving.layer_record` returns it.
    path : Path
        The file.
    """
    look = dict(record["layer"])
    kind, shape, order = look.pop("kind"), look.pop("shape"), look.pop("order")
    rgb = look.get("rgb", False)
    if order:
        data = data.transpose([*np.argsort(order), *range(len(order), data.ndim)])
    data = data.reshape(*shape, *data.shape[data.ndim - rgb :])
    metadata = look.pop("ours")
    for key in ("positions", "transforms"):
        if key in metadata:
            metadata[key] = np.asarray(metadata[key], float)
    if metadata.get("role") == "aligned" and "transforms" in metadata:
        metadata["valid"] = _valid_masks(metadata["transforms"], shape[-2:])
    if kind == "image" and path.suffix != ".zarr" and set(look["units"][-3:]) <= set(EXPONENTS):
        metadata["in_file"] = {key: look[key] for key in ("scale", "translate", "units")}
    if "root" in metadata:
        metadata["source"] = f"file {path.parent.absolute()} {metadata['root']}"
    return data, {**look, "metadata": {METADATA_KEY: metadata} if metadata else {}}, kind


def _valid_masks(transforms: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels that have data in all planes of each stack, (…, Y, X)."""
    planes = np.broadcast_to(np.uint8(0), (transforms.shape[-3], *shape))
    each = transforms.reshape(-1, *transforms.shape[-3:])
    masks = np.stack([LazyAlignedStack(planes, stack).valid(full_window(shape)) for stack in each])
    return masks.reshape(*transforms.shape[:-3], *shape)
