"""Times, positions and channels before Z, Y, X: each stack on its own, channels alike."""

import re
import time

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import Qt

from napari_dff import (
    Recipe,
    align,
    all_in_focus,
    depth_from_focus,
    focus_measure,
    resample,
    synthetic,
)
from napari_dff import refine as refine_
from napari_dff.depth import depth_map
from napari_dff.model.stack import FocalStack
from napari_dff.pipeline import driver as pipeline
from napari_dff.pipeline.preview import focus_curve
from napari_dff.pipeline.sinks import ArraySink
from napari_dff.widgets.app.axes import acquisition_of, parse_axes, parse_axis_labels
from napari_dff.widgets.app.layers import full_values, plugin_metadata
from napari_dff.widgets.app.preview import OFF, VIEW

AT = 10 + 2.0 * np.arange(8)
STILL = Recipe(registration="none")
PLACE = {
    "scale": (1.0, 1.0, 2.0, 0.5, 0.5),
    "translate": (0.0, 0.0, 10.0, 1.0, 2.0),
    "units": ("pixel",) * 2 + ("micrometer",) * 3,
}


@pytest.fixture(scope="module")
def series():
    """Two times, two channels: (T, C, Z, Y, X); the second channel is the better one."""
    truths = [synthetic.rough_surface(size=64, planes=8, seed=seed) for seed in (5, 6)]
    planes = np.stack([truth.stack.planes for truth in truths])
    return np.stack([(65535 - planes) // 3, planes], axis=1)


@pytest.fixture(scope="module")
def moving():
    """Two times, (T, Z, Y, X), in which the planes have moved."""
    truths = [synthetic.machined_part(size=80, planes=8, seed=seed) for seed in (4, 7)]
    return np.stack([truth.stack.planes[..., 1] for truth in truths])


@pytest.fixture
def source(person, series):
    return person.viewer.add_image(series, name="mine", axis_labels=tuple("tczyx"), **PLACE)


def stack(planes):
    return FocalStack(planes, AT, (0.5, 0.5), "micrometer")


def ready(widget, **settings):
    """A widget with its focus channel chosen."""
    if widget.axes.has_channel_choice:
        widget.axes.focus.value = 1
    for name, value in settings.items():
        widget.form.settings[name].value = value
    return widget


def edges(layer):
    """Where the first and last pixel of each axis begin and end."""
    half = layer.scale / 2
    return layer.translate - half, layer.translate + layer.scale * layer.data.shape - half


def seen(part, widget):
    return part.native.isVisibleTo(widget.native)


def test_every_time_gets_its_own_depth_and_all_channels_an_image_there(
    person, source, series, chosen_file, tmp_path
):
    steps = person.viewer.dims.nsteps
    widget = ready(person.open("all"), registration="none")
    person.run(widget)
    assert {"aligned", "focus"}.isdisjoint(person.roles())
    depth, doubt = person.layer("refined depth"), person.layer("refined uncertainty")
    labels, picture = person.layer("refined plane index"), person.layer("refined all in focus")
    assert depth.data.shape == doubt.data.shape == labels.data.shape == (2, 1, 1, 64, 64)
    assert picture.data.shape == (2, 2, 1, 64, 64)
    for t in range(2):
        alone = depth_from_focus(stack(series[t, 1]), STILL)
        np.testing.assert_array_equal(full_values(depth)[t, 0, 0], alone.refined.depth)
        np.testing.assert_array_equal(doubt.data[t, 0, 0], alone.refined.uncertainty)
        known = np.isfinite(alone.refined.uncertainty)
        expected = np.where(known, alone.refined.index + 1, 0)
        np.testing.assert_array_equal(labels.data[t, 0, 0], expected)
        np.testing.assert_array_equal(picture.data[t, 1, 0], alone.all_in_focus)
        known = {"uncertainty": alone.refined.uncertainty}
        other = all_in_focus(series[t, 0], alone.refined.depth, AT, **known)
        np.testing.assert_array_equal(picture.data[t, 0, 0], other)
    # They lie where the stack does, and are seen wherever the sliders stand.
    assert person.viewer.dims.nsteps == steps
    assert depth.units == source.units
    assert depth.axis_labels == source.axis_labels
    for mine, whole in zip(edges(depth), edges(source), strict=True):
        np.testing.assert_allclose(mine, whole)
    for at in ((0, 0, 0, 9, 7), (1, 1, 7, 30, 40), (1, 0, 3, 63, 63)):
        world = source.data_to_world(at)
        person.viewer.dims.set_point(range(5), world)
        assert depth.get_value(world, world=True) == depth.data[at[0], 0, 0, at[3], at[4]]
        assert picture.get_value(world, world=True) == picture.data[at[0], at[1], 0, at[3], at[4]]
    assert plugin_metadata(depth)["focus_channel"] == 1
    results = person.roles()
    check_tools_where_the_sliders_stand(person, chosen_file, tmp_path)
    tools = person.roles() - results
    widget.axes.focus.value = 0
    assert "another focus channel" in widget.freshness.value
    assert "--focus-channel 0" in widget.command()
    person.undo(widget)
    assert person.roles() == {"mine"} | tools


def check_tools_where_the_sliders_stand(person, chosen_file, tmp_path):
    """Check that depth is measured and shown for the time at the slider."""
    depth = person.layer("refined depth")
    measure, surface, figure = person.open("measure", "surface", "figure")
    measure.levelling.value = "none"
    for t in (0, 1):
        person.viewer.dims.set_current_step(0, t)
        person.run(measure)
        assert f"time {t + 1} of 2" in measure.status.value
        heights = measure.measurement.heights
        known = np.isfinite(heights.heights)
        np.testing.assert_array_equal(heights.heights[known], depth.data[t, 0, 0][known])
        channel = person.viewer.dims.current_step[1]
        picture = person.layer("refined all in focus").data[t, channel, 0]
        np.testing.assert_array_equal(heights.picture, picture)
    person.press(measure.keep)
    assert person.layer("levelled depth").data.shape == (64, 64)
    surface.input_layer.value = figure.input_layer.value = depth
    person.viewer.dims.set_current_step(0, 0)
    chosen_file.path = tmp_path / "figure.png"
    person.run(figure, figure.figure)
    assert chosen_file.path.exists()
    chosen_file.path = tmp_path / "movie.tif"
    person.run(figure, figure.movie)
    assert chosen_file.path.exists()
    person.run(surface)
    shown = person.layer("surface")
    z = [shown.data_to_world(vertex)[0] for vertex in shown.vertices]
    first = depth.data[0]
    assert np.nanmin(first) - 1e-4 <= min(z) <= max(z) <= np.nanmax(first) + 1e-4
    person.press(surface.back)


def test_depth_over_time_is_coherent_if_the_form_says_so(person):
    acquisition, _ = synthetic.moving_surface(64, 8, 2, photons=50)
    settings = {"axis_labels": tuple("tzyx"), "scale": (1, 2, 0.5, 0.5)}
    units = ("pixel", *["micrometer"] * 3)
    person.viewer.add_image(acquisition.data, name="mine", units=units, **settings)
    person.run(ready(person.open("all"), registration="none", coherence="previous"))
    expected = ArraySink(acquisition)
    pipeline.run(acquisition, Recipe(registration="none", coherence="previous"), expected)
    depth = person.values("refined depth")[:, 0]
    np.testing.assert_allclose(depth, expected.refined.depth, atol=1e-5)
    for widget in person.open("focus", "depth"):
        person.run(widget)
    person.run(ready(person.open("refine"), coherence="previous"))
    single_steps = person.values("refined depth")[:, 0]
    assert np.median(np.abs(single_steps - depth)) < 0.02
    alone = depth_from_focus(acquisition.stack(1), STILL).refined.depth
    assert np.abs(depth[1] - alone).mean() > 0.02


def test_the_single_steps_align_and_refine_every_time_on_its_own(person, moving):
    data = np.stack([255 - moving, moving], axis=1)
    source = person.viewer.add_image(data, name="mine", axis_labels=tuple("tczyx"), **PLACE)
    align_, focus, depth, refine = person.open("align", "focus", "depth", "refine")
    person.run(ready(align_))
    aligned = person.layer("aligned")
    assert aligned.axis_labels == source.axis_labels
    expected = [align(data[t, 1]) for t in range(2)]
    for t, alone in enumerate(expected):
        np.testing.assert_array_equal(aligned.data[t, 1], alone.planes)
        other, _ = resample(data[t, 0], alone.transforms)
        np.testing.assert_array_equal(aligned.data[t, 0], other)
        np.testing.assert_array_equal(
            plugin_metadata(aligned)["transforms"][t, 0], alone.transforms
        )
    person.viewer.dims.set_current_step(0, 0)
    assert align_.advice.value.startswith("Time 1 of 2: ")
    inliers = list(align_.report["inliers"])
    person.viewer.dims.set_current_step(0, 1)
    assert list(align_.report["inliers"]) != inliers
    assert list(align_.report["inliers"]) == [plane.inliers for plane in expected[1].report]
    matches = person.layer("matches").data
    assert matches.shape[1:] == (2, 5)
    assert set(matches[:, 0, 1]) == {1}
    assert len(matches) == sum(p.inliers for each in expected for p in each.report)

    assert focus.stack.value is aligned
    assert focus.axes.focus.value == 1  # it is known
    person.run(focus)
    person.run(depth)
    person.run(refine)
    assert person.layer("focus").data.shape == (2, 1, 8, 80, 80)
    for t, alone in enumerate(expected):
        volume = focus_measure(alone.planes)
        np.testing.assert_array_equal(person.layer("focus").data[t, 0], volume)
        mask = {"plane_mask": alone.plane_mask()}
        found = depth_map(volume, AT, **mask)
        np.testing.assert_array_equal(person.values("depth")[t, 0, 0], found.depth)
        np.testing.assert_array_equal(person.layer("uncertainty").data[t, 0, 0], found.uncertainty)
        known = {"uncertainty": found.uncertainty, **mask}
        picture = all_in_focus(alone.planes, found.depth, AT, **known)
        np.testing.assert_array_equal(person.layer("all in focus").data[t, 1, 0], picture)
        other = all_in_focus(np.asarray(aligned.data[t, 0]), found.depth, AT, **known)
        np.testing.assert_array_equal(person.layer("all in focus").data[t, 0, 0], other)
        guide = all_in_focus(alone.planes, found.depth, AT, fusion="noise_aware", **mask)
        refined = refine_(found, volume, AT, guide=guide, **mask).depth
        np.testing.assert_array_equal(person.values("refined depth")[t, 0, 0], refined)


def test_aligned_planes_that_do_not_fit_into_memory_are_lazy(person, moving, monkeypatch):
    look = {name: value[1:] for name, value in PLACE.items()}
    person.viewer.add_image(moving, name="mine", axis_labels=tuple("tzyx"), **look)
    monkeypatch.setattr("napari_dff.pipeline.sinks.MAX_ALIGNED_FRACTION", 0.0)
    widget = person.open("align")
    person.run(widget)
    aligned = person.layer("aligned")
    assert not isinstance(aligned.data, np.ndarray)
    for t in range(2):
        np.testing.assert_array_equal(np.asarray(aligned.data[t]), align(moving[t]).planes)
    single = person.viewer.add_image(moving[0], name="single", scale=(2, 0.5, 0.5))
    all_ = person.open("all")
    all_.stack.value = single
    person.run(all_)
    found = depth_from_focus(FocalStack(moving[0], 2.0 * np.arange(8)))
    lazy, depth = (person.viewer.layers[f"{name} · single"] for name in ("aligned", "depth"))
    assert not isinstance(lazy.data, np.ndarray)
    np.testing.assert_array_equal(np.asarray(lazy.data), found.stack.planes)
    np.testing.assert_array_equal(full_values(depth), found.refined.depth)


def test_the_forms_ask_for_axes_without_names(person, notifications, series):
    source = person.viewer.add_image(series, name="mine", **PLACE)
    widgets = person.open("all", "align", "focus")
    for widget in widgets:
        assert seen(widget.axes.names, widget)
        assert widget.axes.names.value == ""
        assert not seen(widget.axes.focus, widget)
        person.press(widget.run)
        assert (
            "name the 5 axes of 'mine' in their order, for example T C Z Y X" in notifications.pop()
        )
    focus = widgets[2]
    for text in ("T C Z", "Z T C Y X", "C C Z Y X", "T C X Y Z"):
        focus.axes.names.value = text
        assert "name the 5 axes" in focus.status.value
        person.press(focus.run)
        assert "name the 5 axes" in notifications.pop()
    focus.axes.names.value = "p c z y x"
    assert source.axis_labels == ("p", "c", "z", "y", "x")  # asked once for all
    assert widgets[0].axes.names.value == "P C Z Y X"
    assert seen(focus.axes.focus, focus)
    person.press(focus.run)
    assert "choose the focus channel of 'mine'" in notifications.pop()
    assert person.roles() == {"mine"}
    focus.axes.focus.value = 1
    person.run(focus)
    np.testing.assert_array_equal(person.layer("focus").data[1, 0], focus_measure(series[1, 1]))
    look = {"axis_labels": source.axis_labels, **PLACE}
    focus.stack.value = person.viewer.add_image(series, name="another", **look)
    assert focus.axes.focus.value is None  # that was of the other stack
    focus.stack.value = source
    assert focus.axes.focus.value == 1


def test_axis_labels_are_parsed_or_refused(person, series):
    assert parse_axis_labels(("t", "c", "z", "y", "x")) == ("t", "c")
    assert parse_axis_labels(("Time", "-3", "-2", "-1")) == ("time",)
    for labels in (("-4", "z", "y", "x"), ("axis 0", "-3", "-2", "-1"), ("z", "t", "y", "x")):
        assert parse_axis_labels(labels) is None
    layer = person.viewer.add_image(series[:, 0])
    assert parse_axes("tzyx", layer) == parse_axes("T, Z Y;X", layer) == ("t", "z", "y", "x")
    with pytest.raises(ValueError, match="name the 4 axes"):
        parse_axes("tcyx", layer)
    widget = person.open("focus")
    widget.axes.names.value = "stage z y x"
    person.run(widget)  # no channel: every place on its own
    np.testing.assert_array_equal(person.layer("focus").data[1], focus_measure(series[1, 0]))


def test_a_single_stack_shows_no_fields_for_axes(person, surface):
    person.stack(surface)
    for name in ("all", "align", "focus", "depth", "refine"):
        widget = person.open(name)
        assert not seen(widget.axes.names, widget)
        assert not seen(widget.axes.focus, widget)


def test_cancelling_adds_no_layers(person, source, monkeypatch):
    widget = ready(person.open("all"), registration="none")
    write_tiles = pipeline.write_tiles

    def write_slowly(stack, recipe, plan, sink, index, focus_channel, progress, **options):
        write_tiles(stack, recipe, plan, sink, index, focus_channel, progress, **options)
        for _ in progress(range(30), desc="Waiting"):
            time.sleep(0.02)

    monkeypatch.setattr(pipeline, "write_tiles", write_slowly)
    person.press(widget.run)
    words = "Waiting, time 2 of 2"  # the first is done by then
    person.wait_until(lambda: words in widget.status.value)
    person.press(widget.cancel)
    person.wait(widget)
    assert "cancelled" in widget.status.value
    assert person.roles() == {"mine"}


def test_the_preview_and_the_inspector_follow_the_sliders(person, source, series):
    widget, inspector = person.open("focus", "inspector")
    ready(widget).preview.value = VIEW

    def previewed():
        shown = [each for each in person.viewer.layers if each.name.startswith("preview focus")]
        return shown[0].data.copy() if shown and "preview of" in widget.status.value else None

    person.wait_until(lambda: previewed() is not None)
    for t in (1, 0):
        widget.status.value = ""
        person.viewer.dims.set_current_step(0, t)
        person.wait_until(lambda: previewed() is not None)
        person.wait_until(lambda: widget._preview._task is None)
        np.testing.assert_allclose(previewed(), focus_measure(series[t, 1]), rtol=1e-3, atol=1e-6)
    widget.preview.value = OFF
    person.viewer.dims.set_current_step(0, 1)
    person.viewer.dims.set_current_step(1, 1)
    inspector.inspect(source, (30, 40))
    person.wait_until(lambda: len(inspector.curves) == 1)
    person.wait(inspector)
    expected = focus_curve(stack(series[1, 1]), Recipe(), 30, 40)
    np.testing.assert_array_equal(inspector.curves[0][1].focus, expected.focus)
    np.testing.assert_array_equal(inspector.curves[0][1].positions, AT)
    assert person.viewer.dims.current_step[:3] == (1, 1, expected.plane)


def test_results_of_several_times_are_reused_for_as_many_times(person, series):
    look = {name: value[1:] for name, value in PLACE.items()}
    labels = {"axis_labels": tuple("tzyx"), **look}
    person.viewer.add_image(series[0, 0], name="single", units=("micrometer",) * 3)
    other = person.viewer.add_image(series[:, 0], name="other", **labels)
    person.viewer.add_image(series[:, 1], name="mine", **labels)
    person.run(ready(person.open("all"), registration="none"))
    widget = person.open("reuse")
    assert [each.name for each in widget.targets.choices] == ["other"]
    widget.targets.value = [other]
    person.run(widget)
    depth, picture = person.layer("refined depth"), person.viewer.layers["sharp image · other"]
    assert picture.data.shape == (2, 1, 64, 64)
    for t in range(2):
        known = {"uncertainty": person.layer("refined uncertainty").data[t, 0]}
        expected = all_in_focus(series[t, 0], full_values(depth)[t, 0], AT, **known)
        np.testing.assert_array_equal(picture.data[t, 0], expected)


def test_a_hint_changes_only_the_depth_of_its_time(person, source):
    focus, depth, refine = person.open("focus", "depth", "refine")
    person.run(ready(focus))
    person.run(depth)
    person.press(refine.hints.new)
    points = refine.hints.layer.value
    assert points.ndim == 5
    points.add([[1, 0, 6, 30, 30]])
    person.run(refine)
    found = person.values("refined depth")[:, 0, 0, 30, 30]
    assert found[1] == np.float32(AT[6])
    assert found[0] != np.float32(AT[6])


def test_positions_in_the_metadata_hold_until_the_scale_is_changed(surface):
    positions = np.concatenate([[0.0, 1.0], np.linspace(3.0, 22.0, 10)])
    told = {"napari-dff": {"positions": positions}}
    layer = Image(surface.stack.planes, scale=(2.0, 0.5, 0.5), metadata=told)
    np.testing.assert_array_equal(acquisition_of(layer).stack().positions, positions)
    layer.scale = (3.0, 0.5, 0.5)
    np.testing.assert_array_equal(acquisition_of(layer).stack().positions, 3.0 * np.arange(12))


def test_the_focus_offset_of_a_channel_is_estimated_shown_and_applied(person):
    depth, z = 6 + 8 * synthetic.relief((96, 96), smoothness=20), 2.0 * np.arange(9)
    textures = [synthetic.noise_texture((96, 96), seed=seed) for seed in (1, 2)]
    heights = depth, depth + 1.5
    planes = [
        synthetic.photograph(synthetic.render_opaque(t, at, z, defocus=0.9), photons=1500)
        for t, at in zip(textures, heights, strict=True)
    ]
    place = {name: values[1:] for name, values in PLACE.items()}
    both = person.viewer.add_image(np.stack(planes), name="mine", axis_labels="czyx", **place)
    widget = ready(person.open("all"), registration="none")
    assert seen(widget.focus_offset, widget)
    widget.axes.focus.value = 0
    assert "--focus-offset" not in widget.command()
    person.qtbot.keyClick(widget.focus_offset.native, Qt.Key.Key_Space)
    assert widget.focus_offset.value
    assert widget.command().endswith("--focus-offset auto")
    person.run(widget)
    words = re.match(r"Focus offset of channel 1: (\S+) ± (\S+) µm", widget.advice.value)
    assert abs(float(words[1]) - 1.5) < 3 * float(words[2]) < 0.2
    estimated = person.layer("refined all in focus").data[1, 0]

    place = {name: values[1:] for name, values in place.items()}
    green = person.viewer.add_image(planes[1], name="green", **place)
    reuse = person.open("reuse")
    reuse.input_layer.value = person.layer("refined depth")
    reuse.targets.value = [green]
    person.press(reuse.estimate)
    person.wait(reuse)
    assert reuse.status.value.startswith("focus offset of 'green': +1.")
    assert abs(reuse.offset.value - 1.5) < 0.1
    assert reuse.offset.native.suffix() == " µm"
    reuse.offset.value = float(words[1])
    person.run(reuse)
    image = person.viewer.layers["sharp image · green"].data
    assert np.abs(image.astype(float) - estimated).max() < 0.01 * np.ptp(estimated)
    assert both in person.viewer.layers
