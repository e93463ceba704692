"""Chunks that cover several planes are decoded once, whether a stack is computed whole or tiled."""

import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import zarr

from napari_dff import FocalStack, Recipe, depth_from_focus, read_acquisitions
from napari_dff.pipeline import planning
from napari_dff.pipeline.planning import make_plan
from napari_dff.runtime import lazy
from napari_dff.runtime.lazy import CHUNK_COPIES, decoding_bytes
from napari_dff.runtime.windows import window_grid

CHUNKS = (5, 64, 40)
RECIPE = Recipe(registration="none", refinement="none")


class ChunkedPlanes:
    """An array that counts how often each of its chunks is decoded."""

    def __init__(self, planes, chunks=CHUNKS):
        self.planes, self.chunks, self.counts = planes, chunks, Counter()
        self.shape, self.dtype, self.ndim = planes.shape, planes.dtype, planes.ndim

    def __getitem__(self, index):
        parts = np.indices([-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True)])
        for chunk in parts.reshape(3, -1).T:
            pairs = zip(chunk, self.chunks, index, self.shape, strict=True)
            spans = [(i * c, i * c + c, range(n)[part]) for i, c, part, n in pairs]
            if all(set(range(low, high)) & set(np.atleast_1d(w)) for low, high, w in spans):
                self.counts[tuple(map(int, chunk))] += 1
        return self.planes[index]


@pytest.mark.parametrize("tiles", [1, 4])
def test_each_chunk_is_decoded_once(surface, tiles, monkeypatch):
    planes = surface.stack.planes
    chunked = ChunkedPlanes(planes)
    if tiles > 1:
        plan = planning.Plan(window_grid(planes.shape[1:], 48), 100.0)
        monkeypatch.setattr("napari_dff.pipeline.driver.make_plan", lambda *_, **__: plan)
    result = depth_from_focus(FocalStack(chunked, surface.stack.positions), RECIPE)
    expected = depth_from_focus(FocalStack(planes, surface.stack.positions), RECIPE)
    assert len(chunked.counts) == 3 * 2 * 3
    assert set(chunked.counts.values()) == {1}
    np.testing.assert_allclose(result.refined.depth, expected.refined.depth, atol=1e-5)


def test_chunks_that_do_not_fit_are_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(planning, "resident_megabytes", lambda: 200.0)
    monkeypatch.setattr(planning, "library_megabytes", lambda: 330.0)
    planes = ChunkedPlanes(np.broadcast_to(np.uint16(0), (400, 2048, 2048)), (400, 1024, 1024))
    with pytest.raises(
        ValueError,
        match=r"at least \d+ .* chunks of \(400, 1024, 1024\) values are decoded at once",
    ):
        make_plan(planes, RECIPE, megabytes=1500, on_disk=True)
    planes.chunks = (100, 512, 512)
    plan = make_plan(planes, RECIPE, megabytes=1500, on_disk=True)
    assert plan.megabytes <= 1500


def test_a_disk_too_small_for_the_planes_is_named_with_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(lazy.tempfile, "tempdir", None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    planes = ChunkedPlanes(np.zeros((10, 64, 64), np.uint16))
    with pytest.raises(OSError, match=f"to {tmp_path}, which needs .* variable TMPDIR"):
        lazy.as_plane_file(planes)


def test_chunks_that_cover_other_channels_and_times_are_counted_whole(tmp_path):
    shape = (2, 3, 5, 64, 64)
    array = zarr.create_array(tmp_path / "a.zarr", shape=shape, chunks=shape, dtype="uint16")
    array[:] = 1
    (acquisition,) = read_acquisitions(tmp_path / "a.zarr", axes="TCZYX")
    planes = acquisition.stack(1, 2).planes
    assert planes.chunks[0] == (5,)
    assert decoding_bytes(planes) >= CHUNK_COPIES * array.nbytes
