"""Tools for depth layers: 3-D surface, measurements, figures, and reuse for other stacks."""

import csv

import numpy as np
import pytest
import tifffile
import trimesh
from PIL import Image
from qtpy.QtCore import QPoint, Qt

from napari_dff import all_in_focus, project_slab, resample, synthetic
from napari_dff.io.writers import figure as figures
from napari_dff.runtime.windows import Window
from napari_dff.surface import level, profile, roughness, step_height
from napari_dff.widgets.app.dock import LAYOUT_MS
from napari_dff.widgets.app.layers import full_values
from napari_dff.widgets.tools.measurements import MeasurementInput
from napari_dff.widgets.tools.tool import Heights

SIZE = (0.5, 0.5)


@pytest.fixture(scope="module")
def drifting():
    return synthetic.machined_part(size=112, planes=9, seed=4)


@pytest.fixture
def scene(person, surface, kept_layers):
    """A stack with its refined depth, computed once."""
    if not kept_layers:
        person.stack(surface, scale=(2.0, *SIZE))
        widget = person.open("all")
        widget.form.settings["registration"].value = "none"
        person.run(widget)
        kept_layers.update({layer: layer.visible for layer in person.viewer.layers})
    depth = person.layer("refined depth")
    person.viewer.layers.selection.active = depth
    return depth


def heights_and_uncertainty(person):
    doubt = person.layer("refined uncertainty").data
    heights = np.where(np.isfinite(doubt), person.values("refined depth"), np.nan)
    return heights.astype(np.float32), doubt


def cells(table):
    return dict(zip(table["what"], table["value"], strict=True))


# 3-D -------------------------------------------------------------------------------------------


def test_the_surface_has_the_place_of_the_depth_and_is_exaggerated_and_draped(person, scene):
    widget = person.open("surface")
    person.run(widget)
    shown = person.layer("surface")
    assert person.viewer.dims.ndisplay == 3
    heights, _ = heights_and_uncertainty(person)
    z, y, x = (shown.vertices * shown.scale + (shown.translate[0], 0, 0)).T
    assert np.nanmin(heights) <= z.min() <= z.max() <= np.nanmax(heights)
    rows, columns = (y / SIZE[0]).round().astype(int), (x / SIZE[1]).round().astype(int)
    np.testing.assert_allclose(z, heights[rows, columns], rtol=1e-5)
    np.testing.assert_allclose(shown.translate[1:], scene.translate)
    assert shown.units == person.viewer.layers["mine"].units
    assert not person.layer("refined depth").visible
    assert shown.texture.dtype == np.uint8
    widget.exaggeration.value = 4.0
    middle = np.median(z)
    world = shown.data_to_world((shown.vertices[:, 0].max(), 0, 0))[0]
    assert world == pytest.approx(middle + 4 * (z.max() - middle), rel=1e-5)
    assert person.layer("surface").shading == "smooth"
    angles = person.viewer.scene.camera.angles
    person.qtbot.keyClick(widget.drape.native, Qt.Key.Key_Space)
    person.wait(widget)
    person.wait_until(lambda: person.layer("surface").texture is None)
    assert person.layer("surface").colorbar.visible
    assert person.viewer.scene.camera.angles == angles
    texts = list(person.layer("axes").features["text"])
    assert texts[-1].endswith(" µm")
    person.press(widget.back)
    assert person.viewer.dims.ndisplay == 2
    assert person.layer("refined depth").visible


