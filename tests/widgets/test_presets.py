"""Plain words for the settings, presets by sample, and the sliders in front."""

from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from qtpy.QtCore import Qt

from napari_dff import PRESETS, Recipe, read_recipe
from napari_dff.widgets.app import preset_form
from napari_dff.widgets.app.labels import CHOICES, SETTINGS
from napari_dff.widgets.app.layers import plugin_metadata

WORDS = {  # field → all values of it in a recipe
    name: get_args(hint)
    for name, hint in get_type_hints(Recipe).items()
    if get_origin(hint) is Literal
}


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    """Keep the presets of this user out of the tests."""
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path)


@pytest.fixture
def form(person, surface):
    """Return the form of all steps with a stack."""
    person.show()
    person.stack(surface)
    return person.open("all")


def move(person, form, slider, key):
    """Move a slider by a key."""
    person.qtbot.keyClick(form.form.sliders[slider].widget._widget._qwidget, key)


def test_every_setting_and_every_choice_has_words_and_an_explanation():
    assert list(SETTINGS) == [field.name for field in fields(Recipe)]
    assert {name: tuple(choices) for name, choices in CHOICES.items()} == WORDS
    for name, choices in CHOICES.items():
        labels = [label for label, _ in choices.values()]
        assert len(set(labels)) == len(labels), name
        assert all(explanation.endswith(".") for _, explanation in choices.values())


def test_choices_are_plain_words_with_the_word_of_the_recipe_in_the_tooltip(person, form):
    align = person.open("align")
    for each in (form, align):
        registration = each.form.settings["registration"]
        assert registration.label == "align planes"
        assert registration.native.currentText() == "automatic"
        assert "registration joint" in registration.native.toolTip()
        person.qtbot.keyClicks(registration.native, "off")
        assert registration.value == "none"
        assert "registration none" in registration.native.toolTip()
        tooltip = registration.native.itemData(1, Qt.ItemDataRole.ToolTipRole)
        assert "Features from plane to plane" in tooltip
        assert "registration sift" in tooltip
    assert (form.save.text, form.load.text) == ("Save settings…", "Load settings…")


def test_a_preset_chosen_by_keyboard_sets_the_form_and_a_change_is_described(person, form):
    choice = form.presets.choice
    assert choice.native.currentText() == "Automatic"
    icons = [choice.native.itemIcon(i) for i in range(choice.native.count())]
    assert len(icons) == len(PRESETS) == 5
    assert not any(icon.isNull() for icon in icons)
    for name, preset in PRESETS.items():
        assert choice.value == name
        assert form.recipe() == preset.recipe
        assert form.presets.sentence.value == preset.sentence
        person.qtbot.keyClick(choice.native, Qt.Key.Key_Down)
    person.qtbot.keyClicks(choice.native, "Auto")
    assert not form.form.settings["window"].native.isVisibleTo(form.native)
    move(person, form, "detail", Qt.Key.Key_Right)
    assert (form.recipe().sigma, form.recipe().window) == (1.2, 13)
    changed = "Changed: pre-filter σ (px) automatic → 1.2, window (px) automatic → 13."
    assert form.presets.sentence.value == changed
    move(person, form, "smoothing", Qt.Key.Key_Left)
    assert form.recipe().smoothness == 0.5
    assert choice.value == "automatic"
    form.form.setValue(vars(PRESETS["macro"].recipe))  # as of a result that is clicked
    assert choice.native.currentText() == "Macro photograph"


def test_own_presets_are_in_the_list_and_on_the_command_line_until_they_are_deleted(
    person, form, monkeypatch
):
    monkeypatch.setattr(preset_form.QInputDialog, "getText", lambda *_: ("my steel", True))
    move(person, form, "detail", Qt.Key.Key_Left)
    person.press(form.presets.save)
    assert form.presets.choice.native.currentText() == "my steel"
    assert "--recipe 'my steel'" in form.status.value
    assert read_recipe("my steel") == form.recipe() == Recipe(sigma=0.7, window=5)
    choice = form.presets.choice
    person.qtbot.keyClick(choice.native, Qt.Key.Key_Home)
    assert form.recipe() == Recipe()
    person.qtbot.keyClick(choice.native, Qt.Key.Key_End)
    assert form.recipe() == Recipe(sigma=0.7, window=5)
    monkeypatch.setattr(
        preset_form.QMessageBox, "question", lambda *_: preset_form.QMessageBox.StandardButton.Yes
    )
    person.press(form.presets.delete)
    assert form.presets.choice.native.count() == 5
    assert form.recipe() == Recipe(sigma=0.7, window=5)  # the settings stay
    with pytest.raises(ValueError, match=r"automatic, .*macro, got 'my steel'"):
        read_recipe("my steel")
    monkeypatch.setattr(preset_form.QInputDialog, "getText", lambda *_: ("macro", True))
    person.press(form.presets.save)
    assert "name of a preset must be" in form.status.value


def test_automatic_values_are_shown_after_a_run_and_typed_numbers_replace_them(person, surface):
    person.stack(surface)
    form = person.open("focus")
    form.form.expand()
    sigma, window = (form.form.settings[name] for name in ("sigma", "window"))
    assert sigma.native.text() == window.native.text() == "automatic"
    person.run(form)
    assert sigma.native.text() == "automatic: 1"
    assert window.native.text() == "automatic: 9"
    assert plugin_metadata(person.layer("focus"))["focus_scale"] == {"sigma": 1.0, "window": 9}
    assert not form.freshness.value
    sigma.native.selectAll()
    person.qtbot.keyClicks(sigma.native, "1.5")
    person.qtbot.keyClick(sigma.native, Qt.Key.Key_Return)
    assert form.recipe().sigma == 1.5
    assert "automatic → 1.5" in form.freshness.value
    for _ in range(16):
        person.qtbot.keyClick(sigma.native, Qt.Key.Key_Down)
    assert form.recipe().sigma == "auto"
