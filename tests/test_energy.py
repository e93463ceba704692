"""Solvers compared with brute force, dense linear algebra, or the definition."""

import functools
import importlib.util
import itertools

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_dff.curve.noise import compute_noise
from napari_dff.depth.estimation import depth_map
from napari_dff.focus import focus_measure
from napari_dff.model.depth_map import DepthMap
from napari_dff.refinement import refine
from napari_dff.refinement.energy import (
    COST_SCALE,
    MAX_DATA_COST,
    MAX_STEP_PLANES,
    NEIGHBOUR_COST,
    NEIGHBOUR_RADIUS_PX,
    data_term,
    labelling_energy,
    limit_by_neighbours,
    pair_weights,
)
from napari_dff.refinement.graph_cut import alpha_expansion
from napari_dff.refinement.message_passing import SWEEP_PAIRS
from napari_dff.refinement.multigrid import solve_least_squares
from napari_dff.refinement.trws import RELATIVE_GAP, minimize_energy
from napari_dff.refinement.weighted_median import (
    DEPTH_BINS,
    GUIDE_BINS,
    GUIDE_SCALE,
    weighted_medians,
)
from napari_dff.runtime.progress import no_progress

pytestmark = pytest.mark.endurance

needs_gco = pytest.mark.skipif(
    importlib.util.find_spec("gco") is None,
    reason="gco-wrapper is not installed: it has no wheel for this Python",
)
SIZES = [(2, 2, 3), (2, 2, 8), (3, 3, 2), (3, 3, 3), (2, 4, 4), (4, 2, 3), (2, 3, 5)]  # Y, X, Z
CHAINS = [(1, 7, 4), (7, 1, 4), (1, 4, 8), (4, 1, 8), (1, 2, 16)]


@st.composite
def problems(draw, sizes, comb=False):
    """Data term and pair weights; with `comb`, the pairs with a weight form a tree."""
    height, width, count = draw(st.sampled_from(sizes))
    costs, steps = draw(st.sampled_from([(3, 3), (60, 30), (600, 100), (600, 1000)]))
    unary = draw(hnp.arrays(np.int32, (height, width, count), elements=st.integers(0, costs)))
    pairs = hnp.arrays(np.int32, (height, width), elements=st.integers(0, steps))
    right, down = draw(pairs), draw(pairs)
    never_in_focus = draw(hnp.arrays(bool, (height, width), elements=st.booleans()))
    unary[never_in_focus] = 0
    if comb:
        right[1:] = 0
    return unary, right, down


@functools.cache
def all_labellings(height, width, count):
    """All possible labels, (N, Y, X)."""
    labels = np.array(list(itertools.product(range(count), repeat=height * width)))
    return labels.reshape(-1, height, width)


def least_energy(unary, right, down):
    """The least energy of all possible labels."""
    labels = all_labellings(*unary.shape)
    y, x = np.indices(right.shape)
    total = unary[y, x, labels].sum(axis=(1, 2))
    across, below = (np.minimum(np.abs(np.diff(labels, axis=a)), MAX_STEP_PLANES) for a in (2, 1))
    total += (right[:, :-1] * across).sum(axis=(1, 2)) + (down[:-1] * below).sum(axis=(1, 2))
    assert total[0] == labelling_energy(unary, right, down, labels[0])
    return int(total.min())


@given(problems(SIZES), st.sampled_from([1, SWEEP_PAIRS, 8]))
def test_energy_of_message_passing_lies_between_the_optimum_and_its_start(problem, sweeps):
    found, truth = minimize_energy(*problem, sweeps), least_energy(*problem)
    assert found.bound <= truth * (1 + 1e-5)
    assert truth <= found.energy <= labelling_energy(*problem, problem[0].argmin(axis=2))
    assert found.energy == labelling_energy(*problem, found.labels)


@given(problems(SIZES), st.data())
def test_message_passing_is_never_worse_than_any_start(problem, data):
    unary, right, _ = problem
    labels = st.integers(0, unary.shape[2] - 1)
    start = data.draw(hnp.arrays(np.int32, right.shape, elements=labels))
    active = data.draw(hnp.arrays(bool, right.shape))
    found = minimize_energy(*problem, SWEEP_PAIRS, active, start)
    np.testing.assert_array_equal(found.labels[~active], start[~active])
    assert labelling_energy(*problem, found.labels) <= labelling_energy(*problem, start)


# Seeds with which sweeps alone, or expansion from another start, end above the cheapest planes.
@pytest.mark.parametrize("seed", [36, 81, 139, 418, 1194, 1346])
def test_neither_solver_is_worse_than_the_cheapest_plane_of_each_pixel(seed):
    rng = np.random.default_rng(seed)
    unary = rng.integers(0, 600, (2, 3, 5)).astype(np.int32)
    right, down = rng.integers(0, 100, (2, 2, 3)).astype(np.int32)
    start = labelling_energy(unary, right, down, unary.argmin(axis=2))
    assert minimize_energy(unary, right, down, 1).energy <= start
    if importlib.util.find_spec("gco"):
        assert (
            labelling_energy(unary, right, down, alpha_expansion(unary, right, down, no_progress))
            <= start
        )