def test_the_surface_is_seen_from_above_and_not_mirrored_for_every_camera_orientation(
    person, scene
):
    person.show()
    widget, camera = person.open("surface"), person.viewer.scene.camera
    visuals = person.viewer.window._qt_viewer.canvas.layer_to_visual
    slider = person.viewer.dims.range[0], person.viewer.dims.current_step[0]

    def on_canvas(layer, *points):  # x and y on the canvas, y down, of x, y, z in the layer
        to_canvas = visuals[layer].node.get_transform("visual", "canvas")
        mapped = to_canvas.map(np.array(points, float))
        return mapped[:, :2] / mapped[:, 3:]

    for orientation in (("towards", "down", "right"), ("away", "up", "right")):
        camera.orientation = orientation
        origin, right, down = on_canvas(scene, (0, 0, 0), (1, 0, 0), (0, 1, 0))
        expected = np.sign(np.linalg.det([right - origin, down - origin]))
        person.run(widget)
        corners = (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)
        origin, right, down, higher = on_canvas(person.layer("surface"), *corners)
        assert np.sign(np.linalg.det([right - origin, down - origin])) == expected
        assert higher[1] < origin[1]
        assert camera.view_direction[0] < 0
        person.press(widget.back)
        assert tuple(map(str, camera.orientation)) == orientation
    assert (person.viewer.dims.range[0], person.viewer.dims.current_step[0]) == slider


def test_a_mesh_is_exported_in_micrometers(person, notifications, scene, chosen_file, tmp_path):
    widget = person.open("surface")
    widget.exaggeration.value = 5.0  # only in the view
    widget.faces.value = 500
    heights, _ = heights_and_uncertainty(person)
    for name in ("part.stl", "part.ply", "part"):  # without a suffix the first kind is meant
        chosen_file.path = tmp_path / name
        person.run(widget, widget.export)
        path = tmp_path / name if "." in name else tmp_path / "part.ply"
        mesh = trimesh.load(path, process=False)
        assert len(mesh.faces) <= 500
        low, high = mesh.bounds
        assert np.nanmin(heights) <= low[2] < high[2] <= np.nanmax(heights)
        assert high[0] - low[0] == pytest.approx(96 * SIZE[1], rel=0.15)
    chosen_file.path = tmp_path / "draped.obj"
    person.run(widget, widget.export)
    assert (tmp_path / "draped.png").exists()
    before = len(list(tmp_path.iterdir()))
    chosen_file.path = tmp_path / "part.xyz"
    person.run(widget, widget.export)
    assert "must end in .ply, .obj, .stl" in notifications[0]
    assert len(list(tmp_path.iterdir())) == before


# Measuring -------------------------------------------------------------------------------------


def test_the_height_under_the_cursor_and_the_profile_of_a_drawn_line_are_shown_and_saved(
    person, scene, chosen_file, tmp_path
):
    person.show()
    widget = person.open("measure")
    person.qtbot.wait(50)
    canvas, at = person.canvas_position(scene, 40, 50)
    person.qtbot.mouseMove(canvas, at - QPoint(9, 9))
    person.qtbot.mouseMove(canvas, at)

    def shown():
        words = widget.cursor.value.replace(",", " ").replace(":", " ").split()
        return (int(words[3]), int(words[5]), float(words[6])) if "row" in words else (0, 0, 0)

    person.wait_until(lambda: np.allclose(shown()[:2], (40, 50), atol=1))
    row, column, height = shown()
    assert height == pytest.approx(scene.data[row, column], rel=1e-3)
    assert "±" in widget.cursor.value
    assert "µm" in widget.cursor.value

    widget.measure.value = "profile"
    person.press(widget.draw)
    person.qtbot.wait(2 * LAYOUT_MS)
    person.drag(scene, (20, 15), (70, 80))
    shapes = widget.shapes.value
    assert len(shapes.data) == 1
    person.run(widget)
    heights, doubt = heights_and_uncertainty(person)
    expected = profile(heights, shapes.data[0], SIZE, uncertainty=doubt)
    np.testing.assert_allclose(widget.measurement.profile.height, expected.height)
    assert widget.plot.axes[0].get_title(loc="left") == "levelling: none"
    x, y = widget.plot.axes[0].get_lines()[0].get_data()
    np.testing.assert_allclose(x, expected.distance)
    np.testing.assert_allclose(y, expected.height)
    chosen_file.path = tmp_path / "profile.csv"
    person.press(widget.save)
    with chosen_file.path.open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0][:2] == ["distance (µm)", "height (µm)"]
    assert rows[0][-1] == "levelling"
    assert len(rows) == 1 + len(expected.distance)

    # The profile follows its line while it is dragged.
    widget.levelling.value = "plane"
    shapes.mode, before = "select", widget.measurement
    canvas, at = person.canvas_position(scene, 45, 47.5)
    person.qtbot.mouseMove(canvas, at)
    person.qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=at)
    for column in (60, 75, 90):
        person.qtbot.mouseMove(canvas, person.canvas_position(scene, 45, column)[1])
        person.qtbot.wait(30)
    # The button is still pressed.
    person.wait_until(lambda: widget.measurement.profile.points[0, 1] > 55)
    assert widget.measurement is not before
    assert widget.measurement.levelling == "plane"
    person.qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton)


