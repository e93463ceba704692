"""All widgets in a real viewer, through the manifest, as a person would use them."""

import dataclasses
import time

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_dff import Recipe, align, all_in_focus, depth_from_focus, depth_map, focus_measure
from napari_dff import refine as refine_
from napari_dff.stack import FocalStack

pytest.importorskip("napari")
STEPS = (
    "Align",
    "Focus measure",
    "Depth and all-in-focus",
    "Refine",
    "Depth from focus, all steps",
)


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def said(monkeypatch):
    """What napari's notification shows."""
    messages = []
    for module in ("step", "worker"):
        monkeypatch.setattr(f"napari_dff.widgets.{module}.show_error", messages.append)
    return messages


def small(truth, **settings):
    """A stack layer's data and settings."""
    look = {
        "name": "mine",
        "scale": (2.0, 0.5, 0.25),
        "translate": (10.0, 1.0, 2.0),
        "units": ("micrometer",) * 3,
        "axis_labels": ("z", "y", "x"),
    }
    return {"data": truth.stack.planes, **look, **settings}


def opened(viewer, name):
    return viewer.window.add_plugin_dock_widget("napari-dff", name)[1]


def run(qtbot, widget, timeout=60_000):
    widget.run.native.click()
    qtbot.waitUntil(lambda: widget._job is None, timeout=timeout)


def layer(viewer, role):
    return next(found for found in viewer.layers if found.name.startswith(f"{role} ·"))


def assert_sits_on(result, source):
    n = result.ndim
    np.testing.assert_allclose(result.scale, source.scale[-n:])
    np.testing.assert_allclose(result.translate, source.translate[-n:])
    assert result.units == source.units[-n:]
    assert result.axis_labels == source.axis_labels[-n:]


def test_step_by_step_gives_what_the_functions_give(viewer, qtbot, drifting):
    source = viewer.add_image(**small(drifting, rgb=True))
    align_, focus, depth, refine = (opened(viewer, name) for name in STEPS[:4])
    z = 10.0 + 2.0 * np.arange(9)

    run(qtbot, align_)
    expected = align(drifting.stack.planes)
    aligned = layer(viewer, "aligned")
    np.testing.assert_array_equal(aligned.data, expected.planes)
    assert_sits_on(aligned, source)
    matches = layer(viewer, "matches")
    assert len(matches.data) == sum(r.inliers for r in expected.report)
    assert_sits_on(matches, source)
    assert align_.report.shape[0] == 9
    assert focus.stack.value is aligned  # the next step goes on with it

    run(qtbot, focus)
    volume = focus_measure(expected.planes)
    np.testing.assert_array_equal(layer(viewer, "focus").data, volume)
    assert_sits_on(layer(viewer, "focus"), source)

    run(qtbot, depth)
    found = depth_map(volume, z)
    found.uncertainty[~expected.valid] = np.inf  # at the rim of aligned planes
    np.testing.assert_array_equal(layer(viewer, "depth").data, found.depth)
    np.testing.assert_array_equal(layer(viewer, "uncertainty").data, found.uncertainty)
    labels = layer(viewer, "plane index").data
    known = np.isfinite(found.uncertainty)
    np.testing.assert_array_equal(labels[known], found.index[known] + 1)
    assert (labels[~known] == 0).all()
    picture = all_in_focus(expected.planes, found.depth, z)
    np.testing.assert_array_equal(layer(viewer, "all in focus").data, picture)
    assert layer(viewer, "all in focus").rgb
    for role in ("depth", "uncertainty", "plane index", "all in focus"):
        assert_sits_on(layer(viewer, role), source)

    run(qtbot, refine)
    refined = refine_(found, volume, z, guide=picture)
    np.testing.assert_array_equal(layer(viewer, "refined depth").data, refined.depth)


def test_all_steps_at_once(viewer, qtbot, drifting):
    viewer.add_image(**small(drifting, rgb=True))
    widget = opened(viewer, STEPS[4])
    run(qtbot, widget)
    stack = FocalStack(drifting.stack.planes, 10 + 2.0 * np.arange(9), (0.5, 0.25), "micrometer")
    result = depth_from_focus(stack, Recipe())
    np.testing.assert_array_equal(layer(viewer, "refined depth").data, result.refined.depth)
    np.testing.assert_array_equal(layer(viewer, "aligned").data, result.stack.planes)
    np.testing.assert_array_equal(layer(viewer, "refined all in focus").data, result.all_in_focus)


