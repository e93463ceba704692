"""Form for the settings of a recipe."""

from typing import Any, Literal, get_args, get_origin, get_type_hints

import docstring_parser
from magicgui.widgets import PushButton, Widget
from magicgui.widgets.bases import ValueWidget
from psygnal import Signal
from qtpy.QtCore import Qt

from napari_dff.model.recipe import FocusScale, Recipe
from napari_dff.widgets.app.controls import combo_box
from napari_dff.widgets.app.labels import CHOICES, SETTINGS, choice_label
from napari_dff.widgets.app.setting_slider import SCALES, SettingSlider
from napari_dff.widgets.app.spin_boxes import AutomaticMixin, spin_box


def create_setting_widget(name: str) -> ValueWidget[Any]:
    """Return the widget of one recipe field, with its range, default and documentation."""
    params = docstring_parser.parse(str(Recipe.__doc__)).params
    text = next(str(param.description) for param in params if param.arg_name == name)
    annotation, default = get_type_hints(Recipe, include_extras=True)[name], getattr(Recipe, name)
    label = SETTINGS[name]
    if get_origin(annotation) is Literal:
        choices = [(choice_label(name, value), value) for value in get_args(annotation)]
        widget: ValueWidget[Any] = combo_box(label, choices, "", value=default)
        for i, value in enumerate(get_args(annotation)):
            tooltip = f"{CHOICES[name][value][1]}\nRecipe: {name} {value}"
            widget.native.setItemData(i, tooltip, Qt.ItemDataRole.ToolTipRole)
    else:
        limits = get_args(annotation)[1]
        widget = spin_box(label, default, limits, "")
        text += f"\n{limits.low:g} to {limits.high:g}"

    def show_value(value: Any) -> None:
        widget.tooltip = f"{text}\nRecipe: {name} {value}"

    show_value(default)
    widget.changed.connect(show_value)
    return widget


class RecipeForm:
    """Sliders, and one widget for each of some recipe fields: `more` are shown by a button."""

    valueChanged = Signal()

    def __init__(
        self,
        main: tuple[str, ...],
        more: tuple[str, ...],
        sliders: tuple[str, ...] = (),  # of `SCALES`; their fields are among `main` and `more`
    ) -> None:
        self.settings = {name: create_setting_widget(name) for name in (*main, *more)}
        self.more = PushButton(tooltip="Show or hide the other settings.")
        self.more.changed.connect(lambda: self.expand(not self._expanded))
        self._collapsible = [self.settings[name] for name in more]
        self.sliders = {name: SettingSlider(SCALES[name], self.settings) for name in sliders}
        self.widgets: list[Widget] = [slider.widget for slider in self.sliders.values()]
        self.widgets += [self.settings[name] for name in main]
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

    def show_chosen(self, scale: dict[str, float]) -> None:
        """Show the values that a run has chosen beside the word automatic."""
        for name in FocusScale._fields:
            if isinstance(widget := self.settings.get(name), AutomaticMixin):
                widget.show_chosen(scale.get(name))

    def differences(self, values: dict[str, Any]) -> str:
        """Describe how the form differs from these settings; empty if it does not."""
        changes = [
            f"{SETTINGS[name]} {choice_label(name, values[name])} → {choice_label(name, value)}"
            for name, value in self.value().items()
            if name in values and values[name] != value
        ]
        return ", ".join(changes)