def test_heights_saved_as_x3p_open_as_heights_that_can_be_measured(person, chosen_file, scene):
    widget = person.open("measure")
    widget.levelling.value = "plane"
    person.run(widget)
    before = widget.measurement
    chosen_file.path = chosen_file.path.with_name("part.x3p")
    person.press(widget.save)
    person.viewer.open(chosen_file.path, plugin="napari-dff")
    layer = person.viewer.layers[-1]
    assert layer.name == "heights · part"
    assert widget.input_layer.value is layer
    np.testing.assert_allclose(layer.data, before.levelled, atol=1e-5)
    widget.levelling.value = "none"
    person.run(widget)
    assert widget.measurement.heights.layer is layer
    assert widget.measurement.heights.uncertainty is None
    for old, new in zip(before.quantities, widget.measurement.quantities, strict=True):
        assert new.value == pytest.approx(old.value, rel=1e-4), new.name
        assert new.unit == old.unit


def test_noise_and_flatness_of_repeats_are_measured(person, notifications, scene):
    data, source = scene.data, scene.metadata["napari-dff"]
    noise = np.random.default_rng(0).normal(0, 0.1, data.shape).astype(np.float32)
    place = {"scale": scene.scale, "units": scene.units}
    metadata = {"napari-dff": {**source, "source": "another stack"}}
    person.viewer.add_image(data + noise, name="second", metadata=metadata, **place)
    widget = person.open("measure")
    widget.input_layer.value = scene
    widget.measure.value = "repeats"
    assert widget.others.native.isVisibleTo(widget.native)
    person.press(widget.run)
    person.wait(widget)
    assert "repeats need at least two" in notifications.pop()
    widget.others.value = [person.viewer.layers["second"]]
    person.run(widget)
    result = {q.name: q.value for q in widget.measurement.quantities}
    assert result["noise"] == pytest.approx(noise.std() / np.sqrt(2), rel=0.01)
    assert widget.table.value["data"][0][:2] == ["noise", f"{result['noise']:.4g}"]
    person.press(widget.keep)
    mean = level(data + noise / 2).heights
    np.testing.assert_allclose(person.layer("levelled depth").data, mean, atol=1e-4)


def test_the_difference_of_two_depth_layers_is_measured(
    person, notifications, scene, chosen_file, tmp_path
):
    widget = person.open("measure")
    person.press(widget.run)
    person.wait_until(lambda: widget.measurement is not None)
    person.press(widget.keep)
    widget.input_layer.value = person.layer("levelled depth")
    widget.measure.value = "difference"
    person.press(widget.run)
    assert "no reference" in notifications.pop()
    widget.reference.value = scene
    person.run(widget)
    result = {q.name: q.value for q in widget.measurement.quantities}
    assert result["Sq"] == pytest.approx(0, abs=1e-4)
    assert result["shift y"] == pytest.approx(0, abs=1e-3)
    assert result["within 2 σ"] == 100
    assert (
        sum(patch.get_height() for patch in widget.plot.axes[0].patches)
        == np.isfinite(widget.measurement.levelled).sum()
    )
    chosen_file.path = tmp_path / "difference.png"
    person.press(widget.save)
    assert chosen_file.path.read_bytes()[:4] == b"\x89PNG"


