"""Layers of the plugin: their metadata, how they belong together, and stacks in layers."""

from collections.abc import Sequence
from typing import Any, TypedDict, TypeVar

import numpy as np
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.model.checks import AUTO

METADATA_KEY = "napari-dff"
NOMINAL = "uncalibrated_"  # how units begin in which uncalibrated layers are drawn; `view_units`
RESULT_ROLES = ("focus", "depth", "uncertainty", "all in focus", "projection")  # their ends
T = TypeVar("T")


class PluginMetadata(TypedDict, total=False):
    """What the plugin stores in the metadata of a layer, under `METADATA_KEY`."""

    role: str  # what the layer is, for example "refined depth"; stacks from files have none
    root: str  # name of the original stack
    source: str  # unique id of the stack it was computed from, or the folder it was read from
    step: str  # title of the form that computed it
    run: str  # id of the run that computed it
    inputs: dict[str, str]  # versions of the input layers, by their unique id
    settings: dict[str, Any]  # of the step and of those before
    recipe: dict[str, Any]  # the whole recipe of the run
    limits: tuple[float, float] | None  # contrast limits that the plugin set
    positions: Any  # focus positions of the planes, (Z,) or (…, Z)
    focus_scale: dict[str, Any]  # sigma and window that focus was measured with
    window: Sequence[int]  # top, bottom, left, right: the part of the stack, where it is cropped
    transforms: Any  # plane → reference, (Z, 3, 3) or (…, Z, 3, 3)
    quality: Any  # of the all-in-focus image, (3,) or (…, 3), as in `ImageQuality`; NaN if unknown
    retouched: Sequence[dict[str, Any]]  # strokes by hand, as the provenance contains them
    strokes: Sequence[Any]  # of type `strokes.SavedStroke`, to paint them again
    filled: Any  # depth of the pixels that are never in focus, NaN elsewhere; of the shape of data
    channels: Sequence[str]  # their names
    focus_channel: int  # the channel that the depth was computed from
    input: dict[str, Any]  # the file of the planes, as described by `io.records.describe_planes`
    in_file: dict[str, Any]  # scale, translation and units as the file has them
    refractive_index: float  # by which a distance was multiplied to a thickness
    projection: dict[str, Any]  # slab and method, as in `SlabProjection`
    place: Sequence[int]  # of a single plane: its index along the leading axes of the stack


def without_proxy(item: T) -> T:
    """Return the viewer or layer itself, not the proxy of it that napari gives to a form.

    Each proxy is another object, which is freed before the layer: it cannot be a weak key.
    """
    item = getattr(item, "__wrapped__", item)
    return item


def plugin_metadata(layer: Layer) -> PluginMetadata:
    """Return what the plugin stores in the metadata of a layer; empty for other layers."""
    metadata = layer.metadata.get(METADATA_KEY, {})
    return metadata if isinstance(metadata, dict) else {}  # type: ignore[return-value]


def role_of(layer: Layer) -> str:
    """Return the role of a layer of the plugin; "" for other layers."""
    return str(plugin_metadata(layer).get("role", ""))


def settings_of(layer: Layer) -> dict[str, Any]:
    """Return all settings that a layer was computed with, those of its inputs included."""
    return dict(plugin_metadata(layer).get("settings", {}))


def exact_settings_of(layer: Layer) -> dict[str, Any]:
    """Return `settings_of`, with the values that were chosen where a setting is "auto"."""
    chosen = plugin_metadata(layer).get("focus_scale", {})
    settings = settings_of(layer).items()
    return {name: chosen.get(name, value) if value == AUTO else value for name, value in settings}


def is_stack(layer: Layer) -> bool:
    """Return whether a layer may be a focal stack: an image with planes that is not a result."""
    is_result = role_of(layer).endswith(RESULT_ROLES)
    return isinstance(layer, Image) and layer.ndim >= 3 and not is_result


