"""Base of the tools for depth layers: the choice, the heights and what is drawn on them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from magicgui.widgets import ComboBox
from napari.layers import Image, Layer, Shapes
from napari.viewer import Viewer
from skimage.draw import polygon2mask

from napari_dff.model.acquisition import CHANNEL_LABELS, describe_index
from napari_dff.model.units import validate_unit
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.background_task import DONE
from napari_dff.widgets.app.controls import combo_box
from napari_dff.widgets.app.file_dialogs import ask_new_path
from napari_dff.widgets.app.geometry import index_in_view, to_data
from napari_dff.widgets.app.layer_list import DEPTH_ROLES
from napari_dff.widgets.app.layers import plugin_metadata, role_of
from napari_dff.widgets.app.task_widget import TaskWidget

AREAS = ("ellipse", "rectangle", "polygon")  # types of shapes
AREA_NUMBER = "area"  # the feature of shapes with their number
ELLIPSE_CORNERS = 180  # of the polygon in place of an ellipse


class Heights(NamedTuple):
    """Heights of one stack of a depth layer."""

    layer: Image
    heights: np.ndarray  # (Y, X) float32 in `unit`, NaN where never in focus
    uncertainty: np.ndarray | None  # (Y, X), one standard deviation; inf where never in focus
    picture: np.ndarray | None  # (Y, X[, 3]), the all-in-focus image
    pixel_size: tuple[float, float]
    unit: str  # as napari spells it
    stack_index: tuple[int, ...]  # along the axes of the layer before Z
    stack_in_words: str  # as "time 3 of 20"; empty if there is only one stack


def heights_of(viewer: Viewer, layer: Image) -> Heights:
    """Return the heights of a depth layer in view; ValueError without a known unit."""
    in_view = index_in_view(viewer, layer)
    uncertainty = related_values(viewer, layer, "uncertainty")
    heights = layers.result_values(layer, in_view).astype(np.float32)
    if uncertainty is not None:
        heights = np.where(np.isfinite(uncertainty), heights, np.float32(np.nan))
    picture = related_values(viewer, layer, "all in focus")
    size, unit = layers.pixel_size_of(layer), validate_unit(layers.unit_of(layer))
    words = describe_index(layer.axis_labels, in_view, layers.leading_shape(layer))
    index = _index_of_stack(viewer, layer)
    return Heights(layer, heights, uncertainty, picture, size, unit, index, words)


def all_heights(viewer: Viewer, layer: Image) -> list[Heights]:
    """Return the heights of all stacks of a depth layer, not only of the one in view."""
    shown, other = heights_of(viewer, layer), layers.related_layer(viewer, layer, "uncertainty")
    results = []
    for index in np.ndindex(layers.leading_shape(layer)):
        heights = layers.result_values(layer, index).astype(np.float32)
        uncertainty = None if other is None else layers.result_values(other, index)
        if uncertainty is not None:
            heights = np.where(np.isfinite(uncertainty), heights, np.float32(np.nan))
        results.append(shown._replace(heights=heights, uncertainty=uncertainty))
    return results


def _index_of_stack(viewer: Viewer, layer: Layer) -> tuple[int, ...]:
    """Return which stack a depth layer shows, along the axes of the stack layer before Z."""
    index = plugin_metadata(layer).get("place")  # of a levelled depth, which is of one stack only
    return index_in_view(viewer, layer) if index is None else tuple(index)


def related_values(viewer: Viewer, layer: Layer, role: str) -> np.ndarray | None:  # (Y, X[, 3])
    """Return the values in view of `related_layer`."""
    other = layers.related_layer(viewer, layer, role)
    if other is None:
        return None
    index, in_view = _index_of_stack(viewer, layer), index_in_view(viewer, other)
    if len(index) == len(in_view):
        axes = zip(other.axis_labels, in_view, index, strict=False)
        in_view = tuple(i if label in CHANNEL_LABELS else j for label, i, j in axes)
    return layers.result_values(other, in_view)


def to_pixels(points: np.ndarray, drawn: Layer, layer: Layer) -> np.ndarray:  # (N, 2)
    """Convert data coordinates of the layer `drawn` to rows and columns of `layer`."""
    pixels = [to_data(layer, drawn.data_to_world(point), drawn.units)[-2:] for point in points]
    return np.array(pixels).reshape(-1, 2)


def drawn_lines(shapes: Shapes | None, layer: Layer) -> list[np.ndarray]:  # (N, 2) each
    """Return the lines and paths of a Shapes layer as rows and columns of `layer`."""
    return [corners for kind, corners in _drawn_shapes(shapes, layer) if kind in ("line", "path")]


def drawn_areas(shapes: Shapes | None, layer: Layer) -> list[np.ndarray]:  # (Y, X) bool each
    """Return the areas of a Shapes layer as masks of the pixels of `layer`."""
    masks = []
    for kind, corners in _drawn_shapes(shapes, layer):
        if kind == "ellipse":
            corners = _ellipse_polygon(corners)
        if kind in AREAS:
            mask = polygon2mask(layers.plane_shape(layer), corners)  # type: ignore[no-untyped-call]
            masks.append(mask)
    return masks


def number_areas(shapes: Shapes) -> None:
    """Write the number of each area into the picture, unless the layer has texts of its own."""
    has_texts = bool((np.ravel(shapes.text.values) != "").any())
    if has_texts and AREA_NUMBER not in shapes.features:
        return
    numbers, count = [], 0
    for kind in shapes.shape_type:
        is_area = str(kind) in AREAS
        count += is_area
        numbers.append(str(count) if is_area else "")
    if list(shapes.features.get(AREA_NUMBER, ())) != numbers:
        shapes.features = {**dict(shapes.features), AREA_NUMBER: numbers}
        text = {"string": f"{{{AREA_NUMBER}}}", "color": "yellow", "size": 16}
        shapes.text = text


def _drawn_shapes(shapes: Shapes | None, layer: Layer) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the type of each shape, and its corners as rows and columns of `layer`."""
    if shapes is not None:
        for kind, corners in zip(shapes.shape_type, shapes.data, strict=True):
            yield str(kind), to_pixels(corners, shapes, layer)


