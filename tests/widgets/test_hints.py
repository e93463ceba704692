"""Hints by clicked points and painted labels."""

import numpy as np
import pytest

from napari_dff import all_in_focus, focus_measure, synthetic
from napari_dff import refine as refine_
from napari_dff.depth import depth_map
from napari_dff.refinement import BACKGROUND, NO_HINT
from napari_dff.widgets.app.layers import full_values
from napari_dff.widgets.steps.hints import BACKGROUND_CHOICE, hints_of

SIZE = (0.5, 0.5)


@pytest.fixture(scope="module")
def bare():
    return synthetic.bare_patch(size=96, planes=10, seed=2)


@pytest.fixture
def ready(person, bare):
    source = person.stack(bare, scale=(2.0, *SIZE))
    focus, depth, refine = person.open("focus", "depth", "refine")
    person.run(focus)
    person.run(depth)
    return source, refine


def test_clicked_points_are_hard_constraints(person, ready, bare):
    source, widget = ready
    person.run(widget)
    person.show()
    before = person.values("refined depth").copy()
    person.press(widget.hints.new)
    points = widget.hints.layer.value
    assert points.mode == "add"
    person.viewer.dims.set_current_step(0, 7)
    person.qtbot.wait(50)
    person.click(source, 30, 30)
    widget.hints.new_points.value = BACKGROUND_CHOICE
    person.click(source, 70, 66)
    assert len(points.data) == 2
    assert list(points.features["background"]) == [False, True]
    assert list(points.text.values) == ["plane 7", "background"]
    assert not person.layer("depth").visible  # the plane is seen, the points lie on top
    assert person.viewer.layers[-1] is points
    hints = hints_of(points, source)
    places = np.argwhere(hints == 7)
    assert np.abs(places - 30).max() <= 3
    assert np.abs(np.argwhere(hints == BACKGROUND) - (70, 66)).max() <= 3
    assert "has changed" not in widget.freshness.value  # the result has no hints

    person.run(widget)
    assert person.viewer.layers[-1] is points
    depth, doubt = person.layer("refined depth"), person.layer("refined uncertainty")
    labels = person.layer("refined plane index").data
    assert (depth.data[hints == 7] == np.float32(10 + 2 * 7)).all()
    assert (labels[hints == 7] == 8).all()
    assert np.isinf(doubt.data[hints == BACKGROUND]).all()
    assert (labels[hints == BACKGROUND] == 0).all()
    volume, at = focus_measure(bare.stack.planes), 10 + 2.0 * np.arange(10)
    found = depth_map(volume, at)
    guide = all_in_focus(bare.stack.planes, found.depth, at, fusion="noise_aware")
    expected = refine_(found, volume, at, guide=guide, hints=hints).depth
    # Only the part around the hints is solved again.
    error = np.abs(full_values(depth) - expected) / 2.0
    assert np.percentile(error, 99) < 0.05
    assert not np.array_equal(full_values(depth), before)
    points.selected_data = {0, 1}
    points.remove_selected()
    assert "'hints' has changed since" in widget.freshness.value
    person.run(widget)
    assert np.percentile(np.abs(full_values(depth) - before) / 2.0, 99) < 0.05


def test_labels_are_hints_for_their_plane_and_those_that_do_not_fit_an_error(
    person, notifications, ready
):
    source, widget = ready
    labels = person.viewer.add_labels(np.ones((4, 4), np.uint8))
    widget.hints.layer.value = labels
    person.press(widget.run)
    assert "must cover the stack, (10, 96, 96), got shape (4, 4)" in notifications[-1]
    flat = person.viewer.add_points(np.array([[1.0, 2.0]]))
    widget.hints.layer.value = flat
    person.press(widget.run)
    assert "must have points with Z, Y, X" in notifications[-1]
    assert not any("refined" in role for role in person.roles())

    look = {"scale": source.scale, "translate": source.translate, "units": source.units}
    labels = person.viewer.add_labels(np.zeros((10, 96, 96), np.uint8), name="known", **look)
    labels.data[4, 20:30, 20:30] = 1
    labels.data[2, 60:70, 60:70] = 2
    labels.refresh()
    widget.hints.layer.value = labels
    hints = hints_of(labels, source)
    assert (hints[20:30, 20:30] == 4).all()
    assert (hints[60:70, 60:70] == BACKGROUND).all()
    assert (hints == NO_HINT).sum() == 96 * 96 - 200
    person.run(widget)
    assert (person.values("refined depth")[20:30, 20:30] == np.float32(18)).all()
    assert np.isinf(person.layer("refined uncertainty").data[60:70, 60:70]).all()
