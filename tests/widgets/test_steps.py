"""The forms of the steps give what the functions give."""

import dataclasses
import time

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_dff import Recipe, align, all_in_focus, depth_from_focus, focus_measure, synthetic
from napari_dff import refine as refine_
from napari_dff.depth import depth_map
from napari_dff.model.stack import FocalStack
from napari_dff.pipeline.quality import summarize_image
from napari_dff.pipeline.tile import AlignedStack
from napari_dff.pipeline.two_surfaces import two_surfaces_in_tile
from napari_dff.runtime.progress import no_progress
from napari_dff.runtime.windows import full_window
from napari_dff.widgets.app.labels import SETTINGS
from napari_dff.widgets.app.layers import plugin_metadata
from napari_dff.widgets.app.preview import VIEW

STEPS = ("align", "focus", "depth", "refine", "all")


@pytest.fixture(scope="module")
def drifting():
    return synthetic.machined_part(size=112, planes=9, seed=4)


def assert_same_placement(result, source):
    n = result.ndim
    np.testing.assert_allclose(result.scale, source.scale[-n:])
    np.testing.assert_allclose(result.translate, source.translate[-n:])
    assert result.units == source.units[-n:]
    assert result.axis_labels == source.axis_labels[-n:]


def test_each_step_gives_the_same_as_its_function(person, drifting):
    source = person.stack(drifting, rgb=True)
    align_, focus, depth, refine = person.open(*STEPS[:4])
    z = 10.0 + 2.0 * np.arange(9)

    person.run(align_)
    expected = align(drifting.stack.planes)
    aligned = person.layer("aligned")
    np.testing.assert_array_equal(aligned.data, expected.planes)
    assert_same_placement(aligned, source)
    matches = person.layer("matches")
    assert len(matches.data) == sum(r.inliers for r in expected.report)
    assert_same_placement(matches, source)
    assert align_.report.shape[0] == 9
    assert focus.stack.value is aligned  # the next step goes on with it

    person.run(focus)
    volume = focus_measure(expected.planes)
    np.testing.assert_array_equal(person.layer("focus").data, volume)
    assert_same_placement(person.layer("focus"), source)

    person.run(depth)
    mask = {"plane_mask": expected.plane_mask()}  # at the rim of aligned planes
    found = depth_map(volume, z, **mask)
    assert np.isinf(found.uncertainty).any()
    np.testing.assert_array_equal(person.values("depth"), found.depth)
    np.testing.assert_array_equal(person.layer("uncertainty").data, found.uncertainty)
    labels = person.layer("plane index").data
    known = np.isfinite(found.uncertainty)
    np.testing.assert_array_equal(labels[known], found.index[known] + 1)
    assert (labels[~known] == 0).all()
    picture = all_in_focus(expected.planes, found.depth, z, uncertainty=found.uncertainty, **mask)
    np.testing.assert_array_equal(person.layer("all in focus").data, picture)
    assert person.layer("all in focus").rgb
    assert "edges in the all-in-focus image are not in any plane" in depth.advice.value
    for role in ("depth", "uncertainty", "plane index", "all in focus"):
        assert_same_placement(person.layer(role), source)

    person.run(refine)
    guide = all_in_focus(expected.planes, found.depth, z, fusion="noise_aware", **mask)
    refined = refine_(found, volume, z, guide=guide, **mask)
    np.testing.assert_array_equal(person.values("refined depth"), refined.depth)


def test_alpha_of_a_layer_is_dropped(person, drifting):
    planes = drifting.stack.planes[:, :64, :64]
    alpha = np.full((*planes.shape[:3], 1), 255, planes.dtype)
    widget = person.open("focus")
    for name, data in (("with", np.concatenate([planes, alpha], axis=-1)), ("without", planes)):
        layer = person.stack(drifting, data=data, name=name, rgb=True)
        person.viewer.layers.selection.active = layer
        widget.stack.value = layer
        person.run(widget)
    volumes = [each.data for each in person.viewer.layers if each.name.startswith("focus")]
    np.testing.assert_array_equal(*volumes)