@given(problems(CHAINS))
def test_message_passing_is_exact_on_a_chain(problem):
    truth = least_energy(*problem)
    assert truth <= minimize_energy(*problem).energy <= truth * (1 + RELATIVE_GAP)


@given(problems([(3, 3, 3), (2, 4, 4), (4, 2, 4)], comb=True))
def test_message_passing_is_exact_on_a_tree(problem):
    truth = least_energy(*problem)
    assert truth <= minimize_energy(*problem, 100).energy <= truth * (1 + RELATIVE_GAP)


def test_message_passing_is_within_two_percent_of_the_least_energy(rng):
    ratios = []
    for _ in range(50):
        unary = rng.integers(0, 60, (3, 3, 3)).astype(np.int32)
        right, down = rng.integers(0, 30, (2, 3, 3)).astype(np.int32)
        ratios.append(minimize_energy(unary, right, down).energy / least_energy(unary, right, down))
    assert np.mean(ratios) < 1.001
    assert max(ratios) < 1.02


@needs_gco
@given(problems(SIZES + CHAINS))
def test_graph_cut_is_never_worse_than_its_start(problem):
    found = labelling_energy(*problem, alpha_expansion(*problem, no_progress))
    assert least_energy(*problem) <= found <= labelling_energy(*problem, problem[0].argmin(axis=2))


@needs_gco
def test_graph_cut_is_within_five_percent_of_the_least_energy(rng):
    ratios = []
    for _ in range(50):
        unary = rng.integers(0, 60, (3, 3, 3)).astype(np.int32)
        right, down = rng.integers(0, 30, (2, 3, 3)).astype(np.int32)
        found = labelling_energy(
            unary, right, down, alpha_expansion(unary, right, down, no_progress)
        )
        ratios.append(found / least_energy(unary, right, down))
    assert np.mean(ratios) < 1.005
    assert max(ratios) < 1.05


@needs_gco
def test_message_passing_is_within_three_percent_of_the_graph_cut(surface):
    focus = focus_measure(surface.stack.planes, aggregation="window", window=3)
    estimate = depth_map(focus)
    guide = np.zeros(focus.shape[1:], np.float32)
    in_focus = np.isfinite(estimate.uncertainty)
    cost = data_term(focus, estimate.index, in_focus, *compute_noise(focus))
    terms = cost, *pair_weights(guide, 1.0)
    cut = labelling_energy(*terms, alpha_expansion(*terms, no_progress))
    found = minimize_energy(*terms)
    assert found.bound <= cut
    assert found.energy <= 1.03 * cut


def dense(trust, right, down):
    """The matrix A of the normal equations."""
    site = np.arange(trust.size).reshape(trust.shape)
    matrix = np.diag(trust.ravel().astype(float))
    for weight, a, b in (
        (right[:, :-1], site[:, :-1], site[:, 1:]),
        (down[:-1], site[:-1], site[1:]),
    ):
        for w, i, j in zip(weight.ravel(), a.ravel(), b.ravel(), strict=True):
            matrix[[i, j], [i, j]] += w
            matrix[i, j] -= w
            matrix[j, i] -= w
    return matrix