def test_the_roughness_of_a_drawn_area_is_measured_and_levelled_heights_kept(person, scene):
    person.show()
    widget = person.open("measure")
    person.press(widget.draw)
    person.qtbot.wait(2 * LAYOUT_MS)
    person.drag(scene, (20, 20), (70, 60))
    widget.levelling.value = "polynomial"
    widget.degree.value = 3
    person.run(widget)
    heights, _ = heights_and_uncertainty(person)
    (corners,) = widget.shapes.value.data
    rows, columns = np.indices(heights.shape)
    low, high = corners.min(axis=0), corners.max(axis=0)
    where = (rows >= low[0]) & (rows <= high[0]) & (columns >= low[1]) & (columns <= high[1])
    flat = level(heights, levelling="polynomial", degree=3, where=where).heights
    sa = next(q for q in roughness(flat, SIZE, where=where) if q.name == "Sa").value
    found = {q.name: q for q in widget.measurement.quantities}
    assert found["Sa"].value == pytest.approx(sa, rel=0.02)
    assert found["Sa"].unit == "µm"
    assert found["Sa"].uncertainty > 0
    assert {"Sq", "Sz", "Ssk", "Sku", "Sdr"} <= set(widget.table["what"])
    person.press(widget.keep)
    assert person.layer("levelled depth").data.shape == scene.data.shape
    np.testing.assert_allclose(person.layer("levelled depth").data, widget.measurement.levelled)


def test_filters_are_applied_to_roughness_and_profiles_and_named(person, scene):
    widget = person.open("measure")
    assert widget.s_filter.value == 0
    widget.l_filter.value = 20.0
    person.run(widget)
    heights, doubt = heights_and_uncertainty(person)
    expected = roughness(heights, SIZE, uncertainty=doubt, l_filter=20.0)
    for quantity, other in zip(widget.measurement.quantities, expected, strict=False):
        assert quantity.value == pytest.approx(other.value, rel=1e-3)
        assert quantity.uncertainty == pytest.approx(other.uncertainty, rel=0.01)
    assert widget.measurement.levelling == "none, L-filter 20"
    widget.filter_type.value = "spline"
    person.run(widget)
    assert widget.measurement.levelling == "none, L-filter 20, splines"
    expected = roughness(heights, SIZE, l_filter=20.0, filter_type="spline")
    assert widget.measurement.quantities[1].value == pytest.approx(expected[1].value, rel=1e-3)
    widget.measure.value = "profile"
    person.press(widget.draw)
    widget.shapes.value.add([[40, 5], [40, 90]], shape_type="line")
    person.run(widget)
    assert {"length", "Ra", "Rq", "Rz", "Rt", "Rsk"} == set(widget.table["what"])
    assert abs(np.nanmean(widget.measurement.profile.height)) < 1
    widget.measure.value = "volume"
    assert not widget.l_filter.visible


def test_the_form_is_fitted_to_the_heights_after_the_s_filter():
    y, x = np.mgrid[:60, :90]
    ripple = np.cos(2 * np.pi * x / 6)
    heights = Heights(None, 0.1 * y + 3 + ripple, None, None, (1.0, 1.0), "micrometer", (), "")
    levelling = {"levelling": "three_points", "degree": 2, "points": [(9, 12), (9, 72), (50, 36)]}
    filters = {"s_filter": 15.0, "l_filter": None, "filter_type": "spline"}
    inputs = MeasurementInput(heights, [], [], levelling, 1, 0.0, filters)
    flat = inputs.levelled_after_s_filter()
    assert inputs.levelled().mean() == pytest.approx(-0.5, abs=0.2)  # a plane through crests
    np.testing.assert_allclose(flat, ripple, atol=0.04)


