"""Times, channels and positions are written at their index, and one run is used for another."""

import dataclasses
import json

import numpy as np
import pytest
import tifffile
import zarr

from napari_dff import Recipe, all_in_focus, depth_from_focus, read_transforms, synthetic
from napari_dff.batch.job import Job
from napari_dff.cli.program import main
from napari_dff.io import read_acquisitions
from napari_dff.model.acquisition import Acquisition
from napari_dff.runtime.progress import no_progress

PLAIN = Recipe(registration="none", refinement="none")
QUICK = ["--registration", "none", "--refinement", "none", "--quiet"]
Z = np.arange(9) * 0.5


@pytest.fixture(scope="module")
def series():
    """Two times of two channels: another surface each time, another brightness each channel."""
    planes = [synthetic.rough_surface(size=64, planes=9, seed=s).stack.planes for s in (1, 2)]
    data = np.stack([np.stack([each, each // 2 + 900]) for each in planes])
    return Acquisition(data, [Z, Z + 3], (0.1, 0.1), "micrometer", ("stain", "light"))


@pytest.fixture
def file(series, tmp_path):
    """The same as an OME-TIFF."""
    path = tmp_path / "series.ome.tif"
    metadata = {
        "axes": "TCZYX",
        "Channel": {"Name": list(series.channels)},
        "PhysicalSizeX": 0.1,
        "PhysicalSizeY": 0.1,
        "PhysicalSizeZ": 0.5,
    }
    tifffile.imwrite(path, series.data, ome=True, metadata=metadata, photometric="minisblack")
    return path


def test_every_time_and_channel_is_written_at_its_index(series, tmp_path):
    job = Job(PLAIN, channel="light")
    job.run(series, tmp_path / "out", job.plan(series), {"path": "here"}, no_progress)
    depth = tifffile.imread(tmp_path / "out" / "depth.ome.tif")
    pictures = tifffile.imread(tmp_path / "out" / "all_in_focus.ome.tif")
    assert depth.shape == (2, 64, 64)
    assert pictures.shape == (2, 2, 64, 64)
    for time in range(2):
        alone = depth_from_focus(series.stack(time, 1), PLAIN)
        np.testing.assert_array_equal(depth[time], alone.refined.depth)
        for channel in range(2):
            stack = series.stack(time, channel)
            known = {"uncertainty": alone.refined.uncertainty}
            expected = all_in_focus(stack.planes, depth[time], stack.positions, **known)
            np.testing.assert_array_equal(pictures[time, channel], expected)
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert record["focus_channel"] == 1
    assert record["positions"] == series.positions.tolist()


def test_all_channels_get_the_transforms_of_the_focus_channel(drifting, tmp_path):
    stack = drifting.stack
    data = np.stack([stack.planes, 255 - stack.planes])[None]
    both = Acquisition(data, [stack.positions], channels=("a", "b"))
    recipe = dataclasses.replace(PLAIN, registration="sift", fusion="nearest")
    job = Job(recipe, channel=0)
    job.run(both, tmp_path / "out", job.plan(both), {}, no_progress)
    first, second = tifffile.imread(tmp_path / "out" / "all_in_focus.ome.tif")
    known = np.isfinite(tifffile.imread(tmp_path / "out" / "uncertainty.ome.tif"))
    sum_ = first.astype(int) + second
    assert np.abs(sum_[known] - 255).max() <= 1


def test_a_focus_channel_must_be_chosen_from_several(file, tmp_path, capsys):
    assert main(["run", str(file), "--out", str(tmp_path / "out"), *QUICK]) == 2
    message = capsys.readouterr().err
    assert "the focus channel must be chosen, of 0 stain, 1 light" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file_format", ["ome-tiff", "ome-zarr"])
def test_the_command_writes_series_in_either_format(file, series, tmp_path, file_format):
    out = tmp_path / "out"
    words = ["--focus_channel", "light", "--file_format", file_format]
    assert main(["run", str(file), "--out", str(out), *words, *QUICK]) == 0
    if file_format == "ome-tiff":
        depth = tifffile.imread(out / "depth.ome.tif")
    else:
        depth = zarr.open_array(out / "depth.ome.zarr" / "0", mode="r")[:]
    for time in range(2):
        alone = depth_from_focus(dataclasses.replace(series.stack(time, 1), positions=Z), PLAIN)
        np.testing.assert_array_equal(depth[time], alone.refined.depth)


def test_axes_named_by_the_user_are_applied(series, tmp_path):
    path = tmp_path / "plain.tif"
    planes = series.data[:, 0].swapaxes(0, 1)  # Z, T, Y, X
    tifffile.imwrite(path, planes, photometric="minisblack")
    out = str(tmp_path / "out")
    assert main(["run", str(path), "--out", out, *QUICK, "--axes", "ZTYX"]) == 0
    depth = tifffile.imread(tmp_path / "out" / "depth.ome.tif")
    assert depth.shape == (2, 64, 64)
    plain = dataclasses.replace(series.stack(1, 0), positions=None)
    alone = depth_from_focus(plain, PLAIN)
    np.testing.assert_array_equal(depth[1], alone.refined.depth)


def test_positions_get_a_folder_each(series, tmp_path):
    path = tmp_path / "plate.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for time, name in enumerate(("A1 left", "A1 right")):
            metadata = {"axes": "ZYX", "Name": name}
            settings = {"metadata": metadata, "photometric": "minisblack"}
            writer.write(series.data[time, 0], **settings)
    assert main(["run", str(path), "--out", str(tmp_path / "out"), *QUICK]) == 0
    for time, name in enumerate(("A1_left", "A1_right")):
        depth = tifffile.imread(tmp_path / "out" / name / "depth.ome.tif")
        plain = dataclasses.replace(series.stack(time, 0), positions=None)
        np.testing.assert_array_equal(depth, depth_from_focus(plain, PLAIN).refined.depth)


def test_the_depth_of_one_run_is_used_for_planes_with_other_illumination(file, series, tmp_path):
    first = tmp_path / "first"
    settings = [*QUICK, "--focus_channel"]
    assert main(["run", str(file), "--out", str(first), *settings, "light"]) == 0
    other = tmp_path / "other.ome.tif"
    dark = (series.data // 3).astype(np.uint16)
    metadata = {"axes": "TCZYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.5}
    tifffile.imwrite(other, dark, ome=True, metadata=metadata, photometric="minisblack")
    out = tmp_path / "second"
    words = ["--out", str(out), "--depth_from", str(first)]
    assert main(["run", str(other), *words, *settings, "0"]) == 0
    depth = tifffile.imread(first / "depth.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(out / "depth.ome.tif"), depth)
    known = {"uncertainty": tifffile.imread(first / "uncertainty.ome.tif")[1]}
    expected = all_in_focus(dark[1, 1], depth[1], Z, **known)
    np.testing.assert_array_equal(tifffile.imread(out / "all_in_focus.ome.tif")[1, 1], expected)


def test_the_depth_of_another_field_is_refused(file, tmp_path, capsys):
    first = tmp_path / "first"
    settings = [*QUICK, "--focus_channel", "0"]
    assert main(["run", str(file), "--out", str(first), *settings]) == 0
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, np.zeros((9, 32, 32), np.uint8), photometric="minisblack")
    words = ["--out", str(tmp_path / "out"), "--depth_from", str(first), *QUICK]
    assert main(["run", str(small), *words]) == 2
    assert "depth_from must be of planes of 32 × 32 pixels, got 64 × 64" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert (
        main(["run", str(small), "--out", str(tmp_path / "out"), "--depth_from", "no", *QUICK]) == 2
    )
    assert "no holds no result of a run" in capsys.readouterr().err


def test_too_little_or_unreadable_memory_is_refused(file, tmp_path, capsys):
    words = ["run", str(file), "--out", str(tmp_path / "out"), "--focus_channel", "0", *QUICK]
    assert main([*words, "--memory", "10MB"]) == 2
    assert "megabytes must be at least" in capsys.readouterr().err
    assert main([*words, "--memory", "much"]) == 2
    assert "memory must be a size as 2GB or 500MB, got 'much'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_needed_memory_is_printed_before_the_run(tmp_path, capsys):
    planes = synthetic.rough_surface(size=64, planes=9, seed=1).stack.planes
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack")
    words = ["run", str(tmp_path / "a.tif"), "--out", str(tmp_path / "out"), *QUICK[:-1]]
    assert main(words) == 0
    message = capsys.readouterr().err
    assert "estimate: 0." in message.split("Finding depth")[0]
    assert len(read_acquisitions(tmp_path / "a.tif")) == 1


def test_known_transforms_are_recorded_and_those_of_other_planes_are_refused(
    file, tmp_path, capsys
):
    words = ["run", str(file), "--focus_channel", "0", *QUICK, "--out"]
    assert main([*words, str(tmp_path / "first")]) == 0
    motions = tmp_path / "first" / "transforms.json"
    assert main([*words, str(tmp_path / "again"), "--transforms", str(motions)]) == 0
    record = json.loads((tmp_path / "again" / "provenance.json").read_text())
    assert np.shape(record["input"]["transforms"]) == (2, 9, 3, 3)
    one = json.loads(motions.read_text())["transforms"]
    motions.write_text(json.dumps({"transforms": [*one, one[0]]}))
    assert main([*words, str(tmp_path / "no"), "--transforms", str(motions)]) == 2
    assert (
        "transforms must be of 9 planes, at one time or at 2, got 3 times"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "no").exists()


def test_a_tiled_reconstruction_is_saved(drifting, tmp_path, monkeypatch):
    from napari_dff import save_reconstruction
    from napari_dff.pipeline import driver as pipeline
    from napari_dff.pipeline.planning import Plan
    from napari_dff.runtime.windows import window_grid

    monkeypatch.setattr(
        pipeline,
        "make_plan",
        lambda planes, *_, **__: Plan(window_grid(tuple(planes.shape[1:3]), 96), 0),
    )
    result = depth_from_focus(drifting.stack, dataclasses.replace(PLAIN, registration="joint"))
    save_reconstruction(result, tmp_path / "out")
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out" / "depth.ome.tif"), result.refined.depth
    )


def test_the_command_line_reports_motion_and_planes_that_could_not_be_aligned(tmp_path, capsys):
    truth = synthetic.rough_surface(size=96, planes=9, seed=2)
    planes = np.stack([np.roll(plane, k, axis=1) for k, plane in enumerate(truth.stack.planes)])
    planes[0] = np.random.default_rng(0).integers(0, 60000, planes[0].shape)
    tifffile.imwrite(tmp_path / "moving.tif", planes, imagej=True, metadata={"axes": "ZYX"})
    main(["run", str(tmp_path / "moving.tif"), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "Planes moved by up to" in printed
    assert "Plane 0 could not be matched" in printed
    content = json.loads((tmp_path / "out" / "transforms.json").read_text())
    assert len(content["report"]) == len(content["transforms"]) == 9
    assert content["report"][0]["fallback"]
    assert content["report"][5]["model"] == "translation"
    assert read_transforms(tmp_path / "out" / "transforms.json").shape == (9, 3, 3)


@pytest.mark.filterwarnings("ignore:plane 2 has no contrast")
def test_a_known_depth_gives_the_same_index_with_a_blank_plane(series, tmp_path):
    data = series.data[:1, :1].copy()
    data[:, :, 2] = 0
    single = Acquisition(data, [Z], (0.1, 0.1), "micrometer")
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, job in ((first, Job(PLAIN)), (second, Job(PLAIN, depth_from=first))):
        job.run(single, folder, job.plan(single), {"path": "here"}, no_progress)
    index = [tifffile.imread(folder / "index.ome.tif") for folder in (first, second)]
    np.testing.assert_array_equal(*index)
    assert not (index[0] == 2).any()