def test_all_steps_give_the_same_as_depth_from_focus_cropped_or_not(person, drifting):
    source = person.stack(drifting, rgb=True)
    widget = person.open("all")
    widget.form.settings["crop"].value = "common"
    person.run(widget)
    stack = FocalStack(drifting.stack.planes, 10 + 2.0 * np.arange(9), (0.5, 0.25), "micrometer")
    result = depth_from_focus(stack, Recipe(crop="common"))
    top, _, left, _ = result.window
    for role in ("aligned", "refined depth", "refined plane index", "refined all in focus"):
        layer = person.layer(role)
        assert layer.data.shape[layer.ndim - 2 :][:2] == result.window.shape
        corner = source.data_to_world((0, top, left))[-2:]
        np.testing.assert_allclose(layer.data_to_world((0,) * layer.ndim)[-2:], corner)
    np.testing.assert_array_equal(person.values("refined depth"), result.refined.depth)
    widget.form.settings["crop"].value = "none"
    person.run(widget)
    assert_same_placement(person.layer("refined depth"), source)
    result = depth_from_focus(stack, Recipe())
    np.testing.assert_array_equal(person.values("refined depth"), result.refined.depth)
    np.testing.assert_array_equal(person.layer("aligned").data, result.stack.planes)
    np.testing.assert_array_equal(person.layer("refined all in focus").data, result.all_in_focus)
    assert " ".join(summarize_image([result.quality], "multiscale")) in widget.advice.value
    assert "at the rim, is not in all planes" in widget.advice.value


def test_each_step_names_planes_that_are_left_out(person, surface):
    planes = surface.stack.planes.copy()
    planes[2], planes[6] = 0, planes[5]
    person.stack(surface, data=planes)
    blank, copy = "plane 2 has no contrast", "plane 6 has nearly the same pixels"
    for name in STEPS[:4]:
        widget = person.open(name)
        person.run(widget)
        assert blank in widget.advice.value
        assert copy in widget.advice.value
    assert not np.isin(person.layer("plane index").data, [3, 7]).any()
    assert not np.isin(person.layer("refined plane index").data, [3, 7]).any()
    used = np.delete(np.arange(len(planes)), [2, 6])
    z = 10.0 + 2.0 * used
    found = depth_map(person.layer("focus").data[used], z)
    np.testing.assert_array_equal(person.values("depth"), found.depth)
    guide = all_in_focus(planes[used], found.depth, z, fusion="noise_aware")
    refined = refine_(found, person.layer("focus").data[used], z, guide=guide)
    np.testing.assert_array_equal(person.values("refined depth"), refined.depth)


def test_a_second_run_updates_the_layers_and_keeps_name_and_colormap(person, surface):
    person.stack(surface)
    focus, depth = person.open("focus", "depth")
    person.run(focus)
    person.run(depth)
    shown, count = person.layer("depth"), len(person.viewer.layers)
    in_focus = np.isfinite(person.layer("uncertainty").data)
    limits = np.percentile(shown.data[in_focus], (0.5, 99.5))
    np.testing.assert_allclose(shown.contrast_limits, limits, rtol=1e-6)
    assert shown.colormap.name == "viridis"
    shown.colormap, shown.name = "magma", "renamed"
    before = shown.data.copy()
    focus.form.settings["window"].value = 15
    person.run(focus)
    person.run(depth)
    assert len(person.viewer.layers) == count
    assert person.viewer.layers["renamed"] is shown
    assert shown.colormap.name == "magma"
    assert not np.array_equal(shown.data, before)


def test_lazy_layers_give_the_same_result(person, surface):
    planes, widget = surface.stack.planes, person.open("focus")
    for lazy in (da.from_array(planes, chunks=(1, 96, 96)), zarr.array(planes)):
        widget.stack.value = person.stack(surface, data=lazy)
        person.run(widget)
        np.testing.assert_array_equal(person.viewer.layers[-1].data, focus_measure(planes))


