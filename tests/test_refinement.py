import importlib.util
import sys

import numpy as np
import pytest
from scipy import ndimage

from napari_dff import synthetic
from napari_dff.depth.estimation import depth_map
from napari_dff.focus import focus_measure
from napari_dff.refinement import REFINEMENTS, refine
from napari_dff.refinement.graph_cut import GraphCutMissing

needs_gco = pytest.mark.skipif(
    importlib.util.find_spec("gco") is None,
    reason="gco-wrapper is not installed: it has no wheel for this Python",
)


def test_a_thin_hair_in_front_of_texture_survives():
    size, z = 96, np.arange(16.0)
    columns = np.arange(size)
    rows = size // 2 + np.rint(14 * np.sin(columns / 18)).astype(int)
    hair = np.zeros((size, size), bool)
    hair[rows, columns] = hair[rows + 1, columns] = True
    texture = synthetic.noise_texture((size, size), seed=5)
    ground = synthetic.render_opaque(texture, np.full((size, size), 3.0), z, defocus=0.8)
    clean = synthetic.render_in_front(ground, hair, 0.05, 12.0, z, defocus=0.8)
    planes = synthetic.photograph(clean, photons=4000)
    focus = focus_measure(planes)
    sharp = np.where(hair, 0.05, texture).astype(np.float32)
    refined = refine(depth_map(focus), focus, guide=sharp)
    wrong = np.abs(refined.depth - np.where(hair, 12, 3)) > 1
    assert wrong[hair].mean() < 0.15
    assert wrong[~hair].mean() < 0.05


def test_refined_depth_is_as_accurate_on_texture_and_better_on_a_bare_patch():
    truth = synthetic.bare_patch(size=128, planes=12, seed=2)
    stack = truth.stack
    focus = focus_measure(stack.planes)
    estimate = depth_map(focus, stack.positions)
    refined = refine(estimate, focus, stack.positions, guide=truth.sharp)
    before, after = (np.abs(d.depth - truth.depth) for d in (estimate, refined))
    assert after[truth.textured].mean() <= 1.02 * before[truth.textured].mean()
    assert after[~truth.textured].mean() < before[~truth.textured].mean()
    assert after[~truth.textured].mean() < 0.2  # planes
    assert np.isinf(refined.uncertainty[~truth.textured]).mean() > 0.7


@needs_gco
def test_graph_cut_corrects_outliers_and_keeps_other_pixels(surface, rng):
    stack = surface.stack
    focus = focus_measure(stack.planes)
    outliers = rng.uniform(size=focus.shape[1:]) < 0.02
    noisy = focus.copy()
    noisy[:, outliers] = rng.uniform(0, 0.05 * np.median(focus.max(axis=0)), (12, outliers.sum()))
    estimate = depth_map(noisy, stack.positions)
    refined = refine(estimate, noisy, stack.positions, refinement="graph_cut", guide=surface.sharp)
    before, after = (np.abs(d.depth - surface.depth) / 2 for d in (estimate, refined))  # planes
    assert before[outliers].mean() > 2
    assert after[outliers].mean() < before[outliers].mean() / 3
    assert after[~outliers].mean() < before[~outliers].mean() + 0.01


def test_pixels_that_are_never_in_focus_keep_infinite_uncertainty_and_finite_depth(surface):
    focus = focus_measure(surface.stack.planes)
    estimate = depth_map(focus)
    estimate.uncertainty[20:30, 20:30] = np.inf
    refined = refine(estimate, focus, refinement="weighted_median")
    assert np.isinf(refined.uncertainty[20:30, 20:30]).all()
    assert np.isfinite(refined.depth).all()


def test_graph_cut_without_gco_names_the_package_to_install(surface, monkeypatch):
    monkeypatch.setitem(sys.modules, "gco", None)
    focus = focus_measure(surface.stack.planes)
    with pytest.raises(GraphCutMissing, match=r"pip install .napari-dff\[gco\]"):
        refine(depth_map(focus), focus, refinement="graph_cut")


def test_wrong_arguments_raise_value_errors_that_name_them(surface):
    focus = focus_measure(surface.stack.planes)
    estimate = depth_map(focus)
    with pytest.raises(ValueError, match=f"refinement must be none, or {' or '.join(REFINEMENTS)}"):
        refine(estimate, focus, refinement="median")
    with pytest.raises(ValueError, match="smoothness must be a number from 0 to 100"):
        refine(estimate, focus, smoothness=-1)
    with pytest.raises(ValueError, match="guide must have the shape"):
        refine(estimate, focus, guide=np.zeros((4, 4)))
    with pytest.raises(ValueError, match="estimate must have the shape"):
        refine(estimate, focus[:, 1:])


def test_an_island_without_focus_and_without_similar_neighbours_is_filled_smoothly(rng):
    y, x = np.mgrid[:96, :96]
    inside = np.hypot(y - 48, x - 48) < 22
    truth = np.where(inside, 14.0, 3 + 0.03 * y)
    focus = 0.03 + (1 + (np.arange(20)[:, None, None] - truth) ** 2 / 5) ** -2
    focus[:, inside] = 0.03
    focus *= rng.gamma(60, 1 / 60, focus.shape)
    estimate = depth_map(focus)
    guide = np.where(inside, 0.8, 0.3)
    core = np.hypot(y - 48, x - 48) < 20
    for smoothness in (1.0, 100.0):
        settings = {"refinement": "least_squares", "smoothness": smoothness, "guide": guide}
        depth = refine(estimate, focus, **settings).depth
        assert 0 <= depth.min() <= depth.max() <= 19
        steps = [np.abs(np.diff(np.where(core, depth, np.nan), axis=axis)) for axis in (0, 1)]
        assert max(map(np.nanmax, steps)) < 0.5  # of the estimate, which is noise: up to 19


def test_areas_without_focus_are_filled_smoothly_between_their_borders(rng):
    focus = rng.uniform(0.9, 1.1, (12, 80, 160)).astype(np.float32)
    focus[2, :, :40] += 20
    focus[9, :, 120:] += 20
    refined = refine(depth_map(focus), focus, guide=np.ones((80, 160), np.float32))
    in_focus = np.isfinite(refined.uncertainty)
    assert in_focus[:, :40].all()
    assert in_focus[:, 120:].all()
    assert not in_focus[:, 50:110].any()
    steps = np.diff(refined.depth[:, 40:120], axis=1)
    assert steps.min() > -0.05
    assert steps.max() < 0.5  # 7 planes over 80 pixels; a jump would be 7
    assert np.abs(np.diff(refined.depth[:, 44:116], axis=0)).max() < 0.05


def test_the_uncertainty_contains_how_far_depths_around_were_moved(surface, monkeypatch):
    focus = focus_measure(surface.stack.planes)
    estimate = depth_map(focus)
    hints = np.full(estimate.depth.shape, -1)
    hints[40, 40] = 5
    refined = refine(estimate, focus, hints=hints)
    monkeypatch.setattr("napari_dff.refinement.sequence.MOVEMENT_SHARE", 0)
    without = refine(estimate, focus, hints=hints)
    np.testing.assert_array_equal(refined.depth, without.depth)
    moved = np.where(hints == -1, np.abs(refined.depth - estimate.depth), 0)
    mean = ndimage.gaussian_filter(moved.astype(float), 2, mode="mirror")
    expected = np.hypot(without.uncertainty, mean / 2)
    expected[40, 40] = 1 / np.sqrt(12)  # a hint keeps that of its plane
    np.testing.assert_allclose(refined.uncertainty, expected, rtol=2e-3)
