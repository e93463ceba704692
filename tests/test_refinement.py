import importlib.util
import itertools
import sys

import numpy as np
import pytest

from napari_dff import synthetic
from napari_dff.curve import noise_of
from napari_dff.depth import DepthMap, depth_map
from napari_dff.focus import focus_measure
from napari_dff.progress import silent
from napari_dff.refinement import REFINEMENTS, refine
from napari_dff.refinement.energy import data_term, edge_weights, energy
from napari_dff.refinement.graph_cut import GraphCutMissing, expand
from napari_dff.refinement.least_squares import solved
from napari_dff.refinement.message_passing import solve
from napari_dff.refinement.weighted_median import LEVELS, LIKENESS, STEPS, medians

needs_gco = pytest.mark.skipif(
    importlib.util.find_spec("gco") is None,
    reason="gco-wrapper is not installed: it has no wheel for this Python",
)


@needs_gco
def test_graph_cut_finds_the_least_energy_of_a_small_grid(rng):
    for _ in range(5):
        unary = rng.integers(0, 60, (3, 3, 3)).astype(np.int32)
        right, down = rng.integers(0, 30, (2, 3, 3)).astype(np.int32)
        labels = expand(unary, right, down, silent)
        least = min(
            energy(unary, right, down, np.array(each).reshape(3, 3))
            for each in itertools.product(range(3), repeat=9)
        )
        # Expansion is proven to end within a factor of the optimum; here it reaches it.
        assert energy(unary, right, down, labels) <= 1.05 * least


def test_message_passing_is_exact_on_a_chain(rng):
    for _ in range(5):
        unary = rng.integers(0, 60, (1, 7, 4)).astype(np.int32)
        right, down = rng.integers(0, 30, (2, 1, 7)).astype(np.int32)
        found = solve(unary, right, down)
        least = min(
            energy(unary, right, down, np.array(each).reshape(1, 7))
            for each in itertools.product(range(4), repeat=7)
        )
        assert found.energy == least
        assert found.bound == pytest.approx(least, rel=1e-4)


def test_message_passing_bounds_the_least_energy_of_a_small_grid(rng):
    for _ in range(5):
        unary = rng.integers(0, 60, (3, 3, 3)).astype(np.int32)
        right, down = rng.integers(0, 30, (2, 3, 3)).astype(np.int32)
        found = solve(unary, right, down)
        least = min(
            energy(unary, right, down, np.array(each).reshape(3, 3))
            for each in itertools.product(range(3), repeat=9)
        )
        assert found.bound <= least + 1e-3
        assert found.energy == energy(unary, right, down, found.labels)
        assert least <= found.energy <= 1.02 * least


def test_message_passing_with_truncation_on_a_chain(rng):
    unary = rng.integers(0, 200, (1, 3, 9)).astype(np.int32)
    right, down = np.full((2, 1, 3), 9, np.int32)
    found = solve(unary, right, down)
    least = min(
        energy(unary, right, down, np.array(each).reshape(1, 3))
        for each in itertools.product(range(9), repeat=3)
    )
    assert found.energy == least


@needs_gco
def test_message_passing_comes_near_the_graph_cut(surface):
    focus = focus_measure(surface.stack.planes, aggregation="window", window=3)
    estimate = depth_map(focus)
    guide = np.zeros(focus.shape[1:], np.float32)
    terms = data_term(estimate, focus, noise_of(focus)), *edge_weights(guide, 1.0)
    cut = energy(*terms, expand(*terms, silent))
    found = solve(*terms)
    assert found.bound <= cut
    assert found.energy <= 1.03 * cut


def test_least_squares_solves_its_equations(rng):
    height, width = 35, 22  # three levels, odd sides
    depth = rng.uniform(3, 4, (height, width)).astype(np.float32)
    trust = rng.uniform(0.5, 2, depth.shape).astype(np.float32)
    right, down = rng.uniform(0, 3, (2, height, width)).astype(np.float32)
    right[:, -1], down[-1] = 0, 0
    site = np.arange(height * width).reshape(height, width)
    matrix = np.diag(trust.ravel().astype(float))
    for weight, a, b in (
        (right[:, :-1], site[:, :-1], site[:, 1:]),
        (down[:-1], site[:-1], site[1:]),
    ):
        for w, i, j in zip(weight.ravel(), a.ravel(), b.ravel(), strict=True):
            matrix[[i, j], [i, j]] += w
            matrix[i, j] -= w
            matrix[j, i] -= w
    truth = np.linalg.solve(matrix, (trust * depth).ravel()).reshape(height, width)
    np.testing.assert_allclose(solved(depth, trust, right, down, cycles=30), truth, atol=1e-4)

    def misfit(v: np.ndarray) -> float:
        return float(v.ravel() @ matrix @ v.ravel() - 2 * (trust * depth * v).sum())

    left = [misfit(solved(depth, trust, right, down, cycles=n)) for n in range(4)]
    assert left == sorted(left, reverse=True)
    assert left[2] - misfit(truth) < 0.01 * (left[0] - misfit(truth))


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


@pytest.mark.parametrize("radius", [1, 3, 9])
def test_weighted_median_is_its_definition(radius, rng):
    """Exactly, where depth and guide lie on the steps that are told apart."""
    step = rng.integers(0, STEPS, (30, 37))
    step[0, :2] = 0, STEPS - 1
    depth = (step / 8).astype(np.float32)
    votes = rng.integers(0, 1000, depth.shape).astype(np.int32)
    votes[rng.uniform(size=depth.shape) < 0.2] = 0
    looks = rng.integers(0, LEVELS, depth.shape).astype(np.int32)
    found = medians(depth, votes, looks, radius)
    for y, x in itertools.product(*map(range, depth.shape)):
        window = tuple(slice(max(at - radius, 0), at + radius + 1) for at in (y, x))
        alike = np.exp(-np.abs(looks[window] - looks[y, x]) / (LIKENESS * (LEVELS - 1)))
        order = np.argsort(depth[window].ravel())
        total = np.cumsum((votes[window] * alike).ravel()[order])
        truth = depth[window].ravel()[order][np.searchsorted(total, total[-1] / 2)]
        assert found[y, x] == pytest.approx(truth)


def test_half_of_the_confidence_lies_on_either_side_of_the_median(rng):
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
        near = 9 / STEPS  # depth is told apart in steps
        below, above = (
            weight[sign * (result[y, x] - depth[window]) > near].sum() / weight.sum()
            for sign in (1, -1)
        )
        assert below < 0.51
        assert above < 0.51


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