@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 1 << 32), st.floats(0, 1))
def test_least_squares_solves_its_equations(height, width, seed, bare):
    """Also where some data weights are low and some neighbours are not coupled."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(3, 4, (height, width)).astype(np.float32)
    trust = rng.uniform(0.5, 2, depth.shape).astype(np.float32)
    trust[rng.uniform(size=depth.shape) < bare] /= 10
    right, down = rng.uniform(0, 3, (2, height, width)).astype(np.float32)
    for weights in (right, down):
        weights[rng.uniform(size=depth.shape) < 0.1] = 0
    right[:, -1], down[-1] = 0, 0
    truth = np.linalg.solve(dense(trust, right, down), (trust * depth).ravel())
    found = solve_least_squares(depth, trust, right, down, cycles=60)
    np.testing.assert_allclose(found, truth.reshape(height, width), atol=1e-4)


def test_every_v_cycle_lowers_the_sum_of_squares(rng):
    depth = rng.uniform(3, 4, (35, 22)).astype(np.float32)  # three levels, odd sides
    trust = rng.uniform(0.5, 2, depth.shape).astype(np.float32)
    right, down = rng.uniform(0, 3, (2, *depth.shape)).astype(np.float32)
    right[:, -1], down[-1] = 0, 0
    matrix = dense(trust, right, down)
    truth = np.linalg.solve(matrix, (trust * depth).ravel())

    def misfit(v: np.ndarray) -> float:
        return float(v.ravel() @ matrix @ v.ravel() - 2 * (trust * depth).ravel() @ v.ravel())

    misfits = [misfit(solve_least_squares(depth, trust, right, down, cycles=n)) for n in range(4)]
    assert misfits == sorted(misfits, reverse=True)
    assert misfits[2] - misfit(truth) < 0.01 * (misfits[0] - misfit(truth))


def test_least_squares_fills_a_long_strip_from_its_ends():
    """Coarse grids carry depth over long distances in a few cycles, on narrow grids too."""
    depth = np.full((12, 60), 9, np.float32)
    depth[:, :15], depth[:, -15:] = 3, 4
    trust = np.full(depth.shape, 1, np.float32)
    trust[:, 15:-15] = 1e-6
    right, down = np.full((2, *depth.shape), 2, np.float32)
    right[:, -1], down[-1] = 0, 0
    truth = np.linalg.solve(dense(trust, right, down), (trust * depth).ravel())
    error = np.abs(solve_least_squares(depth, trust, right, down) - truth.reshape(depth.shape))
    assert error.mean() < 0.5


@given(st.integers(1, 14), st.integers(1, 14), st.sampled_from([1, 3, 9]), st.integers(0, 1 << 32))
def test_weighted_medians_equal_their_definition(height, width, radius, seed):
    """Exactly, where depth and guide are in the middle of their bins."""
    rng = np.random.default_rng(seed)
    step = rng.integers(0, DEPTH_BINS, (height, width))
    step.flat[0], step.flat[-1] = 0, DEPTH_BINS - 1
    depth = (step / 8).astype(np.float32)
    votes = rng.integers(0, 1000, depth.shape).astype(np.int32)
    votes[rng.uniform(size=depth.shape) < rng.uniform()] = 0
    guide_bins = rng.integers(0, GUIDE_BINS, depth.shape).astype(np.int32)
    found = weighted_medians(depth, votes, guide_bins, radius)
    for y, x in itertools.product(range(height), range(width)):
        window = tuple(slice(max(at - radius, 0), at + radius + 1) for at in (y, x))
        difference = np.abs(guide_bins[window] - guide_bins[y, x]) / (GUIDE_BINS - 1)
        similarity = np.exp(-difference / GUIDE_SCALE)
        order = np.argsort(depth[window].ravel())
        total = np.cumsum((votes[window] * similarity).ravel()[order])
        if total[-1] == 0:
            assert found[y, x] == depth[y, x]
            continue
        # The kernel adds up in float32, and may stop a rounding error early or late.
        low, high = (
            depth[window].ravel()[order][np.searchsorted(total, total[-1] / 2 * (1 + slack))]
            for slack in (-1e-5, 1e-5)
        )
        assert low * (1 - 1e-6) <= found[y, x] <= high * (1 + 1e-6)


def test_half_of_the_confidence_lies_on_either_side_of_the_median(rng):
    depth = rng.uniform(0, 9, (12, 13)).astype(np.float32)
    uncertainty = rng.uniform(0.1, 1, depth.shape).astype(np.float32)
    uncertainty[rng.uniform(size=depth.shape) < 0.2] = np.inf
    guide = rng.uniform(0, 1, depth.shape).astype(np.float32)
    estimate = DepthMap(np.rint(depth).astype(np.uint16), depth, uncertainty)
    focus = rng.uniform(1, 2, (10, *depth.shape))
    result = refine(estimate, focus, refinement="weighted_median", guide=guide).depth
    low, high = np.percentile(guide, (1, 99))
    similarity = np.clip((guide - low) / (high - low), 0, 1)
    for y, x in itertools.product(range(3, 9), range(3, 10)):
        window = (slice(y - 3, y + 4), slice(x - 3, x + 4))
        weight = np.exp(-np.abs(similarity[window] - similarity[y, x]) / GUIDE_SCALE) / (
            uncertainty[window] ** 2 + 0.2**2
        )
        near = 9 / DEPTH_BINS
        below, above = (
            weight[sign * (result[y, x] - depth[window]) > near].sum() / weight.sum()
            for sign in (1, -1)
        )
        assert below < 0.51
        assert above < 0.51


@pytest.mark.parametrize("planes", [1, 7, 600])
def test_data_term_is_limited_by_that_of_the_pixels_nearby(planes, rng):
    cost = rng.integers(0, round(COST_SCALE * MAX_DATA_COST), (14, 17, planes)).astype(np.int32)
    in_focus = rng.random((14, 17)) < 0.8
    cost[~in_focus] = 0
    expected = cost.copy()
    for y, x in np.ndindex(14, 17):
        near = np.s_[
            max(y - NEIGHBOUR_RADIUS_PX, 0) : y + NEIGHBOUR_RADIUS_PX + 1,
            max(x - NEIGHBOUR_RADIUS_PX, 0) : x + NEIGHBOUR_RADIUS_PX + 1,
        ]
        least = cost[near][in_focus[near]].min(axis=0) + COST_SCALE * NEIGHBOUR_COST
        expected[y, x] = np.minimum(cost[y, x], least)
    limit_by_neighbours(cost, in_focus, np.full(in_focus.shape, NEIGHBOUR_COST))
    np.testing.assert_array_equal(cost, expected)
