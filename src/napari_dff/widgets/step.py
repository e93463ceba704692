"""The form that all steps share: a stack, settings of the recipe, a preview, Run and Undo."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, NamedTuple

import numpy as np
from magicgui.widgets import ComboBox, Widget
from magicgui.widgets.bases import ValueWidget
from napari.layers import Image, Labels, Layer
from napari.viewer import Viewer

from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.widgets.axes_form import AxesForm
from napari_dff.widgets.command import command_line_caveat, stack_arguments
from napari_dff.widgets.controls import labelled_column, wrapping_label
from napari_dff.widgets.freshness import FreshnessLabel
from napari_dff.widgets.geometry import index_in_view
from napari_dff.widgets.layers import (
    METADATA_KEY,
    layer_by_id,
    plugin_metadata,
    require_stack,
    result_values,
    settings_of,
    source_of,
    valid_mask,
)
from napari_dff.widgets.preview import OFF, RECTANGLE, VIEW, Preview, PreviewImage, PreviewRequest
from napari_dff.widgets.recipe_form import RecipeFileButtons, RecipeForm
from napari_dff.widgets.run_controls import RunControls
from napari_dff.widgets.runs import RunLayers
from napari_dff.widgets.series import Series
from napari_dff.widgets.stack_choice import StackComboBox
from napari_dff.widgets.task_widget import TaskWidget, show_errors
from napari_dff.windows import Window

Index = tuple[int, ...]  # of one stack, along the axes before Z


class StackInput(NamedTuple):
    """What the result of one stack is computed from.

    `arrays` are the data of the input layers by their role, and "valid", (Y, X) bool: where every
    plane has data.
    """

    stack: FocalStack
    recipe: Recipe
    arrays: dict[str, np.ndarray]


class RunInput(NamedTuple):
    """What the results of all stacks of a layer are computed from; see `StackInput`."""

    series: Series
    recipe: Recipe
    arrays: dict[Index, dict[str, np.ndarray]]

    def at(self, index: Index) -> StackInput:
        """Return the input of one stack."""
        return StackInput(self.series.stack(index), self.recipe, self.arrays[index])


class StepWidget(TaskWidget):
    """One step: choose a stack and settings, look at the preview, and run.

    A subclass defines its settings (`main_settings`, `more_settings`), the layers that it needs
    besides the stack (`input_layers`), the computation in a thread (`compute`), its layers
    (`add_layers`), and its preview (`compute_preview`).
    """

    main_settings: ClassVar[tuple[str, ...]]
    more_settings: ClassVar[tuple[str, ...]] = ()  # in the collapsed part of the form
    prefers_aligned: ClassVar[bool] = True
    # Recipe fields that are "none" unless an earlier step has set them.
    skipped_fields: ClassVar[tuple[str, ...]] = ("registration", "refinement")
    has_preview: ClassVar[bool] = True
    has_focus_channel: ClassVar[bool] = True  # False where an input layer defines it

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._added_layer: Layer | None = None  # until napari has selected it
        self._index: Index = ()  # of the stack in view
        self.stack = StackComboBox(viewer, prefer_aligned=self.prefers_aligned)
        self.axes = AxesForm(self.show_status, self._on_change, focus=self.has_focus_channel)
        self.form = RecipeForm(self.main_settings, self.more_settings)
        self.preview = ComboBox(
            label="preview",
            choices=[OFF, VIEW, RECTANGLE],
            value=OFF,
            tooltip="Compute a part of the planes whenever a setting changes. Run gives the same "
            "result for all pixels.",
        )
        self.advice = wrapping_label()
        self.freshness = FreshnessLabel(viewer, self._results, self.setting_changes)
        self._controls = RunControls(
            self, f"{self.title}: the whole stack.", undone=lambda: self.show_advice([])
        )
        self.run, self.cancel, self.undo = self._controls.buttons
        self.recipe_file = RecipeFileButtons(
            self.recipe,
            self.form.setValue,
            lambda: (self.command(), self.command_caveat()),
            self.show_status,
        )
        self._preview = Preview(viewer, self.preview, self._prepare_preview, self.show_status)
        self._add_widgets()
        self._connect_signals()

    def _add_widgets(self) -> None:
        preview = [self.preview] if self.has_preview else []
        fields = labelled_column(
            self.stack, *self.axes.widgets, *self.extra_widgets(), *self.form.widgets, *preview
        )
        labels = self.status, self.advice, self.freshness.label
        self.extend([fields, self._controls.row, *labels, self.recipe_file])
        self.form.expand(False)
        self.advice.visible = self.freshness.label.visible = False
        self.axes.show(self.stack.value)

    def _connect_signals(self) -> None:
        layers = self._viewer.layers
        self.stack.changed.connect(self.axes.show)
        self.run.changed.connect(self._start)
        self.form.valueChanged.connect(self._on_change)
        for widget in (self.stack, *self.extra_widgets()):
            if isinstance(widget, ValueWidget):
                widget.changed.connect(self._on_change)
        self.busyChanged.connect(self.freshness.update)
        self._connect(layers.events.inserted, self._on_inserted)
        self._connect(layers.events.removed, self._on_removed)
        self._connect(layers.selection.events.active, self._on_selected)
        self._connect(self._viewer.dims.events.current_step, self._on_slider)

    # What a subclass defines ---------------------------------------------------------------------

    def extra_widgets(self) -> list[Widget]:
        """Return widgets for further inputs, the same ones at each call."""
        return []

    def input_layers(self, source: Image) -> dict[str, Layer]:
        """Return the layers that `compute` needs, by role; ValueError if one is missing."""
        return {}

    def input_arrays(
        self, source: Image, layers: dict[str, Layer], index: Index
    ) -> dict[str, np.ndarray]:
        """Return the data of these layers for one stack; see `StackInput`. In the main thread."""
        arrays = {role: result_values(layer, index) for role, layer in layers.items()}
        arrays["valid"] = valid_mask(source, index)
        return arrays

    def focus_channel(self, layers: dict[str, Layer]) -> int | None:
        """Return the focus channel that these layers define, if any."""
        return None

    def compute(self, inputs: RunInput, progress: Progress) -> Any:
        """Return the result of all stacks; in a thread."""
        raise NotImplementedError

    def add_layers(self, run: RunLayers, result: Any) -> Iterator[None]:
        """Add the layers of the result, one at each step of the iterator."""
        raise NotImplementedError

    def compute_preview(
        self, inputs: StackInput, window: Window, progress: Progress
    ) -> Sequence[PreviewImage]:
        """Return images of a window with the same values as a run gives; in a thread."""
        raise NotImplementedError

    def setting_changes(self, layer: Layer) -> str:
        """Describe how the form differs from the settings of a result; empty if it does not."""
        channel = plugin_metadata(layer).get("focus_channel")
        if self.axes.several and channel not in (None, self.axes.focus.value):
            return "another focus channel"
        changes = self.form.differences(settings_of(layer))
        return f"other settings: {changes}" if changes else ""

    def preview_source(self, source: Image) -> Image:
        """Return the stack layer from which the preview is computed."""
        return source

    def preview_note(self) -> str:
        """Return what the status adds about a preview."""
        return ""

    def command_caveat(self) -> str:
        """Return what the command line does not contain; empty if nothing."""
        source = self.stack.value
        if source is None:
            return ""
        return command_line_caveat(source_of(self._viewer, source) or source)

    # What the user and other parts of the form call ----------------------------------------------

    def show_advice(self, sentences: Sequence[str]) -> None:
        """Show advice about the quality of a result."""
        self.advice.value = " ".join(sentences)
        self.advice.visible = bool(sentences)

    def recipe(self) -> Recipe:
        """Return the recipe of the results: this form and the settings of earlier steps."""
        skipped = dict.fromkeys(self.skipped_fields, "none")
        return Recipe.from_dict({**skipped, **self._earlier_settings(), **self.form.value()})

    def command(self) -> str:
        """Return the command line that runs this recipe on the file of the stack."""
        source, arguments = self.stack.value, ["STACK"]
        if source is not None:
            arguments = stack_arguments(source_of(self._viewer, source) or source)
            channel = self.axes.focus.value
            if channel is None:
                channel = plugin_metadata(source).get("focus_channel")
            if channel is not None:
                arguments += ["--focus-channel", str(channel)]
        words = ["napari-dff", "run", *arguments, "--out", "results", *self.recipe().flags()]
        return shlex.join(words)

    # Reactions to the viewer ---------------------------------------------------------------------

    def _on_inserted(self, event: Any) -> None:
        self._added_layer = event.value
        self.freshness.update()

    def _on_removed(self, event: Any) -> None:
        self._preview.hide_if_of(event.value)
        self.freshness.update()

    def _on_selected(self, event: Any) -> None:
        """Show the settings of a result of this step that the user selects."""
        layer = event.value
        added, self._added_layer = self._added_layer, None
        if layer is None or layer is added:  # napari selects each added layer
            return
        metadata = plugin_metadata(layer)
        if self.busy or metadata.get("step") != self.title:
            return
        source = layer_by_id(self._viewer, metadata.get("source", ""))
        if source is not None and source in self.stack.choices:
            self.stack.value = source
        self.axes.choose(metadata.get("focus_channel"))
        settings = settings_of(layer)
        if self.form.differences(settings):
            try:
                Recipe.from_dict(settings)
            except ValueError as error:  # of another version
                self.show_status(f"settings of {layer.name!r} not shown: {error}")
                return
            self.form.setValue(settings)
            self.show_status(f"settings of {layer.name!r}")

    def _on_slider(self, _: Any = None) -> None:
        """Update the preview if the sliders show another stack of the layer."""
        source = self.stack.value
        if source is None or source.ndim <= 3 or source not in self._viewer.layers:
            return
        index = index_in_view(self._viewer, source)
        if index != self._index:
            self._index = index
            self._preview.request()

    def _on_change(self, _: Any = None) -> None:
        self.freshness.update()
        self._preview.request()

    # Computation ---------------------------------------------------------------------------------

    def _earlier_settings(self) -> dict[str, Any]:
        """Return the settings of the chosen stack and of the other input layers."""
        source = self.stack.value
        if source is None:
            return {}
        try:
            layers = [source, *self.input_layers(source).values()]
        except ValueError:
            layers = [source]
        settings: dict[str, Any] = {}
        for layer in layers:
            settings |= settings_of(layer)
        return settings

    def _results(self) -> list[Layer]:
        """Return the layers that this step has made from the chosen stack."""
        source = self.stack.value
        if source is None:
            return []
        return [
            layer
            for layer in self._viewer.layers
            if plugin_metadata(layer).get("step") == self.title
            and plugin_metadata(layer).get("source") == str(source.unique_id)
        ]

    def _collect(self) -> tuple[Image, dict[str, Layer], Series, Recipe]:
        """Return the stack layer, the other input layers, the stacks, and the recipe."""
        source = require_stack(self.stack.value)
        recipe, layers = self.recipe(), self.input_layers(source)
        return source, layers, self.axes.series(source, self.focus_channel(layers)), recipe

    def _prepare_preview(self) -> PreviewRequest | None:
        if self.stack.value is None or self.busy:
            return None
        try:
            source, layers, series, recipe = self._collect()
            preview_source = self.preview_source(source)
            if preview_source is not source:
                series = self.axes.series(preview_source, series.focus)
            index = series.nearest(index_in_view(self._viewer, source))
            arrays = self.input_arrays(preview_source, layers, series.at(index))
            inputs = StackInput(series.stack(index), recipe, arrays)
        except ValueError as error:
            self.show_status(f"no preview: {error}")
            return None

        def compute(window: Window, progress: Progress) -> Sequence[PreviewImage]:
            return self.compute_preview(inputs, window, progress)

        return PreviewRequest(source, compute, self.preview_note())

    @show_errors
    def _start(self) -> None:
        if self.busy:
            return
        source, layers, series, recipe = self._collect()
        arrays = {i: self.input_arrays(source, layers, series.at(i)) for i in series.places}
        metadata: dict[str, Any] = {"recipe": asdict(recipe)}
        if series.channels > 1:
            metadata["focus_channel"] = series.focus
            own = {**plugin_metadata(source), "focus_channel": series.focus}
            source.metadata = {**source.metadata, METADATA_KEY: own}
        all_inputs, settings = [source, *layers.values()], self.form.value()
        run = RunLayers(self._viewer, source, settings, all_inputs, self.title, metadata)
        inputs = RunInput(series, recipe, arrays)
        self._preview.hide()

        def compute(progress: Progress) -> Any:
            result = self.compute(inputs, progress)
            # Import here, not in the main thread, what napari imports for its first Labels layer.
            Labels(np.zeros((1, 1), np.uint8))
            return result

        self._controls.start([run], compute, lambda result: self._add_layers(run, result))

    def _add_layers(self, run: RunLayers, result: Any) -> Iterator[None]:
        """Add the layers and keep the selection, so that selecting a result is a change."""
        active = self._viewer.layers.selection.active
        yield from self.add_layers(run, result)
        if active in self._viewer.layers:
            self._added_layer, self._viewer.layers.selection.active = active, active
            self._added_layer = None

    def _close(self) -> None:
        super()._close()
        self._preview.close()
        self.axes.close()
        self.stack.disconnect_viewer()
        self.freshness.close()
