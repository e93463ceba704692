"""Hints by hand: points or labels that say where it is sharp, or that it never is."""

from collections.abc import Callable

import numpy as np
from magicgui.widgets import ComboBox, PushButton, Widget
from napari.layers import Image, Labels, Layer, Points
from napari.viewer import Viewer

from napari_dff.refinement import BACKGROUND, NO_HINT
from napari_dff.widgets.axes import channel_axis, leading_axis_names
from napari_dff.widgets.geometry import placement
from napari_dff.widgets.layers import METADATA_KEY, plane_shape, planes_of, role_of, stack_name_of

SHARP, NEVER = "sharp in the plane shown", "background: never sharp"
SIZE = 3  # pixels, diameter of what a new point says
HELP = (
    "What you know: points, each in the plane in which it is sharp (or marked as background); or "
    "labels, 1 painted in the plane in which it is sharp and 2 on background."
)


class Hints:
    """Choose a layer of hints, or begin one; what the next points say."""

    def __init__(self, viewer: Viewer, source: Callable[[], Image | None]) -> None:
        self._viewer, self._source = viewer, source
        self.layer = ComboBox(label="hints", choices=self._layers, nullable=True, tooltip=HELP)
        self.new = PushButton(text="New hints", tooltip="Begin a layer of points and click on it.")
        self.says = ComboBox(
            label="new points say", choices=[SHARP, NEVER], tooltip="What the next points say."
        )
        self.says.enabled = False
        self.widgets: list[Widget] = [self.layer, self.says, self.new]
        self.new.changed.connect(self._begin)
        self.says.changed.connect(self._say)
        self.layer.changed.connect(self._chosen)
        viewer.layers.events.inserted.connect(self._follow)
        viewer.layers.events.removed.connect(self._follow)
        self.layer.reset_choices()

    def close(self) -> None:
        """Stop following the layers."""
        for event in (self._viewer.layers.events.inserted, self._viewer.layers.events.removed):
            event.disconnect(self._follow)

    def _follow(self, _: object) -> None:
        self.layer.reset_choices()

    def _layers(self, _widget: object) -> list[Layer]:
        kinds = (Points, Labels)
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, kinds) and role_of(layer) in ("", "hints")
        ]

    def _begin(self) -> None:
        source = self._source()
        if source is None:
            return
        points = self._viewer.add_points(
            np.empty((0, source.ndim)),
            name=f"hints · {stack_name_of(source)}",
            metadata={METADATA_KEY: {"role": "hints"}},
            size=SIZE,
            features={"background": np.empty(0, dtype=bool)},
            feature_defaults={"background": False},
            face_color="background",
            face_color_cycle={False: "lime", True: "red"},
            border_color="black",
            **placement(source, source.ndim),
        )
        self.layer.reset_choices()
        self.layer.value = points
        points.mode = "add"

    def _chosen(self) -> None:
        self.says.enabled = isinstance(self.layer.value, Points)

    def _say(self) -> None:
        points = self.layer.value
        if isinstance(points, Points):
            never = self.says.value == NEVER
            points.feature_defaults = {**points.feature_defaults, "background": never}
            points.selected_data = set()


def hints_of(layer: Layer, source: Image, place: tuple[int, ...] = ()) -> np.ndarray:
    """Hints as `refine` takes them, (Y, X) int32; ValueError with a sentence where they can't be.

    A point says so of the pixels it covers. Of a stack with axes before Z, those at `place` count;
    an axis of channels is told by `place` alone, since what is sharp is so in all of them.
    """
    out = np.full(plane_shape(source), NO_HINT, np.int32)
    if isinstance(layer, Points):
        _paint_points(out, layer, source, place)
    else:
        _paint_labels(out, layer, source, place)
    return out


def _paint_points(out: np.ndarray, points: Points, source: Image, place: tuple[int, ...]) -> None:
    before, channel = len(place), channel_axis(leading_axis_names(source))
    planes = planes_of(source).shape[before]
    never = np.zeros(len(points.data), bool)
    if "background" in points.features:
        never = points.features["background"].to_numpy(dtype=bool)
    if points.ndim < source.ndim and not never.all():
        axes = ", ".join([*(name.upper() for name in leading_axis_names(source)), "Z", "Y", "X"])
        raise ValueError(
            f"layer {points.name!r} must have points with {axes}, so that each is in a plane, "
            f"got {points.ndim} axes"
        )
    per_pixel = float(points.scale[-1] / source.scale[-1])
    rows, columns = np.ogrid[: out.shape[0], : out.shape[1]]
    for point, size, background in zip(points.data, points.size, never, strict=True):
        at = np.asarray(source.world_to_data(points.data_to_world(point)))
        here = np.rint(at[:before]).astype(int)
        everywhere = points.ndim < source.ndim
        if not everywhere and any(i != channel and here[i] != place[i] for i in range(before)):
            continue
        plane = 0 if everywhere else int(np.rint(at[before]))
        if not background and not 0 <= plane < planes:
            raise ValueError(
                f"points of {points.name!r} must lie in planes 0 to {planes - 1}, got {plane}"
            )
        centre = np.rint(at[-2:])
        radius = max(float(np.mean(size)) * per_pixel / 2, 0.5)
        near = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
        out[near] = BACKGROUND if background else plane


def _paint_labels(out: np.ndarray, layer: Labels, source: Image, place: tuple[int, ...]) -> None:
    labels, whole = np.asarray(layer.data), planes_of(source).shape[: source.ndim]
    if labels.shape != whole:
        raise ValueError(
            f"labels {layer.name!r} must cover the stack, {whole}, got shape {labels.shape}"
        )
    channel = channel_axis(leading_axis_names(source))
    here = labels[tuple(slice(None) if i == channel else n for i, n in enumerate(place))]
    if channel is not None:
        here = here.max(axis=0) if here.ndim > 3 else here
    sharp, never = here == 1, (here == 2).any(axis=0)
    said = sharp.any(axis=0)
    out[said] = sharp.argmax(axis=0)[said]
    out[never] = BACKGROUND
