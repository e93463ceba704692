"""Smaller things that a new user meets: axes, borders, forms that are reopened, colours, units."""

import re

import numpy as np
import psutil
import pytest
from napari._qt.widgets.qt_command_palette import QCommandPalette

from napari_dff import FocalStack, depth_from_focus, synthetic
from napari_dff.widgets.app import qt_binding
from napari_dff.widgets.app.layers import pixel_size_of, positions_of
from napari_dff.widgets.app.preview import OFF


@pytest.fixture
def form(person, surface):
    """Return the form of all steps, on a stack that is aligned already."""
    person.stack(surface)
    form = person.open("all")
    form.form.settings["registration"].value = "none"
    return form


def test_a_layer_labelled_y_x_z_is_put_in_order_by_one_click(person, surface):
    planes = surface.stack.planes
    mine = person.stack(
        surface,
        data=np.moveaxis(planes, 0, -1),
        axis_labels=("y", "x", "z"),
        scale=(0.5, 0.25, 2.0),
        translate=(1.0, 2.0, 10.0),
    )
    form = person.open("all")
    form.form.settings["registration"].value = "none"
    person.qtbot.wait(20)
    assert "press 'Put axes in order'" in form.status.value
    person.press(form.run)
    assert "the last axes of 'mine' must be z y x, got y x z" in form.status.value
    assert form.axes.reorder.native.isVisibleTo(form.native)
    person.press(form.axes.reorder)
    assert not form.axes.reorder.native.isVisibleTo(form.native)
    np.testing.assert_array_equal(mine.data, planes)
    assert (*mine.scale, *mine.translate) == (2.0, 0.5, 0.25, 10.0, 1.0, 2.0)
    assert mine.axis_labels == ("z", "y", "x")
    person.run(form)
    assert person.layer("refined depth").data.shape == planes.shape[1:]
    assert 10 < np.nanmedian(person.layer("refined depth").data) < 32


def test_images_without_planes_are_not_offered_as_stacks(person, surface):
    form = person.open("all")
    person.viewer.add_image(surface.stack.planes[0], name="flat")
    assert form.stack.choices == (None,)
    stack = person.stack(surface)
    assert form.stack.value is stack
    assert form.stack.choices == (None, stack)


def test_the_common_area_is_offered_where_planes_moved(person, surface):
    planes = np.stack([np.roll(p, k, axis=0) for k, p in enumerate(surface.stack.planes)])
    person.stack(surface, data=planes)
    form = person.open("all")
    person.run(form)
    assert "of the picture, at the rim, is not in all planes" in form.advice.value
    assert form.crop.native.isVisibleTo(form.native)
    person.run(form, form.crop)
    assert form.form.settings["crop"].value == "common"
    assert person.layer("refined depth").data.shape[0] < planes.shape[1]
    assert not form.crop.native.isVisibleTo(form.native)


def test_the_memory_of_a_run_is_shown_and_warned_of_before_it(person, form, monkeypatch):
    assert form.memory.value.startswith("needs about ")
    free = type("Memory", (), {"available": 1e5, "total": 1e9})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    form.form.settings["smoothness"].value = 2.0
    assert form.memory.value.startswith("⚠ needs about")
    assert "0 MB are free: close other programs" in form.memory.value
    assert person.open("align").memory.value == ""  # planes stay lazy


def test_a_form_that_is_reopened_has_its_settings_and_its_stack(person, form, surface):
    form.form.settings["window"].value = 21
    first = form.stack.value
    person.stack(surface, name="other")
    form.stack.value = first
    measure = person.open("measure")
    measure.measure.value = "profile"
    for each in (form, measure):
        person.viewer.window.remove_dock_widget(each.native)
    person.qtbot.wait(20)
    again, measure = person.open("all", "measure")
    person.qtbot.wait(20)
    assert again is not form
    assert again.form.settings["window"].value == 21
    assert again.form.settings["registration"].value == "none"
    assert again.stack.value is first
    assert measure.measure.value == "profile"


def test_the_command_palette_does_not_offer_reader_and_writers(person):
    person.show()
    palette = QCommandPalette(person.viewer.window._qt_window)
    palette.update_context(person.viewer.window._qt_window)
    palette.show()
    for title in ("Open focal stacks and results", "Save an image as OME-TIFF or OME-Zarr"):
        palette._line.setText("")
        person.qtbot.keyClicks(palette._line, title)
        entry = palette._list.indexWidget(palette._list.model().index(0, 0))
        assert title in re.sub("<.*?>", "", entry.text())
        assert not entry.isEnabled()
    palette.deleteLater()


def test_the_sharp_image_has_the_colour_of_its_channel(person, surface):
    person.stack(surface, colormap="blue", blending="additive")
    form = person.open("all")
    form.form.settings["registration"].value = "none"
    person.run(form)
    sharp = person.layer("refined all in focus")
    assert sharp.colormap.name == "blue"
    other = person.stack(surface, name="other", colormap="green", blending="additive")
    reuse = person.open("reuse")
    reuse.input_layer.value = person.layer("refined depth")
    reuse.targets.value = [other]
    person.run(reuse)
    applied = person.layer("all in focus")
    assert (applied.colormap.name, applied.blending) == ("green", "additive")
    assert not other.visible  # or it would be added to its sharp image
    person.undo(reuse)
    assert other.visible