def test_step_height_and_volume_of_drawn_areas(person, scene):
    widget = person.open("measure")
    assert widget.levelling.value == "none"  # unless the user chooses one
    widget.measure.value = "step height"
    person.press(widget.draw)
    box = np.array([[10, 10], [10, 40], [40, 40], [40, 10]])
    boxes = [box, box + np.array([0, 45])]
    widget.shapes.value.add(boxes, shape_type="rectangle")
    assert list(widget.shapes.value.text.values) == ["1", "2"]
    person.run(widget)
    heights, doubt = heights_and_uncertainty(person)
    from skimage.draw import polygon2mask

    first, second = (polygon2mask(heights.shape, box) for box in boxes)
    expected = step_height(heights, first, second, SIZE, uncertainty=doubt)[0]
    assert widget.measurement.quantities[0].value == pytest.approx(expected.value)
    assert float(cells(widget.table)["step height"]) == pytest.approx(expected.value, rel=1e-3)
    widget.measure.value = "volume"
    widget.levelling.value = "none"
    widget.level.value = 20.0
    person.run(widget)
    both = (first | second) & (heights > 20)
    above = next(q for q in widget.measurement.quantities if q.name == "volume above")
    assert above.value == pytest.approx((heights[both] - 20).sum() * 0.25, rel=1e-3)
    assert above.unit == "µm³"


def test_an_ellipse_in_another_unit_covers_the_right_pixels(person, surface):
    from napari_dff.widgets.tools.tool import drawn_areas

    place = {"scale": SIZE, "translate": (1.0, 2.0), "units": ("micrometer",) * 2}
    scene = person.viewer.add_image(surface.depth, **place)
    shapes = person.viewer.add_shapes(ndim=2, units=scene.units)  # in micrometers
    middle = scene.data_to_world((48, 48))
    radii = np.array([6.0, 15.0])
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * radii
    shapes.add(corners @ turn.T + middle, shape_type="ellipse")
    (mask,) = drawn_areas(shapes, scene)
    pixels = np.moveaxis(np.indices(scene.data.shape), 0, -1).reshape(-1, 2)
    world = pixels * np.array(scene.scale) + scene.translate
    inside = (((world - middle) @ turn / radii) ** 2).sum(axis=1) <= 1
    assert (mask.ravel() != inside).mean() < 0.005


def test_heights_are_levelled_by_three_points_and_a_missing_drawing_is_an_error(
    person, notifications, scene
):
    widget = person.open("measure")
    places = np.array([[10.0, 10.0], [80.0, 20.0], [40.0, 85.0]])
    person.viewer.add_points(places, scale=SIZE, translate=scene.translate, units=scene.units)
    widget.levelling.value = "three_points"
    widget.plane_points.value = person.viewer.layers[-1]
    person.run(widget)
    flat = level(
        heights_and_uncertainty(person)[0], levelling="three_points", points=places
    ).heights
    np.testing.assert_allclose(widget.measurement.levelled, flat, atol=1e-4)

    for what, words in (("profile", "no line"), ("step height", "needs two areas, got 0")):
        widget.measure.value = what
        person.press(widget.run)
        assert words in notifications[-1]


def test_without_a_depth_layer_the_error_names_the_step_to_run(person, notifications, surface):
    measure, three, figure = person.open("measure", "surface", "figure")
    buttons = measure.run, three.run, three.export, figure.play, figure.figure, figure.report
    for button in buttons:
        person.press(button)
        assert "no depth layer: run" in notifications.pop()
    person.stack(surface)
    reuse, project = person.open("reuse", "project")
    for widget in (reuse, project):
        person.press(widget.run)
        assert "nothing to use yet" in notifications.pop()
    project.low.value = 1.0  # the slab ends first
    person.press(project.run)
    assert len(notifications) == 1


