"""Apply an alignment or a plane map to other stacks: channels, times or positions."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from magicgui.widgets import Select, Widget
from napari.layers import Layer
from napari.viewer import Viewer

from napari_dff.fusion.fuse import all_in_focus
from napari_dff.model.acquisition import channel_axis
from napari_dff.model.recipe import Recipe
from napari_dff.model.result import FocusOffset
from napari_dff.model.stack import validate_planes
from napari_dff.pipeline.channel_offsets import describe_offset
from napari_dff.registration import LazyAlignedStack, load_aligned
from napari_dff.runtime.lazy import take
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.axes import parse_axis_labels
from napari_dff.widgets.app.background_task import DONE
from napari_dff.widgets.app.controls import labelled_column
from napari_dff.widgets.app.geometry import index_in_view
from napari_dff.widgets.app.layers import plugin_metadata, role_of, settings_of
from napari_dff.widgets.app.runs import RunControls, RunLayers
from napari_dff.widgets.app.task_widget import show_errors
from napari_dff.widgets.tools.focus_offset import FocusOffsetField, estimate_offset
from napari_dff.widgets.tools.tool import Tool

MAX_SIDE_PX = 1 << 31


Apply = Callable[[Any, int, Progress], np.ndarray]  # of the planes of one stack and its number
Show = Callable[[RunLayers, np.ndarray], None]


class AppliedResult(NamedTuple):
    """Alignment and plane map to apply, of S stacks: of one, or of one for each leading index."""

    transforms: np.ndarray | None  # (S, Z, 3, 3), plane → reference
    depth: np.ndarray | None  # (S, Y, X); None to apply the alignment alone
    uncertainty: np.ndarray | None  # (S, Y, X), of the depth
    positions: list[np.ndarray]  # (Z,) focus positions for each depth, in the same unit
    fusion: Any  # as in `Recipe`
    window: Window | None  # of the planes, which the result covers; None: all
    focus_offset: float = 0.0  # of the stacks that it is applied to, in the unit of the depth

    def align(self, planes: Any, number: int) -> LazyAlignedStack:
        """Return planes moved by the transforms of one stack, where they are read."""
        planes = validate_planes(planes)
        if self.transforms is None:
            transforms = np.tile(np.eye(3), (len(planes), 1, 1))
        else:  # the remainder is 0 where there is a single result, which applies to all stacks
            transforms = self.transforms[number % len(self.transforms)]
        return LazyAlignedStack(planes, transforms, window=self.window)

    def surface(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return depth with offset, positions and uncertainty of a stack; one result fits all."""
        assert self.depth is not None
        number %= len(self.depth)
        uncertainty = None if self.uncertainty is None else self.uncertainty[number]
        depth = self.depth[number] + np.float32(self.focus_offset)
        return depth, self.positions[number], uncertainty


