"""Form for the settings of a recipe."""

from typing import Any, Literal, get_args, get_origin, get_type_hints

import docstring_parser
from magicgui.widgets import ComboBox, PushButton, Widget
from magicgui.widgets.bases import ValueWidget
from psygnal import Signal

from napari_dff.model.recipe import Recipe
from napari_dff.widgets.app.controls import spin_box

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
    """One widget for each of some recipe fields: `main` ones, and `more` that a button shows."""

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
