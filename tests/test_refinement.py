import importlib.util
import itertools
import sys

import numpy as np
import pytest

from napari_dff.depth import DepthMap, depth_map
from napari_dff.focus import focus_measure
from napari_dff.progress import silent
from napari_dff.refinement import REFINEMENTS, refine
from napari_dff.refinement.graph_cut import JUMP, GraphCutMissing, expand
from napari_dff.refinement.weighted_median import LIKENESS

needs_gco = pytest.mark.skipif(
    importlib.util.find_spec("gco") is None,
    reason="gco-wrapper is not installed: it has no wheel for this Python",
)


def energy(labels, unary, right, down):
    y, x = np.indices(labels.shape)
    steps = [
        (right[:, :-1], labels[:, 1:] - labels[:, :-1]),
        (down[:-1], labels[1:] - labels[:-1]),
    ]
    pairs = sum((weight * np.minimum(np.abs(step), JUMP)).sum() for weight, step in steps)
    return unary[y, x, labels].sum() + pairs


@needs_gco
def test_graph_cut_finds_the_least_energy_of_a_small_grid(rng):
    for _ in range(5):
        unary = rng.integers(0, 60, (3, 3, 3)).astype(np.int32)
        right, down = rng.integers(0, 30, (2, 3, 3)).astype(np.int32)
        labels = expand(unary, right, down, silent)
        least = min(
            energy(np.array(each).reshape(3, 3), unary, right, down)
            for each in itertools.product(range(3), repeat=9)
        )
        # Expansion is proven to end within a factor of the optimum; here it reaches it.
        assert energy(labels, unary, right, down) <= 1.05 * least


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


def test_weighted_median_is_its_definition(rng):
    depth = rng.uniform(0, 9, (12, 13)).astype(np.float32)
    uncertainty = rng.uniform(0.1, 1, depth.shape).astype(np.float32)
    uncertainty[rng.uniform(size=depth.shape) < 0.2] = np.inf
    guide = rng.uniform(0, 1, depth.shape).astype(np.float32)
    estimate = DepthMap(np.rint(depth).astype(np.uint16), depth, uncertainty)
    focus = rng.uniform(1, 2, (10, *depth.shape))
    result = refine(estimate, focus, refinement="weighted_median", guide=guide).depth
    low, high = np.percentile(guide, (1, 99))
    likeness = np.clip((guide - low) / (high - low), 0, 1)
    for y, x in itertools.product(range(3, 9), range(3, 10)):
        window = (slice(y - 3, y + 4), slice(x - 3, x + 4))
        weight = np.exp(-np.abs(likeness[window] - likeness[y, x]) / LIKENESS) / (
            uncertainty[window] ** 2 + 0.2**2
        )
        order = np.argsort(depth[window].ravel())
        total = np.cumsum(weight.ravel()[order])
        truth = depth[window].ravel()[order][np.searchsorted(total, total[-1] / 2)]
        assert result[y, x] == pytest.approx(truth)


def test_smoothness_zero_and_none_change_nothing(surface):
    focus = focus_measure(surface.stack.planes)
    estimate = depth_map(focus)
    for settings in ({"smoothness": 0.0}, {"refinement": "none"}):
        for one, other in zip(refine(estimate, focus, **settings), estimate, strict=True):
            np.testing.assert_array_equal(one, other)


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
