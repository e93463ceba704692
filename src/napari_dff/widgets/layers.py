"""Layers in: what a layer is to us, the focal stack in it, and where a pixel of it lies."""

from typing import Any

import numpy as np
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.windows import Window

METADATA_KEY = "napari-dff"  # of our part of a layer's metadata
RESULT_ROLES = (
    "focus",
    "depth",
    "uncertainty",
    "all in focus",
)  # images that are no stacks to work on


def plugin_metadata(layer: Layer) -> dict[str, Any]:
    """Our part of a layer's metadata; empty for layers that aren't ours."""
    part = layer.metadata.get(METADATA_KEY, {})
    return part if isinstance(part, dict) else {}


def role_of(layer: Layer) -> str:
    """Return what one of our layers is; empty for others."""
    return str(plugin_metadata(layer).get("role", ""))


def settings_of(layer: Layer) -> dict[str, Any]:
    """All settings that made one of our layers, those of its inputs included."""
    return dict(plugin_metadata(layer).get("settings", {}))


def is_stack(layer: Layer) -> bool:
    """Tell whether `layer` may be a focal stack: any image that isn't one of our results."""
    return isinstance(layer, Image) and not role_of(layer).endswith(RESULT_ROLES)


def planes_of(layer: Image) -> Any:
    """The planes of a stack layer, at full resolution, as they are: perhaps lazy."""
    return layer.data[0] if layer.multiscale else layer.data


def leading_shape(layer: Layer) -> tuple[int, ...]:
    """Lengths of the axes of a layer before Z, Y, X."""
    return tuple(planes_of(layer).shape[: max(layer.ndim - 3, 0)])


def plane_shape(layer: Layer) -> tuple[int, int]:
    """Height and width of the planes of a layer."""
    shape = planes_of(layer).shape[: layer.ndim]
    return int(shape[-2]), int(shape[-1])


def at_index(values: np.ndarray, place: tuple[int, ...], own: int) -> np.ndarray:
    """What `values` hold at a place along the axes before Z; `own` axes are theirs besides.

    An axis that they have 1 of holds for all of it, and so does everything without such axes.
    """
    before = values.shape[: values.ndim - own]
    if len(before) not in (0, len(place)):
        raise ValueError(f"there must be {len(place)} axes before the last {own}, got {before}")
    where = tuple(i if n > 1 else 0 for i, n in zip(place, before, strict=False))
    return np.asarray(values[where])


def result_values(layer: Layer, place: tuple[int, ...]) -> np.ndarray:
    """What a result holds at a place of its stack: (Y, X[, 3]), or (Z, Y, X) of planes."""
    values = layer.data
    before = values.shape[: len(place)]
    if not place or values.ndim < len(place) + 3:
        return np.asarray(values)
    where = tuple(i if n > 1 else 0 for i, n in zip(place, before, strict=True))
    return np.asarray(values[where][0] if values.shape[len(place)] == 1 else values[where])


def index_in_view(viewer: Viewer, layer: Layer) -> tuple[int, ...]:
    """Where the sliders stand along the axes of a layer before Z, Y, X (of a plane: before Y)."""
    count = len(leading_shape(layer))
    if not count:
        return ()
    shape = np.array(planes_of(layer).shape[:count])
    at = np.rint(np.asarray(layer.world_to_data(viewer.dims.point))[:count]).astype(int)
    return tuple(int(i) for i in np.clip(at, 0, shape - 1))


def positions_of(layer: Layer) -> np.ndarray:
    """Focus positions of the planes of a stack layer, (Z,) or (…, Z) float64, in its unit.

    They are the layer's scale and translation along Z, unless a file told them one by one and
    these are still as they were. What differs from time to time has the axes before Z.
    """
    z, count = layer.ndim - 3, planes_of(layer).shape[layer.ndim - 3]
    step, first = float(layer.scale[z]), float(layer.translate[z])
    kept = plugin_metadata(layer).get("positions")
    if kept is not None:
        values = np.asarray(kept, dtype=np.float64)
        fits = values.shape in ((count,), (*leading_shape(layer), count))
        if fits and np.allclose((step, first), plane_spacing(values), rtol=1e-6):
            return values
    return first + step * np.arange(count)


def plane_spacing(positions: np.ndarray) -> tuple[float, float]:
    """Mean distance of planes, and the first position: what a layer can tell of them."""
    first = np.asarray(positions).reshape(-1, np.shape(positions)[-1])[0]
    return float(np.diff(first).mean()), float(first[0])


def require_stack(layer: Image | None) -> Image:
    """The layer; ValueError with a sentence where there is none, or none with planes."""
    if layer is None:
        raise ValueError("no stack: open a focal stack (File ▸ Open Sample has some) and choose it")
    if layer.ndim < 3:
        raise ValueError(
            f"layer {layer.name!r} must be a stack with axes Z, Y, X, got {layer.ndim} axes"
        )
    return layer


def pixel_size_of(layer: Layer) -> tuple[float, float]:
    """Height and width of a pixel, in the layer's unit."""
    return abs(float(layer.scale[-2])), abs(float(layer.scale[-1]))


def unit_of(layer: Layer) -> str:
    """The unit of Z, Y and X of a layer; ValueError with a sentence when they differ."""
    units = [str(unit) for unit in layer.units[-3:]]
    if len(set(units)) > 1:
        raise ValueError(
            f"layer {layer.name!r} must have one unit for Z, Y and X, got {', '.join(units)}"
        )
    return units[0]


def layer_by_id(viewer: Viewer, unique_id: str) -> Layer | None:
    """The layer of this id, if it is still there."""
    return next((layer for layer in viewer.layers if str(layer.unique_id) == unique_id), None)


