"""Focal stacks and results, read or computed, as the tuples that napari makes layers of."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from napari.layers import Image, Layer
from napari.utils import CyclicLabelColormap
from napari.utils.colormaps import ensure_colormap

from napari_dff.io.records import describe_planes
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import FocusScale
from napari_dff.model.result import ImageQuality
from napari_dff.model.units import EXPONENTS
from napari_dff.pipeline.quality import Coverage, coverage
from napari_dff.pipeline.sinks import ArraySink
from napari_dff.runtime.windows import Window
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.geometry import placement
from napari_dff.widgets.app.layer_list import short_name

RESULT_IMAGES = {  # role of each image in the folder of a result, from the lowest layer
    "uncertainty": "uncertainty",
    "index": "plane index",
    "all_in_focus": "all in focus",
    "depth": "depth",
}
RUN_STEP = "Depth from focus"  # the form that does what the command line does
MAX_LOADED_BYTES = 500e6  # smaller arrays are loaded, so that the sliders do not wait
FILE_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")
SAMPLE_PX = 1 << 20  # enough for percentiles
LayerData = tuple[Any, dict[str, Any], str]


class ResultLayer(NamedTuple):
    """One layer of a result or of a preview."""

    role: str  # of a result, without prefix
    data: np.ndarray
    look: dict[str, Any]  # attributes of the layer
    kind: Literal["image", "labels"] = "image"
    metadata: Mapping[str, Any] = MappingProxyType({})


class Maps(NamedTuple):
    """The results of all stacks of a layer."""

    refined: DepthMap  # (…, Y, X), with the leading axes of the stack layer, 1 of channels
    layers: list[ResultLayer]  # that show them, from the lowest
    coverage: Coverage
    qualities: list[ImageQuality | None]  # of the all-in-focus image of each stack
    notes: list[str]  # sentences on planes that are left out, and on their order
    scale: FocusScale | None  # that focus was measured with, if it was


def maps_of(sink: ArraySink, acquisition: Acquisition) -> Maps:
    """Return results in memory as layers with the axes of the layer of the stack, 1 of Z."""
    leading, positions = len(acquisition.axes), acquisition.positions
    planes, _, _, *colours = acquisition.data.shape[leading:]
    images = {**sink.refined._asdict(), "all_in_focus": sink.images}
    if leading:
        images = {name: np.expand_dims(values, leading) for name, values in images.items()}
    result = [
        result_layer(name, images[name], positions, images["uncertainty"], rgb=bool(colours))
        for name in RESULT_IMAGES
    ]
    own = sink.qualities, sink.notes, sink.scale
    return Maps(sink.refined, result, coverage(sink.refined, planes), *own)


def quality_array(qualities: Sequence[ImageQuality | None]) -> np.ndarray:
    """Return the qualities of images as (N, 3) float64, NaN where they are unknown."""
    return np.array([each or (np.nan,) * 3 for each in qualities], float)


def result_layer(
    name: str,  # a key of `RESULT_IMAGES`
    data: np.ndarray,  # (…, Y, X) or (…, Y, X, 3)
    positions: np.ndarray,  # (…, Z): the contrast limits of a depth that is the same everywhere
    uncertainty: np.ndarray | None = None,  # (…, Y, X)
    *,
    rgb: bool = False,
) -> ResultLayer:
    """Return the layer of one image of a result."""
    role = RESULT_IMAGES[name]
    if name == "index":  # label k + 1 is plane k; 0 is infinite uncertainty
        in_focus = True if uncertainty is None else np.isfinite(uncertainty)
        labels = np.where(in_focus, data + np.uint16(1), np.uint16(0))
        look = {"visible": False, "colormap": plane_colours(positions.shape[-1])}
        return ResultLayer(role, labels, look, "labels")
    if name == "all_in_focus":
        return ResultLayer(role, data, picture_look(data, rgb=rgb))
    if name == "depth":
        return depth_layer(role, data, positions, uncertainty)
    values = subsample(data)
    values = values[np.isfinite(values)]
    limits = 0.0, max(float(np.percentile(values, 99)), 1e-6) if values.size else 1.0
    look = {"colormap": "magma", "contrast_limits": limits, "visible": False}
    return ResultLayer(role, data, look)


def depth_layer(
    role: str,
    depth: np.ndarray,  # (…, Y, X)
    positions: np.ndarray,  # as in `result_layer`
    uncertainty: np.ndarray | None,  # (…, Y, X)
) -> ResultLayer:
    """Return the layer of a depth map: NaN, which is transparent, where never in focus.

    The depth that was filled in there is kept in the metadata.
    """
    in_focus = np.ones(depth.shape, bool) if uncertainty is None else np.isfinite(uncertainty)
    measured, metadata = depth[in_focus], {}
    low, high = np.percentile(measured, (0.5, 99.5)) if measured.size else (0.0, 0.0)
    if low == high:
        low, high = positions.min(), positions.max()
    if measured.size < depth.size:
        metadata = {"filled": np.where(in_focus, np.float32(np.nan), depth)}
        depth = np.where(in_focus, depth, np.float32(np.nan))
    look = {"colormap": "viridis", "contrast_limits": (float(low), float(high))}
    return ResultLayer(role, depth, look, metadata=metadata)


def plane_colours(count: int) -> CyclicLabelColormap:
    """Return colours of the labels of `count` planes, in the order of a colormap.

    napari compiles code, for seconds in the main thread, for a colormap with a dictionary.
    """
    colours = ensure_colormap("viridis").map(np.linspace(0, 1, count))
    return CyclicLabelColormap(colors=np.vstack([np.zeros(4), colours]))  # label 0 first


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
    data: Any,  # with the last axes of the stack or all of them, length 1 where it is constant
    kind: str = "image",
    metadata: Mapping[str, Any] | None = None,
    *,
    window: Window | None = None,
    **look: Any,
) -> LayerData:
    """Return a layer that lies on a stack, or on a window of its planes, and is named after it."""
    if kind in ("surface", "vectors"):
        place = placement(source, 3 if kind == "surface" else data.shape[-1])
    else:
        shape = tuple(data.shape)[: data.ndim - bool(look.get("rgb"))]
        place = placement(source, len(shape), window, shape)
    if kind == "image":
        look.setdefault("rgb", False)
    root = layers.stack_name_of(source)
    own = {"role": role, "root": root, **(metadata or {})}
    name = f"{short_name(role)} · {root}"
    place |= {"name": name, "metadata": {layers.METADATA_KEY: own}}
    return data, {**place, **look}, kind


def stack_layer(
    acquisition: Acquisition, name: str, path: str = "", *, load: bool = True
) -> LayerData:
    """Return all times and channels of one position as an image layer ([t, ][c, ]z, y, x)."""
    axes = [axis for axis, n in zip("tc", acquisition.data.shape, strict=False) if n > 1]
    data = acquisition.data[tuple(slice(None) if axis in axes else 0 for axis in "tc")]
    if load and data.nbytes <= MAX_LOADED_BYTES:
        data = np.array(data)
    step, first = layers.plane_spacing(acquisition.positions)
    place = {
        "scale": (*[1.0] * len(axes), step, *acquisition.pixel_size),
        "translate": (*[0.0] * len(axes), first, 0.0, 0.0),
        "units": (*["pixel"] * len(axes), *[acquisition.unit] * 3),
        "axis_labels": (*axes, "z", "y", "x"),
    }
    positions = acquisition.positions[0]
    if (acquisition.positions != positions).any():
        by_time = acquisition.positions[:, np.newaxis] if "c" in axes else acquisition.positions
        positions = np.broadcast_to(by_time, data.shape[: len(axes) + 1]).copy()
    metadata: layers.PluginMetadata = {
        "positions": positions,
        "channels": acquisition.channels,
        "input": describe_planes(acquisition) | {"path": path},
        "in_file": {key: place[key] for key in ("scale", "translate", "units")},
    }
    look = {"name": name, "rgb": acquisition.data.ndim == 6, **place}
    return data, {**look, "metadata": {layers.METADATA_KEY: metadata}}, "image"


def stack_title(path: str, position: str = "") -> str:
    """Return the name of a stack: that of its file without endings, and that of its position."""
    stem = Path(path).name if Path(path).is_dir() else FILE_SUFFIX.sub("", Path(path).name)
    return f"{stem.removesuffix('.zarr').removesuffix('.ome')} {position}".strip()


def run_layers(
    images: Mapping[str, Any],  # by keys of `RESULT_IMAGES`
    record: Mapping[str, Any],  # of `io.records.make_provenance`, and "transforms" if known
    folder: Path,
    uncertainty: np.ndarray | None,  # as in `result_layer`
) -> list[LayerData]:
    """Return images of a result as the layers that the form of all steps shows."""
    stack, positions = record["input"], np.atleast_2d(np.asarray(record["positions"], float))
    saved = stack.get("layer", {})  # of a result that was saved from napari
    title = stack_title(stack.get("path", ""), stack.get("position", ""))
    calibration = positions, record["pixel_size"], record["unit"]
    no_pixels = np.broadcast_to(np.uint8(0), stack["shape"])
    acquisition = Acquisition(no_pixels, *calibration, tuple(stack["channels"]))
    data, look, _ = stack_layer(acquisition, saved.get("root") or title or folder.name, load=False)
    source = Image(data, **look, contrast_limits=(0, 1), visible=False)
    source.translate = (*source.translate[:-2], *saved.get("translate", (0.0, 0.0)))
    leading = list(zip(source.axis_labels[:-3], layers.leading_shape(source), strict=True))
    metadata: layers.PluginMetadata = {
        "step": saved.get("step", RUN_STEP),
        "source": f"file {folder.absolute()}",
        "settings": record["recipe"],
        "recipe": record["recipe"],
        "positions": layers.plugin_metadata(source)["positions"],
        "channels": stack["channels"],
        "input": stack,
    }
    window = Window(*record["window"]) if "window" in record else None
    if window is not None:
        metadata["window"] = list(window)
    if "retouched" in saved:
        metadata["retouched"] = saved["retouched"]
    if len(stack["channels"]) > 1:
        metadata["focus_channel"] = record["focus_channel"]
    if "transforms" in record:
        transforms = np.asarray(record["transforms"], float)
        per_time = transforms.ndim == 4 and len(leading) == 2
        metadata["transforms"] = transforms[:, np.newaxis] if per_time else transforms
    if "quality" in record:
        times = record["quality"] if isinstance(record["quality"], list) else [record["quality"]]
        quality = quality_array([each and ImageQuality(**each) for each in times])
        shape = [n if axis == "t" else 1 for axis, n in leading]
        metadata["quality"] = quality.reshape(*shape, -1)
    result = []
    for name, image in images.items():
        picture = name == "all_in_focus"
        rgb = picture and source.rgb
        layer = result_layer(name, image, positions, uncertainty, rgb=rgb)
        role, data = saved.get("prefix", "refined ") + layer.role, layer.data
        if leading:
            lengths = [n if axis == "t" or picture else 1 for axis, n in leading]
            data = data.reshape(*lengths, 1, *data.shape[data.ndim - 2 - rgb :])
        own = {key: value.reshape(data.shape) for key, value in layer.metadata.items()}
        place: dict[str, Any] = {"window": window, **layer.look}
        result.append(layer_on_stack(source, role, data, layer.kind, metadata | own, **place))
    return result


def saved_layer(data: np.ndarray, record: Mapping[str, Any], path: Path) -> LayerData:
    """Return a layer as it was before `layer_writer` saved it; `data` have the axes of the file."""
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
    if kind == "image" and path.suffix != ".zarr" and set(look["units"][-3:]) <= set(EXPONENTS):
        metadata["in_file"] = {key: look[key] for key in ("scale", "translate", "units")}
    if "root" in metadata:
        metadata["source"] = f"file {path.parent.absolute()} {metadata['root']}"
    return data, {**look, "metadata": {layers.METADATA_KEY: metadata} if metadata else {}}, kind
