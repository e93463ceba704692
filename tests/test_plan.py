"""A stack that does not fit into memory is computed in tiles that do."""

import dask.array as da
import numpy as np
import pytest

from napari_dff import Recipe
from napari_dff.pipeline import planning as planning
from napari_dff.pipeline.planning import make_plan
from napari_dff.runtime.windows import full_window


@pytest.fixture(autouse=True)
def small_process(monkeypatch):
    """Memory of a new process, whatever other tests have left in this one."""
    monkeypatch.setattr(planning, "resident_megabytes", lambda: 200.0)
    monkeypatch.setattr(planning, "library_megabytes", lambda: 330.0)


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
