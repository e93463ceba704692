import importlib.util
import itertools
from typing import NamedTuple

import numpy as np
import pytest

from napari_dff import refinement as refinement_package
from napari_dff import synthetic
from napari_dff.curve.volume import QuantizedFocusVolume, as_focus_volume
from napari_dff.depth.estimation import depth_map
from napari_dff.focus import focus_measure
from napari_dff.model.depth_map import DepthMap
from napari_dff.refinement import BACKGROUND, NO_HINT, PreviousResult, refine, refine_volume
from napari_dff.refinement.energy import EDGE_CONTRAST
from napari_dff.refinement.hints import RANGE_PX, geodesic_influence, windows_around
from napari_dff.runtime.progress import no_progress

needs_gco = pytest.mark.skipif(
    importlib.util.find_spec("gco") is None,
    reason="gco-wrapper is not installed: it has no wheel for this Python",
)
SETTINGS = [
    "none",
    "message_passing",
    "least_squares",
    "weighted_median",
    "message_passing+least_squares",
    "weighted_median+message_passing+least_squares",
    pytest.param("graph_cut", marks=needs_gco),
    pytest.param("graph_cut+weighted_median", marks=needs_gco),
]


class Island(NamedTuple):
    """A round island far above a ramp, never in focus and brighter than the ramp."""

    truth: np.ndarray
    inside: np.ndarray
    focus: np.ndarray
    guide: np.ndarray
    estimate: DepthMap
    hints: np.ndarray  # 3 × 3 pixels in its middle


@pytest.fixture(scope="module")
def island() -> Island:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:96, :96]
    inside = np.hypot(y - 48, x - 48) < 22
    truth = np.where(inside, 14.0, 3 + 0.03 * y)
    focus = 0.03 + (1 + (np.arange(20)[:, None, None] - truth) ** 2 / 5) ** -2
    focus[:, inside] = 0.03
    focus *= rng.gamma(60, 1 / 60, focus.shape)
    guide = np.where(inside, 0.8, 0.3) + rng.normal(0, 0.004, inside.shape)
    hints = np.full(inside.shape, NO_HINT)
    hints[47:50, 47:50] = 14
    return Island(truth, inside, focus, guide, depth_map(focus), hints)


def assert_same(actual: DepthMap, expected: DepthMap, where: np.ndarray | slice = np.s_[:]) -> None:
    for one, two in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one[where], two[where])


