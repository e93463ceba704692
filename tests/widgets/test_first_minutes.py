"""The first minutes of a new user: open a stack, run, look at the result."""

import numpy as np
import pytest
import tifffile
from napari.settings import get_settings
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QTabBar

from napari_dff import depth_from_focus, synthetic
from napari_dff.model.stack import FocalStack
from napari_dff.widgets.app.canvas import Canvas
from napari_dff.widgets.app.dock import LAYOUT_MS
from napari_dff.widgets.app.geometry import data_to_view, is_fitted, view_to_data
from napari_dff.widgets.app.layers import result_values, units_of
from napari_dff.widgets.app.preview import VIEW
from napari_dff.widgets.tools.tool import drawn_areas

from .conftest import TITLES


@pytest.fixture(scope="module")
def bare():
    return synthetic.bare_patch(size=64, planes=10)


@pytest.fixture
def form(person, surface):
    """Return the form of all steps, on a stack that is aligned already."""
    person.stack(surface)
    form = person.open("all")
    form.form.settings["registration"].value = "none"
    return form


def names(person):
    return [layer.name for layer in person.viewer.layers]


def test_a_first_run_its_view_what_is_saved_of_it_and_a_preview_over_it(
    person, form, chosen_file, tmp_path
):
    assert not form.view.widget.native.isVisibleTo(form.native)
    person.run(form)
    # The first result is a selected depth with colour bar and scale bar.
    depth, sharp = person.layer("refined depth"), person.layer("refined all in focus")
    assert names(person) == ["plane index", "σ", "mine", "sharp image", "depth"]
    selection = person.viewer.layers.selection
    assert selection.active is depth
    assert depth.colorbar.visible
    assert person.viewer.canvas.overlays.scale_bar.visible

    # One click shows depth, sharp image or planes, and a slider blends.
    assert form.view.widget.native.isVisibleTo(form.native)
    form.form.settings["smoothness"].value = 2.0
    person.press(form.view.sharp)
    assert not depth.visible
    assert selection.active is sharp
    person.press(form.view.planes)
    assert person.visible_roles() == {"mine"}
    person.press(form.view.depth)
    assert selection.active is depth
    assert names(person)[-2:] == ["sharp image", "depth"]
    person.qtbot.keyClick(form.view.blend._widget._qwidget, Qt.Key.Key_Left)
    assert depth.opacity == pytest.approx(0.99)
    assert form.form.settings["smoothness"].value == 2.0  # not that of the result

    # Results are saved as the command line saves them.
    drawn = person.viewer.add_points([[40, 40]], name="drawn")
    chosen_file.path = tmp_path / "saved"
    person.run(form, form.save_results)
    assert str(chosen_file.path) in form.status.value
    assert "left out: drawn" in form.status.value
    saved = {each.name for each in chosen_file.path.iterdir()}
    assert {
        "depth.ome.tif",
        "uncertainty.ome.tif",
        "index.ome.tif",
        "all_in_focus.ome.tif",
        "recipe.json",
    } < saved
    written = tifffile.imread(chosen_file.path / "depth.ome.tif")
    np.testing.assert_array_equal(written, person.values("refined depth"))

    # The preview lies over older results and below drawings.
    depth.colorbar.visible = False
    form.preview.value = VIEW
    person.wait_until(lambda: "preview depth" in person.visible_roles())
    assert names(person)[-3:] == ["depth", "preview depth", "drawn"]
    person.run(form)
    assert "preview depth" not in person.visible_roles()
    assert len(person.viewer.layers) == 5 + 2
    assert not depth.colorbar.visible  # as the user wants it
    form.preview.value = VIEW
    person.viewer.layers.move(person.viewer.layers.index(person.layer("preview depth")), 0)
    form.form.settings["window"].value = 15
    person.wait_until(lambda: names(person)[-2] == "preview depth")
    assert drawn in person.viewer.layers


