"""Painting a plane into sharp image and depth by hand."""

import json

import numpy as np
import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication

from napari_dff.widgets.app.layers import full_values


@pytest.fixture
def retouch(person, surface):
    """Return the form, ready to paint from plane 3 of a stack with results."""
    person.stack(surface, scale=(2.0, 0.5, 0.5))
    form = person.open("all")
    form.form.settings["registration"].value = "none"
    person.run(form)
    person.show()
    retouch = person.open("retouch")
    person.press(retouch.sharp)
    person.viewer.dims.set_current_step(0, 3)
    person.qtbot.keyClick(retouch.paint.native, Qt.Key.Key_Space)
    person.qtbot.wait(50)
    centre = person.viewer.scene.camera.center
    yield retouch
    assert person.viewer.scene.camera.center == centre  # the mouse did not move the picture


def test_a_stroke_paints_the_plane_in_view_and_its_depth_if_asked_for_and_can_be_undone(
    person, retouch, surface, chosen_file, tmp_path
):
    roles = "all in focus", "depth", "uncertainty", "plane index"
    layers = [person.layer(f"refined {role}") for role in roles]
    before = [full_values(layer).copy() for layer in layers]
    assert "painting from plane 3" in retouch.status.value
    person.drag(layers[0], (40, 30), (40, 60))
    picture, depth, uncertainty, index = (full_values(layer) for layer in layers)
    painted = picture != before[0]
    rows, columns = np.nonzero(painted)
    assert 50 > rows.max() > 45 > 35 > rows.min() > 30  # the brush has a diameter of 20 pixels
    assert columns.max() - columns.min() > 35
    assert picture[40, 45] == surface.stack.planes[3, 40, 45]
    assert depth[40, 45] == np.float32(10 + 2 * 3)
    assert uncertainty[40, 45] == pytest.approx(2 / 12**0.5)
    assert index[40, 45] == 4
    np.testing.assert_array_equal(depth[60:], before[1][60:])

    all_ = person.open("all")
    chosen_file.path = tmp_path / "saved"
    person.run(all_, all_.save_results)
    provenance = json.loads((chosen_file.path / "provenance.json").read_text())
    (stroke,) = provenance["input"]["layer"]["retouched"]
    assert stroke["plane"] == 3
    assert stroke["pixels"] > 500

    person.press(retouch.undo)
    for layer, values in zip(layers, before, strict=True):
        np.testing.assert_array_equal(full_values(layer), values)
        assert "retouched" not in layer.metadata["napari-dff"]
    assert not retouch.undo.enabled

    # Only the sharp image is painted if the depth is not asked for.
    person.qtbot.keyClick(retouch.depth.native, Qt.Key.Key_Space)
    picture, depth = person.layer("refined all in focus"), person.layer("refined depth")
    before = picture.data.copy(), depth.data
    person.drag(picture, (40, 30), (40, 60))
    assert not np.array_equal(picture.data, before[0])
    assert depth.data is before[1]
    person.viewer.layers.selection.active = person.viewer.layers["mine"]
    person.drag(picture, (60, 30), (60, 60))
    assert len(retouch._applied) == 2
    person.qtbot.keyClick(retouch.paint.native, Qt.Key.Key_Space)  # the mouse moves the picture
    assert person.viewer.scene.camera.mouse_pan

    # Painting ends with a sentence if the stack is removed.
    retouch.paint.native.click()
    person.viewer.layers.remove(person.viewer.layers["mine"])
    assert "was made from is gone" in retouch.status.value


def answer_dialog(person, text):
    """Click a button of the dialog that opens next, and return its question in a list."""
    questions = []

    def answer():
        dialog = QApplication.activeModalWidget()
        questions.append(dialog.text())
        button = next(x for x in dialog.buttons() if x.text().replace("&", "") == text)
        person.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    QTimer.singleShot(100, answer)
    return questions


def test_a_new_run_asks_before_it_replaces_strokes_and_paints_them_again(person, retouch, surface):
    picture, depth = person.layer("refined all in focus"), person.layer("refined depth")
    person.drag(picture, (40, 30), (40, 60))
    painted = picture.data.copy()
    form = person.open("all")
    form.form.settings["smoothness"].value = 2.0

    questions = answer_dialog(person, "Cancel")
    person.run(form)
    assert "(strokes: 1)" in questions[0]
    np.testing.assert_array_equal(picture.data, painted)
    assert "strokes by hand are kept" in form.status.value

    answer_dialog(person, "Paint again")
    person.run(form)
    assert depth.metadata["napari-dff"]["settings"]["smoothness"] == 2.0
    assert picture.data[40, 45] == surface.stack.planes[3, 40, 45]
    assert depth.data[40, 45] == np.float32(10 + 2 * 3)
    (stroke,) = depth.metadata["napari-dff"]["retouched"]
    assert stroke["plane"] == 3
    person.press(retouch.undo)
    assert "not undone: a run has computed these layers since" in retouch.status.value

    answer_dialog(person, "Discard strokes")
    person.run(form)
    assert "retouched" not in depth.metadata["napari-dff"]
    assert depth.data[40, 45] != np.float32(10 + 2 * 3)
    person.undo(form)
    assert depth.data[40, 45] == np.float32(10 + 2 * 3)
    assert len(depth.metadata["napari-dff"]["retouched"]) == 1