def test_preview_is_offered_only_where_a_step_has_one(person, surface):
    person.stack(surface)
    align = person.open("align")
    assert align.preview.choices == (OFF,)
    assert len(person.open("focus").preview.choices) == 3


def test_outdated_results_units_of_all_layers_and_legends_and_columns_of_tools(person, form):
    person.run(form)
    form.form.settings["window"].value = 21
    assert form.freshness.value.startswith("⚠ 'depth' is out of date")  # the main one

    # All layers of ours have the units of the stack.
    inspector, retouch, measure = person.open("inspector", "retouch", "measure")
    measure.measure.value = "profile"
    person.press(measure.draw)
    person.press(retouch.sharp)
    assert person.viewer.layers.extent.units is not None
    for layer in person.viewer.layers:
        assert {str(unit) for unit in layer.units} == {"micrometer"}, layer.name
    assert inspector.native is not None

    # Legends lie above the curves, and tables show whole columns.
    person.show()
    measure.shapes.value.add([[20, 20], [60, 60]], shape_type="line")
    person.run(measure)
    header = measure.table.native.horizontalHeader()
    for column in range(header.count()):
        assert header.sectionSize(column) >= header.sectionSizeHint(column)
    measure.shapes.value.mode = "pan_zoom"
    person.click(person.layer("refined depth"), 48, 48)
    person.qtbot.waitUntil(lambda: bool(inspector.curves), timeout=20_000)
    (axes,) = inspector.plot.axes
    inspector.plot.draw()
    below = axes.get_legend().get_window_extent().y0
    assert below >= axes.get_window_extent().y1 - 1


def test_results_follow_when_their_stack_is_calibrated(person, surface):
    person.viewer.add_image(surface.stack.planes, name="bare")
    form = person.open("all")
    form.form.settings["registration"].value = "none"
    person.run(form)
    before = person.values("refined depth"), person.layer("refined uncertainty").data
    form.calibration.plane_distance.value = "2.5"
    form.calibration.pixel_size.value = "0.5"
    form.calibration.unit.value = "micrometer"
    assert person.viewer.layers.extent.units is not None
    depth = person.layer("refined depth")
    np.testing.assert_allclose(person.values("refined depth"), 2.5 * before[0], rtol=1e-6)
    np.testing.assert_allclose(person.layer("refined uncertainty").data, 2.5 * before[1])
    np.testing.assert_allclose(depth.scale, (0.5, 0.5))
    assert {str(unit) for unit in depth.units} == {"micrometer"}
    assert np.nanmax(depth.data) <= depth.contrast_limits[1] * 1.1


@pytest.mark.parametrize(
    ("binding", "version", "warns"),
    [
        ("PySide6", (3, 11), True),
        ("PySide6", (3, 12), False),
        ("PyQt6", (3, 11), False),
    ],
)
def test_a_binding_of_qt_that_can_end_napari_is_named_once(binding, version, warns, monkeypatch):
    messages = []
    monkeypatch.setattr(qt_binding, "show_warning", messages.append)
    monkeypatch.setattr("qtpy.API_NAME", binding)
    monkeypatch.setattr("sys.version_info", version)
    qt_binding.warn_of_binding.cache_clear()
    qt_binding.warn_of_binding()
    qt_binding.warn_of_binding()
    monkeypatch.undo()
    assert messages == [qt_binding.UNSAFE_BINDING] * warns


def test_filled_depth_is_shown_or_hidden_in_all_forms_alike(person):
    truth = synthetic.bare_patch(size=48, planes=8, seed=1)
    layer = person.stack(truth)
    form, other = person.open("all", "refine")
    form.form.settings["registration"].value = "none"
    person.run(form)
    depth = person.layer("refined depth")
    hidden = np.isnan(depth.data).sum()
    assert hidden
    for clicked, shown in ((form, True), (other, False), (other, True)):
        clicked.view.filled.native.click()
        assert form.view.filled.value == other.view.filled.value == shown
        assert (np.isnan(depth.data).sum() < hidden) == shown

    # That which is shown is that of the newest run and of undo.
    expected = []
    for smoothness in (1.0, 4.0):
        form.form.settings["smoothness"].value = smoothness
        if smoothness > 1:
            person.run(form)
        stack = FocalStack(truth.stack.planes, positions_of(layer), pixel_size_of(layer))
        expected.append(depth_from_focus(stack, form.recipe()).refined.depth)
        np.testing.assert_array_equal(person.values("refined depth"), expected[-1])
    assert not np.array_equal(*expected)
    person.undo(form)
    np.testing.assert_array_equal(person.values("refined depth"), expected[0])
    form.view.filled.native.click()
    assert not form.view.filled.value
    assert not other.view.filled.value
    assert np.isnan(depth.data).sum() == hidden