def test_refined_layers_are_on_top_and_the_unrefined_ones_hidden_until_undo(person, surface):
    person.show()
    person.stack(surface)
    focus, depth, refine = person.open("focus", "depth", "refine")
    windows = [x for x in QApplication.topLevelWidgets() if x.isVisible()]
    assert windows == [person.viewer.window._qt_window]
    person.viewer.window._qt_window.hide()  # or each of the layers would be drawn
    person.run(focus)
    person.run(depth)
    before = names(person)
    assert before[-2:] == ["sharp image", "depth"]
    person.run(refine)
    assert names(person)[-2:] == ["sharp image", "depth"]
    assert person.viewer.layers[-1] is person.layer("refined depth")
    assert set(names(person)[:4]) == {
        "unrefined depth",
        "unrefined sharp image",
        "unrefined σ",
        "unrefined plane index",
    }
    assert person.visible_roles() >= {"refined depth", "refined all in focus"}
    assert not {"depth", "all in focus"} & person.visible_roles()
    person.run(depth)  # the newest again
    assert person.visible_roles() >= {"depth", "all in focus"}
    assert not {"refined depth", "refined all in focus"} & person.visible_roles()
    person.undo(depth)
    person.undo(refine)
    assert names(person) == before
    assert person.visible_roles() >= {"depth", "all in focus"}


def test_the_form_follows_the_stack_names_results_after_it_and_tools_follow_the_newest(
    person, form, surface
):
    figure = person.open("figure")
    first, layers = form.stack.value, person.viewer.layers
    person.run(form)
    person.layer("refined uncertainty").name = "my error"
    person.show()
    second = person.stack(surface, name="other", translate=(100.0, 1.0, 2.0))
    assert form.stack.value is second
    assert 100 <= person.viewer.dims.point[0] <= 122  # the slider is within the new stack
    layers.selection.active = first
    assert form.stack.value is first
    assert 10 <= person.viewer.dims.point[0] <= 32
    layers.selection.active = second
    layers.selection.active = person.layer("refined depth")
    assert form.stack.value is first

    layers.selection.active = second
    person.run(form)
    assert {"depth · mine", "depth · other", "σ · other", "my error"} < set(names(person))
    assert figure.input_layer.value.name == "depth · other"
    layers.selection.active = layers["depth · mine"]
    assert figure.input_layer.value.name == "depth · mine"
    assert layers["depth · mine"].colorbar.visible
    assert not layers["depth · other"].colorbar.visible
    layers.selection.active = layers["depth · other"]
    view = person.viewer.window._qt_viewer.layers
    place = view.visualRect(view.currentIndex())  # of the selected depth
    assert view.viewport().rect().contains(place)


def test_filled_in_depth_is_left_out_unless_asked_for_and_then_in_stripes(person, bare):
    person.stack(bare)
    form = person.open("all")
    form.form.settings["registration"].value = "none"
    person.run(form)
    depth, uncertainty = person.layer("refined depth"), person.layer("refined uncertainty")
    never = ~np.isfinite(uncertainty.data)
    assert 0.02 < never.mean() < 0.98
    np.testing.assert_array_equal(np.isnan(depth.data), never)
    stack = FocalStack(bare.stack.planes, 10 + 2.0 * np.arange(len(bare.stack.planes)))
    expected = depth_from_focus(stack, form.recipe()).refined.depth
    np.testing.assert_array_equal(result_values(depth, ()), expected)
    person.qtbot.keyClick(form.view.filled.native, Qt.Key.Key_Space)
    striped = np.isnan(depth.data[never]).mean()
    assert 0.3 < striped < 0.7
    np.testing.assert_array_equal(result_values(depth, ()), expected)
    assert not form.freshness.visible
    person.qtbot.keyClick(form.view.filled.native, Qt.Key.Key_Space)
    np.testing.assert_array_equal(np.isnan(depth.data), never)
    labels = np.arange(1, 1 + len(stack.planes), dtype=np.uint16)
    green = person.layer("refined plane index").colormap.map(labels)[:, 1]
    assert np.all(np.diff(green) > 0)  # viridis, in the order of the planes


