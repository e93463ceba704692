import importlib.util
import sys

import numpy as np
import pytest

from napari_dff import synthetic
from napari_dff.depth import depth_map
from napari_dff.focus import focus_measure
from napari_dff.refinement import REFINEMENTS, refine
from napari_dff.refinement.graph_cut import GraphCutMissing

needs_gco = pytest.mark.skipif(
    importlib.util.find_spec("gco") is None,
    reason="gco-wrapper is not installed: it has no wheel for this Python",
)


def test_refining_is_no_worse_and_fills_a_bare_patch():
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
def test_graph_cut_repairs_wrong_pixels_and_keeps_the_rest(surface, rng):
    stack = surface.stack
    focus = focus_measure(stack.planes)
    wrong = rng.uniform(size=focus.shape[1:]) < 0.02
    broken = focus.copy()
    broken[:, wrong] = rng.uniform(0, 0.05 * np.median(focus.max(axis=0)), (12, wrong.sum()))
    estimate = depth_map(broken, stack.positions)
    refined = refine(estimate, broken, stack.positions, refinement="graph_cut", guide=surface.sharp)
    before, after = (np.abs(d.depth - surface.depth) / 2 for d in (estimate, refined))
    assert before[wrong].mean() > 2
    assert after[wrong].mean() < before[wrong].mean() / 3
    assert after[~wrong].mean() < before[~wrong].mean() + 0.01


def test_never_in_focus_stays_so(surface):
    focus = focus_measure(surface.stack.planes)
    estimate = depth_map(focus)
    estimate.uncertainty[20:30, 20:30] = np.inf
    refined = refine(estimate, focus, refinement="weighted_median")
    assert np.isinf(refined.uncertainty[20:30, 20:30]).all()
    assert np.isfinite(refined.depth).all()


def test_without_gco_one_sentence_says_what_to_do(surface, monkeypatch):
    monkeypatch.setitem(sys.modules, "gco", None)
    focus = focus_measure(surface.stack.planes)
    with pytest.raises(GraphCutMissing, match="pip install gco-wrapper"):
        refine(depth_map(focus), focus, refinement="graph_cut")


def test_bad_input_is_named(surface):
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


def test_an_island_that_nothing_is_known_of_stays_within_the_planes(rng):
    y, x = np.mgrid[:96, :96]
    inside = np.hypot(y - 48, x - 48) < 22
    truth = np.where(inside, 14.0, 3 + 0.03 * y)
    focus = 0.03 + (1 + (np.arange(20)[:, None, None] - truth) ** 2 / 5) ** -2
    focus[:, inside] = 0.03
    focus *= rng.gamma(60, 1 / 60, focus.shape)
    estimate = depth_map(focus)
    guide = np.where(inside, 0.8, 0.3)
    for smoothness in (1.0, 100.0):
        settings = {"refinement": "least_squares", "smoothness": smoothness, "guide": guide}
        depth = refine(estimate, focus, **settings).depth
        assert 0 <= depth.min() <= depth.max() <= 19
        moved = np.abs(depth - estimate.depth)[inside]
        assert np.median(moved) < 1  # nobody is so near to its depth that it would pull it away