def planes_of(layer: Image) -> Any:
    """Return the planes of a stack layer at full resolution, possibly a lazy array."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def stack_look(layer: Image) -> dict[str, Any]:
    """Return colours and contrast of a stack layer, for planes and images made from it."""
    look = {"rgb": layer.rgb, "colormap": layer.colormap}
    return look if layer.rgb else {**look, "contrast_limits": tuple(layer.contrast_limits)}


def leading_shape(layer: Layer) -> tuple[int, ...]:
    """Return the lengths of the leading axes: those before Z, Y, X."""
    return tuple(planes_of(layer).shape[: max(layer.ndim - 3, 0)])


def plane_shape(layer: Layer) -> tuple[int, int]:
    """Return height and width of the planes of a layer."""
    shape = planes_of(layer).shape[: layer.ndim]
    return int(shape[-2]), int(shape[-1])


def channel_names(layer: Layer, count: int) -> tuple[str, ...]:
    """Return the names of `count` channels; empty names if another number is stored."""
    names = tuple(map(str, plugin_metadata(layer).get("channels", ())))
    return names if len(names) == count else ("",) * count


def at_index(values: np.ndarray, index: tuple[int, ...], trailing: int) -> np.ndarray:
    """Return the part of `values` at a leading index; an axis of length 1 fits all indices."""
    shape = values.shape[: values.ndim - trailing]  # of the leading axes, or ()
    if len(shape) not in (0, len(index)):
        raise ValueError(f"there must be {len(index)} axes before the last {trailing}, got {shape}")
    return np.asarray(values[tuple(i if n > 1 else 0 for i, n in zip(index, shape, strict=False))])


def transforms_of_aligned(layer: Layer, index: tuple[int, ...]) -> np.ndarray | None:
    """Return the transforms (Z, 3, 3) of aligned planes; None if the planes have data everywhere.

    As planes have that were not aligned, or that are cropped to their common area.
    """
    metadata = plugin_metadata(layer)
    if role_of(layer) != "aligned" or "transforms" not in metadata or "window" in metadata:
        return None
    return at_index(np.asarray(metadata["transforms"]), index, 3)


def result_values(layer: Layer, index: tuple[int, ...]) -> np.ndarray:
    """Return a result at an index along the leading axes: (Y, X[, 3]), or (Z, Y, X).

    Of a depth layer, it contains the depth that was filled in where nothing was in focus.
    """
    values = full_values(layer)
    if index and values.ndim >= len(index) + 3:
        values = at_index(values, index, values.ndim - len(index))
        values = values[0] if len(values) == 1 else values  # Z of a map has length 1
    return np.asarray(values)


def full_values(layer: Layer) -> Any:
    """Return the data of a layer; of a depth layer, with the depth that was filled in."""
    data, filled = planes_of(layer), plugin_metadata(layer).get("filled")
    if filled is None or filled.shape != data.shape:
        return data
    return np.where(np.isnan(data), filled, data)


def positions_of(layer: Layer) -> np.ndarray:
    """Return the focus positions of the planes of a stack layer, in its unit: (Z,) or (…, Z)."""
    z, count = layer.ndim - 3, planes_of(layer).shape[layer.ndim - 3]
    step, first = float(layer.scale[z]), float(layer.translate[z])
    stored = plugin_metadata(layer).get("positions")
    if stored is not None:
        values = np.asarray(stored, dtype=np.float64)
        fits = values.shape in ((count,), (*leading_shape(layer), count))
        # They hold while the user has not changed scale and translation of the layer.
        if fits and np.allclose((step, first), plane_spacing(values), rtol=1e-6):
            return values
    return first + step * np.arange(count)


def plane_spacing(positions: np.ndarray) -> tuple[float, float]:
    """Return the mean distance of planes and the first position: scale and translation of Z."""
    first = np.asarray(positions).reshape(-1, np.shape(positions)[-1])[0]
    return float(np.diff(first).mean()), float(first[0])


def require_stack(layer: Image | None) -> Image:
    """Return the layer; ValueError if there is none, or if it has no planes."""
    if layer is None:
        raise ValueError("no stack: open a focal stack (File ▸ Open Sample has some) and choose it")
    if layer.ndim < 3:
        axes = f"{layer.ndim} axes"
        raise ValueError(f"layer {layer.name!r} must be a stack with axes Z, Y, X, got {axes}")
    return layer


def pixel_size_of(layer: Layer) -> tuple[float, float]:
    """Return height and width of a pixel, in the unit of the layer."""
    return abs(float(layer.scale[-2])), abs(float(layer.scale[-1]))


def units_of(layer: Layer) -> tuple[str, ...]:
    """Return the units of the axes of a layer; "pixel" for uncalibrated ones."""
    units = map(str, layer.units)
    return tuple("pixel" if unit.startswith(NOMINAL) else unit for unit in units)


def unit_of(layer: Layer) -> str:
    """Return the unit of Z, Y and X of a layer; ValueError if they differ."""
    units = units_of(layer)[-3:]
    if len(set(units)) > 1:
        names = ", ".join(units)
        raise ValueError(f"layer {layer.name!r} must have one unit for Z, Y and X, got {names}")
    return units[0]


def layer_by_id(viewer: Viewer, unique_id: str) -> Layer | None:
    """Return the layer of this unique id; None if there is none."""
    return next((layer for layer in viewer.layers if str(layer.unique_id) == unique_id), None)


def source_of(viewer: Viewer, layer: Layer) -> Layer | None:
    """Return the stack that a layer was computed from, or an original stack itself, else None."""
    source_id = plugin_metadata(layer).get("source")
    return layer_by_id(viewer, source_id) if source_id else (layer if is_stack(layer) else None)


def input_stack_of(viewer: Viewer, layer: Layer) -> Layer | None:
    """Return the planes that a result was computed from: aligned ones, if its run aligned them."""
    source = source_of(viewer, layer)
    aligned = None if source is None else find_layer(viewer, "aligned", source)
    if aligned is None:
        return source
    same_run = plugin_metadata(aligned).get("run") == plugin_metadata(layer).get("run")
    return aligned if same_run else source


def find_layer(viewer: Viewer, role: str, source: Layer) -> Layer | None:
    """Return the layer of this role that was computed from `source`; None if there is none."""
    results = results_of(viewer, str(source.unique_id))
    return next((layer for layer in results if role_of(layer) == role), None)


def results_of(viewer: Viewer, *source_ids: str | None) -> list[Layer]:
    """Return the layers that were computed from one of these sources."""
    return [x for x in viewer.layers if plugin_metadata(x).get("source") in source_ids]


def related_layer(viewer: Viewer, layer: Layer, role: str) -> Layer | None:
    """Return the uncertainty or the all-in-focus image that belongs to a depth layer."""
    prefixes = {"levelled depth": ["refined ", ""]}
    own = role_of(layer).removesuffix("depth")  # "refined ", "first " or "last "
    candidates = (
        other
        for prefix in prefixes.get(role_of(layer), [own])
        for other in results_of(viewer, plugin_metadata(layer).get("source"))
        if role_of(other) == f"{prefix}{role}" and plane_shape(other) == plane_shape(layer)
    )
    return next(candidates, None)


def require_layer(viewer: Viewer, role: str, source: Layer, step: str) -> Layer:
    """Return the layer of this role; ValueError that names the step to run if none fits."""
    layer = find_layer(viewer, role, source)
    if layer is None:
        raise ValueError(f"{source.name!r} has no layer {role!r} yet: run {step!r} first")
    shape, full = layer.data.shape[: layer.ndim], planes_of(source).shape[: source.ndim]
    if any(n not in (1, m) for n, m in zip(reversed(shape), reversed(full), strict=False)):
        raise ValueError(
            f"the shape of {layer.name!r}, {shape}, does not fit that of {source.name!r}, {full}: "
            f"run {step!r} again"
        )
    return layer


def stack_name_of(source: Layer) -> str:
    """Return the name of the original stack, which the names of results contain."""
    return str(plugin_metadata(source).get("root", source.name))
