"""A stack that does not fit into memory is computed in tiles that do."""

import re

import dask.array as da
import numpy as np
import pytest

from napari_dff import Recipe
from napari_dff.model.acquisition import Acquisition
from napari_dff.pipeline import driver
from napari_dff.pipeline import planning as planning
from napari_dff.pipeline.planning import Plan, make_plan
from napari_dff.pipeline.sinks import ArraySink
from napari_dff.runtime.threads import (
    ThreadLimits,
    at_most_threads,
    set_thread_limits,
    thread_count,
    thread_limits,
)
from napari_dff.runtime.windows import full_window, plan_windows


@pytest.fixture(autouse=True)
def small_process(monkeypatch):
    """Memory of a new process, whatever other tests have left in this one."""
    monkeypatch.setattr(planning, "resident_megabytes", lambda: 200.0)
    monkeypatch.setattr(planning, "library_megabytes", lambda: 330.0)


UNREFINED = Recipe(registration="none", refinement="none")
LARGE = da.zeros((100, 8192, 8192), chunks=(1, 1024, 1024), dtype=np.uint16)


def test_planes_in_memory_are_not_tiled():
    planes = np.zeros((10, 300, 400), np.uint16)
    plan = make_plan(planes, Recipe())
    assert plan.windows == [full_window((300, 400))]
    assert plan.fits_in_memory


@pytest.mark.parametrize("megabytes", [1500, 2000, 4000])
def test_tiles_cover_a_large_plane_within_the_limit(megabytes):
    plan = make_plan(LARGE, Recipe(), megabytes=megabytes, on_disk=True)
    assert not plan.fits_in_memory
    assert plan.megabytes <= megabytes
    covered = sum(np.prod(window.shape) for window in plan.windows)
    assert covered == 8192**2
    order = [(window.top, window.left) for window in plan.windows]
    assert order == sorted(order)


def test_more_memory_means_fewer_tiles_and_at_last_a_single_one():
    counts = [
        len(make_plan(LARGE, Recipe(), megabytes=mb, on_disk=True).windows)
        for mb in (1500, 3000, 6000, 60000)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[-1] == 1


def test_results_in_memory_and_other_channels_are_counted():
    one_channel = make_plan(LARGE, Recipe(), megabytes=8000, on_disk=True)
    with_maps = make_plan(LARGE, Recipe(), megabytes=8000)
    several_channels = make_plan(LARGE, Recipe(), megabytes=8000, on_disk=True, other_channels=2)
    assert len(with_maps.windows) >= len(one_channel.windows)
    assert with_maps.megabytes > one_channel.megabytes
    assert len(several_channels.windows) > len(one_channel.windows)


def test_too_little_memory_raises_with_the_minimum():
    with pytest.raises(ValueError, match=r"megabytes must be at least \d+ .*, got 50"):
        make_plan(LARGE, Recipe(), megabytes=50, on_disk=True)


def test_fewer_threads_are_used_where_all_would_need_too_much_memory():
    deep = da.zeros((1000, 1024, 1024), chunks=(1, 1024, 1024), dtype=np.uint16)
    with at_most_threads(2):
        plan = make_plan(deep, Recipe(), megabytes=4000, on_disk=True)
        assert plan.threads is None
        plan = make_plan(deep, Recipe(), megabytes=2200, on_disk=True)
    assert plan.threads == 1
    assert plan.megabytes <= 2200
    assert not plan.fits_in_memory


def least_megabytes(shape, recipe):
    """Return the memory that the refusal of too little names."""
    planes = da.zeros(shape, chunks=(1, *shape[1:]), dtype=np.uint16)
    with pytest.raises(ValueError, match=r"at least (\d+)") as error:
        make_plan(planes, recipe, megabytes=50, on_disk=True)
    return float(re.search(r"at least (\d+)", str(error.value))[1])


def test_alignment_of_many_planes_needs_far_less_memory_than_the_planes():
    """Planes that are compared are in a temporary file, not in memory."""
    assert least_megabytes((1000, 1024, 1024), Recipe()) <= 1100  # the planes have 2097


@pytest.mark.parametrize(
    ("shape", "unrefined", "refined"),
    [
        ((20, 1024, 1024), 400, 500),
        ((300, 512, 512), 500, 550),
        ((1000, 1024, 1024), 700, 800),
        ((3000, 2048, 2048), 1000, 1300),
    ],
)
def test_the_least_memory_hardly_grows_with_the_number_of_planes(shape, unrefined, refined):
    assert least_megabytes(shape, UNREFINED) <= unrefined
    assert least_megabytes(shape, Recipe(registration="none")) <= refined


def test_planes_are_in_a_file_and_windows_are_small_only_where_nothing_else_fits():
    deep = da.zeros((1000, 1024, 1024), chunks=(1, 1024, 1024), dtype=np.uint16)
    with at_most_threads(2):
        plans = [make_plan(deep, UNREFINED, megabytes=mb, on_disk=True) for mb in (2000, 1200, 650)]
    assert [plan.in_file for plan in plans] == [False, True, True]
    assert [plan.window_megabytes is not None for plan in plans] == [False, False, True]
    for plan, megabytes in zip(plans, (2000, 1200, 650), strict=True):
        assert plan.megabytes <= megabytes
        assert not plan.fits_in_memory


def test_windows_are_smaller_than_usual_only_if_a_plan_limits_them():
    shape, before = (1024, 1024), thread_limits()

    def side():
        return max(max(window.shape) for window in plan_windows(shape, 2200, 20))

    with Plan([], 0.0, window_megabytes=100.0, threads=1).limits():
        assert 32 <= side() < 80
    assert thread_limits() == before
    try:
        set_thread_limits(ThreadLimits(threads=1, megabytes=100.0))
        assert side() >= 96
    finally:
        set_thread_limits(before)


def test_a_run_keeps_to_the_threads_of_its_plan(monkeypatch):
    counts = []
    estimate = driver.align_stack

    def align_stack(*arguments):
        counts.append(thread_count())
        return estimate(*arguments)

    monkeypatch.setattr(driver, "align_stack", align_stack)
    planes = np.random.default_rng(0).integers(0, 255, (5, 64, 64), np.uint8)
    acquisition = Acquisition(planes, np.arange(5.0), axes=())
    plan = Plan([full_window((64, 64))], 1.0, threads=1)
    with at_most_threads(2):
        before = thread_count()
        driver.run(acquisition, Recipe(), ArraySink(acquisition), plan=plan)
        assert (counts, thread_count()) == ([1], before)