# Figure and movie --------------------------------------------------------------------------------


def test_a_figure_and_a_report_are_saved(person, scene, chosen_file, tmp_path):
    measure, widget = person.open("measure", "figure")
    person.press(measure.draw)
    measure.shapes.value.add([[10, 10], [80, 70]], shape_type="line")
    widget.line.value = measure.shapes.value
    (tmp_path / "figures").mkdir()
    chosen_file.path = tmp_path / "figures" / "figure.png"
    person.run(widget, widget.figure)
    assert chosen_file.proposal == str(tmp_path / "figure.png")
    picture = np.asarray(Image.open(chosen_file.path))
    assert abs(picture.shape[1] - 2100) < 5  # 7 inches at 300 dots
    assert picture.std() > 10
    chosen_file.path = tmp_path / "figure.svg"
    person.run(widget, widget.figure)
    assert chosen_file.proposal == str(tmp_path / "figures" / "figure.png")  # the last folder
    text = chosen_file.path.read_text(encoding="utf-8")
    assert "depth (µm)" in text
    assert "distance (µm)" in text
    assert ">5 µm<" in text  # the scale bar

    chosen_file.path = tmp_path / "report.html"
    person.run(widget, widget.report)
    assert chosen_file.proposal == str(tmp_path / "report.html")
    assert widget.status.value == f"saved as {chosen_file.path}"
    text = chosen_file.path.read_text(encoding="utf-8")
    heights, doubt = heights_and_uncertainty(person)
    for quantity in roughness(level(heights).heights, SIZE, uncertainty=doubt)[:3]:
        assert f"<td>{quantity.value:.4g}</td><td>{quantity.uncertainty:.2g}</td>" in text
    assert text.count("data:image/png") == 3
    assert "<td>none</td>" in text  # the registration of the recipe
    assert "SHA-256" not in text  # no files
    chosen_file.path = tmp_path / "report.pdf"
    person.run(widget, widget.report)
    assert chosen_file.path.read_bytes().startswith(b"%PDF")


def test_the_movie_has_every_plane_beside_the_all_in_focus_image(
    person, scene, chosen_file, tmp_path, monkeypatch
):
    widget = person.open("figure")
    chosen_file.path = tmp_path / "movie.tif"
    write, while_writing = figures.write_movie, []

    def watched_write(*arguments):
        write(*arguments)
        while_writing.append(widget.status.value)

    monkeypatch.setattr(figures, "write_movie", watched_write)
    person.run(widget, widget.movie)
    assert while_writing == ["working…"]
    assert widget.status.value == f"saved as {chosen_file.path}"
    frames = tifffile.imread(chosen_file.path)
    assert frames.shape == (12, 96, 192, 3)
    right = frames[:, 40:, 96:]
    assert (right == right[0]).all()
    planes = person.viewer.layers["mine"].data[:, 40:].astype(float)
    for left, plane in zip(frames[:, 40:, :96, 0].astype(float), planes, strict=True):
        assert np.corrcoef(left.ravel(), plane.ravel())[0, 1] > 0.97


def test_play_shows_the_planes_in_turn_beside_the_all_in_focus_image(person, scene):
    widget = person.open("figure")
    start = person.viewer.dims.current_step[0]
    person.press(widget.play)
    person.wait_until(lambda: person.viewer.dims.current_step[0] != start)
    visible = {each.name for each in person.viewer.layers if each.visible}
    assert visible == {"mine", "sharp image"}
    person.press(widget.play)
    assert not person.viewer.canvas.grid.enabled
    assert person.layer("refined depth").visible


# Elsewhere ---------------------------------------------------------------------------------------


