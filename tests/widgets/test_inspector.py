"""The focus curve of clicked pixels."""

import gc

import dask.array as da
import numpy as np
import pytest
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QPoint, Qt

from napari_dff import Recipe
from napari_dff.pipeline.preview import focus_curve
from napari_dff.widgets.app.axes import acquisition_of
from napari_dff.widgets.app.versions import version


def wait_for_curves(person, widget, count=1):
    person.wait_until(lambda: len(widget.curves) == count)
    person.wait(widget)


def test_a_click_shows_the_curve_and_goes_to_its_plane_shift_adds_one_and_a_drag_does_not(
    person, surface
):
    person.show()
    source = person.stack(surface, scale=(2.0, 0.5, 0.5))
    widget = person.open("inspector")
    person.qtbot.wait(50)
    person.click(source, 40, 55)
    wait_for_curves(person, widget)
    pixel, curve = widget.curves[0]
    assert abs(pixel[0] - 40) <= 1
    assert abs(pixel[1] - 55) <= 1
    expected = focus_curve(acquisition_of(source).stack(), Recipe(), *pixel)
    np.testing.assert_array_equal(curve.focus, expected.focus)
    assert curve.depth == expected.depth
    truth = np.interp(surface.depth[pixel], surface.stack.positions, 10 + 2.0 * np.arange(12))
    assert curve.depth == pytest.approx(truth, abs=1.0)
    assert person.viewer.dims.current_step[0] == curve.plane
    assert f"plane {curve.plane}" in widget.status.value
    assert "µm" in widget.status.value
    lines = widget.plot.axes[0].get_lines()
    np.testing.assert_array_equal(lines[0].get_ydata(), curve.focus)

    person.click(source, 70, 60, shift=True)
    wait_for_curves(person, widget, 2)
    person.drag(source, (40, 40), (40, 60))
    person.qtbot.wait(100)
    assert len(widget.curves) == 2
    person.click(source, 30, 30)
    wait_for_curves(person, widget, 1)
    person.press(widget.clear_button)
    assert widget.curves == []


def test_edits_are_counted_after_the_proxy_that_napari_gave_to_a_form_is_freed(person, surface):
    source = person.stack(surface)
    before = version(PublicOnlyProxy(source))
    gc.collect()
    source.scale = 2 * source.scale
    assert version(source) != before


def test_a_click_on_a_result_uses_its_recipe_and_in_3d_finds_its_pixel(person, surface):
    person.stack(surface, scale=(2.0, 0.5, 0.5))
    all_, three, widget = person.open("all", "surface", "inspector")
    all_.form.settings["registration"].value = "none"
    all_.form.settings["window"].value = 15
    person.run(all_)
    person.show()
    person.qtbot.wait(50)
    depth = person.layer("refined depth")
    person.click(depth, 50, 50)
    wait_for_curves(person, widget)
    pixel, curve = widget.curves[0]
    source = person.viewer.layers["mine"]
    recipe = Recipe(registration="none", window=15)
    np.testing.assert_array_equal(
        curve.focus, focus_curve(acquisition_of(source).stack(), recipe, *pixel).focus
    )
    assert widget._layer_depths["refined"][0] == depth.data[pixel]
    assert "Refined" in widget.status.value
    assert {"estimate", "refined"} <= set(widget.plot.axes[0].get_legend_handles_labels()[1])

    person.run(three)
    camera, canvas = person.viewer.scene.camera, person.viewer.window._qt_viewer.canvas.native
    camera.set_view_direction((1, 0, 0), up_direction=(0, -1, 0))
    camera.center = (20.0, 1 + 0.5 * 30, 2 + 0.5 * 60)
    person.qtbot.wait(100)
    middle = QPoint(canvas.width() // 2, canvas.height() // 2)
    person.qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=middle)
    person.wait_until(lambda: widget.curves[0][0] != pixel)
    wait_for_curves(person, widget)
    (row, column), _ = widget.curves[0]
    assert abs(row - 30) <= 2
    assert abs(column - 60) <= 2


def test_a_lazy_stack_is_read_only_around_the_pixel(person, surface):
    read, whole = [], np.tile(surface.stack.planes, (1, 6, 6))

    def chunk(block_info=None):
        place = block_info[None]["array-location"]
        read.append(place)
        return whole[tuple(slice(*ends) for ends in place)]

    shape = (12, 576, 576)
    chunks = da.core.normalize_chunks((1, 96, 96), shape)
    planes = da.map_blocks(chunk, chunks=chunks, dtype=np.uint16, meta=np.empty((0,) * 3, "u2"))
    source = person.stack(surface, data=planes, contrast_limits=(0, 60000), scale=(2, 0.5, 0.5))
    widget = person.open("inspector")
    person.qtbot.wait(50)
    widget.go_to_plane.value = False
    widget.inspect(source, (300, 300))  # sigma and window are chosen from a sample of the stack
    wait_for_curves(person, widget)
    read.clear()
    widget.inspect(source, (48, 60))
    person.wait_until(lambda: widget.curves[-1][0] == (48, 60))
    assert read
    assert len(read) < 0.7 * 12 * 36


def test_clicks_without_a_stack_or_outside_of_it_show_a_message(person, surface):
    person.show()
    widget = person.open("inspector")
    person.viewer.add_points(np.zeros((1, 2)))
    canvas = person.viewer.window._qt_viewer.canvas.native
    person.qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(5, 5))
    person.wait_until(lambda: "no stack" in widget.status.value)
    person.stack(surface)
    widget.inspect(person.viewer.layers["mine"], (500, 500))
    person.wait_until(lambda: "failed" in widget.status.value)
    assert widget.curves == []