def test_cancelling_changes_no_layer(person, surface, monkeypatch):
    person.stack(surface)
    widget = person.open("focus")

    def slow(recipe, stack, progress):
        for _ in progress(range(10**9), desc="Waiting"):
            time.sleep(0.01)

    monkeypatch.setattr("napari_dff.widgets.steps.focus.measure_by_recipe", slow)
    person.press(widget.run)
    person.wait_until(lambda: "Waiting" in widget.status.value)
    assert not widget.run.enabled
    person.press(widget.cancel)
    person.wait_until(lambda: widget._task is None)
    assert "cancelled" in widget.status.value
    assert len(person.viewer.layers) == 1
    assert widget.run.enabled
    assert not widget.cancel.enabled


def test_the_forms_show_all_recipe_fields_with_their_defaults(person):
    shown = {}
    for widget in person.open(*STEPS[:4]):
        shown |= {k: w.value for k, w in widget.form.settings.items()}
    every = {field.name: field.default for field in dataclasses.fields(Recipe)}
    assert shown == every
    widget = person.open("all")
    assert {k: w.value for k, w in widget.form.settings.items()} == every
    assert widget.recipe() == Recipe()
    assert all(w.tooltip and w.label == SETTINGS[k] for k, w in widget.form.settings.items())


def test_samples_open_with_scale_and_units(person):
    spacings = {"rough_surface": 2.0, "cell_sheet": 0.5, "machined_part": 0.1, "bare_patch": 1.0}
    spacings["transparent_film"] = 1.0
    for name, spacing in spacings.items():
        (opened,) = person.viewer.open_sample("napari-dff", name)
        assert opened.ndim == 3
        unit = "millimeter" if name == "machined_part" else "micrometer"
        assert str(opened.units[0]) == unit
        assert opened.scale[0] == spacing
        assert opened.rgb == (name == "machined_part")


def test_two_surfaces_of_a_film_are_previewed_computed_and_measured(person):
    film = synthetic.transparent_film(size=96, planes=22)
    source = person.stack(film, scale=(1.0, 0.5, 0.5), translate=(0.0, 0.0, 0.0))
    person.viewer.reset_view()
    widget = person.open("two_surfaces")
    widget.refractive_index.value = 1.5
    widget.preview.value = VIEW
    person.wait_until(lambda: "preview thickness" in person.roles())
    person.run(widget)
    assert person.roles() >= {"first depth", "last depth", "thickness", "thickness uncertainty"}
    scale = plugin_metadata(person.layer("thickness"))["focus_scale"]
    stack = AlignedStack(film.stack.planes, film.stack.positions)
    settings = Recipe(**scale), full_window((96, 96)), 1.5, no_progress
    expected = two_surfaces_in_tile(stack, *settings)
    thickness = person.values("thickness")
    np.testing.assert_array_equal(thickness, expected.thickness)
    for role, values in (("first", expected.first), ("last", expected.last)):
        np.testing.assert_array_equal(person.values(f"{role} depth"), values.depth)
        np.testing.assert_array_equal(person.values(f"{role} uncertainty"), values.uncertainty)
    assert f"Two surfaces at {np.isfinite(thickness).mean():.1%}" in widget.advice.value
    preview = person.layer("preview thickness")
    top, left = np.rint(preview.translate / 0.5).astype(int)
    height, width = preview.data.shape
    part = thickness[top : top + height, left : left + width]
    np.testing.assert_allclose(preview.data, part, atol=2e-3)
    assert widget.command().endswith("--refractive-index 1.5")
    assert "two-surfaces STACK" in widget.command()
    widget.refractive_index.value = 1.4
    assert "another refractive index, 1.5" in widget.freshness.value

    measure = person.open("measure")
    measure.input_layer.value = person.layer("last depth")
    heights = measure.heights()
    np.testing.assert_array_equal(heights.uncertainty, person.values("last uncertainty"))
    person.undo(widget)
    assert {"thickness", "first depth", "last depth"}.isdisjoint(person.roles())
    assert source in person.viewer.layers