def test_forms_are_tabs_of_one_dock_that_fits_a_laptop_at_the_largest_font(person, surface):
    person.show()
    person.stack(surface)
    window = person.viewer.window._qt_window
    form = person.open("all")
    person.qtbot.wait(20)
    menu = form[0].native.menu()  # of the button "Steps and tools"
    assert {action.text() for action in menu.actions()} == set(TITLES.values())
    docks = [form.native.parent()]
    for name in ("Align", "Measure heights"):
        next(action for action in menu.actions() if action.text() == name).trigger()
        person.qtbot.wait(50)
        title = next(key for key in person.viewer.window.dock_widgets if key.startswith(name))
        docks.append(person.viewer.window.dock_widgets[title].native.parent())
    assert set(window.tabifiedDockWidgets(docks[0])) == set(docks[1:])
    for bar in window.findChildren(QTabBar):
        assert bar.elideMode() == Qt.TextElideMode.ElideNone
    assert docks[1].widget().findChild(Canvas).isHidden()  # before an alignment
    assert window.height() <= 800
    assert [dock.windowTitle() for dock in docks] == ["Depth from focus", "Align", "Measure"]
    appearance = get_settings().appearance
    before = appearance.font_size
    try:
        appearance.font_size = 20
        person.qtbot.wait(50)
        assert all(dock.minimumSizeHint().height() <= 700 for dock in docks)
    finally:
        appearance.font_size = before
    menu.actions()[0].trigger()  # raises the form that is open
    assert len(person.viewer.window.dock_widgets) == 3


def test_a_stack_without_calibration_is_calibrated_in_the_form(person, surface):
    source = person.viewer.add_image(surface.stack.planes, name="bare")
    form = person.open("all")
    form.form.settings["registration"].value = "none"
    calibration = form.calibration
    assert "Not calibrated" in calibration.note.value
    person.viewer.dims.set_current_step(0, 4)
    calibration.plane_distance.native.selectAll()
    person.qtbot.keyClicks(calibration.plane_distance.native, "2,5")
    person.qtbot.keyClick(calibration.plane_distance.native, Qt.Key.Key_Return)
    calibration.pixel_size.native.selectAll()
    person.qtbot.keyClicks(calibration.pixel_size.native, "0.5")
    person.qtbot.keyClick(calibration.pixel_size.native, Qt.Key.Key_Return)
    calibration.unit.value = "micrometer"
    np.testing.assert_allclose(source.scale, (2.5, 0.5, 0.5))
    assert {str(unit) for unit in source.units} == {"micrometer"}
    assert not calibration.note.visible
    assert person.viewer.dims.current_step[0] == 4  # the same plane
    person.run(form)
    assert np.nanmax(person.layer("refined depth").data) > 20  # in µm
    calibration.pixel_size.native.setText("-1")
    calibration.pixel_size.native.editingFinished.emit()
    assert "pixel size must be a positive number, got '-1'" in form.status.value
    assert calibration.pixel_size.value == "0.5"


def test_a_stack_that_napari_itself_opened_has_the_calibration_of_its_file(
    person, surface, tmp_path
):
    form = person.open("all")
    imagej = {"axes": "ZYX", "spacing": 2.5, "unit": "um"}
    size = {"resolution": (4.0, 4.0), "metadata": imagej}
    tifffile.imwrite(tmp_path / "imagej.tif", surface.stack.planes, imagej=True, **size)
    (layer,) = person.viewer.open(tmp_path / "imagej.tif", plugin="napari")
    assert form.stack.value is layer
    np.testing.assert_allclose(layer.scale, (2.5, 0.25, 0.25))
    assert units_of(layer) == ("micrometer",) * 3
    assert "those of imagej.tif" in form.status.value
    assert form.calibration.plane_distance.value == "2.5"
    form.calibration.unit.value = "pixel"  # as the user wants it
    person.viewer.layers.selection.active = person.stack(surface)
    person.viewer.layers.selection.active = layer
    assert units_of(layer) == ("pixel",) * 3


