"""The preview has the values of a run."""

import gc

import numpy as np
import pytest

from napari_dff import synthetic
from napari_dff.widgets.app.preview import OFF, RECTANGLE, VIEW


@pytest.fixture(scope="module")
def wide():
    planes = synthetic.rough_surface(size=160, planes=8, seed=3).stack.planes
    return np.tile(planes, (1, 4, 4))


def is_idle(preview):
    """Return whether nothing is computed, nor about to be."""
    return preview._task is None and not preview._timer.isActive()


def shown(person, widget, role):
    person.wait_until(lambda: role in person.roles() and is_idle(widget._preview))
    return person.layer(role)


def again(person, widget, change):
    """Make a change and wait for its preview, which may follow that of an earlier change."""
    widget.status.value = ""
    change()
    person.wait_until(lambda: "preview of" in widget.status.value and is_idle(widget._preview))


def part(preview, whole):
    """Return the pixels of a result that a preview covers."""
    offset = (preview.translate[-2:] - whole.translate[-2:]) / whole.scale[-2:]
    top, left = np.rint(offset).astype(int)
    height, width = preview.data.shape[-2:]
    return whole.data[..., top : top + height, left : left + width]


def test_the_preview_of_the_view_equals_the_run(person, surface, wide):
    person.show()
    source = person.stack(surface, data=wide, scale=(2.0, 0.25, 0.25))
    widget = person.open("focus")
    person.viewer.scene.camera.zoom *= 4
    person.qtbot.wait(100)
    widget.preview.value = VIEW
    first = shown(person, widget, "preview focus")
    height, width = first.data.shape[1:]
    assert 64 < height < 500
    assert 64 < width < 500
    before = first.data.copy()
    again(person, widget, lambda: setattr(widget.form.settings["window"], "value", 15))
    assert person.layer("preview focus") is first
    assert not np.array_equal(first.data, before)
    previewed = first.data.copy(), first.translate.copy()
    widget.preview.value = OFF
    assert "preview focus" not in person.visible_roles()
    person.run(widget)
    first.data, first.translate = previewed
    whole = part(first, person.layer("focus"))
    np.testing.assert_allclose(first.data, whole, atol=1e-2 * whole.max())
    assert np.percentile(np.abs(first.data - whole), 99.9) < 1e-4 * whole.max()
    assert source in person.viewer.layers


def test_the_preview_of_a_drawn_rectangle_equals_the_run(person, surface):
    person.show()
    source = person.stack(surface, scale=(2.0, 0.5, 0.5))
    widget = person.open("all")
    widget.form.settings["registration"].value = "none"
    widget.preview.value = RECTANGLE
    assert "preview region" in person.roles()
    person.qtbot.wait(50)
    person.viewer.reset_view()  # the form has made the canvas smaller
    person.drag(source, (26, 18), (61, 69))
    depth = shown(person, widget, "preview depth")
    assert depth.data.shape == (40, 56)
    np.testing.assert_allclose((depth.translate - source.translate[1:]) / 0.5, (24, 16))
    person.run(widget)
    assert "preview depth" not in person.visible_roles()
    error = np.abs(depth.data - part(depth, person.layer("refined depth"))) / 2.0
    assert np.nanpercentile(error, 99) < 0.05  # planes


def test_later_steps_are_previewed_from_the_layers(person, surface):
    person.stack(surface)
    focus, depth, refine = person.open("focus", "depth", "refine")
    depth.preview.value = VIEW
    person.wait_until(lambda: "no preview" in depth.status.value)
    person.run(focus)
    again(person, depth, lambda: setattr(depth.form.settings["peak"], "value", "gaussian"))
    previewed = person.layer("preview depth").data.copy()
    depth.preview.value = OFF
    person.run(depth)
    np.testing.assert_allclose(previewed, person.layer("depth").data, rtol=1e-6)
    refine.preview.value = VIEW
    again(person, refine, lambda: setattr(refine.form.settings["smoothness"], "value", 4.0))
    previewed = person.layer("preview depth").data.copy()
    refine.preview.value = OFF
    person.run(refine)
    np.testing.assert_allclose(previewed, person.layer("refined depth").data, rtol=1e-5)


def test_the_last_preview_has_the_newest_settings_and_an_error_shows_no_notification(
    person, notifications, surface, monkeypatch
):
    person.stack(surface)
    widget = person.open("focus")
    widget.preview.value = VIEW
    shown(person, widget, "preview focus")
    for window in (3, 5, 7, 11, 21):
        widget.form.settings["window"].value = window
        person.qtbot.wait(30)
    again(person, widget, lambda: setattr(widget.form.settings["window"], "value", 31))
    last = person.layer("preview focus").data.copy()
    widget.preview.value = OFF
    person.run(widget)
    np.testing.assert_allclose(last, person.layer("focus").data, rtol=1e-4)

    def broken(*_):
        raise ValueError("window must be something else")

    monkeypatch.setattr("napari_dff.widgets.steps.focus.measure_region", broken)
    widget.preview.value = VIEW
    person.wait_until(lambda: "must be something else" in widget.status.value)
    assert notifications == []


def test_the_status_tells_why_there_is_no_preview(person, surface):
    person.show()
    source = person.stack(surface)
    widget = person.open("focus")
    person.viewer.dims.ndisplay = 3
    widget.preview.value = VIEW
    person.wait_until(lambda: "no preview in 3-D" in widget.status.value)
    person.viewer.dims.ndisplay = 2
    person.viewer.scene.camera.center = (0, 500, 500)
    person.qtbot.wait(100)
    person.wait_until(lambda: "nothing of the stack is in view" in widget.status.value)
    assert person.roles() == {"mine"}
    person.viewer.layers.remove(source)
    assert widget.stack.value is None


def test_a_preview_of_planes_that_are_not_aligned_yet_has_a_note(person, surface):
    person.stack(surface)
    widget = person.open("all")
    widget.preview.value = VIEW
    shown(person, widget, "preview depth")
    assert "Run aligns them first" in widget.status.value
    again(person, widget, lambda: setattr(widget.form.settings["registration"], "value", "none"))
    assert "Run aligns" not in widget.status.value


def test_closing_a_form_removes_a_layer_that_its_last_preview_did_not_have(
    person, surface, monkeypatch
):
    person.stack(surface)
    widget = person.open("two_surfaces")
    widget.preview.value = VIEW
    thickness = shown(person, widget, "preview thickness")
    kind, compute = type(widget), type(widget).compute_preview
    monkeypatch.setattr(kind, "compute_preview", lambda *arguments: compute(*arguments)[:1])
    again(person, widget, lambda: setattr(widget.form.settings["window"], "value", 15))
    assert not thickness.visible
    person.viewer.window.remove_dock_widget(widget.native)
    person.wait_until(lambda: not [x for x in person.roles() if x.startswith("preview")])


def open_preview_and_close(person, name):
    widget = person.open(name)
    widget.preview.value = VIEW
    person.wait_until(lambda: "preview of" in widget.status.value and is_idle(widget._preview))
    person.viewer.window.remove_dock_widget(widget.native)


def test_a_closed_form_removes_its_preview_even_if_python_frees_it_before_qt(person, surface):
    person.stack(surface)
    for name in ("all", "focus"):
        open_preview_and_close(person, name)
        gc.collect()
        person.wait_until(lambda: not [x for x in person.roles() if x.startswith("preview")])
