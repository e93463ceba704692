"""Crop to the common area: the rectangle, the results in it, and where files say that it lies."""

import dataclasses

import numpy as np
import pytest
import tifffile

from napari_dff import FocalStack, Recipe, depth_from_focus, save_reconstruction
from napari_dff.cli.program import main
from napari_dff.io.readers.results import read_provenance
from napari_dff.registration import LazyAlignedStack, common_window
from napari_dff.runtime.windows import Window, full_window

CROP = Recipe(crop="common", refinement="none")


def moved(*shifts, scale=1.0):
    """Return a stack of planes of 60 × 80 pixels, magnified about their centre and moved."""
    transforms = np.tile(np.eye(3), (len(shifts), 1, 1))
    transforms[:, :2, 2] = shifts
    transforms[1, :2, :2] *= scale
    transforms[1, :2, 2] += (1 - scale) * np.array([29.5, 39.5])
    return LazyAlignedStack(np.zeros((len(shifts), 60, 80), np.uint8), transforms)


def test_the_common_area_of_moved_planes_is_that_which_all_have():
    still = moved((0, 0), (0, 0), (0, 0))
    assert common_window([still]) == Window(0, 60, 0, 80)
    drifting = moved((0, 0), (5, -3), (-2, 0.5))
    assert common_window([drifting]) == Window(5, 58, 1, 77)
    assert common_window([still, drifting]) == Window(5, 58, 1, 77)
    breathing = moved((0, 0), (0, 0), (0, 0), scale=0.9)
    window = common_window([breathing])
    assert breathing.valid(window).all()
    assert window.shape == (54, 72)


def test_planes_without_a_common_area_are_refused():
    with pytest.raises(ValueError, match="crop must be none"):
        common_window([moved((0, 0), (55, 0), (0, 0))])


def test_cropped_planes_are_a_part_of_the_whole_ones(drifting, rng):
    planes = rng.integers(0, 255, (3, 60, 80)).astype(np.uint8)
    whole = dataclasses.replace(moved((0, 0), (5, -3), (-2, 0.5)), planes=planes)
    part = dataclasses.replace(whole, window=Window(4, 50, 7, 70))
    assert part.shape == (3, 46, 63)
    np.testing.assert_array_equal(np.asarray(part), whole[:, 4:50, 7:70])
    np.testing.assert_array_equal(part[1, 3:9, -5:], whole[1, 7:13, 65:70])
    window, shift = full_window((46, 63)), Window(4, 50, 7, 70)
    np.testing.assert_array_equal(part.valid(window), whole.valid(shift))
    np.testing.assert_array_equal(part.plane_mask(window), whole.plane_mask(shift))


@pytest.fixture(scope="module")
def cropped(drifting):
    """A stack, and its result within the common area."""
    stack = dataclasses.replace(drifting.stack, pixel_size=(0.5, 0.25), unit="micrometer")
    return stack, depth_from_focus(stack, CROP)


@pytest.mark.parametrize("file_format", ["ome-tiff", "ome-zarr"])
def test_results_cover_the_common_area_and_tell_where_it_lies(
    file_format, drifting, cropped, tmp_path
):
    stack, result = cropped
    top, _, left, _ = window = result.window
    assert result.valid.all()
    assert top > 0
    assert left > 0
    assert result.all_in_focus.shape == (*window.shape, 3)
    assert result.stack.planes.shape == (9, *window.shape, 3)
    aligned = LazyAlignedStack(stack.planes, result.transforms)
    np.testing.assert_array_equal(result.stack.planes, aligned[(slice(None), *window.slices)])
    inner = np.isfinite(result.refined.uncertainty)
    error = np.abs(result.refined.depth - drifting.depth[window.slices])[inner]
    assert np.median(error) < 0.1 * np.diff(stack.positions)[0]
    save_reconstruction(result, tmp_path, file_format=file_format)
    assert read_provenance(tmp_path)["window"] == list(window)
    if file_format == "ome-tiff":
        with tifffile.TiffFile(tmp_path / "depth.ome.tif") as file:
            ome = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (ome["Plane"]["PositionY"], ome["Plane"]["PositionX"]) == (top / 2, left / 4)
    else:
        group = pytest.importorskip("zarr").open_group(tmp_path / "depth.ome.zarr", mode="r")
        transforms = group.attrs["ome"]["multiscales"][0]["datasets"][0][
            "coordinateTransformations"
        ]
        assert transforms[1] == {"type": "translation", "translation": [top / 2, left / 4]}


def test_a_run_of_the_command_line_is_cropped_and_its_depth_fits_a_crop(drifting, tmp_path):
    path, out = tmp_path / "stack.tif", tmp_path / "out"
    tifffile.imwrite(path, drifting.stack.planes, photometric="rgb", metadata={"axes": "ZYXS"})
    run = ["run", str(path), "--axes", "ZYX", "--quiet", "--refinement", "none", "--out"]
    assert main([*run, str(out), "--crop", "common"]) == 0
    depth = tifffile.imread(out / "depth.ome.tif")
    result = depth_from_focus(FocalStack(drifting.stack.planes), CROP)
    np.testing.assert_array_equal(depth, result.refined.depth)
    assert main([*run, str(tmp_path / "whole")]) == 0
    again = [*run, str(tmp_path / "images"), "--depth-from", str(tmp_path / "whole")]
    assert main([*again, "--crop", "common"]) == 0
    whole = tifffile.imread(tmp_path / "whole" / "depth.ome.tif")
    found = tifffile.imread(tmp_path / "images" / "depth.ome.tif")
    np.testing.assert_array_equal(found, whole[result.window.slices])


def test_several_times_are_cropped_to_one_area(drifting, tmp_path):
    planes = drifting.stack.planes[..., 0]
    times = np.stack([planes, np.roll(planes, 4, axis=1)])
    path, out = tmp_path / "times.tif", tmp_path / "out"
    tifffile.imwrite(path, times, imagej=True, metadata={"axes": "TZYX"})
    arguments = ["run", str(path), "--out", str(out), "--crop", "common", "--quiet"]
    assert main([*arguments, "--axes", "TZYX"]) == 0
    window = Window(*read_provenance(out)["window"])
    assert tifffile.imread(out / "depth.ome.tif").shape == (2, *window.shape)
