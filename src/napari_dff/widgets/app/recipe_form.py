"""Form for the settings of a recipe, and its buttons to save, load and copy the recipe."""

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import docstring_parser
from magicgui.widgets import Container, PushButton, Widget, create_widget
from magicgui.widgets.bases import ValueWidget
from psygnal import Signal
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_dff.io import read_recipe, write_recipe
from napari_dff.model.checks import Range
from napari_dff.model.recipe import Recipe

FILE_FILTER = "Recipe (*.json)"
UNITS = {"sigma": "pixels", "window": "pixels"}


def create_setting_widget(name: str) -> ValueWidget[Any]:
    """Return the widget of one recipe field, with its range, default and documentation."""
    help_ = {p.arg_name: p.description for p in docstring_parser.parse(str(Recipe.__doc__)).params}
    default = next(field.default for field in fields(Recipe) if field.name == name)
    options: dict[str, Any] = {"tooltip": help_[name]}
    annotation = get_type_hints(Recipe, include_extras=True)[name]
    for extra in get_args(annotation)[1:]:
        if isinstance(extra, Range):
            options |= {"min": extra.low, "max": extra.high, "step": extra.step}
            options["tooltip"] += (
                f"\n{extra.low:g} to {extra.high:g} {UNITS.get(name, '')}".rstrip()
            )
            annotation = get_args(annotation)[0]
    widget = create_widget(
        annotation=annotation, name=name, label=name, value=default, options=options
    )
    assert isinstance(widget, ValueWidget)
    return widget


class RecipeForm:
    """One widget for each of some recipe fields: `main` ones, and `more` that a button shows.

    `widgets` are all of them in their order, with the button; `settings` has them by name.
    """

    valueChanged = Signal()

    def __init__(self, main: tuple[str, ...], more: tuple[str, ...]) -> None:
        self.settings = {name: create_setting_widget(name) for name in (*main, *more)}
        self.more = PushButton(text="More settings", tooltip="Show or hide the other settings.")
        self._collapsible = [self.settings[name] for name in more]
        self.widgets: list[Widget] = [self.settings[name] for name in main]
        if more:
            self.widgets += [self.more, *self._collapsible]
        self.more.changed.connect(lambda: self.expand(not self._expanded))
        for widget in self.settings.values():
            widget.changed.connect(lambda: self.valueChanged.emit())

    def expand(self, expanded: bool = True) -> None:
        """Show or hide the less common settings."""
        self._expanded = expanded
        for widget in self._collapsible:
            widget.visible = expanded
        self.more.text = "Fewer settings ▴" if expanded else "More settings ▾"

    def value(self) -> dict[str, Any]:
        """Return the settings."""
        return {name: widget.value for name, widget in self.settings.items()}

    def setValue(self, values: dict[str, Any]) -> None:
        """Show these settings; ignore those that are not in the form."""
        for name, value in values.items():
            if name in self.settings:
                self.settings[name].value = value

    def differences(self, values: dict[str, Any]) -> str:
        """Describe how the form differs from these settings; empty if it does not."""
        changes = [
            f"{name} {values[name]} → {value}"
            for name, value in self.value().items()
            if name in values and values[name] != value
        ]
        return ", ".join(changes)


class RecipeFileButtons(Container[Widget]):
    """Buttons that save and load the recipe and copy it as a command line.

    `set_recipe` takes the settings of a loaded recipe. `command` returns the command line, and in
    words what it does not contain.
    """

    def __init__(
        self,
        recipe: Callable[[], Recipe],
        set_recipe: Callable[[dict[str, Any]], None],
        command: Callable[[], tuple[str, str]],
        show_status: Callable[[str], None],
    ) -> None:
        self._recipe, self._set_recipe = recipe, set_recipe
        self._command, self._show_status = command, show_status
        self.save = PushButton(text="Save…", tooltip="Save the recipe as JSON, for --recipe.")
        self.load = PushButton(
            text="Load…", tooltip="Load the settings of a recipe, as a run writes it."
        )
        self.copy = PushButton(
            text="Copy command", tooltip="Copy the command line that gives the same result."
        )
        super().__init__(layout="horizontal", labels=False)
        self.extend([self.save, self.load, self.copy])
        self.margins = (0, 0, 0, 0)
        self.save.changed.connect(self._on_save)
        self.load.changed.connect(self._on_load)
        self.copy.changed.connect(self._on_copy)

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self.native, "Save recipe", "recipe.json", FILE_FILTER
        )
        if path:
            try:
                write_recipe(path, self._recipe())
            except (ValueError, OSError) as error:
                self._show_status(f"not saved: {error}")
                return
            self._show_status(f"recipe saved as {Path(path).name}")

    def _on_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self.native, "Load recipe", "", FILE_FILTER)
        if path:
            try:
                self._set_recipe(asdict(read_recipe(path)))
            except (ValueError, OSError) as error:
                self._show_status(f"not loaded: {error}")
                return
            self._show_status(f"settings of {Path(path).name}")

    def _on_copy(self) -> None:
        try:
            command, missing = self._command()
        except ValueError as error:
            self._show_status(f"not copied: {error}")
            return
        clipboard = QApplication.clipboard()
        assert clipboard is not None
        clipboard.setText(command)
        note = f", but the command does not contain {missing}" if missing else ""
        self._show_status(f"copied{note}: {command}")
