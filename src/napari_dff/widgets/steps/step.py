"""What all steps share: the form, a preview, and runs whose layers can be undone."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.viewer import Viewer

from napari_dff.model.acquisition import Acquisition, Index
from napari_dff.model.recipe import Recipe
from napari_dff.model.stack import FocalStack
from napari_dff.registration import LazyAlignedStack
from napari_dff.runtime.free_memory import available_bytes
from napari_dff.runtime.lazy import load_planes
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window
from napari_dff.widgets.app.axes import acquisition_of
from napari_dff.widgets.app.chosen_scale import ChosenScale
from napari_dff.widgets.app.controls import button_row, labelled_column, wrapping_label
from napari_dff.widgets.app.geometry import index_in_view
from napari_dff.widgets.app.layer_data import ResultLayer
from napari_dff.widgets.app.layer_list import is_drawing
from napari_dff.widgets.app.layers import (
    METADATA_KEY,
    plugin_metadata,
    require_stack,
    result_values,
    transforms_of_aligned,
)
from napari_dff.widgets.app.preview import Preview, PreviewRequest
from napari_dff.widgets.app.runs import RunControls, RunLayers
from napari_dff.widgets.app.task_widget import READY, show_errors
from napari_dff.widgets.app.time_left import Steps
from napari_dff.widgets.app.versions import version
from napari_dff.widgets.steps.step_form import StepForm

Arrays = dict[str, np.ndarray]  # data of layers by role; "transforms": of aligned planes
Previews = Sequence[ResultLayer]
LESS_MEMORY = "close other programs, or take a part of the stack"


class StackInput(NamedTuple):
    """What the result of one stack is computed from."""

    stack: FocalStack
    recipe: Recipe
    arrays: Arrays

    def plane_mask(self, window: Window) -> np.ndarray | None:
        """Return where each plane has data in `window`, (Z, h, w) bool; None: everywhere."""
        transforms = self.arrays.get("transforms")
        if transforms is None:
            return None
        return LazyAlignedStack(self.stack.planes, transforms).plane_mask(window)

    def select(self, used: np.ndarray | slice) -> "StackInput":
        """Return the input without planes that are left out; indices are among the used planes."""
        if isinstance(used, slice):
            return self
        arrays = dict(self.arrays)
        for role in arrays.keys() & {"focus", "transforms"}:
            arrays[role] = arrays[role][used]
        for role, first in (("plane index", 1), ("hints", 0)):  # the label or number of plane 0
            if role in arrays:
                values = arrays[role]
                index = np.searchsorted(used, values - first).clip(max=len(used) - 1) + first
                arrays[role] = np.where(values >= first, index, values).astype(values.dtype)
        return self._replace(stack=select_planes(self.stack, used), arrays=arrays)


def select_planes(stack: FocalStack, used: np.ndarray | slice) -> FocalStack:
    """Return a stack of the `used` planes only, in memory; the same one if all are used."""
    if isinstance(used, slice):
        return stack
    return replace(stack, planes=load_planes(stack.planes)[used], positions=stack.positions[used])


class RunInput(NamedTuple):
    """What the results of all stacks of a layer are computed from; see `StackInput`."""

    acquisition: Acquisition
    recipe: Recipe
    arrays: dict[Index, Arrays]


class StepWidget(StepForm):
    """One step: choose a stack and settings, look at the preview, and run.

    A subclass defines its settings (`main_settings`, `more_settings`), the layers that it needs
    besides the stack (`input_layers`), the computation (`compute`), its layers (`add_layers`), and
    its preview (`compute_preview`).
    """

    has_preview: ClassVar[bool] = True
    measures_focus: ClassVar[bool] = False

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._index: Index = ()  # of the stack in view
        self._scale = ChosenScale()
        self._preview = Preview(
            viewer, self._prepare_preview, self.show_status, offered=self.has_preview
        )
        self.preview = self._preview.choice
        self.advice, self.memory = wrapping_label(), wrapping_label()
        self._controls = RunControls(
            self, f"{self.title}: the whole stack.", undone=lambda: self.show_advice([])
        )
        self.run, self.cancel, self.undo = self._controls.buttons
        # Aligned planes have the calibration of their stack.
        calibration = [] if self.prefers_aligned else self.calibration.widgets
        inputs = [self.stack, *calibration, *self.axes.widgets, *self.extra_widgets()]
        inputs += [] if self.presets is None else self.presets.widgets
        preview = [self.preview] if self.has_preview else []
        fields = labelled_column(*inputs, *self.form.widgets, *preview)
        labels = self.status, self.advice, self.freshness
        recipe_file = button_row(self.save, self.load, self.copy)
        notes = [] if self.prefers_aligned else [self.calibration.note]
        self.extend([fields, *notes, self.memory, self._controls.row, *labels, recipe_file])
        if self.presets is not None:
            self.append(self.presets.buttons)
        self.form.expand(False)
        self.advice.visible = self.freshness.visible = False
        self.stack.changed.connect(self._forget_sentences)  # before the form shows new ones
        self._connect_signals()
        self.run.changed.connect(self._start)
        self._connect(viewer.dims.events.current_step, self._on_slider)
        self._update_memory()

    def input_arrays(self, source: Image, layers: dict[str, Layer], index: Index) -> Arrays:
        """Return the data of these layers for one stack; in the main thread."""
        arrays = {role: result_values(layer, index) for role, layer in layers.items()}
        transforms = transforms_of_aligned(source, index)
        if transforms is not None:
            arrays["transforms"] = transforms
        return arrays

    def compute(self, inputs: RunInput, progress: Progress) -> Any:
        """Return the result of all stacks; in a thread."""
        raise NotImplementedError

    def add_layers(self, run: RunLayers, result: Any) -> Iterator[None]:
        """Add the layers of the result, one at each step of the iterator."""
        raise NotImplementedError

    def compute_preview(self, inputs: StackInput, window: Window, progress: Progress) -> Previews:
        """Return images of a window with the same values as a run gives; in a thread."""
        raise NotImplementedError

    def steps(self, recipe: Recipe, stacks: int) -> Steps:
        """Return the steps of the computation, if their durations are known."""
        return ()

    def needed_megabytes(self, acquisition: Acquisition, recipe: Recipe) -> float:
        """Return the memory that a run needs in addition; 0 if it is little or not known."""
        return 0.0

    def _update_memory(self) -> None:
        """Show how much memory a run needs, with a warning if less is free."""
        words = ""
        try:
            source = require_stack(self.stack.value)
            channel = self.axes.focus.value or 0  # any channel needs the same
            needed = self.needed_megabytes(acquisition_of(source, channel), self.recipe())
        except ValueError as error:
            needed, words = 0.0, f"⚠ {error}" if "megabytes" in str(error) else ""
        free = available_bytes() / 1e6
        if needed:
            words = f"needs about {_in_words(needed)} of memory"
        if needed > free:
            words = f"⚠ {words}, and {_in_words(free)} are free: {LESS_MEMORY}"
        self.memory.value, self.memory.visible = words, bool(words)

    def preview_source(self, source: Image) -> tuple[Image, str]:
        """Return the stack layer from which the preview is computed, and a note for the status."""
        return source, ""

    def show_advice(self, sentences: Sequence[str]) -> None:
        """Show advice about the quality of a result."""
        self.advice.value = " ".join(sentences)
        self.advice.visible = bool(sentences)

    def _forget_sentences(self, _: Any) -> None:
        """Show no sentence about the stack that was chosen before."""
        self.show_advice([])
        if not self.busy:
            self.show_status(READY)

    def _on_change(self, _: Any = None) -> None:
        super()._on_change()
        self._update_memory()
        self._preview.request()

    def add_advice(self, sentence: str) -> None:
        """Show a further sentence of advice."""
        self.advice.value = f"{self.advice.value} {sentence}".strip()
        self.advice.visible = True

    def _on_slider(self, _: Any = None) -> None:
        source = self.stack.value
        if source not in self._viewer.layers or source.ndim <= 3:
            return
        index = index_in_view(self._viewer, source)
        if index != self._index:
            self._index = index
            self._preview.request()

    def _collect(self) -> tuple[Image, dict[str, Layer], Acquisition, Recipe]:
        """Return the stack layer, the other input layers, the stacks, and the recipe."""
        source = require_stack(self.stack.value)
        recipe, layers = self.recipe(), self.input_layers(source)
        # A step that uses the focus volume has its focus channel.
        channel = plugin_metadata(layers.get("focus", source)).get("focus_channel")
        return source, layers, self.axes.acquisition(source, channel), recipe

    def _prepare_preview(self) -> PreviewRequest | None:
        if self.stack.value is None or self.busy:
            return None
        try:
            source, layers, acquisition, recipe = self._collect()
            preview_source, note = self.preview_source(source)
            if preview_source is not source:
                acquisition = self.axes.acquisition(preview_source, acquisition.focus_channel)
            index = acquisition.with_channel(index_in_view(self._viewer, source), 0)
            arrays = self.input_arrays(preview_source, layers, acquisition.focus_index(index))
            inputs = StackInput(acquisition.focus_stack(index), recipe, arrays)
            content = version(preview_source), index
        except ValueError as error:
            self.show_status(f"no preview: {error}")
            return None
        return PreviewRequest(source, partial(self._compute_preview, inputs, content), note)

    def _compute_preview(
        self, inputs: StackInput, content: tuple[Any, ...], window: Window, progress: Progress
    ) -> Previews:
        """Return `compute_preview` with sigma and window as a run of the stack chooses them."""
        if self.measures_focus:
            recipe = self._scale.exact_recipe(inputs.recipe, inputs.stack, content)
            inputs = inputs._replace(recipe=recipe)
        return self.compute_preview(inputs, window, progress)

    @show_errors
    def _start(self) -> None:
        if self.busy:
            return
        source, layers, acquisition, recipe = self._collect()
        indices = {i: acquisition.focus_index(i) for i in acquisition.indices}
        arrays = {i: self.input_arrays(source, layers, at) for i, at in indices.items()}
        metadata: dict[str, Any] = {"recipe": asdict(recipe)}
        if len(acquisition.channels) > 1:
            metadata["focus_channel"] = acquisition.focus_channel
            own = {**plugin_metadata(source), "focus_channel": acquisition.focus_channel}
            source.metadata = {**source.metadata, METADATA_KEY: own}
        inputs, used = RunInput(acquisition, recipe, arrays), [source, *layers.values()]
        run = RunLayers(self._viewer, source, self.form.value(), used, self.title, metadata)
        self._preview.hide()

        def compute(progress: Progress) -> Any:
            result = self.compute(inputs, progress)
            Labels(np.zeros((1, 1), np.uint8))  # imports what the main thread would wait for
            return result

        steps = self.steps(recipe, len(indices))
        self._controls.start([run], compute, lambda result: self._add_layers(run, result), steps)

    def _add_layers(self, run: RunLayers, result: Any) -> Iterator[None]:
        """Add the layers, and select the result unless the user is drawing."""
        active = self._viewer.layers.selection.active
        yield from self.add_layers(run, result)
        keeps = active in self._viewer.layers and is_drawing(active)
        if not keeps and (layer := run.main_layer) is not None:
            self.select(layer)

    def _close(self) -> None:
        super()._close()
        self._preview.close()


def _in_words(megabytes: float) -> str:
    """Return an amount of memory, "150 MB" or "1.5 GB"."""
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"
