"""Hints by hand: points or labels that mark where a plane is sharp, or background."""

from collections.abc import Callable

import numpy as np
from magicgui.widgets import Widget
from napari.layers import Image, Labels, Layer, Points
from napari.viewer import Viewer

from napari_dff.model.acquisition import channel_axis
from napari_dff.refinement import BACKGROUND, NO_HINT
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.axes import leading_axis_names
from napari_dff.widgets.app.controls import combo_box, push_button
from napari_dff.widgets.app.geometry import placement, to_data, unit_ratios
from napari_dff.widgets.app.result_view import show_planes
from napari_dff.widgets.app.view_units import draw_in_view_units

HINT_TEXT = "says"  # the feature of points with their text
SHARP, BACKGROUND_CHOICE = "sharp in the plane shown", "background: never sharp"
POINT_DIAMETER_PX = 3  # of the stack; each pixel under a point gets its hint
VISIBLE_DIAMETER_PX = 12  # of the screen, at least
SHARP_LABEL, BACKGROUND_LABEL = 1, 2  # in a Labels layer
CORRECT_TOOLTIP = (
    "Show the planes. Move the slider to the plane in which something is sharp, click on it, and "
    "press Run."
)
TOOLTIP = (
    "Known depths. Points: each in the plane in which it is sharp, or marked as background. "
    "Labels: 1 in the plane in which a pixel is sharp, 2 on background in any plane."
)


class HintsForm:
    """Choice of a layer with hints, of what new points mean, and a button for a new layer."""

    def __init__(self, viewer: Viewer, stack: Callable[[], Image | None]) -> None:
        self._viewer, self._stack = viewer, stack
        self.layer = combo_box("hints", self._hint_layers, TOOLTIP, nullable=True)
        self.new = push_button("Correct by hand", CORRECT_TOOLTIP, self._on_new)
        self._labelled: Points | None = None  # whose points have texts
        meanings = [SHARP, BACKGROUND_CHOICE]
        self.new_points = combo_box("new points say", meanings, "The meaning of the next points.")
        self.new_points.enabled = False
        self.widgets: list[Widget] = [self.layer, self.new_points, self.new]
        self.new_points.changed.connect(self._set_default)
        self.layer.changed.connect(self._on_layer)

    def _hint_layers(self, _: object) -> list[Layer]:
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Points | Labels) and layers.role_of(layer) in ("", "hints")
        ]

    def _on_new(self) -> None:
        """Show the planes, and let the user click points into the chosen or a new layer."""
        source, points = self._stack(), self.layer.value
        if source is None:
            return
        show_planes(self._viewer, source)
        if not isinstance(points, Points):
            points = self._add_points(source)
            self.layer.reset_choices()
            self.layer.value = points
        points.visible = True
        draw_in_view_units(self._viewer, points)
        self._viewer.layers.selection.active = points
        points.mode = "add"

    def _add_points(self, source: Image) -> Points:
        return self._viewer.add_points(
            np.empty((0, source.ndim)),
            name="hints",
            metadata={layers.METADATA_KEY: {"role": "hints"}},
            size=POINT_DIAMETER_PX,
            canvas_size_limits=(VISIBLE_DIAMETER_PX, 10_000),
            features={"background": np.empty(0, dtype=bool), HINT_TEXT: np.empty(0, dtype=str)},
            feature_defaults={"background": False, HINT_TEXT: ""},
            text={
                "string": f"{{{HINT_TEXT}}}",
                "color": "lime",
                "size": 11,
                "anchor": "upper_left",
            },
            face_color="background",
            face_color_cycle={False: "lime", True: "red"},
            border_color="black",
            **placement(source, source.ndim),
        )

    def _on_layer(self) -> None:
        points = self.layer.value
        self.new_points.enabled = isinstance(points, Points)
        if self._labelled is not None:
            self._labelled.events.data.disconnect(self._write_texts)
        self._labelled = points if isinstance(points, Points) else None
        if self._labelled is not None:
            self._labelled.events.data.connect(self._write_texts)

    def _write_texts(self, _: object = None) -> None:
        """Write at each point its plane, or background."""
        points, source = self._labelled, self._stack()
        if points is None or source is None or HINT_TEXT not in points.features:
            return
        z, texts = source.ndim - 3, []
        for point, background in zip(points.data, points.features["background"], strict=True):
            plane = round(to_data(source, points.data_to_world(point), points.units)[z])
            texts.append("background" if background else f"plane {plane}")
        if list(points.features[HINT_TEXT]) != texts:
            defaults = points.feature_defaults
            points.features = {**dict(points.features), HINT_TEXT: texts}
            points.feature_defaults = defaults

    def _set_default(self) -> None:
        points = self.layer.value
        if isinstance(points, Points):
            background = self.new_points.value == BACKGROUND_CHOICE
            points.feature_defaults = {**points.feature_defaults, "background": background}
            points.selected_data = set()