def test_alignment_and_depth_are_applied_to_other_channels_and_times(person, drifting):
    grey = drifting.stack.planes[..., 1]
    source = person.stack(drifting, data=grey, scale=(2.0, *SIZE))
    all_ = person.open("all")
    person.run(all_)
    other = np.ascontiguousarray(drifting.stack.planes[..., 0])
    look = {"scale": source.scale, "translate": source.translate, "units": source.units}
    red = person.viewer.add_image(other, name="red", **look)
    time = np.stack([other, other[:, ::-1].copy()])
    person.viewer.add_image(time, name="time", scale=(1, 2, *SIZE), units=source.units[:1] * 4)
    transforms = person.layer("aligned").metadata["napari-dff"]["transforms"]
    moved, _ = resample(other, transforms)

    widget = person.open("reuse")
    assert {each.name for each in widget.targets.choices} == {"red", "time"}
    widget.input_layer.value = person.layer("aligned")
    widget.targets.value = [red]
    person.run(widget)
    np.testing.assert_array_equal(person.viewer.layers["aligned · red"].data, moved)

    depth = person.layer("refined depth")
    widget.input_layer.value = depth
    widget.targets.value = [red, person.viewer.layers["time"]]
    person.run(widget)
    at = 10 + 2.0 * np.arange(9)
    known = {"uncertainty": person.layer("refined uncertainty").data}
    expected = all_in_focus(moved, full_values(depth), at, **known)
    found = person.viewer.layers["sharp image · red"]
    np.testing.assert_array_equal(found.data, expected)
    np.testing.assert_allclose(found.scale, SIZE)
    both = person.viewer.layers["sharp image · time"]
    assert both.data.shape == (2, 1, 112, 112)
    np.testing.assert_array_equal(both.data[0, 0], expected)
    assert not np.array_equal(both.data[1, 0], expected)
    person.undo(widget)
    assert "sharp image · red" not in person.viewer.layers
    widget.input_layer.value = person.viewer.layers["aligned · red"]
    time_ = person.viewer.layers["time"]
    widget.targets.value = [time_]
    person.run(widget)
    np.testing.assert_array_equal(person.viewer.layers["aligned · time"].data[0], moved)


def test_a_cropped_result_is_applied_to_whole_planes_in_its_place_and_in_their_colour(
    person, drifting
):
    grey = drifting.stack.planes[..., 1]
    source = person.stack(drifting, data=grey, scale=(2.0, *SIZE))
    all_ = person.open("all")
    all_.form.settings["crop"].value = "common"
    person.run(all_)
    look = {"scale": source.scale, "translate": source.translate, "units": source.units}
    other = np.ascontiguousarray(drifting.stack.planes[..., 0])
    red = person.viewer.add_image(other, name="red", colormap="red", **look)
    person.viewer.add_image(other[:, :-1], name="smaller", **look)
    aligned, depth = person.layer("aligned"), person.layer("refined depth")
    metadata = depth.metadata["napari-dff"]
    window = Window(*metadata["window"])
    whole, _ = resample(other, metadata["transforms"])
    moved = whole[:, window.top : window.bottom, window.left : window.right]

    widget = person.open("reuse")
    for used, name in ((aligned, "aligned · red"), (depth, "sharp image · red")):
        widget.input_layer.value = used
        assert [each.name for each in widget.targets.choices] == ["red"]
        widget.targets.value = [red]
        person.run(widget)
        found = person.viewer.layers[name]
        assert found.colormap.name == "red"
        last = slice(-found.ndim, None)
        np.testing.assert_allclose(found.translate, used.translate[last])
        np.testing.assert_allclose(found.scale, used.scale[last])
        if used is aligned:
            np.testing.assert_array_equal(found.data, moved)
    known = {"uncertainty": person.layer("refined uncertainty").data}
    z = 10 + 2.0 * np.arange(9)
    expected = all_in_focus(moved, full_values(depth), z, **known)
    np.testing.assert_array_equal(found.data, expected)

    widget = person.open("project")
    widget.targets.value = [red]
    with pytest.warns(UserWarning, match="leaves the stack"):
        expected = project_slab(moved, full_values(depth), z, slab=(-2, 2))
    widget.preview.value = "what is in view"
    person.wait_until(lambda: "preview projection" in person.roles())
    preview = np.zeros(other.shape[1:], other.dtype)
    preview[window.slices] = expected
    layer = person.layer("preview projection")
    top, left = np.rint((layer.translate - source.translate[1:]) / SIZE).astype(int)
    height, width = layer.data.shape
    np.testing.assert_array_equal(layer.data, preview[top : top + height, left : left + width])
    person.run(widget)
    found = person.viewer.layers["maximum projection · red"]
    np.testing.assert_array_equal(found.data, expected)
    np.testing.assert_allclose(found.translate, depth.translate[-2:])


