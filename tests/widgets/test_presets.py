"""Plain words for the settings, presets by sample, and the sliders in front."""

from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from qtpy.QtCore import Qt

from napari_dff import Recipe
from napari_dff.widgets.app.labels import CHOICES, SETTINGS

WORDS = {  # field → all values of it in a recipe
    name: get_args(hint)
    for name, hint in get_type_hints(Recipe).items()
    if get_origin(hint) is Literal
}


@pytest.fixture
def form(person, surface):
    """Return the form of all steps with a stack."""
    person.show()
    person.stack(surface)
    return person.open("all")


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