def _ellipse_polygon(corners: np.ndarray) -> np.ndarray:
    """Return a polygon in place of the ellipse inscribed in a parallelogram, (4, 2) corners."""
    # With its centre c and half its edges a and b, the points are c + a cos t + b sin t. Scaling
    # of the layers turns the rectangle around an ellipse into a parallelogram.
    centre = corners.mean(axis=0)
    a, b = (corners[1] - corners[0]) / 2, (corners[2] - corners[1]) / 2
    t = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)[:, None]
    return centre + np.cos(t) * a + np.sin(t) * b


class Tool(TaskWidget):
    """A form with a choice of the layer to work on; the newest one after `update_choices`."""

    def __init__(self, viewer: Viewer, label: str, tooltip: str) -> None:
        super().__init__(viewer)
        self.input_layer = combo_box(label, self.input_choices, tooltip, nullable=True)
        self.stack_in_words = ""  # the stack that was used, of a layer with several
        self._connect(viewer.layers.events.inserted, self.update_choices)
        self._connect(viewer.layers.events.removed, self.update_choices)
        self._connect(viewer.layers.selection.events.active, self._on_selected)

    def input_choices(self, _: Any = None) -> list[Layer]:
        """Return the layers to choose from, the newest last."""
        return [layer for layer in self._viewer.layers if role_of(layer) in DEPTH_ROLES]

    def depth_layer(self) -> Image:
        """Return the chosen depth layer; ValueError if there is none."""
        layer = self.input_layer.value
        if layer is None:
            raise ValueError("no depth layer: run 'Depth from focus, all steps' on a stack first")
        return layer

    def heights(self) -> Heights:
        """Return the heights in view; the status at the end of a task names their stack."""
        heights = heights_of(self._viewer, self.depth_layer())
        self.stack_in_words = heights.stack_in_words
        return heights

    def layer_box(self, kind: type, label: str, tooltip: str) -> ComboBox:
        """Return a choice among the layers of one class, none at first."""

        def choices(_: Any) -> list[Layer]:
            return [layer for layer in self._viewer.layers if isinstance(layer, kind)]

        return combo_box(label, choices, tooltip, nullable=True)

    def update_choices(self, _: Any = None) -> None:
        """Offer the layers that are in the viewer now."""
        chosen, layers = self.input_layer.value, self.input_choices()
        self.reset_choices()
        if layers and chosen not in layers:
            self.input_layer.value = layers[-1]

    def _on_selected(self, event: Any) -> None:
        """Choose the layer that is selected, as a new result is, if the tool can work on it."""
        layer = event.value
        if not self.busy and layer is not None and layer in self.input_layer.choices:
            self.input_layer.value = layer

    def ask_save_path(self, title: str, name: str, suffixes: tuple[str, ...]) -> Path | None:
        """Ask the user for the path of a new file, with the suffix of a file type; or None."""
        filters = ";;".join(f"{suffix[1:].upper()} (*{suffix})" for suffix in suffixes)
        answer = ask_new_path(self.native, title, name, filters)
        if answer is None:
            return None
        path, chosen = answer
        suffix = chosen.split("*")[-1].rstrip(")") if "*" in chosen else suffixes[0]
        return path if path.suffix else path.with_suffix(suffix)

    def _task_finished(self) -> None:
        super()._task_finished()
        if self.stack_in_words and self.status.value == DONE:
            self.show_status(f"{DONE}: {self.stack_in_words}")
