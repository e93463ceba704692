"""Form for the settings of a recipe, and its buttons to save, load and copy the recipe."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import docstring_parser
from magicgui.widgets import ComboBox, Container, PushButton, Widget
from magicgui.widgets.bases import ValueWidget
from psygnal import Signal
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_dff.io import read_recipe, write_recipe
from napari_dff.model.recipe import Recipe
from napari_dff.widgets.app.controls import push_button, spin_box

FILE_FILTER = "Recipe (*.json)"
UNITS = {"sigma": "pixels", "window": "pixels"}


def create_setting_widget(name: str) -> ValueWidget[Any]:
    """Return the widget of one recipe field, with its range, default and documentation."""
    params = docstring_parser.parse(str(Recipe.__doc__)).params
    tooltip = next(str(param.description) for param in params if param.arg_name == name)
    annotation, default = get_type_hints(Recipe, include_extras=True)[name], getattr(Recipe, name)
    if get_origin(annotation) is Literal:
        return ComboBox(label=name, value=default, choices=get_args(annotation), tooltip=tooltip)
    limits = get_args(annotation)[1]
    tooltip += f"\n{limits.low:g} to {limits.high:g} {UNITS.get(name, '')}".rstrip()
    return spin_box(name, default, limits, tooltip)


class RecipeForm:
    """One widget for each of some recipe fields: `main` ones, and `more` that a button shows.

    `widgets` are all of them in their order, with the button; `settings` has them by name.
    """

    valueChanged = Signal()

    def __init__(self, main: tuple[str, ...], more: tuple[str, ...]) -> None:
        self.settings = {name: create_setting_widget(name) for name in (*main, *more)}
        self.more = PushButton(tooltip="Show or hide the other settings.")
        self.more.changed.connect(lambda: self.expand(not self._expanded))
        self._collapsible = [self.settings[name] for name in more]
        self.widgets: list[Widget] = [self.settings[name] for name in main]
        if more:
            self.widgets += [self.more, *self._collapsible]
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
        for name, widget in self.settings.items():
            widget.value = values.get(name, widget.value)

    def differences(self, values: dict[str, Any]) -> str:
        """Describe how the form differs from these settings; empty if it does not."""
        common = {name: value for name, value in self.value().items() if name in values}
        changes = (f"{k} {values[k]} → {v}" for k, v in common.items() if values[k] != v)
        return ", ".join(changes)


class RecipeFileButtons(Container[Widget]):
    """Buttons that save and load the recipe and copy it as a command line."""

    def __init__(
        self,
        recipe: Callable[[], Recipe],
        set_recipe: Callable[[dict[str, Any]], None],
        command: Callable[[], tuple[str, str]],  # and in words what it does not contain
        show_status: Callable[[str], None],
    ) -> None:
        self._recipe, self._set_recipe = recipe, set_recipe
        self._command, self._show_status = command, show_status
        save = "Save the recipe as JSON, for --recipe."
        load = "Load the settings of a recipe, as a run writes it."
        copy = "Copy the command line that gives the same result."
        self.save = push_button("Save…", save, self._on_save)
        self.load = push_button("Load…", load, self._on_load)
        self.copy = push_button("Copy command", copy, self._on_copy)
        super().__init__(layout="horizontal", labels=False)
        self.extend([self.save, self.load, self.copy])
        self.margins = (0, 0, 0, 0)

    @contextlib.contextmanager
    def _show_errors(self, failure: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, OSError) as error:
            self._show_status(f"{failure}: {error}")

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self.native, "Save recipe", "recipe.json", FILE_FILTER
        )
        if path:
            with self._show_errors("not saved"):
                write_recipe(path, self._recipe())
                self._show_status(f"recipe saved as {Path(path).name}")

    def _on_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self.native, "Load recipe", "", FILE_FILTER)
        if path:
            with self._show_errors("not loaded"):
                self._set_recipe(asdict(read_recipe(path)))
                self._show_status(f"settings of {Path(path).name}")

    def _on_copy(self) -> None:
        with self._show_errors("not copied"):
            command, missing = self._command()
            QApplication.clipboard().setText(command)  # type: ignore[union-attr]
            note = f", but the command does not contain {missing}" if missing else ""
            self._show_status(f"copied{note}: {command}")
