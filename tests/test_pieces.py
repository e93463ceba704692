"""A run in tiles gives the result of an untiled run, without seams."""

import dataclasses

import dask.array as da
import numpy as np
import pytest

from napari_dff import FocalStack, Recipe, depth_from_focus, synthetic
from napari_dff.model.stack import NO_CONTRAST_MESSAGE
from napari_dff.pipeline import driver as pipeline
from napari_dff.pipeline.planning import Plan
from napari_dff.registration import LazyAlignedStack
from napari_dff.runtime.threads import ThreadLimits, set_thread_limits
from napari_dff.runtime.windows import window_grid

SIDE = 128
PLAIN = Recipe(registration="none", refinement="none")


@pytest.fixture(scope="module")
def wide():
    """Rough ground with a bare disc, on which nothing is ever in focus."""
    truth = synthetic.rough_surface(size=384, planes=12, seed=5)
    planes = truth.stack.planes[:, :, :256].copy()
    y, x = np.mgrid[:384, :256]
    bare = (y - 130) ** 2 + (x - 140) ** 2 < 70**2  # across the corners of four tiles
    noise = np.random.default_rng(0).normal(20000, 60, planes.shape)
    planes[:, bare] = noise[:, bare].astype(np.uint16)
    return dataclasses.replace(truth.stack, planes=planes), bare


def plan_of_small_tiles(planes, recipe, **_):
    return Plan(window_grid(tuple(planes.shape[1:3]), SIDE), 0.0)


@pytest.fixture
def tiled(monkeypatch):
    """`depth_from_focus` in tiles of `SIDE` pixels, however much memory is free."""

    def run(*arguments, **settings):
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "make_plan", plan_of_small_tiles)
            return depth_from_focus(*arguments, **settings)

    return run


@pytest.fixture(scope="module")
def plain_parts(wide):
    """Result of the wide stack in tiles, without refinement."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "make_plan", plan_of_small_tiles)
        return depth_from_focus(wide[0], PLAIN)


def steps(depth: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps of the depth across the borders of tiles, and elsewhere."""
    across = np.abs(np.diff(np.moveaxis(depth, axis, 0), axis=0))
    borders = np.arange(SIDE, depth.shape[axis], SIDE) - 1
    return across[borders], np.delete(across, borders, axis=0)


def test_without_refinement_a_tiled_run_equals_an_untiled_run(wide, plain_parts):
    stack, parts = wide[0], plain_parts
    whole = depth_from_focus(stack, PLAIN)
    spacing = np.diff(stack.positions).mean()
    error = np.abs(parts.estimate.depth - whole.estimate.depth) / spacing
    assert np.mean(error > 1e-3) < 1e-4
    known = np.isfinite(whole.estimate.uncertainty)
    assert np.mean(known != np.isfinite(parts.estimate.uncertainty)) < 1e-4
    same = known & np.isfinite(parts.estimate.uncertainty)
    doubt = (parts.estimate.uncertainty[same] - whole.estimate.uncertainty[same]) / spacing
    assert np.percentile(np.abs(doubt), 99.9) < 1e-3
    assert np.mean(parts.all_in_focus == whole.all_in_focus) > 0.999
    assert parts.refined is parts.estimate


@pytest.mark.parametrize("refinement", ["message_passing+least_squares", "weighted_median"])
def test_refined_depth_of_tiles_is_close_to_an_untiled_run_and_has_no_seams(
    wide, tiled, refinement
):
    stack, bare = wide
    recipe = Recipe(registration="none", refinement=refinement)
    whole, parts = depth_from_focus(stack, recipe), tiled(stack, recipe)
    spacing = np.diff(stack.positions).mean()
    error = np.abs(parts.refined.depth - whole.refined.depth)[~bare] / spacing
    assert np.median(error) < 0.005
    assert np.percentile(error, 99) < 0.06
    both = [steps(parts.refined.depth / spacing, axis) for axis in (0, 1)]
    seams, inside = (
        np.concatenate([part.ravel() for part in each]) for each in zip(*both, strict=True)
    )
    untiled = np.concatenate([steps(whole.refined.depth / spacing, k)[0].ravel() for k in (0, 1)])
    # The untiled run has larger steps at the same pixels too, because of the bare disc.
    for statistic in (np.mean, lambda part: np.percentile(part, 99)):
        assert statistic(seams) < 1.15 * max(statistic(inside), statistic(untiled))


def test_tiles_of_planes_that_need_alignment_equal_an_untiled_run(drifting, tiled):
    recipe = dataclasses.replace(PLAIN, registration="joint")
    whole, parts = depth_from_focus(drifting.stack, recipe), tiled(drifting.stack, recipe)
    assert isinstance(parts.stack.planes, LazyAlignedStack)
    np.testing.assert_array_equal(parts.transforms, whole.transforms)
    np.testing.assert_array_equal(parts.valid, whole.valid)
    np.testing.assert_array_equal(parts.stack.planes[3], whole.stack.planes[3])
    error = np.abs(parts.estimate.depth - whole.estimate.depth)
    assert np.mean(error > 1e-3 * np.diff(drifting.stack.positions).mean()) < 1e-3


def test_a_lazy_stack_gives_the_same_tiles_as_one_in_memory(wide, tiled, plain_parts):
    stack, _ = wide
    lazy = dataclasses.replace(stack, planes=da.from_array(stack.planes, chunks=(5, 100, 200)))
    parts = tiled(lazy, PLAIN)
    np.testing.assert_array_equal(parts.estimate.depth, plain_parts.estimate.depth)
    np.testing.assert_array_equal(parts.all_in_focus, plain_parts.all_in_focus)


def test_a_blank_tile_takes_depth_from_its_neighbours_and_a_blank_stack_is_refused(wide, tiled):
    stack, _ = wide
    planes = stack.planes.copy()
    planes[:, 256:] = 300
    recipe = Recipe(registration="none")
    result = tiled(dataclasses.replace(stack, planes=planes), recipe)
    assert np.isinf(result.refined.uncertainty[300:]).all()
    assert np.isfinite(result.refined.depth).all()
    with pytest.raises(ValueError, match=NO_CONTRAST_MESSAGE):
        tiled(FocalStack(np.full((5, 200, 200), 7, np.uint8)), recipe)


def test_results_are_equal_to_the_bit_for_any_number_of_threads(wide):
    stack, _ = wide
    results = []
    try:
        for threads in (1, 3):
            set_thread_limits(ThreadLimits(threads=threads))
            results.append(depth_from_focus(stack, Recipe(registration="none")))
    finally:
        set_thread_limits(ThreadLimits())
    for other in results[1:]:
        np.testing.assert_array_equal(other.refined.depth, results[0].refined.depth)
        np.testing.assert_array_equal(other.refined.uncertainty, results[0].refined.uncertainty)
        np.testing.assert_array_equal(other.all_in_focus, results[0].all_in_focus)
