"""Strokes of a brush on the results of a stack: from a plane into sharp image and depth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.runtime.windows import Window
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.layers import METADATA_KEY, plugin_metadata, role_of
from napari_dff.widgets.app.versions import edit_count, set_edit_count

SOFT_SHARE = 0.4  # of the radius, over which the weight falls from 1 to 0
HARD_WEIGHT = 0.5  # from which a pixel takes the depth of the plane


class SavedStroke(NamedTuple):
    """A stroke, to paint it again."""

    plane: int
    window: Window  # of the planes
    weight: np.ndarray  # of the window, float32, 0 to 1
    into_image: bool
    into_depth: bool


class PaintedLayer(NamedTuple):
    """A layer that a stroke changes."""

    layer: Layer
    original: np.ndarray  # its data before the stroke
    paint: np.ndarray | float  # what is painted: the plane, (Y, X[, 3]), or one value
    soft: bool  # whether it is mixed by weight, or replaced where the weight is high


@dataclass
class Stroke:
    """One stroke, from pressing the button until it is released."""

    plane: int
    radius_px: float
    painted: list[PaintedLayer]
    weight: np.ndarray  # (Y, X) float32, 0 to 1: how much of the plane
    _last: tuple[int, int] | None = field(default=None)

    def move_to(self, pixel: tuple[int, int]) -> None:
        """Paint along the line from the last pixel to this one."""
        start = np.array(self._last or pixel, float)
        steps = max(1, int(np.hypot(*(start - pixel)) / max(self.radius_px / 3, 1)))
        for share in np.linspace(0 if self._last is None else 1 / steps, 1, steps):
            self._stamp(start + share * (np.array(pixel) - start))
        self._last = pixel
        for each in self.painted:
            each.layer.refresh()

    def _stamp(self, centre: np.ndarray) -> None:
        reach = int(np.ceil(self.radius_px))
        top, left = (np.maximum(np.floor(centre) - reach, 0)).astype(int).tolist()
        bottom, right = (np.floor(centre) + reach + 2).astype(int).tolist()
        part = np.s_[top:bottom, left:right]
        rows, columns = np.ogrid[part]
        rows, columns = (
            rows[: self.weight.shape[0] - top],
            columns[:, : self.weight.shape[1] - left],
        )
        distance = np.hypot(rows - centre[0], columns - centre[1])
        soft = max(SOFT_SHARE * self.radius_px, 0.5)
        weight = np.clip((self.radius_px - distance) / soft, 0, 1).astype(np.float32)
        np.maximum(self.weight[part], weight, out=self.weight[part])
        for each in self.painted:
            each.layer.data[part] = _mixed(each, part, self.weight[part])

    def window(self) -> Window:
        """Return the smallest window with all painted pixels."""
        rows, columns = (np.flatnonzero(self.weight.any(axis=axis)) for axis in (1, 0))
        return Window(rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)

    def record(self) -> dict[str, Any]:
        """Return what the provenance contains of the stroke."""
        window = self.window()
        return {
            "plane": self.plane,
            "rows": [int(window.top), int(window.bottom)],
            "columns": [int(window.left), int(window.right)],
            "pixels": int(np.count_nonzero(self.weight)),
            "into": [role_of(each.layer) for each in self.painted],
        }


def painted_layers(
    viewer: Viewer, stack: Image, depth: Image, plane: int, *, into_image: bool, into_depth: bool
) -> list[PaintedLayer]:
    """Return the layers of a result to paint a plane in, with copies of their data to paint on."""
    positions = layers.positions_of(stack)
    paints: list[tuple[Layer, Any, bool]] = []

    def related(role: str) -> Layer:
        layer = layers.related_layer(viewer, depth, role)
        if layer is None:
            raise ValueError(f"{depth.name!r} has no layer {role!r} beside it")
        return layer

    if into_image:
        picture = np.asarray(layers.planes_of(stack)[plane])
        window = plugin_metadata(depth).get("window")
        if window is not None and picture.shape[:2] != layers.plane_shape(depth):
            picture = picture[Window(*window).slices]
        paints.append((related("all in focus"), picture, True))
    if into_depth:
        spacing = float(np.abs(np.diff(positions)).mean())
        paints.append((depth, float(positions[plane]), False))
        # The depth may be anywhere up to half the distance of the planes.
        paints.append((related("uncertainty"), spacing / math.sqrt(12), False))
        paints.append((related("plane index"), plane + 1, False))
    if not paints:
        raise ValueError("nothing to paint into: check sharp image or depth")
    painted = []
    for layer, paint, soft in paints:
        original = np.asarray(layer.data)
        layer.data = original.copy()
        painted.append(PaintedLayer(layer, original, paint, soft))
    return painted


def saved_strokes(result: Sequence[Layer]) -> list[SavedStroke]:
    """Return the strokes on the layers of a result, in their order."""
    lists = [list(plugin_metadata(layer).get("strokes", ())) for layer in result]
    strokes = max(lists, key=len, default=[])
    return strokes + [x for each in lists for x in each if not any(x is y for y in strokes)]


def paint_again(viewer: Viewer, stack: Image, depth: Image, strokes: Sequence[SavedStroke]) -> None:
    """Paint strokes on a new result of the same planes, which may be cropped otherwise."""
    window = plugin_metadata(depth).get("window")
    for saved in strokes:
        weight = np.zeros(layers.plane_shape(stack), np.float32)
        weight[saved.window.slices] = saved.weight
        if weight.shape != layers.plane_shape(depth) and window is not None:
            weight = weight[Window(*window).slices]
        if not weight.any():  # outside of the result
            continue
        into = {"into_image": saved.into_image, "into_depth": saved.into_depth}
        painted = painted_layers(viewer, stack, depth, saved.plane, **into)
        for each in painted:
            each.layer.data[...] = _mixed(each, np.s_[:, :], weight)
            each.layer.refresh()
        finish(Stroke(saved.plane, 0, painted, weight))


def _mixed(each: PaintedLayer, part: Any, weight: np.ndarray) -> np.ndarray:
    original = each.original[part]
    paint = each.paint[part] if isinstance(each.paint, np.ndarray) else each.paint
    if not each.soft:
        return np.where(weight >= HARD_WEIGHT, np.asarray(paint, original.dtype), original)
    weight = weight.reshape(weight.shape + (1,) * (original.ndim - 2))
    mixed = original + weight * (np.asarray(paint, np.float32) - original)
    return mixed if original.dtype.kind == "f" else np.rint(mixed).astype(original.dtype)


class AppliedStroke(NamedTuple):
    """A finished stroke, which can be undone."""

    parts: list[tuple[Layer, Window, np.ndarray]]  # layer, window and its data before
    metadata: list[tuple[Layer, dict[str, Any]]]  # before

    def is_current(self, viewer: Viewer) -> bool:
        """Return whether no run has computed the layers since."""
        runs = ((x, metadata.get(METADATA_KEY, {}).get("run")) for x, metadata in self.metadata)
        return all(x in viewer.layers and plugin_metadata(x).get("run") == run for x, run in runs)


def finish(stroke: Stroke) -> AppliedStroke:
    """Record a stroke in the metadata of its layers."""
    window = stroke.window()
    parts = [(x.layer, window, x.original[window.slices].copy()) for x in stroke.painted]
    metadata = [(x.layer, dict(x.layer.metadata)) for x in stroke.painted]
    hard, saved = stroke.weight >= HARD_WEIGHT, _saved(stroke)
    for layer, _ in metadata:
        own: dict[str, Any] = dict(plugin_metadata(layer))
        own["retouched"] = [*own.get("retouched", ()), stroke.record()]
        own["strokes"] = [*own.get("strokes", ()), saved]
        if own.get("filled") is not None:  # these pixels have a depth now
            own["filled"] = np.where(hard, np.float32(np.nan), own["filled"])
        layer.metadata = {**layer.metadata, METADATA_KEY: own}
    return AppliedStroke(parts, metadata)


def _saved(stroke: Stroke) -> SavedStroke:
    local, soft = stroke.window(), [each.soft for each in stroke.painted]
    offset = Window(*plugin_metadata(stroke.painted[0].layer).get("window", (0, 0, 0, 0)))
    rows, columns = offset.top, offset.left
    window = Window(
        local.top + rows, local.bottom + rows, local.left + columns, local.right + columns
    )
    weight = stroke.weight[local.slices].copy()
    return SavedStroke(stroke.plane, window, weight, any(soft), not all(soft))


def undo(applied: AppliedStroke) -> None:
    """Restore data and metadata of the layers of a stroke."""
    for layer, window, original in applied.parts:
        data, count = layer.data.copy(), edit_count(layer)
        data[window.slices] = original
        layer.data = data
        set_edit_count(layer, count + 1)
    for layer, metadata in applied.metadata:
        layer.metadata = metadata
