"""Choice of a preset for the sample, with a picture and a sentence; own ones are saved here."""

from collections.abc import Callable
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from magicgui.widgets import Widget
from qtpy.QtCore import QSize
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QComboBox, QInputDialog, QMessageBox

from napari_dff.io import delete_preset, own_presets, read_recipe, save_preset
from napari_dff.model.presets import PRESETS
from napari_dff.model.recipe import Recipe
from napari_dff.widgets.app.controls import button_row, combo_box, push_button, wrapping_label
from napari_dff.widgets.app.recipe_form import RecipeForm

PICTURES = Path(str(files("napari_dff"))) / "widgets" / "app" / "pictures"
ICON_PX = 36
TITLE_LETTERS = 20  # wide ones; longer names of own presets do not widen the form
OWN_SENTENCE = "Own preset."


class PresetForm:
    """Sets a `RecipeForm` to a preset, shows picture and sentence, or what was changed since."""

    def __init__(
        self,
        form: RecipeForm,
        recipe: Callable[[], Recipe],  # of the whole form
        show_status: Callable[[str], None],
    ) -> None:
        self._form, self._recipe, self._show_status = form, recipe, show_status
        tooltip = "Settings for a kind of sample, or those that you have saved."
        self.choice = combo_box("sample", self._choices, tooltip)
        self.choice.native.setIconSize(QSize(ICON_PX, ICON_PX))
        policy = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self.choice.native.setSizeAdjustPolicy(policy)
        self.choice.native.setMinimumContentsLength(TITLE_LETTERS)
        self.sentence = wrapping_label()
        self.sentence.label = " "  # the column of the fields
        save = "Save all settings of this form under a name, in the list of samples."
        self.save = push_button("Save settings as preset…", save, self._on_save)
        delete = "Delete this preset, which you have saved."
        self.delete = push_button("Delete preset", delete, self._on_delete)
        self.buttons = button_row(self.save, self.delete)
        self.widgets: list[Widget] = [self.choice, self.sentence]
        self.choice.changed.connect(self._on_choice)
        form.valueChanged.connect(self.refresh)
        self._add_icons()
        self.refresh()

    def refresh(self) -> None:
        """Choose the preset that has the settings of the form, or describe what differs."""
        settings = self._form.value()
        matches = [name for _, name in self._choices() if self._settings(name) == settings]
        if matches and self.choice.value not in matches:
            with self.choice.changed.blocked():
                self.choice.value = matches[0]
        name = self.choice.value
        preset, changes = PRESETS.get(name), self._form.differences(self._settings(name))
        sentence = OWN_SENTENCE if preset is None else preset.sentence
        self.sentence.value = f"Changed: {changes}." if changes else sentence
        self.delete.visible = preset is None

    def _choices(self, _: Any = None) -> list[tuple[str, str]]:
        """Return title and name of each preset."""
        titles = [(preset.title, name) for name, preset in PRESETS.items()]
        return titles + [(name, name) for name in own_presets()]

    def _settings(self, name: str) -> dict[str, Any]:
        try:
            settings = asdict(read_recipe(name))
        except (ValueError, OSError):  # a file of another version, or deleted meanwhile
            return {}
        return {key: value for key, value in settings.items() if key in self._form.settings}

    def _on_choice(self, name: str) -> None:
        try:
            settings = asdict(read_recipe(name))
        except (ValueError, OSError) as error:
            self._show_status(f"preset not loaded: {error}")
            return
        with self._form.valueChanged.blocked():
            self._form.setValue(settings)
        self._form.valueChanged.emit()

    def _on_save(self) -> None:
        name, accepted = QInputDialog.getText(
            self.choice.native, "Save settings as preset", "Name, as it is in the list of samples:"
        )
        if not accepted:
            return
        try:
            path = save_preset(name, self._recipe())
        except (ValueError, OSError) as error:
            self._show_status(f"not saved: {error}")
            return
        self._show_presets(path.stem)
        self._show_status(f"preset saved as {path}; on the command line: --recipe '{path.stem}'")

    def _on_delete(self) -> None:
        name = self.choice.value
        question = f"Delete the preset {name!r}?"
        if QMessageBox.question(self.choice.native, "Delete preset", question) != _YES:
            return
        delete_preset(name)
        self._show_presets(next(iter(PRESETS)))

    def _show_presets(self, name: str) -> None:
        """Offer the present presets, and choose one without setting the form."""
        with self.choice.changed.blocked():
            self.choice.reset_choices()
            self.choice.value = name
        self._add_icons()
        self.refresh()

    def _add_icons(self) -> None:
        for i, (_, name) in enumerate(self._choices()):
            path = PICTURES / f"{name}.png"
            if name in PRESETS:
                self.choice.native.setItemIcon(i, QIcon(str(path)))


_YES = QMessageBox.StandardButton.Yes