def test_a_second_run_updates_in_place_and_keeps_what_the_person_chose(viewer, qtbot, surface):
    viewer.add_image(**small(surface))
    focus, depth = opened(viewer, "Focus measure"), opened(viewer, "Depth and all-in-focus")
    run(qtbot, focus)
    run(qtbot, depth)
    shown, count = layer(viewer, "depth"), len(viewer.layers)
    assert tuple(shown.contrast_limits) == (10.0, 32.0)
    assert shown.colormap.name == "gray"
    shown.colormap, shown.name = "viridis", "renamed"
    before = shown.data.copy()
    focus.form.settings["window"].value = 15
    run(qtbot, focus)
    run(qtbot, depth)
    assert len(viewer.layers) == count
    assert viewer.layers["renamed"] is shown
    assert shown.colormap.name == "viridis"
    assert not np.array_equal(shown.data, before)


@pytest.mark.parametrize("kind", ["dask", "zarr"])
def test_lazy_layers_give_the_same(viewer, qtbot, surface, kind):
    planes = surface.stack.planes
    lazy = da.from_array(planes, chunks=(1, 96, 96)) if kind == "dask" else zarr.array(planes)
    viewer.add_image(**small(surface) | {"data": lazy})
    focus = opened(viewer, "Focus measure")
    run(qtbot, focus)
    np.testing.assert_array_equal(layer(viewer, "focus").data, focus_measure(planes))


def test_cancel_changes_nothing(viewer, qtbot, surface, monkeypatch):
    viewer.add_image(**small(surface))
    widget = opened(viewer, "Focus measure")

    def slow(recipe, stack, progress):
        for _ in progress(range(1000), desc="Waiting"):
            time.sleep(0.01)

    monkeypatch.setattr("napari_dff.widgets.focus.measured_by", slow)
    widget.run.native.click()
    qtbot.waitUntil(lambda: "Waiting" in widget.status.value, timeout=5000)
    assert not widget.run.enabled
    widget.cancel.native.click()
    qtbot.waitUntil(lambda: widget._job is None, timeout=2000)
    assert "cancelled" in widget.status.value
    assert len(viewer.layers) == 1
    assert widget.run.enabled
    assert not widget.cancel.enabled


BAD = {
    "flat": (np.zeros((32, 32)), "must be a stack with axes Z, Y, X, got 2 axes"),
    "two planes": (np.zeros((2, 32, 32)), "at least 3 along Z, got 2"),
    "constant": (np.full((5, 32, 32), 3.0, np.float32), "no contrast anywhere"),
    "nan": (np.full((5, 32, 32), np.nan, np.float32), "NaN or infinite values in plane 0"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("step", [STEPS[0], STEPS[1], STEPS[4]])
def test_bad_stacks_give_a_sentence_and_change_nothing(viewer, qtbot, said, kind, step):
    data, words = BAD[kind]
    viewer.add_image(data, contrast_limits=(0, 1))
    widget = opened(viewer, step)
    run(qtbot, widget)
    assert len(said) == 1
    assert words in said[0]
    assert len(viewer.layers) == 1
    assert widget.run.enabled


@pytest.mark.parametrize("step", STEPS)
def test_no_stack_gives_a_sentence(viewer, said, step):
    widget = opened(viewer, step)
    widget.run.native.click()
    assert "no stack" in said[0]


@pytest.mark.parametrize(
    ("step", "first"),
    [("Depth and all-in-focus", "Focus measure"), ("Refine", "Depth and all-in-focus")],
)
def test_a_step_names_the_step_before_it(viewer, said, surface, step, first):
    viewer.add_image(**small(surface))
    opened(viewer, step).run.native.click()
    assert f"run '{first}' first" in said[0]


def test_forms_show_the_recipe_with_its_defaults(viewer):
    shown = {}
    for name in STEPS[:4]:
        shown |= {k: w.value for k, w in opened(viewer, name).form.settings.items()}
    every = {field.name: field.default for field in dataclasses.fields(Recipe)}
    assert shown == every
    widget = opened(viewer, STEPS[4])
    assert {k: w.value for k, w in widget.form.settings.items()} == every
    assert widget.recipe() == Recipe()
    assert all(w.tooltip and w.label == k for k, w in widget.form.settings.items())


@pytest.mark.parametrize("name", ["rough_surface", "cell_sheet", "machined_part", "bare_patch"])
def test_samples_open_with_scale_and_units(viewer, name):
    (opened_,) = viewer.open_sample("napari-dff", name)
    assert opened_.ndim == 3
    assert str(opened_.units[0]) in ("micrometer", "millimeter")
    assert opened_.scale[0] != 1 or name == "bare_patch"
    assert opened_.rgb == (name == "machined_part")


def test_a_source_that_is_removed_meanwhile_is_told(viewer, qtbot, said, surface):
    source = viewer.add_image(**small(surface))
    widget = opened(viewer, "Focus measure")
    widget.run.native.click()
    viewer.layers.remove(source)
    qtbot.waitUntil(lambda: widget._job is None, timeout=10_000)
    assert "was removed meanwhile" in said[0]
    assert len(viewer.layers) == 0
