"""The form of a step: its stack, its settings, and whether its results are up to date."""

import shlex
from typing import Any, ClassVar

from magicgui.widgets import Widget
from magicgui.widgets.bases import ValueWidget
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.model.recipe import Recipe
from napari_dff.widgets.app.command import command_line_caveat, stack_arguments
from napari_dff.widgets.app.controls import wrapping_label
from napari_dff.widgets.app.freshness import freshness_warning, layers_changed
from napari_dff.widgets.app.layers import layer_by_id, plugin_metadata, settings_of, source_of
from napari_dff.widgets.app.recipe_form import RecipeFileButtons, RecipeForm
from napari_dff.widgets.app.stack_form import AxesForm, StackComboBox
from napari_dff.widgets.app.task_widget import TaskWidget


class StepForm(TaskWidget):
    """Choice of the stack and the settings of one step, and the recipe that follows from them."""

    main_settings: ClassVar[tuple[str, ...]]
    more_settings: ClassVar[tuple[str, ...]] = ()  # in the collapsed part of the form
    prefers_aligned: ClassVar[bool] = True
    has_focus_channel: ClassVar[bool] = True  # False where an input layer has it
    # Recipe fields that are "none" unless an earlier step has set them.
    skipped_fields: ClassVar[tuple[str, ...]] = ("registration", "refinement")

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._added_layer: Layer | None = None  # napari selects it after its event `inserted`
        self.stack = StackComboBox(viewer, prefer_aligned=self.prefers_aligned)
        self.axes = AxesForm(self.show_status, self._on_change, focus=self.has_focus_channel)
        self.form = RecipeForm(self.main_settings, self.more_settings)
        self.freshness = wrapping_label()
        self.recipe_file = RecipeFileButtons(
            self.recipe,
            self.form.setValue,
            lambda: (self.command(), self.command_caveat()),
            self.show_status,
        )

    def _connect_signals(self) -> None:
        layers = self._viewer.layers
        self.axes.show(self.stack.value)
        self.stack.changed.connect(self.axes.show)
        self.form.valueChanged.connect(self._on_change)
        for widget in (self.stack, *self.extra_widgets()):
            if isinstance(widget, ValueWidget):
                widget.changed.connect(self._on_change)
        self.busyChanged.connect(self._update_freshness)
        self._connect(layers_changed, self._update_freshness)
        self._connect(layers.events.inserted, self._on_inserted)
        self._connect(layers.events.removed, self._update_freshness)
        self._connect(layers.selection.events.active, self._on_selected)

    def extra_widgets(self) -> list[Widget]:
        """Return the widgets of further inputs: the same objects at each call."""
        return []

    def input_layers(self, source: Image) -> dict[str, Layer]:
        """Return the layers that the step needs besides the stack; ValueError if one is missing."""
        return {}

    def setting_changes(self, layer: Layer) -> str:
        """Describe how the form differs from the settings of a result; empty if it does not."""
        channel = plugin_metadata(layer).get("focus_channel")
        if self.axes.has_channel_choice and channel not in (None, self.axes.focus.value):
            return "another focus channel"
        changes = self.form.differences(settings_of(layer))
        return f"other settings: {changes}" if changes else ""

    def command_caveat(self) -> str:
        """Return, in words, what `command` cannot express of the stack; empty if nothing."""
        source = self.stack.value
        if source is None:
            return ""
        return command_line_caveat(source_of(self._viewer, source) or source)

    def recipe(self) -> Recipe:
        """Return the settings of this form and of the earlier steps as one recipe."""
        skipped = dict.fromkeys(self.skipped_fields, "none")
        return Recipe.from_dict({**skipped, **self._earlier_settings(), **self.form.value()})

    def command(self) -> str:
        """Return the command line that runs this recipe on the file of the stack."""
        source, channel, arguments = self.stack.value, self.axes.focus.value, ["STACK"]
        if source is not None:
            arguments = stack_arguments(source_of(self._viewer, source) or source)
            if channel is None:
                channel = plugin_metadata(source).get("focus_channel")
        if channel is not None:
            arguments += ["--focus-channel", str(channel)]
        words = ["napari-dff", "run", *arguments, "--out", "results", *self.recipe().flags()]
        return shlex.join(words)

    def _earlier_settings(self) -> dict[str, Any]:
        """Return the settings of the chosen stack and of the other input layers."""
        source = self.stack.value
        if source is None:
            return {}
        try:
            layers = [source, *self.input_layers(source).values()]
        except ValueError:  # an input layer is missing
            layers = [source]
        return {name: value for layer in layers for name, value in settings_of(layer).items()}

    def _results(self) -> list[Layer]:
        """Return the layers that this step has made from the chosen stack."""
        source = self.stack.value
        origin = self.title, None if source is None else str(source.unique_id)
        return [
            layer
            for layer in self._viewer.layers
            if (plugin_metadata(layer).get("step"), plugin_metadata(layer).get("source")) == origin
        ]

    def _update_freshness(self, _: Any = None) -> None:
        results = self._results()
        self.freshness.value = freshness_warning(self._viewer, results, self.setting_changes)
        self.freshness.visible = bool(self.freshness.value)

    def _on_change(self, _: Any = None) -> None:
        self._update_freshness()

    def _on_inserted(self, event: Any) -> None:
        self._added_layer = event.value
        self._update_freshness()

    def _on_selected(self, event: Any) -> None:
        """Show the settings of a result of this step that the user selects."""
        layer = event.value
        added, self._added_layer = self._added_layer, None
        metadata = {} if layer is None else plugin_metadata(layer)
        # napari selects each layer that it adds: this is no choice of the user.
        if layer is added or self.busy or metadata.get("step") != self.title:
            return
        source = layer_by_id(self._viewer, metadata.get("source", ""))
        if source is not None and source in self.stack.choices:
            self.stack.value = source
        self.axes.choose(metadata.get("focus_channel"))
        settings = settings_of(layer)
        if self.form.differences(settings):
            try:
                Recipe.from_dict(settings)
            except ValueError as error:  # a result of another version of the plugin
                self.show_status(f"settings of {layer.name!r} not shown: {error}")
                return
            self.form.setValue(settings)
            self.show_status(f"settings of {layer.name!r}")

    def _close(self) -> None:
        super()._close()
        self.axes.close()
        self.stack.disconnect_viewer()