def hints_of(layer: Points | Labels, source: Image, index: tuple[int, ...] = ()) -> np.ndarray:
    """Return the hints for the stack at `index` in all channels, (Y, X) int32, for `refine`."""
    hints = np.full(layers.plane_shape(source), NO_HINT, np.int32)
    draw: Callable[..., None] = _draw_points if isinstance(layer, Points) else _draw_labels
    draw(hints, layer, source, index)
    return hints


def _draw_points(hints: np.ndarray, points: Points, source: Image, index: tuple[int, ...]) -> None:
    """Set `hints`, (Y, X), within the disc of each point, later points over earlier ones."""
    z, names = len(index), leading_axis_names(source)
    axes = [axis for axis in range(z) if axis != channel_axis(names)]
    planes = layers.planes_of(source).shape[z]
    nowhere = np.zeros(len(points.data))
    is_background = np.asarray(points.features.get("background", nowhere), dtype=bool)
    in_all_stacks = points.ndim < source.ndim
    if in_all_stacks and not is_background.all():
        needed = ", ".join([*names, "z", "y", "x"]).upper()
        raise ValueError(
            f"layer {points.name!r} must have points with {needed}, so that each is in a plane, "
            f"got {points.ndim} axes"
        )
    ratio = unit_ratios(points.units, source.units, 1)[0]
    pixels_per_unit = float(ratio * points.scale[-1] / source.scale[-1])
    rows, columns = np.ogrid[: hints.shape[0], : hints.shape[1]]
    for point, size, background in zip(points.data, points.size, is_background, strict=True):
        position = np.rint(to_data(source, points.data_to_world(point), points.units)).astype(int)
        if not in_all_stacks and any(position[axis] != index[axis] for axis in axes):
            continue
        plane = 0 if in_all_stacks else position[z]
        if not background and not 0 <= plane < planes:
            raise ValueError(
                f"points of {points.name!r} must lie in planes 0 to {planes - 1}, got {plane}"
            )
        radius = max(float(np.mean(size)) * pixels_per_unit / 2, 0.5)
        disc = (rows - position[-2]) ** 2 + (columns - position[-1]) ** 2 <= radius**2
        hints[disc] = BACKGROUND if background else plane


def _draw_labels(hints: np.ndarray, layer: Labels, source: Image, index: tuple[int, ...]) -> None:
    """Set `hints`, (Y, X), where there are labels in any plane; background over sharp."""
    labels, shape = np.asarray(layer.data), layers.planes_of(source).shape[: source.ndim]
    if labels.shape != shape:
        raise ValueError(
            f"labels {layer.name!r} must cover the stack, {shape}, got shape {labels.shape}"
        )
    channel = channel_axis(leading_axis_names(source))
    labels = labels[tuple(slice(None) if axis == channel else i for axis, i in enumerate(index))]
    if channel is not None:
        labels = labels.max(axis=0)
    sharp = labels == SHARP_LABEL
    hints[sharp.any(axis=0)] = sharp.argmax(axis=0)[sharp.any(axis=0)]
    hints[(labels == BACKGROUND_LABEL).any(axis=0)] = BACKGROUND
