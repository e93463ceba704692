import numpy as np
import pytest
import tifffile

from napari_dff import DepthMap, Recipe, synthetic
from napari_dff.cli.program import main
from napari_dff.model.acquisition import Acquisition
from napari_dff.pipeline import run
from napari_dff.pipeline.planning import Plan
from napari_dff.pipeline.sinks import ArraySink
from napari_dff.pipeline.tile import tile_grid
from napari_dff.refinement import combine_with_previous

SHAPE = 80, 90
EVERYWHERE = np.ones(SHAPE, bool)
COHERENT = Recipe(registration="none", coherence="previous", sigma=1.0, window=9)


def depth_map(depth, uncertainty) -> DepthMap:
    maps = (np.full(SHAPE, values, np.float32) for values in (depth, uncertainty))
    return DepthMap(np.zeros(SHAPE, np.uint16), *maps)


def combine(now: DepthMap, before: DepthMap, valid=EVERYWHERE) -> DepthMap:
    return combine_with_previous(now, before, 2.0 * np.arange(9), valid)


def test_equal_depths_stay_and_their_uncertainty_falls_by_the_independent_part():
    combined = combine(depth_map(3.0, 0.2), depth_map(3.0, 0.2))
    np.testing.assert_allclose(combined.depth, 3.0, atol=1e-6)
    np.testing.assert_allclose(combined.uncertainty, 0.2 * np.sqrt((1 + 0.8) / 2), rtol=1e-5)


def test_a_motion_of_all_pixels_is_followed_at_once():
    combined = combine(depth_map(9.0, 0.2), depth_map(3.0, 0.2))
    np.testing.assert_allclose(combined.depth, 9.0, atol=1e-5)


def test_noise_is_lower_and_the_share_within_the_uncertainty_holds():
    rng = np.random.default_rng(0)
    now, before = (depth_map(5 + rng.normal(0, 0.2, SHAPE), 0.2) for _ in range(2))
    combined = combine(now, before)
    error = np.abs(combined.depth - 5)
    assert error.mean() < 0.75 * np.abs(now.depth - 5).mean()
    assert np.mean(error < combined.uncertainty) > 0.68


def test_a_jump_of_a_part_is_kept_exactly():
    depth = np.full(SHAPE, 3.0)
    depth[20:40, 20:40] += 5.0
    combined = combine(depth_map(depth, 0.2), depth_map(3.0, 0.2))
    np.testing.assert_allclose(combined.depth, depth, atol=1e-3)
    np.testing.assert_array_equal(combined.uncertainty[20:40, 20:40], np.float32(0.2))


def test_a_gap_takes_the_depth_before_with_a_larger_uncertainty_and_the_motion_around_it():
    uncertainty = np.full(SHAPE, 0.2)
    uncertainty[30:40, 30:40] = np.inf
    valid = EVERYWHERE.copy()
    valid[:35] = False
    combined = combine(depth_map(4.0, uncertainty), depth_map(3.0, 0.2), valid)
    gap = np.s_[35:40, 30:40]
    np.testing.assert_allclose(combined.depth[gap], 4.0, atol=1e-5)
    np.testing.assert_allclose(combined.uncertainty[gap], 0.2 * np.sqrt(2), rtol=1e-5)
    assert np.isinf(combined.uncertainty[30:35, 30:40]).all()


def test_an_uncertain_depth_or_one_without_neighbours_fills_no_gap():
    uncertainty = np.full(SHAPE, 0.2)
    uncertainty[30:40, 30:40] = np.inf
    combined = combine(depth_map(4.0, uncertainty), depth_map(3.0, 1.5))
    assert np.isinf(combined.uncertainty[30:40, 30:40]).all()
    combined = combine(depth_map(4.0, np.inf), depth_map(3.0, 0.2))
    np.testing.assert_array_equal(combined.depth, np.float32(4.0))
    assert np.isinf(combined.uncertainty).all()


