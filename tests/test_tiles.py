import sys
import threading
import time
import tracemalloc
import warnings

import dask.array as da
import numpy as np
import pytest

from napari_dff import Recipe, depth_from_focus, focus_measure, refine, synthetic
from napari_dff.curve.blocks import crop_in_place
from napari_dff.curve.volume import (
    QuantizedFocusVolume,
    as_focus_volume,
    focus_windows,
)
from napari_dff.depth import depth_map
from napari_dff.focus import AGGREGATIONS, lazy_focus_volume
from napari_dff.fusion import fuse
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.stack import FocalStack
from napari_dff.pipeline.planning import FOCUS_VOLUMES, PASSING_VOLUMES, Plan
from napari_dff.pipeline.tile import tile_grid
from napari_dff.refinement import energy
from napari_dff.refinement.context import RefinementContext
from napari_dff.refinement.message_passing import message_passing, message_windows
from napari_dff.runtime import windows
from napari_dff.runtime.lazy import read_window, read_windows
from napari_dff.runtime.progress import Cancelled, no_progress
from napari_dff.runtime.threads import ThreadLimits, run_parallel, set_thread_limits, thread_count
from napari_dff.runtime.windows import GRID_PX, Window, full_window, plan_windows, window_grid


@pytest.mark.parametrize("shape", [(8, 8), (301, 517), (2048, 1100), (129, 4001)])
@pytest.mark.parametrize("planes", [1, 90, 2000])
def test_windows_cover_every_pixel_once(shape, planes):
    seen = np.zeros(shape, int)
    for window in plan_windows(shape, planes, 20):
        seen[window.slices] += 1
        assert window.top % GRID_PX == 0
        assert window.left % GRID_PX == 0
    assert (seen == 1).all()


@pytest.mark.parametrize("max_width", [512, 1024])
@pytest.mark.parametrize("planes", [75, 500])
def test_windows_in_progress_fill_no_more_than_a_few_planes(planes, max_width):
    shape = (4096, 4096)
    parts = plan_windows(shape, planes, 20, max_width)
    held = [np.prod(w.expand(20, shape).shape) for w in parts]
    assert planes * max(held) < 1.25 * windows.MAX_WINDOW_PLANES * np.prod(shape)


def test_windows_of_curves_of_blocks_are_larger():
    def largest(shape, step):
        parts = focus_windows(shape, step)
        return max(window.shape for window in parts)

    assert largest((200, 1024, 1024), 1) == (256, 256)
    assert largest((200, 1024, 1024), 2) == (512, 512)
    assert largest((30, 2048, 2048), 1) == (512, 512)
    assert largest((30, 2048, 2048), 2) == (512, 1024)


def test_a_window_expands_to_the_grid_but_not_beyond_the_plane():
    window = Window(40, 64, 16, 30).expand(5, (66, 100))
    assert window == Window(32, 66, 8, 40)
    assert Window(40, 64, 16, 30).slices_in(window) == (slice(8, 32), slice(8, 22))
    assert full_window((5, 7)).expand(9, (5, 7)) == (0, 5, 0, 7)


def test_work_runs_on_several_threads_and_its_error_is_raised():
    names = set()
    both = threading.Barrier(2, timeout=20)

    def work(i: int) -> None:
        both.wait()
        names.add(threading.current_thread().name)

    if thread_count() > 1:
        run_parallel(work, range(2), no_progress, desc="")
        assert len(names) == 2

    def fail(i: int) -> None:
        if i == 3:
            raise ValueError("plane 3 is bad")

    with pytest.raises(ValueError, match="plane 3 is bad"):
        run_parallel(fail, range(9), no_progress, desc="")


def test_after_cancelling_the_remaining_items_are_not_computed():
    done: list[int] = []

    def slow(i: int) -> None:
        done.append(i)
        time.sleep(0.01)

    def impatient(items, /, *, desc):
        for i, item in enumerate(items):
            if i == 2:
                raise Cancelled
            yield item

    with pytest.raises(Cancelled):
        run_parallel(slow, range(500), impatient, desc="")
    assert len(done) < 100


@pytest.fixture
def small_windows(monkeypatch):
    """Windows of 32 pixels, so that even a small stack has many."""

    def small():
        monkeypatch.setattr(windows, "MAX_WINDOW_PX", 32)
        monkeypatch.setattr(windows, "MIN_WINDOW_PX", 32)

    return small


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("operator", ["log", "tenengrad", "laplacian_variance", "vollath"])
def test_the_focus_measure_does_not_depend_on_windows(
    aggregation, operator, surface, small_windows
):
    planes = surface.stack.planes[:, :93, :90]  # sides that nothing divides
    at_once = focus_measure(planes, aggregation=aggregation, operator=operator)
    small_windows()
    in_windows = focus_measure(planes, aggregation=aggregation, operator=operator)
    np.testing.assert_allclose(in_windows, at_once, rtol=2e-3, atol=1e-5 * at_once.max())