class ReuseWidget(Tool):
    """Apply the alignment of a layer, or its alignment and plane map, to other stacks."""

    title = "Use elsewhere"
    lasting_fields: ClassVar[tuple[str, ...]] = ("offset",)
    own_stack: ClassVar[bool] = False  # whether the result applies to its own stack, too
    purpose: ClassVar[str] = "Compute the aligned planes or the all-in-focus image of each stack."

    def __init__(self, viewer: Viewer) -> None:
        self._offset_in_words = ""  # that was just estimated
        super().__init__(
            viewer,
            "use",
            "Layer whose result is applied. Of an aligned stack, its transforms; of a depth layer, "
            "its plane map and its transforms, if any.",
        )
        self.targets = Select(
            label="for",
            choices=self._targets,
            tooltip="Stacks of the same field and number of planes. Every stack along leading axes "
            "is computed. A result of several times applies to stacks with as many times.",
        )
        self._controls = RunControls(self, self.purpose)
        self.run, self.cancel, self.undo = self._controls.buttons
        self._focus_offset = FocusOffsetField(self._on_estimate)
        self.offset, self.estimate = self._focus_offset.value, self._focus_offset.estimate
        fields = labelled_column(
            self.input_layer, self.targets, self._focus_offset.row, *self.extra_widgets()
        )
        self.extend([fields, self._controls.row, self.status])
        self.update_choices()
        self.input_layer.changed.connect(self._on_input)
        self._on_input()
        self.run.changed.connect(self._start)

    def _on_input(self) -> None:
        """Offer the stacks that fit, and the focus offset for a depth, in its unit."""
        used = self.input_layer.value
        self.targets.reset_choices()
        is_depth = used is not None and role_of(used) != "aligned"
        self._focus_offset.show_unit(layers.units_of(used)[-1] if is_depth else None)

    @show_errors
    def _on_estimate(self) -> None:
        """Estimate the focus offset of the first chosen stack, at the sliders."""
        result, targets = self._result_to_apply(), self.targets.value
        if not targets:
            raise ValueError("no stacks chosen: select the one whose focus offset is estimated")
        source, unit = targets[0], layers.units_of(self.input_layer.value)[-1]
        index = index_in_view(self._viewer, source)
        planes, number = take(layers.planes_of(source), index), int(stack_numbers(source)[index])
        spacing = float(np.abs(np.diff(result.positions[0])).mean())

        def show(offset: FocusOffset) -> None:
            self.offset.value = offset.value
            words = f"focus offset of {source.name!r}"
            self._offset_in_words = describe_offset(words, offset, spacing, unit)

        self._offset_in_words = ""
        self.start_task(partial(estimate_offset, result, planes, number), show)

    def _task_finished(self) -> None:
        super()._task_finished()
        if self._offset_in_words and self.status.value == DONE:
            self.show_status(self._offset_in_words)
        self._offset_in_words = ""

    def extra_widgets(self) -> list[Widget]:
        """Return fields of a subclass, which are shown below the others."""
        return []

    def input_choices(self, _: Any = None) -> list[Layer]:
        """Return aligned stacks, then depth layers."""
        aligned = [layer for layer in self._viewer.layers if role_of(layer) == "aligned"]
        return [*aligned, *super().input_choices()]

    def _ancestors(self, layer: Layer) -> list[Layer]:
        """Return a layer, the one that it was computed from, and so on to the original stack."""
        ancestors = [layer]
        while (source := layers.source_of(self._viewer, ancestors[-1])) not in (
            None,
            ancestors[-1],
        ):
            ancestors.append(source)
        return ancestors

    def _window(self, used: Layer) -> Window | None:
        """Return the part of the planes that a layer covers; None: all."""
        windows = [plugin_metadata(layer).get("window") for layer in self._ancestors(used)]
        return next((Window(*window) for window in windows if window is not None), None)

    def _targets(self, _: Any) -> list[Layer]:
        """Return other stacks of the planes and the leading axes of the chosen layer."""
        used = self.input_layer.value
        if used is None or "positions" not in plugin_metadata(used):
            return []
        ancestors, window = self._ancestors(used), self._window(used)
        planes = np.shape(plugin_metadata(used)["positions"])[-1]
        stacks = _result_shape(used, min_length=2)
        if window is None or layers.is_stack(ancestors[-1]):
            smallest = largest = layers.plane_shape(ancestors[-1])
        else:  # the stack has gone
            smallest, largest = (window.bottom, window.right), (MAX_SIDE_PX, MAX_SIDE_PX)

        def fits(layer: Layer) -> bool:
            count, *size = layers.planes_of(layer).shape[: layer.ndim][-3:]
            sides = zip(smallest, size, largest, strict=True)
            return count == planes and all(low <= n <= high for low, n, high in sides)

        return [
            layer
            for layer in self._viewer.layers
            if layers.is_stack(layer)
            and layer.ndim >= 3
            and role_of(layer) != "aligned"
            and (self.own_stack or layer not in ancestors)
            and fits(layer)
            and (not stacks or _result_shape(layer, min_length=2) == stacks)
        ]

    @show_errors
    def _start(self) -> None:
        result, used = self._result_to_apply(), self.input_layer.value
        targets = self.targets.value
        if not targets:
            raise ValueError("no stacks chosen: select those to apply the result to")
        runs = [RunLayers(self._viewer, each, {}, [each, used]) for each in targets]
        for run in runs:
            run.window = result.window
        stacks = [(layers.planes_of(each), stack_numbers(each)) for each in targets]
        apply, show = self.methods(result)

        def compute_layer(planes: Any, numbers: np.ndarray, progress: Progress) -> np.ndarray:
            places = np.ndenumerate(numbers)
            images = [apply(take(planes, index), number, progress) for index, number in places]
            return np.stack(images).reshape(*numbers.shape, *images[0].shape)

        def compute(progress: Progress) -> list[np.ndarray]:
            return [compute_layer(planes, numbers, progress) for planes, numbers in stacks]

        def add_layers(images: list[np.ndarray]) -> Iterator[None]:
            for run, image in zip(runs, images, strict=True):
                show(run, image)
                yield

        self._controls.start(runs, compute, add_layers)

    def methods(self, result: AppliedResult) -> tuple[Apply, Show]:
        """Return a function that computes the image of a stack, and one that shows those of all."""
        return partial(_apply, result), partial(_show, result)

    def _result_to_apply(self) -> AppliedResult:
        used = self.input_layer.value
        if used is None:
            raise ValueError("nothing to use yet: run Align or 'Depth from focus, all steps' first")
        metadata = plugin_metadata(used)
        transforms = metadata.get("transforms")
        if transforms is not None:
            transforms = np.asarray(transforms).reshape(-1, *np.shape(transforms)[-3:])
        window = self._window(used)
        if role_of(used) == "aligned":
            return AppliedResult(transforms, None, None, [], None, window)
        if role_of(used).startswith("levelled"):
            raise ValueError(f"{used.name!r} is levelled: choose the depth it was made from")
        depth = np.asarray(layers.full_values(used)).reshape(-1, *layers.plane_shape(used))
        other = layers.related_layer(self._viewer, used, "uncertainty")
        uncertainty = None if other is None else np.asarray(other.data).reshape(depth.shape)
        all_positions = np.asarray(metadata["positions"])
        indices = np.ndindex(layers.leading_shape(used))
        positions = [layers.at_index(all_positions, index, 1) for index in indices]
        fusion = settings_of(used).get("fusion", Recipe().fusion)
        maps = transforms, depth, uncertainty, positions, fusion, window
        return AppliedResult(*maps, self.offset.value)


