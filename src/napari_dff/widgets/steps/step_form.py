"""The form of a step: its stack, its settings, and whether its results are up to date."""

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, ClassVar

from magicgui.widgets import Widget
from magicgui.widgets.bases import ValueWidget
from napari.layers import Image, Layer
from napari.viewer import Viewer
from qtpy.QtWidgets import QApplication

from napari_dff.io import read_recipe, write_recipe
from napari_dff.model.recipe import Recipe
from napari_dff.widgets.app.calibration_form import CalibrationForm
from napari_dff.widgets.app.command import command_line_caveat, stack_arguments
from napari_dff.widgets.app.controls import push_button, wrapping_label
from napari_dff.widgets.app.file_dialogs import ask_existing_path, ask_new_path
from napari_dff.widgets.app.geometry import move_view_to
from napari_dff.widgets.app.layers import (
    exact_settings_of,
    plugin_metadata,
    results_of,
    settings_of,
    source_of,
)
from napari_dff.widgets.app.preset_form import PresetForm
from napari_dff.widgets.app.recipe_form import RecipeForm
from napari_dff.widgets.app.stack_form import AxesForm, StackComboBox
from napari_dff.widgets.app.task_widget import TaskWidget
from napari_dff.widgets.app.versions import layers_changed, outdated_reason

FILE_FILTER = "Recipe (*.json)"


class StepForm(TaskWidget):
    """Choice of the stack and the settings of one step, and the recipe that follows from them."""

    main_settings: ClassVar[tuple[str, ...]]
    more_settings: ClassVar[tuple[str, ...]] = ()  # in the collapsed part of the form
    has_presets: ClassVar[bool] = False
    sliders: ClassVar[tuple[str, ...]] = ()  # of `setting_slider.SCALES`
    prefers_aligned: ClassVar[bool] = True
    has_focus_channel: ClassVar[bool] = True  # False where an input layer has it
    # Recipe fields that are "none" unless an earlier step has set them.
    skipped_fields: ClassVar[tuple[str, ...]] = ("registration", "refinement")

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._selecting = False  # by `select`
        self._added_layer: Layer | None = None  # napari selects it after its event `inserted`
        self.stack = StackComboBox(viewer, prefer_aligned=self.prefers_aligned)
        self._connect(viewer.layers.events.inserted, self.stack.on_inserted)
        self._connect(viewer.layers.events.removed, self.stack.on_removed)
        self.axes = AxesForm(self.show_status, self._on_change, focus=self.has_focus_channel)
        self.calibration = CalibrationForm(viewer, self.show_status)
        self.form = RecipeForm(self.main_settings, self.more_settings, self.sliders)
        self.presets = (
            PresetForm(self.form, self.recipe, self.show_status) if self.has_presets else None
        )
        self.freshness = wrapping_label()
        save = "Save the recipe as JSON, for --recipe."
        load = "Load the settings of a recipe, as a run writes it."
        copy = "Copy the command line that gives the same result."
        self.save = push_button("Save settings…", save, self._on_save)
        self.load = push_button("Load settings…", load, self._on_load)
        self.copy = push_button("Copy command", copy, self._on_copy)

    def _connect_signals(self) -> None:
        layers = self._viewer.layers
        # The calibration is not in the forms of single steps: its fields would be windows.
        forms = (self.axes,) if self.prefers_aligned else (self.axes, self.calibration)
        for form in forms:
            form.show(self.stack.value)
            self.stack.changed.connect(form.show)
        self.stack.changed.connect(lambda layer: move_view_to(self._viewer, layer))
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

    def fields_to_keep(self) -> dict[str, ValueWidget[Any]]:
        """Return the stack and all settings."""
        return {"stack": self.stack, **self.form.settings}

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
        source = self.stack.value
        if source is None:
            return {}
        try:
            layers = [source, *self.input_layers(source).values()]
        except ValueError:  # an input layer is missing
            layers = [source]
        return {name: value for each in layers for name, value in exact_settings_of(each).items()}

    def _update_freshness(self, _: Any = None) -> None:
        source, warning = self.stack.value, ""
        results = [] if source is None else results_of(self._viewer, str(source.unique_id))
        own = [each for each in results if plugin_metadata(each).get("step") == self.title]
        for layer in reversed(own):  # the main result is the topmost
            if reason := outdated_reason(self._viewer, layer) or self.setting_changes(layer):
                warning = f"⚠ {layer.name!r} is out of date: {reason}"
                break
        self.freshness.value, self.freshness.visible = warning, bool(warning)
        scales = (plugin_metadata(layer).get("focus_scale") for layer in reversed(results))
        self.form.show_chosen(next(filter(None, scales), {}))

    def _on_change(self, _: Any = None) -> None:
        self._update_freshness()

    def select(self, layer: Layer) -> None:
        """Select a layer without showing its settings in the form."""
        self._selecting = True
        self._viewer.layers.selection.active = layer
        self._selecting = False

    def _on_inserted(self, event: Any) -> None:
        self._added_layer = event.value
        self._update_freshness()

    def _on_selected(self, event: Any) -> None:
        """Choose the stack that the user selects, and show the settings of a result of this step.

        napari selects each layer that it adds: so the form follows a stack that was just opened.
        """
        layer = event.value
        added, self._added_layer = self._added_layer, None
        if layer is None or self.busy or self._selecting:
            return
        self.stack.follow(layer, added=layer is added)
        metadata = plugin_metadata(layer)
        if layer is added or metadata.get("step") != self.title:
            return
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

    @contextlib.contextmanager
    def _show_errors(self, failure: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, OSError) as error:
            self.show_status(f"{failure}: {error}")

    def _on_save(self) -> None:
        answer = ask_new_path(self.native, "Save recipe", "recipe.json", FILE_FILTER)
        if answer is not None:
            with self._show_errors("not saved"):
                write_recipe(answer[0], self.recipe())
                self.show_status(f"recipe saved as {answer[0]}")

    def _on_load(self) -> None:
        path = ask_existing_path(self.native, "Load recipe", FILE_FILTER)
        if path is not None:
            with self._show_errors("not loaded"):
                self.form.setValue(asdict(read_recipe(path)))
                self.show_status(f"settings of {path.name}")

    def _on_copy(self) -> None:
        with self._show_errors("not copied"):
            command, missing = self.command(), self.command_caveat()
            QApplication.clipboard().setText(command)  # type: ignore[union-attr]
            note = f", but the command does not contain {missing}" if missing else ""
            self.show_status(f"copied{note}: {command}")

    def _close(self) -> None:
        super()._close()
        self.axes.close()
        self.calibration.close()
