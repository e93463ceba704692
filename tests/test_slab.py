"""Projections along a surface: known layers, brute force, tiles, and the command line."""

import re
import warnings

import numpy as np
import pytest
import tifffile

from napari_dff import project_slab, synthetic
from napari_dff.cli.program import main
from napari_dff.fusion import slab as slabs
from napari_dff.io.readers.results import read_image
from napari_dff.registration import LazyAlignedStack

Z = 0.5 * np.arange(16)
rng = np.random.default_rng(1)
PLANES = rng.integers(0, 60000, (9, 12, 20)).astype(np.uint16)
POSITIONS = np.array([0, 0.7, 1.1, 2, 3, 3.2, 4.5, 5, 6])
DEPTH = rng.uniform(1.2, 4.8, (12, 20)).astype(np.float32)


def brute_force(method, low, high, samples=4000):
    """The same of many values, evenly spaced in the slab; the maximum also of those of planes."""
    statistics = {"maximum": np.max, "mean": np.mean, "standard_deviation": np.std}
    out = np.empty(DEPTH.shape)
    for at in np.ndindex(DEPTH.shape):
        start, stop = DEPTH[at] + low, DEPTH[at] + high
        places = start + (stop - start) * (np.arange(samples) + 0.5) / samples
        if method == "maximum":
            places = np.r_[start, POSITIONS[np.clip(POSITIONS, start, stop) == POSITIONS], stop]
        values = np.interp(places, POSITIONS, PLANES[(slice(None), *at)].astype(float))
        out[at] = statistics[method](values)
    return out


@pytest.mark.parametrize("method", ["maximum", "mean", "standard_deviation"])
def test_each_method_is_that_of_the_values_interpolated_between_planes(method):
    found = project_slab(PLANES, DEPTH, POSITIONS, slab=(-0.9, 0.6), method=method)
    np.testing.assert_allclose(found, brute_force(method, -0.9, 0.6), rtol=1e-5, atol=0.51)


def test_a_slab_as_thick_as_three_planes_sums_three_planes():
    found = project_slab(
        np.full((9, 8, 8), 7, np.uint8), np.full((8, 8), 4.3), slab=(-1, 2), method="sum"
    )
    np.testing.assert_allclose(found, 21, rtol=1e-6)
    assert found.dtype == np.float32


def test_offsets_are_values_between_planes_and_falling_positions_give_the_same():
    ramp = np.broadcast_to(10 * Z[:, None, None], (16, 8, 8)).astype(np.float32)
    depth = np.linspace(2, 5, 64).reshape(8, 8)
    settings = {"slab": (0, 0), "offsets": (-1.3, 0, 0.25)}
    found = project_slab(ramp, depth, Z, **settings)
    expected = 10 * (depth + np.array([-1.3, 0, 0.25])[:, None, None])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(project_slab(ramp[::-1], depth, Z[::-1], **settings), found)
    colour = np.repeat(ramp[..., None], 3, axis=3) * [1, 2, 3]
    many = project_slab(colour, depth, Z, **settings)
    np.testing.assert_allclose(many, found[..., None] * [1, 2, 3], rtol=1e-6)


def two_layers():
    """A curved sheet with stripes along y, and one with stripes along x, 3 µm above it."""
    depth = 1.2 + 2 * synthetic.relief((64, 64), smoothness=12, seed=2)
    stripes = np.broadcast_to(np.arange(64) % 8 < 4, (64, 64)).astype(float)
    sheet, cover = (
        synthetic.render_fluorescent(each, at, Z, defocus=0.0)
        for each, at in ((stripes, depth), (stripes.T, depth + 3))
    )
    # Each layer is 1 µm thick, without light elsewhere.
    near = [np.abs(Z[:, None, None] - at) < 0.5 for at in (depth, depth + 3)]
    return sheet * near[0] + cover * near[1], depth, stripes