def test_the_depth_does_not_depend_on_windows(surface, small_windows):
    recipe = Recipe(registration="none", refinement="none")
    at_once = depth_from_focus(surface.stack, recipe)
    small_windows()
    in_windows = depth_from_focus(surface.stack, recipe)
    spacing = 2.0
    for one, other in zip(at_once.estimate[1:], in_windows.estimate[1:], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3 * spacing)
    np.testing.assert_allclose(at_once.all_in_focus.astype(float), in_windows.all_in_focus, atol=2)


def test_the_depth_of_a_crop_equals_the_crop_of_the_depth(surface):
    planes = surface.stack.planes
    full = depth_map(focus_measure(planes, aggregation="balanced"))
    part = depth_map(focus_measure(planes[:, :64, :72], aggregation="balanced"))
    inner = (slice(0, 24), slice(0, 32))  # what lies beyond the border is felt 40 pixels far
    np.testing.assert_allclose(part.depth[inner], full.depth[inner], atol=1e-3)


def test_refinement_in_windows_has_no_seams(surface, small_windows):
    focus = focus_measure(surface.stack.planes)
    estimate = depth_map(focus)
    at_once = refine(estimate, focus, guide=surface.sharp)
    small_windows()
    in_windows = refine(estimate, focus, guide=surface.sharp)
    assert np.abs(in_windows.depth - at_once.depth).max() < 0.02  # planes


def test_quantized_curves_are_within_three_percent_of_the_curves(surface):
    focus = focus_measure(surface.stack.planes)
    volume = as_focus_volume(focus)
    kept = QuantizedFocusVolume(volume)
    window = Window(16, 64, 8, 96)
    first, noise = kept.read(window)
    again, noise_again = kept.read(window)
    np.testing.assert_array_equal(first, focus[(..., *window.slices)])
    seen = first > 1e-5 * first.max(axis=0)
    np.testing.assert_allclose(again[seen], first[seen], rtol=0.026)
    assert (again.argmax(axis=0) == first.argmax(axis=0)).mean() > 0.98
    for one, other in zip(noise, noise_again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_focus_volume_is_never_in_memory_as_a_whole(rng, monkeypatch):
    """On one thread: what others hold at the same moment depends on the load of the machine."""
    monkeypatch.setattr(windows, "MIN_WINDOW_VALUES", 1)  # a small plane stands for a large one
    monkeypatch.setattr(fuse, "MULTISCALE_WINDOW_PX", 128)  # in proportion
    count, side = 24, 768
    planes = rng.integers(0, 4000, (count, side, side)).astype(np.uint16)
    recipe = Recipe(registration="none", refinement="none")
    try:
        set_thread_limits(ThreadLimits(threads=1))
        depth_from_focus(FocalStack(planes[:3, :64, :64]), recipe)
        tracemalloc.start()
        depth_from_focus(FocalStack(planes), recipe)
        peak = tracemalloc.get_traced_memory()[1] / (4 * side * side)  # float32 planes
    finally:
        tracemalloc.stop()
        set_thread_limits(ThreadLimits())
    assert peak < 14


@pytest.mark.parametrize(("window", "side"), [(5, 96), (7, 32), (7, 96), (9, 192)])
def test_measuring_focus_needs_no_more_memory_than_is_planned(rng, monkeypatch, window, side):
    """Curves of pixels and, last, of blocks, whose windows are larger."""
    count, margin = 128, 160
    shape = (count, *(side + 2 * margin,) * 2)
    planes = rng.integers(0, 4000, shape).astype(np.uint16)
    volume = lazy_focus_volume(planes, "log", 1.0, window, "adaptive")
    part = Window(margin, margin + side, margin, margin + side)
    volume.read_blocks(part)
    peaks = []

    def crop(curves, inner):
        """Crop without tracing: numpy 2.5 counts memory that is shrunk in its place twice."""
        peaks.append(tracemalloc.get_traced_memory()[1])
        address = curves.ctypes.data
        cropped = crop_in_place(curves, inner)
        assert cropped.ctypes.data == address or sys.platform != "linux"
        tracemalloc.reset_peak()
        return cropped

    monkeypatch.setattr("napari_dff.focus.sampling.crop_in_place", crop)
    monkeypatch.setattr("napari_dff.curve.volume.crop_in_place", crop)
    tracemalloc.start()
    volume.read_blocks(part)
    peak = max(*peaks, tracemalloc.get_traced_memory()[1]) / (4 * count)
    tracemalloc.stop()
    assert peak <= 1.05 * sum(n * (side + 2 * px) ** 2 for n, px in FOCUS_VOLUMES[volume.step])


@pytest.mark.parametrize("count", [60, 300])
def test_message_passing_needs_no_more_memory_than_is_planned(rng, monkeypatch, count):
    """Where no pixel is in focus, all are solved; large curves are not in memory meanwhile."""
    shape = (96, 96)
    volume = as_focus_volume(rng.random((count, *shape)).astype(np.float32))
    monkeypatch.setattr(energy, "MAX_CURVES_BYTES", 100 * 4 * 96**2)
    index = volume.read(full_window(shape))[0].argmax(axis=0).astype(np.uint16)
    estimate = DepthMap(index, index.astype(np.float32), np.full(shape, np.inf, np.float32))
    guide = rng.random(shape).astype(np.float32)
    context = RefinementContext(volume, np.arange(float(count)), guide, 1.0)
    message_passing(estimate, context, no_progress)
    tracemalloc.start()
    message_passing(estimate, context, no_progress)
    peak = tracemalloc.get_traced_memory()[1] / (4 * count * 96**2)
    tracemalloc.stop()
    assert peak <= PASSING_VOLUMES + (count == 60) + 0.1


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(registration="none", fusion="noise_aware")])
def test_planes_in_a_temporary_file_give_the_same_result(monkeypatch, recipe):
    """Of lazy planes, one of which is left out; as a whole and in tiles."""
    monkeypatch.setattr("napari_dff.refinement.message_passing.MAX_WINDOW_PX", 96)
    message_windows.cache_clear()
    truth = synthetic.rough_surface(size=192, planes=12, seed=5)
    planes = truth.stack.planes.copy()
    planes[4] = planes[3]
    stack = FocalStack(da.from_array(planes, chunks=(1, 64, 64)), truth.stack.positions)
    tiles = tile_grid((192, 192), len(planes), recipe, 96)
    assert len(tiles) == 4
    for windows_ in ([full_window((192, 192))], tiles):
        results = []
        for plan in (Plan(windows_, 0.0), Plan(windows_, 0.0, in_file=True)):
            monkeypatch.setattr("napari_dff.pipeline.driver.make_plan", lambda *_, p=plan, **__: p)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the plane that is left out
                result = depth_from_focus(stack, recipe)
            results.append((*result.refined, *result.estimate, result.all_in_focus))
        for in_memory, in_file in zip(*results, strict=True):
            np.testing.assert_array_equal(in_file, in_memory)
    message_windows.cache_clear()