# Slab projection -------------------------------------------------------------------------------


def test_a_slab_is_previewed_and_projected_for_the_stack_and_for_other_channels_and_times(
    person, surface
):
    source = person.stack(surface, scale=(2.0, *SIZE))
    look = {"translate": source.translate, "units": source.units, "scale": source.scale}
    other = np.ascontiguousarray(surface.stack.planes[:, ::-1])
    person.viewer.add_image(other, name="red", **look)
    series = {
        "scale": (1, *source.scale),
        "translate": (0, *source.translate),
        "units": ("pixel", *source.units),
        "axis_labels": ("t", "z", "y", "x"),
    }
    person.viewer.add_image(np.stack([other, surface.stack.planes]), name="time", **series)
    all_ = person.open("all")
    all_.stack.value = source
    all_.form.settings["registration"].value = "none"
    person.run(all_)

    widget = person.open("project")
    assert {each.name for each in widget.targets.choices} == {"mine", "red", "time"}
    assert [each.name for each in widget.targets.value] == ["mine"]
    assert (widget.low.value, widget.high.value) == (-2.0, 2.0)
    assert widget.low.native.suffix() == " µm"
    widget.low.value = -1.3
    depth, z = full_values(person.layer("refined depth")), 10 + 2.0 * np.arange(12)
    expected = project_slab(surface.stack.planes, depth, z, slab=(-1.3, 2.0))
    widget.preview.value = "what is in view"
    person.wait_until(lambda: "preview projection" in person.roles())
    preview = person.layer("preview projection")
    top, left = np.rint((preview.translate - source.translate[1:]) / SIZE).astype(int)
    height, width = preview.data.shape
    part = expected[top : top + height, left : left + width]
    np.testing.assert_array_equal(preview.data, part)

    widget.targets.value = [source, person.viewer.layers["time"]]
    person.run(widget)
    assert not preview.visible
    found = person.viewer.layers["maximum projection · mine"]
    np.testing.assert_array_equal(found.data, expected)
    np.testing.assert_allclose(found.scale, SIZE)
    both = person.viewer.layers["maximum projection · time"]
    assert both.data.shape == (2, 1, 96, 96)
    np.testing.assert_array_equal(both.data[1, 0], expected)
    person.undo(widget)
    assert "maximum projection · mine" not in person.viewer.layers

    widget.method.value, widget.slabs.value, widget.distance.value = "sum", 3, 1.5
    person.run(widget)
    settings = {"slab": (-1.3, 2.0), "offsets": (-1.5, 0, 1.5), "method": "sum"}
    found = person.viewer.layers["sum projection · mine"]
    with pytest.warns(UserWarning, match="leaves the stack"):
        expected = project_slab(surface.stack.planes, depth, z, **settings)
    np.testing.assert_array_equal(found.data, expected)
    np.testing.assert_allclose((found.scale[0], found.translate[0]), (1.5, -1.5))
    assert -1.5 <= person.viewer.dims.point[-3] <= 1.5
    both = person.viewer.layers["sum projection · time"]
    assert both.data.shape == (2, 3, 96, 96)
    assert "the slab leaves the stack at" in widget.advice.value