def test_a_slab_shows_the_layer_of_the_surface_only_and_an_offset_the_other_one():
    planes, depth, stripes = two_layers()
    surface, cover = project_slab(planes, depth, Z, slab=(-0.5, 0.5), offsets=(0, 3))
    np.testing.assert_allclose(surface, stripes, atol=1e-6)
    np.testing.assert_allclose(cover, stripes.T, atol=1e-6)
    both = planes.max(axis=0)
    np.testing.assert_allclose(both, np.maximum(stripes, stripes.T))


def test_slabs_that_leave_the_stack_are_clipped_and_counted():
    depth = np.where(np.arange(20) < 5, 0.5, 4.0) * np.ones((12, 1))
    with pytest.warns(UserWarning, match="leaves the stack at 25.00% of the pixels"):
        found = project_slab(PLANES, depth, POSITIONS, slab=(-1, 1), method="maximum")
    inside = project_slab(PLANES, depth, POSITIONS, slab=(-0.5, 1), method="maximum")
    np.testing.assert_array_equal(found[:, :5], inside[:, :5])
    with pytest.warns(UserWarning, match="100.00%"):
        beyond = project_slab(PLANES, depth + 3, POSITIONS, slab=(3, 3))
    np.testing.assert_array_equal(beyond, PLANES[-1])
    with pytest.raises(ValueError, match="slab must lie in the stack somewhere, got 9 to 9 from"):
        project_slab(PLANES, depth, POSITIONS, slab=(9, 9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        project_slab(PLANES, np.full((12, 20), 6.0), POSITIONS, slab=(0, 0))


def test_tiles_and_planes_that_are_resampled_when_read_give_the_same(monkeypatch):
    planes = np.tile(PLANES, (1, 12, 10))
    depth = np.tile(DEPTH, (12, 10))
    settings = {"slab": (-1, 0.5), "offsets": (-0.2, 0.0, 0.3), "method": "standard_deviation"}
    together = project_slab(planes, depth, POSITIONS, **settings)
    monkeypatch.setattr(slabs, "MAX_TILE_BYTES", 1000)
    shifts = np.tile(np.eye(3), (9, 1, 1))
    tiles = project_slab(LazyAlignedStack(planes, shifts), depth, POSITIONS, **settings)
    np.testing.assert_array_equal(tiles, together)
    shifts[4, 0, 2] = 0.5
    aligned = LazyAlignedStack(planes, shifts)
    tiles = project_slab(aligned, depth, POSITIONS, **settings)
    np.testing.assert_array_equal(tiles, project_slab(aligned[:], depth, POSITIONS, **settings))


def test_of_the_cell_sheet_a_thin_slab_is_nearer_to_the_truth_than_all_planes():
    truth = synthetic.cell_sheet(size=96)
    stack, sharp = truth.stack, truth.sharp.astype(float)
    thin = project_slab(stack.planes, truth.depth, stack.positions, slab=(-0.25, 0.25))
    every = stack.planes.max(axis=0)
    thin_error, error = (np.sqrt(np.mean((each - sharp) ** 2)) for each in (thin, every))
    assert thin_error < 0.6 * error


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"slab": (1, -1)}, "slab must be two offsets, the lower one first, got (1.0, -1.0)"),
        ({"slab": (0, np.nan)}, "slab must be a number from"),
        ({"slab": (0, 0), "method": "sum"}, "slab must be thicker than 0 for the method sum"),
        ({"offsets": (1, 0)}, "offsets must rise from one to the next"),
        ({"method": "median"}, "method must be one of maximum, mean, sum, standard_deviation"),
        ({"depth": DEPTH[1:]}, "depth must have the shape of a plane, (12, 20), got (11, 20)"),
        ({"depth": DEPTH * np.nan}, "depth must be finite"),
    ],
)
def test_invalid_arguments_are_named(settings, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        project_slab(**{"planes": PLANES, "depth": DEPTH, "positions": POSITIONS, **settings})


def test_the_command_projects_every_time_and_channel_along_the_depth_of_a_run(tmp_path, capsys):
    scenes = [synthetic.rough_surface(size=48, planes=7, seed=s).stack.planes for s in (1, 2)]
    data = np.stack([np.stack([each, each // 2 + 900]) for each in scenes])
    file, results, out = (tmp_path / name for name in ("stack.ome.tif", "results", "p.ome.tif"))
    metadata = {"axes": "TCZYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.5}
    tifffile.imwrite(file, data, ome=True, metadata=metadata, photometric="minisblack")
    quick = ["--registration", "none", "--refinement", "none", "--quiet"]
    assert main(["run", str(file), "--out", str(results), "--focus-channel", "0", *quick]) == 0
    words = ["project", str(file), "--depth-from", str(results), "--out", str(out)]
    settings = ["--slab", "-0.3", "0.2", "--offsets", "-0.5", "0", "--method", "mean"]
    capsys.readouterr()
    assert main([*words, *settings, "--quiet"]) == 0
    sentence = capsys.readouterr().err
    assert "the slab leaves the stack at" in sentence
    found, depth = tifffile.imread(out), tifffile.imread(results / "depth.ome.tif")
    assert found.shape == (2, 2, 2, 48, 48)
    assert found.dtype == data.dtype
    z, shares = 0.5 * np.arange(7), []
    for time, channel in np.ndindex(2, 2):
        with pytest.warns(UserWarning, match="leaves") as warned:
            expected = project_slab(
                data[time, channel],
                depth[time],
                z,
                slab=(-0.3, 0.2),
                offsets=(-0.5, 0),
                method="mean",
            )
        shares.append(float(str(warned[0].message).split(" at ")[1].split("%")[0]))
        np.testing.assert_array_equal(found[time, channel], expected)
    assert f"at {np.mean(shares):.2f}%" in sentence
    with tifffile.TiffFile(out) as tif:
        assert tif.series[0].axes == "TCZYX"
    assert main([*words, "--quiet"]) == 2
    assert "exists: write elsewhere, or add --overwrite" in capsys.readouterr().err
    for path, label in ((file, "the planes"), (results / "depth.ome.tif", "depth_from")):
        assert main([*words[:-1], str(path), "--overwrite", "--quiet"]) == 2
        assert f"out must be another folder than that of {label}" in capsys.readouterr().err
    zarr_out = tmp_path / "p.ome.zarr"
    assert main([*words[:-1], str(zarr_out), *settings, "--quiet"]) == 0
    np.testing.assert_array_equal(read_image(zarr_out), found)


def test_the_share_of_clipped_slabs_is_that_of_pixels_also_of_colours(tmp_path, capsys):
    planes = synthetic.rough_surface(size=48, planes=6).stack.planes
    file, results = tmp_path / "stack.ome.tif", tmp_path / "results"
    colours = np.stack([planes] * 3, axis=-1)
    tifffile.imwrite(file, colours, ome=True, metadata={"axes": "ZYXS"}, photometric="rgb")
    quick = ["--registration", "none", "--refinement", "none", "--quiet"]
    assert main(["run", str(file), "--out", str(results), *quick]) == 0
    words = ["project", str(file), "--depth-from", str(results), "--slab", "5", "5", "--quiet"]
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "p.ome.tif")]) == 0
    assert "leaves the stack at 100.00% of the pixels" in capsys.readouterr().err
    outside = [*words[:5], "9", "10", "--out", str(tmp_path / "q.ome.tif")]
    assert main(outside) == 2
    assert "slab must lie in the stack somewhere, got 9 to 10" in capsys.readouterr().err
    assert not (tmp_path / "q.ome.tif").exists()
    words[3] = str(tmp_path / "no")
    assert main([*words, "--out", str(tmp_path / "q.ome.tif")]) == 2
    error = capsys.readouterr().err
    assert "holds no result of a run: there is no " in error
    assert "Errno" not in error