def test_windows_of_lazy_planes_are_read_together_and_copied_to_files(rng):
    planes, used, reads = rng.integers(0, 255, (9, 40, 50), np.uint8), np.array([0, 1, 4, 8]), []

    class Lazy:
        shape, dtype, chunks = planes.shape, planes.dtype, (2, 40, 50)

        def __getitem__(self, index):
            reads.append(index[0].start)
            return planes[index]

    parts = [Window(8, 24, 0, 16), Window(16, 40, 8, 48)]
    for in_file in (False, True):
        reads.clear()
        copies = read_windows(Lazy(), parts, used, in_file=in_file)
        assert sorted(reads) == [0, 4, 8]
        for copy, part in zip(copies, parts, strict=True):
            np.testing.assert_array_equal(copy, planes[used][(..., *part.slices)])
            assert isinstance(copy, np.memmap) == in_file
    view = read_window(planes, parts[0], in_file=True)
    assert np.shares_memory(view, planes)


def test_limits_of_threads_and_memory_hold():
    shape = (4096, 4096)
    try:
        set_thread_limits(ThreadLimits(threads=3, megabytes=200))
        assert thread_count() == 3
        held = [np.prod(w.expand(20, shape).shape) for w in plan_windows(shape, 60, 20)]
        assert 3 * 60 * max(held) * 4 < 1.25 * 200e6
    finally:
        set_thread_limits(ThreadLimits())


@pytest.mark.parametrize("count", [5, 30, 100, 1000])
def test_tiles_of_a_refined_depth_consist_of_the_windows_that_are_solved(count):
    shape = (1500, 1100)
    solved = {(w.top, w.left) for w in message_windows(shape, count)}
    for side in (64, 300, 700):
        tiles = tile_grid(shape, count, Recipe(), side)
        assert sum(np.prod(each.shape) for each in tiles) == np.prod(shape)
        assert {(each.top, each.left) for each in tiles} <= solved
    assert tile_grid(shape, count, Recipe(refinement="none"), 300) == window_grid(shape, 300)


def test_refined_depth_in_tiles_is_that_of_the_whole(monkeypatch):
    """Within 0.5 planes for 99.99 % of all pixels, where much is out of focus."""
    rng = np.random.default_rng(3)
    truth = synthetic.machined_part(size=256, planes=9, seed=4)
    planes = truth.stack.planes.astype(np.float32)
    planes = (planes + rng.normal(0, 0.03 * planes.max(), planes.shape)).clip(0)
    stack, recipe = FocalStack(planes, truth.stack.positions), Recipe(registration="none")
    monkeypatch.setattr("napari_dff.refinement.message_passing.MAX_WINDOW_PX", 96)
    whole = depth_from_focus(stack, recipe)
    tiles = tile_grid(planes.shape[1:3], len(planes), recipe, 110)
    assert len(tiles) > 3
    plan = Plan(tiles, 0.0)
    monkeypatch.setattr("napari_dff.pipeline.driver.make_plan", lambda *_, **__: plan)
    tiled = depth_from_focus(stack, recipe)
    spacing = np.abs(np.diff(truth.stack.positions)).mean()
    difference = np.abs(tiled.refined.depth - whole.refined.depth) / spacing
    assert (difference > 0.5).mean() <= 1e-4
