"""Use it again elsewhere: one alignment or one plane map for other channels, times, positions."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from magicgui.widgets import Select
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.acquisition import channel_axis
from napari_dff.fusion import all_in_focus
from napari_dff.lazy import take
from napari_dff.progress import Progress
from napari_dff.registration import resample
from napari_dff.widgets.axes import parse_axis_labels
from napari_dff.widgets.controls import labelled_column
from napari_dff.widgets.heights import depth_layers
from napari_dff.widgets.layers import (
    at_index,
    is_stack,
    leading_shape,
    plane_shape,
    planes_of,
    plugin_metadata,
    role_of,
    settings_of,
    source_of,
)
from napari_dff.widgets.run_controls import RunControls
from napari_dff.widgets.runs import RunLayers
from napari_dff.widgets.tool import Tool


class Given(NamedTuple):
    """What is used again, of one stack or of each place of a layer with many.

    Attributes
    ----------
    transforms : (P, Z, 3, 3) array, optional
    depth : (P, Y, X) array, optional
        In the positions of the planes.
    positions : list of (Z,) arrays
    fusion : str
    """

    transforms: np.ndarray | None
    depth: np.ndarray | None
    positions: list[np.ndarray]
    fusion: Any


class ReuseWidget(Tool):
    """The alignment, or the alignment and the plane map, of one layer applied to others."""

    title = "Use elsewhere"

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(
            viewer,
            "use",
            "An aligned stack: its motion is used. A depth layer: its motion, if there is any, "
            "and its plane map.",
        )
        self.targets = Select(
            label="for",
            choices=self._targets,
            tooltip="Stacks of the same field with as many planes; axes before Z, Y, X are other "
            "channels, times or positions, each done alike. What was made for many times is for "
            "stacks of as many.",
        )
        self._controls = RunControls(self, "Give each of them its result.")
        self.run, self.cancel, self.undo = (
            self._controls.run,
            self._controls.cancel,
            self._controls.undo,
        )
        self._layer_choices.append(self.targets)
        fields = labelled_column(self.input_layer, self.targets)
        self.extend([fields, self._controls.row, self.status])
        self.update_choices()
        self.input_layer.changed.connect(lambda: self.targets.reset_choices())
        self.run.changed.connect(self._start)

    def input_choices(self) -> list[Layer]:
        """Aligned stacks, then depth layers."""
        aligned = [each for each in self._viewer.layers if role_of(each) == "aligned"]
        return [*aligned, *depth_layers(self._viewer)]

    def _targets(self, _: Any) -> list[Layer]:
        """Other stacks of as many planes and times, as large as those that were used."""
        given = self.input_layer.value
        if given is None or "positions" not in plugin_metadata(given):
            return []
        source = source_of(self._viewer, given)
        shape = (np.shape(plugin_metadata(given)["positions"])[-1], *plane_shape(given))
        several = _apart(given)
        return [
            layer
            for layer in self._viewer.layers
            if is_stack(layer)
            and layer.ndim >= 3
            and role_of(layer) != "aligned"
            and layer is not source
            and str(layer.unique_id) != plugin_metadata(given).get("source")
            and (source is None or str(layer.unique_id) != plugin_metadata(source).get("source"))
            and planes_of(layer).shape[: layer.ndim][-3:] == shape
            and (not several or _apart(layer) == several)
        ]

    def _start(self) -> None:
        try:
            given, targets = self._given(), list(self.targets.value)
            if not targets:
                raise ValueError("no stacks chosen: select those that shall get the same")
        except ValueError as error:
            self.show_failure(error)
            return
        used = self.input_layer.value
        runs = [
            RunLayers(self._viewer, target, settings_of(used), [target, used]) for target in targets
        ]
        planes = [(planes_of(each), leading_shape(each), _channel(each)) for each in targets]

        def compute(progress: Progress) -> list[np.ndarray]:
            return [_applied(given, *each, progress) for each in planes]

        def put(results: list[np.ndarray]) -> Iterator[None]:
            for run, result in zip(runs, results, strict=True):
                _put(run, result, None if given.depth is not None else given.transforms)
                yield

        self._controls.start(runs, compute, put)

    def _given(self) -> Given:
        """The motions and the depth of the chosen layer."""
        used = self.input_layer.value
        if used is None:
            raise ValueError("nothing to use yet: run Align or 'Depth from focus, all steps' first")
        mine = plugin_metadata(used)
        transforms = mine.get("transforms")
        if transforms is not None:
            transforms = np.asarray(transforms).reshape(-1, *np.shape(transforms)[-3:])
        if role_of(used) == "aligned":
            return Given(transforms, None, [], None)
        if role_of(used).startswith("levelled"):
            raise ValueError(f"{used.name!r} is levelled: choose the depth it was made from")
        depth = np.asarray(used.data).reshape(-1, *plane_shape(used))
        places = np.ndindex(used.data.shape[: len(leading_shape(used))])
        positions = [at_index(np.asarray(mine["positions"]), place, 1) for place in places]
        return Given(transforms, depth, positions, settings_of(used).get("fusion", "noise_aware"))


def _channel(layer: Layer) -> int | None:
    """Which axis before Z is that of the channels, as far as anybody told."""
    return channel_axis(parse_axis_labels(layer.axis_labels) or ())


def _apart(layer: Layer) -> tuple[int, ...]:
    """Lengths of the axes before Z but that of the channels, where there are several."""
    channel = _channel(layer)
    return tuple(n for i, n in enumerate(leading_shape(layer)) if n > 1 and i != channel)


def _applied(
    given: Given, planes: Any, before: tuple[int, ...], channel: int | None, progress: Progress
) -> np.ndarray:
    """Moved planes, or the picture at the depth, of every stack in the axes before Z, Y, X."""
    apart = tuple(1 if i == channel else n for i, n in enumerate(before))

    def one(place: tuple[int, ...]) -> np.ndarray:
        stack = take(planes, place)
        own = tuple(0 if i == channel else n for i, n in enumerate(place))
        k = int(np.ravel_multi_index(own, apart)) if place else 0
        if given.transforms is not None:
            motions = given.transforms[k if len(given.transforms) > 1 else 0]
            stack, _ = resample(stack, motions, progress=progress)
        if given.depth is None:
            return np.asarray(stack)
        k = k if len(given.depth) > 1 else 0
        settings = {"fusion": given.fusion, "progress": progress}
        return all_in_focus(stack, given.depth[k], given.positions[k], **settings)

    results = [one(place) for place in np.ndindex(before)]
    if not before:
        return results[0]
    return np.stack(results).reshape(*before, *results[0].shape)


def _put(run: RunLayers, result: np.ndarray, transforms: np.ndarray | None) -> None:
    """Put moved planes, or a picture where there are no motions to tell of.

    A picture of a stack with axes before Z gets one too, as thick as the stack.
    """
    role = "all in focus" if transforms is None else "aligned"
    source: Image = run.source
    look: dict[str, Any] = {
        "rgb": source.rgb,
        "colormap": source.colormap,
        "contrast_limits": source.contrast_limits,
    }
    if source.rgb:
        del look["contrast_limits"]
    if role == "all in focus" and source.ndim > 3:
        result = np.expand_dims(result, source.ndim - 3)
    if transforms is not None:
        several = len(transforms) > 1
        before = [1 if i == _channel(source) else n for i, n in enumerate(leading_shape(source))]
        transforms = (
            transforms.reshape(*before, *transforms.shape[1:]) if several else transforms[0]
        )
    run.show(role, result, metadata={"transforms": transforms}, **look)
