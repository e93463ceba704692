"""Project stacks along a surface, from one offset to another."""

from dataclasses import asdict, replace
from functools import partial
from typing import Any, get_args

import numpy as np
from magicgui.widgets import Widget
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.fusion.slab import describe_clipping, project_stack, project_tile, projection_dtype
from napari_dff.model.acquisition import Index
from napari_dff.model.checks import Range
from napari_dff.model.slab import SlabMethod, SlabProjection
from napari_dff.model.units import depth_unit_symbol
from napari_dff.runtime.lazy import read_window, take
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window, full_window
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.controls import combo_box, wrapping_label
from napari_dff.widgets.app.geometry import index_in_view, move_view_to, placement
from napari_dff.widgets.app.layer_data import ResultLayer, picture_look
from napari_dff.widgets.app.layer_list import SURFACE_ROLES
from napari_dff.widgets.app.preview import Preview, PreviewRequest
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.app.spin_boxes import spin_box
from napari_dff.widgets.tools.focus_offset import OFFSETS
from napari_dff.widgets.tools.reuse import (
    AppliedResult,
    Apply,
    ReuseWidget,
    Show,
    result_look,
    stack_numbers,
)

METHODS = {method.replace("_", " "): method for method in get_args(SlabMethod)}


class ProjectWidget(ReuseWidget):
    """Project stacks along a depth layer, with a preview."""

    title = "Slab projection"
    own_stack = True
    purpose = "Project each stack along the depth."
    lasting_fields = ("method", "low", "high", "slabs", "distance", "offset")

    def __init__(self, viewer: Viewer) -> None:
        self._spacing = 0.0  # of the planes of the chosen layer
        self._index: Index = ()  # of the stack in the preview
        super().__init__(viewer)
        lengths = self.low, self.high, self.slabs, self.distance, self.offset
        for field in (self.method, *lengths, self.targets):
            field.changed.connect(self._preview.request)
        self._connect(viewer.dims.events.current_step, self._on_slider)
        self.advice.visible = False

    def extra_widgets(self) -> list[Widget]:
        """Return method, slab, offsets and preview."""
        self.method = combo_box("method", list(METHODS), "How the values in the slab are joined.")
        tooltip = "Where the slab {}: offset from the depth; positive ones lie at higher positions."
        self.low = spin_box("from", 0.0, OFFSETS, tooltip.format("begins"))
        self.high = spin_box("to", 0.0, OFFSETS, tooltip.format("ends"))
        several = "Number of parallel slabs, around the depth: a z-stack that follows the surface."
        self.slabs = spin_box("slabs", 1, Range(1, 1000, 1), several)
        tip = "Distance from one slab to the next."
        self.distance = spin_box("distance of slabs", 0.0, Range(0.0, 1e6, 0.1), tip)
        self._preview = Preview(self._viewer, self._prepare_preview, self.show_status)
        self.preview, self.advice = self._preview.choice, wrapping_label()
        lengths = self.low, self.high, self.slabs, self.distance
        return [self.method, *lengths, self.preview, self.advice]

    def input_choices(self, _: Any = None) -> list[Layer]:
        """Return the depth layers that are not levelled."""
        return [layer for layer in self._viewer.layers if layers.role_of(layer) in SURFACE_ROLES]

    def projection(self) -> SlabProjection:
        """Return slab and method of the form; ValueError if they do not fit."""
        count, distance = self.slabs.value, self.distance.value
        if count > 1 and distance == 0:
            raise ValueError("distance of slabs must be more than 0 for several slabs, got 0")
        offsets = tuple(distance * (i - (count - 1) / 2) for i in range(count)) if count > 1 else ()
        slab = self.low.value, self.high.value
        return SlabProjection(slab, offsets, METHODS[self.method.value])

    def methods(self, result: AppliedResult) -> tuple[Apply, Show]:
        """Return a function that projects a stack, and one that shows the projections of all."""
        projection = self.projection()
        colour = [each.name for each in self.targets.value if each.rgb]
        if colour and projection.method not in ("maximum", "mean"):
            raise ValueError(
                f"method must be maximum or mean for colour, as of {colour[0]!r}, "
                f"got {self.method.value}"
            )
        self._preview.hide()
        self._clipped, self._pixels = 0, 0
        return partial(self._project, result, projection), partial(self._show, projection)

    def _on_input(self) -> None:
        """Set unit and steps of the fields, for another distance of planes also their values."""
        super()._on_input()
        used = self.input_layer.value
        if used is None or "positions" not in layers.plugin_metadata(used):
            return
        positions = np.asarray(layers.plugin_metadata(used)["positions"], float)
        spacing = float(np.abs(np.diff(positions)).mean())
        lengths: dict[Any, float] = {
            self.low: -spacing,
            self.high: spacing,
            self.distance: spacing,
        }
        if spacing != self._spacing:
            for field, value in lengths.items():
                field.native.setSuffix(f" {depth_unit_symbol(layers.units_of(used)[-1])}")
                field.step = 10.0 ** (np.floor(np.log10(spacing)) - 1)
                field.value = value
            self._spacing = spacing
        if self.targets.choices and not self.targets.value:
            self.targets.value = self.targets.choices[:1]
        self._preview.request()

    def _on_slider(self, _: Any = None) -> None:
        """Request a preview of another stack; the plane in view does not matter."""
        for source in self.targets.value[:1]:
            if (index := index_in_view(self._viewer, source)) != self._index:
                self._index = index
                self._preview.request()

    def _project(
        self,
        result: AppliedResult,
        projection: SlabProjection,
        planes: Any,
        number: int,
        progress: Progress,
    ) -> np.ndarray:
        """Return the slabs of a stack, (K, Y, X[, 3])."""
        aligned, (depth, positions, _) = result.align(planes, number), result.surface(number)
        images, clipped = project_stack(aligned, depth, positions, projection, progress)
        self._clipped, self._pixels = self._clipped + clipped, self._pixels + depth.size
        return images

    def _show(self, projection: SlabProjection, run: RunLayers, images: np.ndarray) -> None:
        source, look = run.source, result_look(run)
        axis = source.ndim - 3
        if projection.method not in ("maximum", "mean"):
            look |= picture_look(images, rgb=False)
        if projection.offsets:
            place = placement(source, source.ndim, run.window, images.shape[: source.ndim])
            look |= {name: np.array(place[name]) for name in ("scale", "translate")}
            look["scale"][axis] = np.diff(projection.offsets).mean()
            look["translate"][axis] = projection.offsets[0]
        elif source.ndim == 3:
            images = images[0]
        metadata = {"projection": asdict(projection), "transforms": None}
        name = f"{projection.method.replace('_', ' ')} projection"
        layer = run.show(name, images, metadata=metadata, **look)
        if projection.offsets:
            move_view_to(self._viewer, layer)
        sentence = describe_clipping(self._clipped, self._pixels)
        self.advice.value, self.advice.visible = sentence, bool(sentence)

    def _prepare_preview(self) -> PreviewRequest | None:
        if self.busy or self.input_layer.value is None or not self.targets.value:
            return None
        try:
            source, projection = self.targets.value[0], self.projection()
            index, result = index_in_view(self._viewer, source), self._result_to_apply()
        except ValueError as error:
            self.show_status(f"no preview: {error}")
            return None
        middle = projection.offsets[len(projection.offsets) // 2 :][:1]
        projection = replace(projection, offsets=middle)
        number = int(stack_numbers(source)[index])
        planes = take(layers.planes_of(source), index)
        compute = partial(_preview_layers, source, result, planes, number, projection)
        note = f", of the slab at offset {middle[0]:g}" if middle else ""
        return PreviewRequest(source, compute, note)

    def _close(self) -> None:
        super()._close()
        self._preview.close()


def _preview_layers(
    source: Image,
    result: AppliedResult,
    planes: Any,
    number: int,
    projection: SlabProjection,
    window: Window,
    progress: Progress,
) -> list[ResultLayer]:
    """Return the projection of a window of the planes; 0 where the depth does not cover it."""
    aligned, (depth, positions, _) = result.align(planes, number), result.surface(number)
    frame = result.window or full_window((depth.shape[0], depth.shape[1]))
    inner = window.intersect(frame)
    dtype = projection_dtype(aligned.dtype, projection.method)
    out = np.zeros((*window.shape, *aligned.shape[3:]), dtype)
    if min(inner.shape) > 0:
        part = inner.shift(-frame.top, -frame.left)
        planes, depth = read_window(aligned, part), depth[part.slices]
        images, _ = project_tile(planes, depth, positions, projection, progress)
        out[inner.slices_in(window)] = images[0]
    look = layers.stack_look(source)
    if projection.method not in ("maximum", "mean"):
        look |= picture_look(out, rgb=source.rgb)
    return [ResultLayer("preview projection", out, look)]