@pytest.mark.parametrize("smoothness", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("refinement", SETTINGS)
def test_a_pixel_with_a_hint_gets_exactly_its_plane(refinement, smoothness, surface, rng):
    focus = focus_measure(surface.stack.planes)
    positions = np.cumsum(rng.uniform(0.5, 1.5, len(focus)))
    hints = np.full(focus.shape[1:], NO_HINT)
    hints[rng.integers(0, 96, 20), rng.integers(0, 96, 20)] = rng.integers(0, len(focus), 20)
    hints[60:64, 10:30] = 0
    hints[5:9, 50:60] = BACKGROUND
    result = refine(
        depth_map(focus, positions),
        focus,
        positions,
        refinement=refinement,
        smoothness=smoothness,
        guide=surface.sharp,
        hints=hints,
    )
    here = hints >= 0
    plane = hints[here]
    np.testing.assert_array_equal(result.index[here], plane)
    np.testing.assert_array_equal(result.depth[here], positions.astype(np.float32)[plane])
    distance = np.array([np.ptp(positions[max(k - 1, 0) : k + 2]) for k in range(len(focus))])
    distance[1:-1] /= 2
    np.testing.assert_allclose(result.uncertainty[here], distance[plane] / np.sqrt(12), rtol=1e-5)
    assert np.isinf(result.uncertainty[hints == BACKGROUND]).all()
    assert np.isfinite(result.depth).all()


@pytest.mark.parametrize("refinement", SETTINGS)
def test_without_hints_the_result_is_the_same(refinement, surface):
    focus = focus_measure(surface.stack.planes)
    estimate = depth_map(focus)
    settings = {"refinement": refinement, "guide": surface.sharp}
    without = refine(estimate, focus, **settings)
    hints = np.full(focus.shape[1:], NO_HINT)
    assert_same(refine(estimate, focus, hints=hints, **settings), without)
    again = refine(
        estimate, focus, hints=hints, previous=PreviousResult(without, hints), **settings
    )
    assert_same(again, without)


@pytest.mark.parametrize(
    "refinement",
    [
        "message_passing+least_squares",
        "message_passing",
        pytest.param("graph_cut", marks=needs_gco),
    ],
)
def test_one_hint_corrects_a_whole_island_and_no_pixel_outside(refinement, island):
    truth, inside, focus, guide, estimate, hints = island
    settings = {"refinement": refinement, "guide": guide}
    before = refine(estimate, focus, **settings)
    after = refine(estimate, focus, hints=hints, **settings)
    assert (np.abs(before.depth - truth)[inside] > 5).mean() > 0.95
    assert (np.abs(after.depth - truth)[inside] < 0.5).mean() > 0.95
    assert np.abs(after.depth - before.depth)[~inside].max() < 0.15
    assert np.isinf(after.uncertainty[inside & (hints == NO_HINT)]).all()


def test_hints_reduce_the_error_of_a_bare_patch():
    """With hints where the surface lies in a plane; elsewhere they err by up to half a plane."""
    truth = synthetic.bare_patch(seed=1)
    positions, bare = truth.stack.positions, ~truth.textured
    focus = focus_measure(truth.stack.planes)
    estimate = depth_map(focus, positions)
    hints = np.full(bare.shape, NO_HINT)
    distance = np.abs(truth.depth - np.rint(truth.depth))
    for top, left in itertools.product((85, 123), (94, 134)):
        part = distance[top : top + 12, left : left + 12]
        y, x = np.add((top, left), np.unravel_index(part.argmin(), part.shape))
        hints[y, x] = round(float(truth.depth[y, x]))
    before, after = (
        np.abs(refine(estimate, focus, positions, guide=truth.sharp, hints=h).depth - truth.depth)
        for h in (None, hints)
    )
    assert after[bare].mean() < 0.7 * before[bare].mean()
    assert after[bare].mean() < 0.27  # planes
    assert after[truth.textured].mean() < before[truth.textured].mean() + 0.002


@pytest.mark.parametrize("refinement", [s for s in SETTINGS if s != "none"])
def test_a_hint_does_not_change_a_slope_of_well_known_depth(refinement, rng):
    y, x = np.mgrid[:96, :96]
    truth = 3 + 0.2 * x
    focus = 0.03 + (1 + (np.arange(26)[:, None, None] - truth) ** 2 / 5) ** -2
    focus *= rng.gamma(60, 1 / 60, focus.shape)
    hints = np.full(truth.shape, NO_HINT)
    hints[47:50, 50] = 13
    estimate = depth_map(focus)
    before, after = (
        refine(estimate, focus, refinement=refinement, hints=h).depth for h in (None, hints)
    )
    away = np.hypot(y - 48, x - 50)
    # Where votes change by little, a weighted median may take the next pixel, 0.2 planes away.
    change = np.abs(after - before)
    assert np.quantile(change[away > 10], 0.995) < 0.05
    assert change[away > 10].max() < 0.25
    assert change[away > 4].max() < 0.3


def test_background_spreads_over_badly_known_pixels_up_to_edges_of_the_guide(island):
    hints = np.where(island.hints >= 0, BACKGROUND, NO_HINT)
    y, x = np.mgrid[:96, :96]
    near = np.hypot(y - 48, x - 48) < 12
    well_known = near & (x > 48)
    uncertainty = np.where(island.inside, np.float32(1.5), island.estimate.uncertainty)
    uncertainty[well_known] = 0.1
    flat = DepthMap(np.full_like(island.estimate.index, 5), island.estimate.depth, uncertainty)
    settings = {"refinement": "none", "guide": island.guide}
    result = refine(flat, island.focus, hints=hints, **settings)
    assert np.isinf(result.uncertainty[near & ~well_known]).all()
    assert np.isfinite(result.uncertainty[well_known & (hints == NO_HINT)]).all()
    assert np.isfinite(result.uncertainty[~island.inside]).all()


def test_influence_of_a_hint_falls_with_the_geodesic_distance():
    """Compared with shortest paths on the graph of pixels (Bellman-Ford)."""
    rng = np.random.default_rng(1)
    guide = np.cumsum(rng.normal(0, EDGE_CONTRAST / 2, (30, 40)), axis=1).astype(np.float32)
    hints = np.full(guide.shape, NO_HINT)
    hints[4, 5], hints[20, 30], hints[15, 8] = 3, 7, BACKGROUND
    nearest, influence = geodesic_influence(hints, guide)
    away = np.full((3, *guide.shape), np.inf)
    for distance, value in zip(away, (3, 7, BACKGROUND), strict=True):
        distance[hints == value] = 0
        for _ in range(80):
            for dy, dx in itertools.product((-1, 0, 1), repeat=2):
                here = (slice(max(dy, 0), 30 + min(dy, 0)), slice(max(dx, 0), 40 + min(dx, 0)))
                there = (slice(max(-dy, 0), 30 + min(-dy, 0)), slice(max(-dx, 0), 40 + min(-dx, 0)))
                edge = np.minimum(np.abs(guide[here] - guide[there]) / EDGE_CONTRAST, 1)
                step = np.hypot(dy, dx) + RANGE_PX * edge**4
                distance[here] = np.minimum(distance[here], distance[there] + step)
    least = np.minimum(away.min(axis=0), RANGE_PX)
    np.testing.assert_allclose(influence, (1 - (least / RANGE_PX) ** 2) ** 2, atol=1e-4)
    in_range = least < RANGE_PX - 1e-3
    assert 0.1 < in_range.mean() < 0.9
    np.testing.assert_array_equal(
        nearest[in_range], np.array([3, 7, BACKGROUND])[away.argmin(axis=0)[in_range]]
    )


def test_windows_cover_a_mask_with_its_margin_and_do_not_overlap(rng):
    for _ in range(20):
        mask = rng.uniform(size=(203, 310)) < 2e-4
        count = np.zeros(mask.shape, int)
        for box in windows_around(mask, 24):
            count[box.slices] += 1
        assert count.max() <= 1
        for y, x in np.argwhere(mask):
            assert count[max(y - 24, 0) : y + 25, max(x - 24, 0) : x + 25].all()


@pytest.fixture(scope="module")
def wide():
    """Focus, positions, guide and estimate of a plane larger than the range of a hint."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:400, :500]
    truth = 5 + 2 * np.sin(x / 50) + 2 * np.cos(y / 40)
    focus = 0.03 + (1 + (np.arange(11)[:, None, None] - truth) ** 2 / 5) ** -2
    bare = np.hypot((y - 130) % 200 - 100, (x - 120) % 200 - 100) < 20
    focus[:, bare] = 0.03
    focus = (focus * rng.gamma(60, 1 / 60, focus.shape)).astype(np.float32)
    guide = np.where(bare, 0.9, rng.uniform(0.2, 0.5, bare.shape))
    positions = 0.5 * np.arange(11)
    return focus, positions, guide, depth_map(focus, positions)


FIRST, SECOND, NEVER = (25, 20, 8), (31, 26, 2), (33, 12, BACKGROUND)  # y, x, hint


@pytest.mark.parametrize(
    ("old", "new"),
    [([], [FIRST]), ([FIRST, SECOND], [FIRST]), ([FIRST], [FIRST, NEVER]), ([NEVER], [])],
    ids=["first", "removed", "background", "last removed"],
)
def test_changed_hints_change_only_the_windows_around_them(old, new, wide):
    focus, positions, guide, estimate = wide
    hints = [np.full(guide.shape, NO_HINT) for _ in range(2)]
    for values, marks in zip(hints, (old, new), strict=True):
        for y, x, plane in marks:
            values[y - 1 : y + 2, x - 1 : x + 2] = plane
    earlier, expected = (
        refine(estimate, focus, positions, guide=guide, hints=values) for values in hints
    )
    copy = DepthMap(*(part.copy() for part in earlier))
    previous = PreviousResult(earlier, hints[0])
    settings = {"guide": guide, "hints": hints[1], "previous": previous}
    result = refine(estimate, focus, positions, **settings)
    assert_same(earlier, copy)
    error = np.abs(result.depth - expected.depth) / 0.5
    assert np.median(error) < 1e-5
    assert np.percentile(error, 99) < 0.02
    changed = np.abs(expected.depth - earlier.depth) / 0.5 > 0.1
    assert (error[changed] < 0.05).all()
    np.testing.assert_array_equal(np.isinf(result.uncertainty), np.isinf(expected.uncertainty))
    far = np.ones(guide.shape, bool)
    far[:180, :180] = False
    assert_same(result, earlier, far)
    seams = np.abs(np.diff(result.depth - earlier.depth, axis=0))[100:]
    assert seams.max() < 0.05


@pytest.mark.parametrize("refinement", SETTINGS)
def test_new_hints_on_a_previous_result_get_exactly_their_plane(refinement, island):
    volume = QuantizedFocusVolume(as_focus_volume(island.focus))
    args = volume, np.arange(20.0), refinement, 1.0, island.guide, no_progress
    earlier = refine_volume(island.estimate, *args)
    previous = PreviousResult(earlier, np.full_like(island.hints, NO_HINT))
    result = refine_volume(island.estimate, *args, hints=island.hints, previous=previous)
    assert (result.depth[island.hints >= 0] == 14).all()


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        (np.full((3, 4), -1), r"hints must have the shape \(Y, X\) .*, \(96, 96\), got \(3, 4\)"),
        (np.zeros((96, 96)), "hints must be plane indices, integers, got float64"),
        (np.full((96, 96), 20), "hints must be plane indices from 0 to 19, .* from 20 to 20"),
        (np.full((96, 96), -3), "hints must be plane indices from 0 to 19, .* from -3 to -3"),
    ],
)
def test_wrong_hints_raise_a_value_error(hints, message, island):
    args = island.estimate, island.focus
    with pytest.raises(ValueError, match=f"^{message}"):
        refine(*args, hints=hints)
    with pytest.raises(ValueError, match=f"^previous.{message}"):
        refine(*args, previous=PreviousResult(island.estimate, hints))


def test_a_previous_result_of_another_shape_raises_a_value_error(island):
    small = DepthMap(*(part[1:] for part in island.estimate))
    with pytest.raises(ValueError, match=r"previous.result must have the shape"):
        refine(island.estimate, island.focus, previous=PreviousResult(small, island.hints))


def test_old_names_of_the_previous_result_work_and_warn(island):
    hints = np.full_like(island.hints, NO_HINT)
    with pytest.warns(DeprecationWarning, match="use PreviousResult"):
        previous = refinement_package.Before(island.estimate, hints)
    with pytest.warns(DeprecationWarning, match=r"use refine\(previous=\)"):
        result = refine(island.estimate, island.focus, before=previous)
    assert_same(result, island.estimate)