def test_a_second_stack_in_another_unit_is_in_view_and_the_mouse_finds_its_pixels(person, surface):
    person.show()
    person.stack(surface)
    form = person.open("all")
    person.qtbot.wait(2 * LAYOUT_MS)
    look = {"scale": (2.0, 0.5, 0.25), "translate": (0.0, 1.0, 2.0), "units": ("millimeter",) * 3}
    second = person.stack(surface, name="large", **look)
    viewer = person.viewer
    assert form.stack.value is second
    visible = np.array(viewer.canvas.size) / viewer.scene.camera.zoom  # µm
    planes = np.array((48_000, 24_000))
    assert (visible > planes).all()
    assert (visible < 10 * planes).any()
    person.qtbot.wait(20)
    viewer.dims.set_point(0, 4000.0)
    assert view_to_data(viewer, second, viewer.dims.point)[0] == pytest.approx(2)
    corner = data_to_view(viewer, second, (2, 10, 20))
    np.testing.assert_allclose(corner, (4000, 6000, 7000))
    inspector = person.open("inspector")
    person.qtbot.wait(50)
    person.click(second, 30, 40)
    person.wait(inspector)
    assert "row 30, column 40: sharpest in plane" in inspector.status.value.lower()
    bare = viewer.add_image(surface.stack.planes, name="bare")
    assert form.stack.value is bare
    assert "drawn as if" in form.calibration.note.value


def test_an_uncalibrated_stack_beside_a_calibrated_one_causes_no_warning(
    person, form, surface, tmp_path
):
    warnings = []
    notification_manager.notification_ready.connect(lambda event: warnings.append(event.message))
    person.run(form)
    person.show()
    tifffile.imwrite(tmp_path / "bare.tif", surface.stack.planes, metadata={"axes": "ZYX"})
    (bare,) = person.viewer.open(tmp_path / "bare.tif", plugin="napari-dff")
    assert form.stack.value is bare
    assert "as if it were one µm beside" in form.calibration.note.value
    assert not person.viewer.canvas.overlays.scale_bar.visible
    person.run(form)
    person.viewer.screenshot(canvas_only=True, flash=False)
    assert not warnings
    depth = person.viewer.layers.selection.active
    assert units_of(bare) == ("pixel",) * 3
    assert units_of(depth) == ("pixel",) * 2
    assert not form.freshness.visible
    images = [each for each in person.viewer.layers if hasattr(each, "colorbar")]
    assert [each for each in images if each.colorbar.visible] == [depth]
    for layer in [each for each in person.viewer.layers if "micrometer" in units_of(each)]:
        person.viewer.layers.remove(layer)
    assert str(bare.units[0]) == "pixel"


def test_areas_drawn_on_a_stack_in_millimeters_beside_one_in_micrometers(person, surface):
    person.stack(surface)
    look = {"scale": (0.1, 0.02, 0.02), "translate": (0, 0, 0), "units": ("millimeter",) * 3}
    person.stack(surface, name="large", **look)
    form, measure = person.open("all", "measure")
    form.form.settings["registration"].value = "none"
    person.run(form)
    person.show()
    measure.measure.value = "step height"
    person.press(measure.draw)
    depth = measure.input_layer.value
    for top in (20, 60):
        person.drag(depth, (top, 20), (top + 20, 60))
    masks = drawn_areas(measure.shapes.value, depth)
    for mask, top in zip(masks, (20, 60), strict=True):
        rows, columns = np.nonzero(mask)
        corners = rows.min(), rows.max(), columns.min(), columns.max()
        np.testing.assert_allclose(corners, (top, top + 20, 20, 60), atol=2)
    person.run(measure)
    assert measure.measurement.quantities[0].unit == "mm"


def test_a_new_dock_leaves_the_whole_picture_in_view_unless_the_user_has_zoomed(person, surface):
    person.show()
    layer = person.stack(surface, scale=(2.0, 0.25, 0.5))  # 48 µm wide, 24 µm high
    canvas, camera = person.viewer.canvas, person.viewer.scene.camera
    person.qtbot.wait(LAYOUT_MS)
    person.viewer.reset_view()
    assert is_fitted(person.viewer)
    person.open("all")
    person.wait_until(lambda: is_fitted(person.viewer) and canvas.size[1] < 700)
    person.qtbot.wait(2 * LAYOUT_MS)
    assert canvas.size[1] / camera.zoom > np.ptp(layer.extent.world, axis=0)[-1]
    camera.zoom *= 5
    zoom = camera.zoom
    person.open("measure")
    person.qtbot.wait(2 * LAYOUT_MS)
    assert camera.zoom == zoom