def _result_shape(layer: Layer, min_length: int = 1) -> tuple[int, ...]:
    """Return the lengths of the leading axes, 1 for channels, that are at least `min_length`."""
    channel = channel_axis(parse_axis_labels(layer.axis_labels) or ())
    lengths = (1 if i == channel else n for i, n in enumerate(layers.leading_shape(layer)))
    return tuple(n for n in lengths if n >= min_length)


def stack_numbers(layer: Layer) -> np.ndarray:
    """Return the number of the result for each leading index; all channels have the same."""
    shape = _result_shape(layer)
    numbers = np.arange(math.prod(shape)).reshape(shape)
    return np.broadcast_to(numbers, layers.leading_shape(layer))


def _apply(result: AppliedResult, planes: Any, number: int, progress: Progress) -> np.ndarray:
    """Return the aligned planes, or the all-in-focus image, of a stack."""
    if result.transforms is not None:
        planes, _ = load_aligned(result.align(planes, number), progress)
    if result.depth is None:
        return np.asarray(planes)
    depth, positions, uncertainty = result.surface(number)
    settings: dict[str, Any] = {"uncertainty": uncertainty, "fusion": result.fusion}
    return all_in_focus(planes, depth, positions, **settings, progress=progress)


def result_look(run: RunLayers) -> dict[str, Any]:
    """Return how a result looks; that of an additive channel lies over those of others."""
    look = layers.stack_look(run.source)
    if run.source.blending == "additive":
        look["blending"] = run.source.blending
        run.hide(run.source)
    return look


def _show(result: AppliedResult, run: RunLayers, image: np.ndarray) -> None:
    source, transforms, look = run.source, result.transforms, result_look(run)
    if transforms is None or result.depth is not None:
        if source.ndim > 3:
            image = np.expand_dims(image, source.ndim - 3)
        run.show("all in focus", image, metadata={"transforms": None}, **look)
        return
    leading = _result_shape(source) if len(transforms) > 1 else ()
    transforms = transforms.reshape(*leading, *transforms.shape[1:])
    run.show("aligned", image, metadata={"transforms": transforms}, **look)