@pytest.fixture(scope="module")
def series():
    """Return a noisy time-lapse in which a disc jumps by three planes, and its true depth."""
    return synthetic.moving_surface(128, 12, 3, photons=50, jump=3)


@pytest.fixture(scope="module")
def coherent(series) -> ArraySink:
    sink = ArraySink(series[0])
    run(series[0], COHERENT, sink)
    return sink


def test_a_rendered_time_lapse_has_less_error_and_keeps_its_jump(series, coherent):
    acquisition, truth = series
    alone = ArraySink(acquisition)
    run(acquisition, Recipe(registration="none", sigma=1.0, window=9), alone)
    np.testing.assert_array_equal(coherent.refined.depth[0], alone.refined.depth[0])
    errors = [np.abs(sink.refined.depth - truth)[1:] for sink in (alone, coherent)]
    rms = [np.sqrt(np.mean(error**2)) for error in errors]
    assert rms[1] < 0.97 * rms[0]
    within = [
        np.mean(error < sink.refined.uncertainty[1:])
        for error, sink in zip(errors, (alone, coherent), strict=True)
    ]
    assert within[1] > within[0] - 0.05
    unknown = [np.isinf(sink.refined.uncertainty[1:]).mean() for sink in (alone, coherent)]
    assert unknown[1] <= unknown[0]
    y, x = np.mgrid[:128, :128] / 128
    inside = np.hypot(y - 0.35, x - 0.6) < 0.15
    lag = [np.median(error[-1][inside]) for error in errors]  # µm; the jump is 6
    assert lag[1] < lag[0] + 0.1


def test_tiles_give_the_coherent_depth_of_the_whole(series, coherent):
    acquisition, _ = series
    sink = ArraySink(acquisition)
    tiles = tile_grid((128, 128), 12, COHERENT, 64)
    run(acquisition, COHERENT, sink, plan=Plan(tiles, 0.0))
    whole, tiled = (each.refined for each in (coherent, sink))
    assert np.mean(np.abs(whole.depth - tiled.depth) > 0.05) < 1e-3


def test_channels_and_positions_use_the_time_before_of_their_own():
    acquisition = Acquisition(np.zeros((2, 3, 4, 8, 8)), np.arange(4.0), axes=("p", "t"))
    assert acquisition.previous_time((1, 2)) == (1, 1)
    assert acquisition.previous_time((1, 0)) is None
    single = Acquisition(np.zeros((4, 8, 8)), np.arange(4.0), axes=())
    assert single.previous_time(()) is None


def test_a_batch_refuses_coherence_as_it_computes_times_separately(series, tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.tif", series[0].data[0, :4, :16, :16], photometric="minisblack")
    words = ["batch", str(tmp_path / "a.tif"), "--out", str(tmp_path / "out")]
    assert main([*words, "--coherence", "previous", "--quiet"]) != 0
    assert "coherence must be none in a batch" in (tmp_path / "out/summary.csv").read_text()


@pytest.mark.filterwarnings("default::UserWarning")
def test_coherence_of_a_single_time_is_reported(series, tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.tif", series[0].data[0, :4, :32, :32], photometric="minisblack")
    words = ["run", str(tmp_path / "a.tif"), "--out", str(tmp_path / "out"), "--quiet"]
    assert not main([*words, "--coherence", "previous"])
    assert "coherence previous changes nothing: the stack has one time" in capsys.readouterr().err


def test_files_hold_the_coherent_depth(series, coherent, tmp_path):
    path, out = tmp_path / "a.ome.tif", tmp_path / "out"
    data = series[0].data
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(path, data, ome=True, metadata={"axes": "TZYX", **sizes})
    flags = ["--registration", "none", "--coherence", "previous", "--sigma", "1", "--window", "9"]
    assert not main(["run", str(path), "--out", str(out), *flags, "--quiet"])
    depth = tifffile.imread(out / "depth.ome.tif")
    np.testing.assert_allclose(depth, coherent.refined.depth, atol=1e-5)
