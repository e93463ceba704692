"""Freshness of results, undo, recipes and the copied command."""

import json
import shlex

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_dff import Recipe
from napari_dff.cli.program import main
from napari_dff.io import write_stack
from napari_dff.widgets.steps.focus import FocusWidget


@pytest.fixture
def steps(person, surface):
    source = person.stack(surface)
    focus, depth = person.open("focus", "depth")
    person.run(focus)
    person.run(depth)
    return source, focus, depth


def test_a_result_is_out_of_date_when_its_input_or_settings_have_changed(person, steps):
    source, focus, depth = steps
    focus.form.settings["sigma"].value = 3.0
    assert person.viewer.layers.selection.active is not person.layer("focus")
    person.viewer.layers.selection.active = person.layer("focus")  # as a click in the list does
    assert focus.form.settings["sigma"].value == "auto"
    assert "settings of 'focus'" in focus.status.value

    assert depth.freshness.value == ""
    depth.form.settings["peak"].value = "gaussian"
    assert (
        "other settings: sub-plane depth fit of the whole peak → fit of 3 planes, Gaussian"
        in depth.freshness.value
    )
    depth.form.settings["peak"].value = "curve"
    assert depth.freshness.value == ""
    focus.form.settings["window"].value = 15
    assert "window (px) automatic → 15" in focus.freshness.value
    person.run(focus)
    assert focus.freshness.value == ""
    assert "'focus' has changed since" in depth.freshness.value
    person.undo(focus)
    assert depth.freshness.value == ""  # up to date again

    focus.form.settings["window"].value = 15
    person.run(focus)
    person.run(depth)
    assert depth.recipe().window == 15  # of the earlier step
    settings = person.layer("depth").metadata["napari-dff"]["settings"]
    assert (settings["window"], settings["peak"]) == (15, "curve")

    source.data = source.data.copy()
    assert "'mine' has changed since" in focus.freshness.value
    assert "out of date" in depth.freshness.value


def test_undo_undoes_no_newer_run_removes_added_layers_and_restores_changed_ones(person, steps):
    _, focus, depth = steps
    other = FocusWidget(person.viewer)
    person.viewer.window.add_dock_widget(other)
    other.form.settings["window"].value = 21
    person.run(other)
    person.press(focus.undo)
    assert "a newer run has changed these layers" in focus.status.value
    person.undo(other)

    assert {"depth", "uncertainty", "plane index", "all in focus"} < person.roles()
    person.undo(depth)
    assert person.roles() == {"mine", "focus"}
    assert not depth.undo.enabled
    assert "undone" in depth.status.value
    person.undo(focus)
    assert "focus" not in person.roles()

    focus.form.settings["window"].value = 15
    person.run(focus)
    layer = person.layer("focus")
    before, limits = layer.data.copy(), tuple(layer.contrast_limits)
    focus.form.settings["window"].value = 21
    person.run(focus)
    assert not np.array_equal(layer.data, before)
    person.undo(focus)
    assert person.layer("focus") is layer
    np.testing.assert_array_equal(layer.data, before)
    assert tuple(layer.contrast_limits) == limits


def test_a_recipe_is_saved_and_loaded(person, surface, chosen_file, tmp_path):
    person.stack(surface)
    widget = person.open("all")
    widget.form.settings["smoothness"].value = 3.0
    chosen_file.path = tmp_path / "mine.json"
    person.press(widget.save)
    assert json.loads(chosen_file.path.read_text())["smoothness"] == 3.0
    widget.form.settings["smoothness"].value = 1.0
    person.press(widget.load)
    assert widget.form.settings["smoothness"].value == 3.0
    chosen_file.path.write_text('{"smothness": 2}')
    person.press(widget.load)
    assert "did you mean 'smoothness'" in widget.status.value
    assert widget.form.settings["smoothness"].value == 3.0


def test_the_copied_command_gives_the_same_result(person, surface, tmp_path):
    path = tmp_path / "my stack.ome.tif"
    write_stack(path, surface.stack)
    (layer,) = person.viewer.open(str(path), plugin="napari")
    layer.scale = (2.0, 1.0, 1.0)
    layer.units = ("micrometer",) * 3
    widget = person.open("all")
    widget.form.settings["registration"].value = "none"
    widget.form.settings["window"].value = 13
    person.run(widget)
    person.press(widget.copy)
    words = shlex.split(QApplication.clipboard().text())
    assert words[:3] == ["napari-dff", "run", str(path)]
    words[words.index("results")] = str(tmp_path / "out")
    assert main([*words[1:], "--quiet"]) == 0
    import tifffile

    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out" / "depth.ome.tif"), person.values("refined depth")
    )
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    recipe.pop("napari_dff")
    assert Recipe(**recipe) == widget.recipe()


def test_the_command_of_a_step_turns_off_steps_that_were_not_run(person, surface):
    look = {"scale": (0.002, 0.0005, 0.0005), "units": ("millimeter",) * 3}
    person.stack(surface, **look)
    focus, depth = person.open("focus", "depth")
    person.run(focus)
    assert "--registration none --sigma 1.0 --window 9 --refinement none" in depth.command()
    assert "--spacing 2 0.5 0.5" in depth.command()
    person.press(depth.copy)
    assert (
        "does not contain where its positions begin" in depth.status.value
    )  # the layer is shifted
    (sample,) = person.viewer.open_sample("napari-dff", "cell_sheet")
    depth.stack.value = sample
    assert "cell_sheet.ome.tif --out" in depth.command()


def test_undo_restores_units_that_suit_the_other_layers(person, surface):
    person.stack(surface, units=("pixel",) * 3)
    calibrated = person.viewer.add_image(np.zeros((8, 8)), units=("nanometer",) * 2)
    focus = person.open("focus")
    person.run(focus)
    person.run(focus)
    person.viewer.layers.remove(calibrated)
    person.undo(focus)
    assert {str(unit) for layer in person.viewer.layers for unit in layer.units} == {"pixel"}