def source_of(viewer: Viewer, layer: Layer) -> Layer | None:
    """The stack that one of our layers was made from; the layer itself if it is a stack."""
    made_from = plugin_metadata(layer).get("source")
    return layer_by_id(viewer, made_from) if made_from else (layer if is_stack(layer) else None)


def valid_mask(source: Layer, place: tuple[int, ...] = ()) -> np.ndarray:
    """Where every plane of a stack has data, (Y, X) bool: not at the rim of an aligned one."""
    valid = plugin_metadata(source).get("valid")
    if valid is None:
        return np.ones(plane_shape(source), bool)
    return at_index(np.asarray(valid), place, 2)


def input_stack_of(viewer: Viewer, layer: Layer) -> Layer | None:
    """The stack whose planes a result was computed from: aligned, if its run aligned them."""
    source = source_of(viewer, layer)
    aligned = None if source is None else find_layer(viewer, "aligned", source)
    if aligned is not None and plugin_metadata(aligned).get("run") == plugin_metadata(layer).get(
        "run"
    ):
        return aligned
    return source


def find_layer(viewer: Viewer, role: str, source: Layer) -> Layer | None:
    """Our layer of this role that was made from `source`, whatever it is called now."""
    for layer in viewer.layers:
        if role_of(layer) == role and plugin_metadata(layer).get("source") == str(source.unique_id):
            return layer
    return None


def require_layer(viewer: Viewer, role: str, source: Layer, step: str) -> Layer:
    """Our layer of this role; ValueError that names the step to run first if none fits."""
    layer = find_layer(viewer, role, source)
    if layer is None:
        raise ValueError(f"{source.name!r} has no layer {role!r} yet: run {step!r} first")
    shape, whole = layer.data.shape[: layer.ndim], planes_of(source).shape[: source.ndim]
    pairs = zip(reversed(shape), reversed(whole), strict=False)
    if not all(n in (1, every) for n, every in pairs):
        raise ValueError(
            f"{layer.name!r}, {shape}, is of other planes than {source.name!r}, {whole}, has now: "
            f"run {step!r} again"
        )
    return layer


def stack_name_of(source: Layer) -> str:
    """What results of `source` are called after: the stack, also where it was aligned since."""
    return str(plugin_metadata(source).get("root", source.name))


def placement(
    source: Layer,
    axes: int,
    window: Window | None = None,
    shape: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """Where the last `axes` axes of `source`, or a window of its planes, lie in the world.

    Of an axis that `shape` has one pixel of, that is as thick as all of them in the source: a
    depth map lies in all planes, and is seen wherever the sliders stand.
    """
    last = slice(-axes, None)
    corner, thick = np.zeros(axes), np.ones(axes)
    if window is not None:
        corner[-2:] = window.top, window.left
    if shape is not None:
        whole = planes_of(source).shape[: source.ndim][last]
        thick[:] = [n if got == 1 else 1 for got, n in zip(shape, whole, strict=True)]
        corner += (thick - 1) / 2
    rotate = source.rotate[last, last]
    return {
        "scale": source.scale[last] * thick,
        "translate": source.translate[last] + rotate @ (source.scale[last] * corner),
        "rotate": rotate,
        "affine": source.affine.set_slice(list(range(source.ndim))[last]),
        "units": source.units[last],
        "axis_labels": source.axis_labels[last],
    }


def pixel_at(source: Layer, position: Any) -> tuple[int, int] | None:
    """Row and column of `source` at a position in the world; None outside."""
    row, column = (int(np.rint(v)) for v in np.asarray(source.world_to_data(position))[-2:])
    height, width = plane_shape(source)
    return (row, column) if 0 <= row < height and 0 <= column < width else None


def surface_point(viewer: Viewer, event: Any) -> np.ndarray | None:
    """Where in the world the mouse points at a surface of ours in 3-D; None beside it."""
    for layer in reversed(viewer.layers):
        if role_of(layer) == "surface" and layer.visible:
            found = layer.get_value(
                event.position,
                view_direction=event.view_direction,
                dims_displayed=list(event.dims_displayed),
                world=True,
            )
            if found is not None and found[1] is not None:
                corners = layer.vertices[layer.faces[found[1]]]
                return np.asarray(layer.data_to_world(corners.mean(axis=0)))
    return None


def window_in_view(source: Layer, largest: int) -> Window | None:
    """The part of the planes that the canvas shows, at most `largest` pixels a side, or None."""
    height, width = plane_shape(source)
    corners = np.asarray(source.corner_pixels)[:, -2:]
    return _within(corners[0], corners[1] + 1, (height, width), largest)


def window_in_rectangle(source: Layer, shapes: Layer | None, largest: int) -> Window | None:
    """The part of the planes in the last shape that was drawn, likewise."""
    if shapes is None or not len(shapes.data):
        return None
    world = [shapes.data_to_world(corner) for corner in shapes.data[-1]]
    corners = np.array([np.asarray(source.world_to_data(point))[-2:] for point in world])
    first, last = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    return _within(first, last, plane_shape(source), largest)


def _within(first: Any, last: Any, shape: tuple[int, ...], largest: int) -> Window | None:
    """The window from `first` to `last` (exclusive), cut down around its middle, on the grid."""
    ends = []
    for low, high, size in zip(first, last, shape, strict=True):
        low, high = max(int(low), 0), min(int(high), size)
        if high - low > largest:
            low = (low + high - largest) // 2
            high = low + largest
        if high - low < 1:
            return None
        ends += [low, high]
    return Window(*ends).expand(0, (shape[0], shape[1]))
