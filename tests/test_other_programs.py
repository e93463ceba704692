"""Results in the programs of others: what they show is what was written."""

import numpy as np
import pytest
import tifffile

from napari_dff import Recipe
from napari_dff.io import ResultFiles
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.depth_map import DepthMap
from napari_dff.runtime.windows import full_window

SHAPE = (40, 1300)  # above 1,024 pixels: two levels
PIXEL_SIZE = (0.5, 0.25)  # µm
DEPTH = np.add(*np.mgrid[:40, :1300]).astype(np.float32)
IMAGES = [np.full(SHAPE, value, np.uint16) for value in (300, 500)]


def write(folder, file_format):
    planes = np.broadcast_to(np.uint16(0), (1, 2, 3, *SHAPE))
    names = {"channels": ("DAPI", "GFP")}
    acquisition = Acquisition(planes, [0.0, 2.0, 4.0], PIXEL_SIZE, "micrometer", **names)
    with ResultFiles(folder, acquisition, Recipe(), file_format=file_format) as files:
        maps = DepthMap(np.zeros(SHAPE, np.uint16), DEPTH, DEPTH / 9)
        files.write_window(full_window(SHAPE), maps, IMAGES)
    return folder


@pytest.fixture(scope="module", params=["ome-zarr", "ome-zarr-0.4"])
def folder(request, tmp_path_factory):
    return write(tmp_path_factory.mktemp("results"), request.param)


@pytest.fixture(scope="module")
def tiff_folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("results"), "ome-tiff")


def test_ome_zarr_py_opens_both_levels_with_their_scales(folder):
    reader = pytest.importorskip("ome_zarr.reader", reason="ome-zarr is not installed")
    parse_url = pytest.importorskip("ome_zarr.io").parse_url
    (node,) = reader.Reader(parse_url(folder / "depth.ome.zarr"))()
    assert [level.shape for level in node.data] == [SHAPE, (20, 650)]
    np.testing.assert_array_equal(node.data[0], DEPTH)
    scales = [each[0]["scale"] for each in node.metadata["coordinateTransformations"]]
    assert scales == [[0.5, 0.25], [1.0, 0.5]]
    (node,) = reader.Reader(parse_url(folder / "all_in_focus.ome.zarr"))()
    assert node.metadata["channel_names"] == ["DAPI", "GFP"]


def test_ngff_zarr_opens_them(folder):
    ngff_zarr = pytest.importorskip("ngff_zarr", reason="ngff-zarr is not installed")
    (first, second) = ngff_zarr.from_ngff_zarr(folder / "depth.ome.zarr", validate=True).images
    np.testing.assert_array_equal(first.data, DEPTH)
    assert (first.scale, first.axes_units["x"]) == ({"y": 0.5, "x": 0.25}, "micrometer")
    assert second.translation == {"y": 0.25, "x": 0.125}


def test_bioio_opens_ome_zarr(folder):
    bioio = pytest.importorskip("bioio", reason="bioio is not installed")
    zarr_reader = pytest.importorskip("bioio_ome_zarr", reason="bioio-ome-zarr is not installed")
    path = folder / "all_in_focus.ome.zarr"
    image = bioio.BioImage(path, reader=zarr_reader.Reader)
    np.testing.assert_array_equal(image.get_image_data("CYX"), IMAGES)
    assert (image.physical_pixel_sizes.Y, image.physical_pixel_sizes.X) == PIXEL_SIZE
    assert image.channel_names == ["DAPI", "GFP"]


def test_bioio_opens_ome_tiff(tiff_folder):
    bioio = pytest.importorskip("bioio", reason="bioio is not installed")
    tiff_reader = pytest.importorskip("bioio_ome_tiff", reason="bioio-ome-tiff is not installed")
    image = bioio.BioImage(tiff_folder / "depth.ome.tif", reader=tiff_reader.Reader)
    np.testing.assert_array_equal(image.get_image_data("YX"), DEPTH)
    assert (image.physical_pixel_sizes.Y, image.physical_pixel_sizes.X) == PIXEL_SIZE
    assert image.channel_names == ["depth (µm)"]


def test_napari_ome_zarr_opens_them(folder):
    plugin = pytest.importorskip("napari_ome_zarr", reason="napari-ome-zarr is not installed")
    read = plugin.napari_get_reader(str(folder / "all_in_focus.ome.zarr"))
    ((data, metadata, kind),) = read(str(folder / "all_in_focus.ome.zarr"))
    assert (kind, metadata["channel_axis"]) == ("image", 0)
    assert [name.split()[-1] for name in metadata["name"]] == ["DAPI", "GFP"]
    np.testing.assert_array_equal(data[0], IMAGES)
    np.testing.assert_allclose(metadata["scale"][-2:], PIXEL_SIZE)


def test_imagej_finds_the_scale_in_the_resolution(tiff_folder):
    """ImageJ reads pixels per centimeter, and shows µm where a pixel is small."""
    with tifffile.TiffFile(tiff_folder / "depth.ome.tif") as tif:
        page = tif.pages.first
        assert page.resolutionunit == tifffile.RESUNIT.CENTIMETER
        np.testing.assert_allclose(page.resolution, (1e4 / 0.25, 1e4 / 0.5))
