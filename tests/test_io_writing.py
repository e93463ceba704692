"""Results written window by window: where everything lands, and what is there when it fails."""

import collections
import contextlib
import itertools
import json
import os
import shutil
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr_models import v04, v05

from napari_dff import FocalStack, Recipe, depth_from_focus, read_stack, save_reconstruction
from napari_dff.io import (
    ResultFiles,
    read_recipe,
    read_transforms,
    write_image,
    write_stack,
)
from napari_dff.io.file_checks import compute_digest
from napari_dff.io.readers.tiff import tiff_sources
from napari_dff.io.readers.zarr_store import ome_attributes, zarr_sources
from napari_dff.io.writers.preview import PANEL_PX, TITLE_PX, draw_preview, nice_ticks
from napari_dff.io.writers.thumbnail import Thumbnail
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.depth_map import DepthMap
from napari_dff.runtime.windows import Window, full_window

SHAPE = (40, 56)
POSITIONS = np.array([0.0, 2.0, 4.0])
FORMATS = ("ome-tiff", "ome-zarr")
SUFFIX = {"ome-tiff": ".ome.tif", "ome-zarr": ".ome.zarr"}
BESIDE = {"recipe.json", "provenance.json", "transforms.json", "preview.png"}
IMAGES = ("depth", "index", "uncertainty", "all_in_focus")
VALUE_NAMES = {"depth": "depth (µm)", "index": "plane index", "uncertainty": "uncertainty (µm)"}


def acquisition_of(times=1, channels=("",), colour=False, dtype=np.uint16, shape=SHAPE):
    """An acquisition without pixels."""
    full = (times, len(channels), len(POSITIONS), *shape, *(3,) * colour)
    planes = np.broadcast_to(np.empty((), dtype), full)
    settings = {"channels": channels, "focus_channel": len(channels) - 1}
    return Acquisition(planes, POSITIONS, (0.5, 0.25), "micrometer", **settings)


def content(acquisition, time=0):
    """Maps whose values tell row, column and time; pictures that tell the channel, too."""
    rows, columns = np.mgrid[: acquisition.data.shape[3:5][0], : acquisition.data.shape[3:5][1]]
    depth = (columns / 64 + rows / 4096 + 10 * time).astype(np.float32)
    uncertainty = np.where(rows == 3, np.inf, depth / 2).astype(np.float32)
    found = DepthMap((rows + 100 * time).astype(np.uint16), depth, uncertainty)
    pictures = [
        (100 * rows + columns + 7000 * c + 21000 * time).astype(acquisition.data.dtype)
        for c in range(len(acquisition.channels))
    ]
    if acquisition.data.ndim == 6:
        pictures = [np.stack([p, p + 1, p + 2], axis=-1) for p in pictures]
    return found, pictures


def windows_of(shape, height=16, width=24):
    return [
        Window(y, min(y + height, shape[0]), x, min(x + width, shape[1]))
        for y in range(0, shape[0], height)
        for x in range(0, shape[1], width)
    ]


def part(found, pictures, window):
    maps = DepthMap(*(values[window.slices] for values in found))
    return maps, [picture[window.slices] for picture in pictures]


def write(folder, acquisition, file_format="ome-tiff", recipe=None):
    """A result in windows of changing order, two at a time."""
    inputs = {"path": "a ü \udcff/b.tif"}
    windows = windows_of(acquisition.data.shape[3:5])
    np.random.default_rng(1).shuffle(windows)
    with ResultFiles(
        folder, acquisition, recipe or Recipe(), inputs, file_format=file_format
    ) as files:

        def put(time, window):
            files.write_window(window, *part(*content(acquisition, time), window), time=time)

        todo = [(t, Window(*w)) for t in reversed(range(acquisition.times)) for w in windows]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(put, *zip(*todo, strict=True)))


def everything(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def provenance_of(folder, windows=None):
    """What made a result, after a look at the list of its files."""
    content = json.loads((folder / "provenance.json").read_text())
    digests = {path.name: compute_digest(path) for path in folder.iterdir()}
    del digests["provenance.json"]
    assert content.pop("files") == digests
    assert {"python", "libraries", "processor"} <= set(content.pop("environment"))
    assert content.pop("tiles")["count"] == len(windows or windows_of(SHAPE))
    return content


def read(folder, name, file_format):
    if file_format == "ome-tiff":
        return tifffile.imread(folder / f"{name}.ome.tif")
    return zarr.open_group(folder / f"{name}.ome.zarr", mode="r")["0"][:]


def image_of(group, version="0.5"):
    """The valid metadata of the image."""
    (scales,) = (
        v05.Image.from_zarr(group).ome_attributes.multiscales
        if version == "0.5"
        else v04.Image.from_zarr(group).attributes.multiscales
    )
    return scales


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No real preview, which takes longest; test_io.py makes it."""
    monkeypatch.setattr(
        "napari_dff.io.writers.result_files.draw_preview", lambda *_: np.zeros((1, 1, 3), np.uint8)
    )


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("channels", [("",), ("DAPI", "GFP", "µ")])
@pytest.mark.parametrize("times", [1, 2])
def test_windows_times_and_channels_land_where_they_belong(
    tmp_path, times, channels, colour, file_format
):
    acquisition = acquisition_of(times, channels, colour)
    write(tmp_path / "out", acquisition, file_format)
    assert {p.name for p in (tmp_path / "out").iterdir()} == BESIDE | {
        name + SUFFIX[file_format] for name in IMAGES
    }
    wanted = [content(acquisition, time) for time in range(times)]
    for name in DepthMap._fields:
        values = np.stack([getattr(found, name) for found, _ in wanted])
        got = read(tmp_path / "out", name, file_format)
        np.testing.assert_array_equal(got, values if times > 1 else values[0])
        assert got.dtype == values.dtype
    pictures = np.stack([np.stack(pictures) for _, pictures in wanted])  # T, C, Y, X[, S]
    if colour and file_format == "ome-zarr":
        pictures = np.moveaxis(pictures, -1, 2).reshape(times, -1, *SHAPE)
    elif len(channels) == 1:
        pictures = pictures[:, 0]
    got = read(tmp_path / "out", "all_in_focus", file_format)
    np.testing.assert_array_equal(got, pictures if times > 1 else pictures[0])
    assert got.dtype == np.uint16


@pytest.mark.parametrize(
    ("acquisition", "axes"),
    [
        (acquisition_of(), "YX"),
        (acquisition_of(colour=True), "YXS"),
        (acquisition_of(2), "TYX"),
        (acquisition_of(1, ("DAPI", "GFP")), "CYX"),
        (acquisition_of(2, ("DAPI", "GFP"), True), "TCYXS"),
    ],
)
def test_ome_tiffs_tell_axes_sizes_channels_and_what_made_them(tmp_path, acquisition, axes):
    write(tmp_path / "out", acquisition)
    provenance = provenance_of(tmp_path / "out")
    for name in IMAGES:
        with tifffile.TiffFile(tmp_path / "out" / f"{name}.ome.tif") as tif:
            ome, series = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"], tif.series[0]
            assert series.keyframe.is_memmappable
        assert series.axes == (axes if name == "all_in_focus" else axes.strip("S").replace("C", ""))
        pixels = ome["Pixels"]
        assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"]) == (0.5, 0.25)
        assert (pixels["PhysicalSizeYUnit"], pixels["PhysicalSizeXUnit"]) == ("µm", "µm")
        assert (json.loads(ome["Description"]), ome["Name"]) == (provenance, name)
        if name in VALUE_NAMES:
            assert pixels["Channel"]["Name"] == VALUE_NAMES[name]
    if len(acquisition.channels) > 1:
        assert [channel["Name"] for channel in pixels["Channel"]] == ["DAPI", "GFP"]


@pytest.mark.parametrize(
    ("acquisition", "axes", "labels"),
    [
        (acquisition_of(), "yx", None),
        (acquisition_of(dtype=np.float32), "yx", None),
        (acquisition_of(2, ("DAPI", "GFP")), "tcyx", ["DAPI", "GFP"]),
        (acquisition_of(colour=True, dtype=np.uint8), "cyx", ["red", "green", "blue"]),
        (
            acquisition_of(1, ("a", "b"), True),
            "cyx",
            ["a red", "a green", "a blue", "b red", "b green", "b blue"],
        ),
    ],
)
@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_ome_zarrs_are_valid_and_tell_the_same(tmp_path, acquisition, axes, labels, version):
    write(tmp_path / "out", acquisition, {"0.5": "ome-zarr", "0.4": "ome-zarr-0.4"}[version])
    provenance = provenance_of(tmp_path / "out")
    for name in IMAGES:
        group = zarr.open_group(tmp_path / "out" / f"{name}.ome.zarr", mode="r")
        scales = image_of(group, version)
        wanted = axes if name == "all_in_focus" else axes.replace("c", "")
        assert "".join(axis.name for axis in scales.axes) == wanted
        assert [axis.unit for axis in scales.axes[-2:]] == ["micrometer"] * 2
        (scale,) = scales.datasets[0].coordinateTransformations
        assert scale.scale == [*(1.0,) * (len(wanted) - 2), 0.5, 0.25]
        record = group.attrs["napari-dff"]
        assert record.pop("values", "") == VALUE_NAMES.get(name, "")
        assert record.pop("colour", False) == (wanted == axes and "blue" in str(labels))
        assert record == provenance
        zarr_format = {"0.5": 3, "0.4": 2}[version]
        assert (group.metadata.zarr_format, group["0"].shape[-2:]) == (zarr_format, SHAPE)
    ome = ome_attributes(group)
    if labels is None:
        assert "omero" not in ome
        return
    channels = ome["omero"]["channels"]
    assert [channel["label"] for channel in channels] == labels
    picture = content(acquisition)[1][-1]
    window = channels[-1]["window"]
    assert (window["min"], window["max"]) == (0, np.iinfo(acquisition.data.dtype).max)
    assert picture.min() <= window["start"] < window["end"] <= picture.max()


def test_large_ome_zarrs_have_smaller_levels(tmp_path):
    """Down to 1,024 pixels: means, in the same place; of plane numbers every second pixel."""
    rows, columns = np.mgrid[:9, :2051].astype(np.float32)
    index = (columns % 7).astype(np.uint16)
    depth_map = DepthMap(index, columns, np.where(columns < 4, np.inf, rows))
    acquisition = acquisition_of(shape=(9, 2051), dtype=np.uint16)
    with ResultFiles(tmp_path, acquisition, Recipe(), file_format="ome-zarr") as files:
        files.write_window(full_window((9, 2051)), depth_map, [2 * columns.astype(np.uint16)])
    depth, uncertainty, indices, image = (
        zarr.open_group(tmp_path / f"{name}.ome.zarr", mode="r")
        for name in ("depth", "uncertainty", "index", "all_in_focus")
    )
    assert [depth[str(k)].shape for k in range(3)] == [(9, 2051), (5, 1026), (3, 513)]
    np.testing.assert_allclose(depth["1"][:4, :1025], columns[:8:2, :2050:2] + 0.5)
    assert np.isinf(uncertainty["1"][:, :2]).all()
    assert np.isfinite(uncertainty["1"][:, 2:]).all()
    np.testing.assert_array_equal(indices["2"][:], index[::4, ::4])
    assert (image["1"].dtype, image["1"][0, 700]) == (np.uint16, 2801)
    for group, start in ((depth, 1.5), (indices, 0)):  # of the third level, in pixels
        transforms = image_of(group).datasets[2].coordinateTransformations
        values = [getattr(each, "scale", None) or each.translation for each in transforms]
        assert values[0] == [2.0, 1.0]
        assert values[1:] == ([[start * 0.5, start * 0.25]] if start else [])


def test_times_and_colour_profile_come_back_from_either_format(tmp_path):
    planes = np.zeros((2, 1, 3, 9, 10, 3), np.uint8)
    details = {"time_increment": 2.5, "icc_profile": b"a profile\0"}
    acquisition = Acquisition(planes, POSITIONS, (0.5, 0.25), "micrometer", **details)
    for file_format in FORMATS:
        out = tmp_path / file_format
        with ResultFiles(out, acquisition, Recipe(), file_format=file_format) as files:
            for time in range(2):
                found, pictures = content(acquisition, time)
                files.write_window(full_window((9, 10)), found, pictures, time=time)
        image = out / f"all_in_focus{SUFFIX[file_format]}"
        (source,) = zarr_sources(image) if image.is_dir() else tiff_sources(image)
        assert source.icc_profile == b"a profile\0"
        assert source.calibration.time_increment == 2.5


@pytest.mark.parametrize("shape", [(513, 700), (40, 1100)])
def test_chunks_of_an_ome_zarr_are_512_pixels(tmp_path, shape):
    acquisition = acquisition_of(2, ("a", "b"), shape=shape)
    with ResultFiles(tmp_path / "out", acquisition, Recipe(), file_format="ome-zarr") as files:
        for time in range(2):
            files.write_window(full_window(shape), *content(acquisition, time), time=time)
    array = zarr.open_group(tmp_path / "out" / "all_in_focus.ome.zarr", mode="r")["0"]
    assert array.chunks == (1, 1, min(512, shape[0]), 512)
    np.testing.assert_array_equal(array[1, 1], content(acquisition, 1)[1][1])


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_was_put_can_be_read_back(tmp_path, file_format):
    acquisition = acquisition_of(2)
    found, _ = content(acquisition, 1)
    with ResultFiles(tmp_path / "out", acquisition, Recipe(), file_format=file_format) as files:
        for time in (0, 1):
            for window in windows_of(SHAPE):
                maps, parts = part(*content(acquisition, time), window)
                files.write_window(window, maps, parts, time=time)
        across = Window(5, 33, 20, 50)
        for got, wanted in zip(files.depth_map(across, time=1), found, strict=True):
            np.testing.assert_array_equal(got, wanted[across.slices])
        assert not (tmp_path / "out").exists()


def test_a_result_says_what_made_it(tmp_path):
    recipe = Recipe(sigma=2.0)
    planes = np.zeros((2, 2, 3, *SHAPE, 3), np.uint8)
    given = Acquisition(
        planes,
        [POSITIONS, POSITIONS + 1],
        (0.5, 0.25),
        "micrometer",
        ("DAPI", "GFP"),
        "well 3",
        focus_channel=1,
    )
    moved = np.arange(27.0).reshape(3, 3, 3)
    inputs = {"path": tmp_path / "in.tif"}
    with ResultFiles(tmp_path / "out", given, recipe, inputs) as files:
        for time in (0, 1):
            files.write_window(full_window(SHAPE), *content(given, time), time=time)
        files.set_transforms(moved, time=1)
    assert read_recipe(tmp_path / "out" / "recipe.json") == recipe
    provenance = provenance_of(tmp_path / "out", [full_window(SHAPE)])
    settings = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert provenance == {
        "napari_dff": settings.pop("napari_dff"),
        "recipe": settings,
        "input": {
            "path": str(tmp_path / "in.tif"), "position": "well 3", "axes": "TCZYXS",
            "shape": [2, 2, 3, 40, 56, 3], "dtype": "uint8", "channels": ["DAPI", "GFP"],
        },
        "focus_channel": 1,
        "positions": [[0, 2, 4], [1, 3, 5]],
        "pixel_size": [0.5, 0.25],
        "unit": "micrometer",
    }  # fmt: skip
    transforms = json.loads((tmp_path / "out" / "transforms.json").read_text())["transforms"]
    np.testing.assert_array_equal(transforms, [[np.eye(3)] * 3, moved])


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_the_old_result(tmp_path, error, file_format):
    out, acquisition = tmp_path / "out", acquisition_of()
    write(out, acquisition, file_format)
    before = everything(out)

    def interrupted():
        with ResultFiles(out, acquisition, Recipe(), file_format=file_format) as files:
            files.write_window(full_window(SHAPE), *content(acquisition))
            raise error

    with pytest.raises(error):
        interrupted()
    assert everything(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_result_that_is_not_whole_is_not_there(tmp_path, file_format):
    acquisition = acquisition_of(2)
    files = ResultFiles(tmp_path / "out", acquisition, Recipe(), file_format=file_format)
    with (
        pytest.raises(ValueError, match="all pixels must be written, 2240 of time 1 are missing"),
        files,
    ):
        files.write_window(full_window(SHAPE), *content(acquisition))
    assert not list(tmp_path.iterdir())


def test_a_result_in_another_format_is_replaced_whole(tmp_path):
    out = tmp_path / "out"
    for k, file_format in enumerate(["ome-tiff", "ome-zarr", "ome-zarr", "ome-tiff"]):
        acquisition = acquisition_of(1 + k % 2, dtype=np.uint8)
        write(out, acquisition, file_format)
        (out / "notes.txt").write_text("mine")
        names = {name + SUFFIX[file_format] for name in IMAGES}
        assert {p.name for p in out.iterdir()} == BESIDE | names | {"notes.txt"}
        depth = read(out, "depth", file_format)
        assert depth.shape == (SHAPE if acquisition.times == 1 else (2, *SHAPE))
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("fails_at", [1, 3, 9, 12])
def test_files_that_cannot_be_moved_leave_the_old_result(tmp_path, fails_at, monkeypatch):
    out = tmp_path / "out"
    write(out, acquisition_of())
    before = everything(out)
    calls = itertools.count(1)

    def replace(source, target):
        if next(calls) == fails_at:
            raise PermissionError("another program holds it open")
        os.rename(source, target)

    theirs = SimpleNamespace(**{**vars(os), "replace": replace})
    monkeypatch.setattr("napari_dff.io.staging.os", theirs)
    kept = tmp_path / "out-finished"
    with pytest.raises(PermissionError, match=f"open; the finished result is in {kept}"):
        write(out, acquisition_of(2), "ome-zarr")
    assert everything(out) == before
    assert {p.name for p in tmp_path.iterdir()} == {"out", "out-finished"}
    monkeypatch.undo()
    write(tmp_path / "expected", acquisition_of(2), "ome-zarr")
    assert everything(kept).keys() == everything(tmp_path / "expected").keys()


def test_a_disk_that_is_too_full_is_told_before_any_work(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9e9, 8e9, 1e9))
    acquisition = acquisition_of(100, shape=(2000, 2000))  # 12 bytes a pixel
    files = ResultFiles(tmp_path / "out", acquisition, Recipe())
    sentence = r"need 4\.8 GB, but only 1 GB are free at "
    with pytest.raises(OSError, match=sentence) as told, files:
        pytest.fail("there is no room for it")
    assert str(told.value).endswith(str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file_format", FORMATS)
def test_nothing_as_large_as_the_plane_is_held(tmp_path, file_format):
    acquisition = acquisition_of(shape=(4096, 4096))
    window = Window(1024, 1152, 2048, 2176)
    found, pictures = content(acquisition_of(shape=(128, 128)))
    files = ResultFiles(tmp_path / "out", acquisition, Recipe(), file_format=file_format)
    with contextlib.suppress(KeyboardInterrupt), files:
        files.write_window(window, found, pictures)
        tracemalloc.start()
        files.write_window(window, found, pictures)
        back = files.depth_map(window)
        around = files.depth_map(Window(1022, 1026, 2046, 2050))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        raise KeyboardInterrupt
    assert peak < 6e6  # one map has 67 MB
    np.testing.assert_array_equal(back.depth, found.depth)
    corner = np.zeros((4, 4), np.float32)
    corner[2:, 2:] = found.depth[:2, :2]  # and nothing around it
    np.testing.assert_array_equal(around.depth, corner)


def test_what_does_not_fit_the_acquisition_is_told(tmp_path):
    acquisition = acquisition_of()
    found, pictures = content(acquisition)
    window = full_window(SHAPE)
    with ResultFiles(tmp_path / "out", acquisition, Recipe()) as files:
        for wrong, words in (
            ((window, found, pictures, 1), "time must be 0 to 0, got 1"),
            ((window, found, pictures * 2), "one for each of the 1 channels, got 2"),
            ((Window(0, 41, 0, 56), found, pictures), "within 40 × 56 pixels"),
            ((Window(0, 16, 0, 16), found, pictures), r"images must be \(16, 16\) uint16"),
            ((window, found, [pictures[0].astype(float)]), "float64"),
            ((window, found._replace(depth=found.depth[1:]), pictures), "depth must be"),
        ):
            with pytest.raises(ValueError, match=words):
                files.write_window(*wrong[:3], time=wrong[3] if len(wrong) > 3 else 0)
        files.write_window(window, found, [pictures[0].astype(">u2")])
    np.testing.assert_array_equal(read(tmp_path / "out", "all_in_focus", "ome-tiff"), pictures[0])
    with pytest.raises(ValueError, match="file_format must be one of ome-tiff, ome-zarr"):
        ResultFiles(tmp_path / "out", acquisition, Recipe(), file_format="n5")


@pytest.mark.parametrize("colour", [False, True])
def test_a_thumbnail_does_not_depend_on_the_tiling(colour):
    shape = (200, 1404)  # every third pixel
    found, pictures = content(acquisition_of(colour=colour, shape=shape))
    thumbnails = []
    for windows in ([full_window(shape)], windows_of(shape, 24, 48), windows_of(shape, 16, 40)):
        thumbnail = Thumbnail(shape, 1, colour)
        for window in windows:
            thumbnail.write_window(window, *part(found, pictures, window))
        thumbnails.append(thumbnail)
    first, aligned, across = thumbnails
    assert first.depth_map.depth.shape == (67, 468)
    for name in DepthMap._fields:
        wanted = getattr(found, name)[::3, ::3]
        for thumbnail in thumbnails:
            np.testing.assert_array_equal(getattr(thumbnail.depth_map, name), wanted)
    np.testing.assert_array_equal(aligned.images[0], first.images[0])
    np.testing.assert_allclose(across.images[0], first.images[0], atol=202)  # 2 rows
    mean = pictures[0][3:6, 3:6].mean(axis=(0, 1))
    np.testing.assert_allclose(first.images[0][1, 1], mean, atol=0.5)


def test_a_preview_shows_what_is_known_between_the_ends_of_the_stack():
    found, (picture,) = content(acquisition_of())
    found.depth[...] *= POSITIONS[-1] / found.depth.max()
    low, high = (np.argwhere(found.depth == value)[0] for value in POSITIONS[[0, -1]])
    preview = draw_preview(picture, found, POSITIONS, "micrometer")
    height, width = found.depth.shape
    assert preview.shape == (TITLE_PX + round(PANEL_PX * height / width), 1500, 3)
    depth = preview[TITLE_PX:, PANEL_PX : 2 * PANEL_PX]
    middles = [((np.arange(n) + 0.5) * depth.shape[1] / width).astype(int) for n in (height, width)]
    depth = depth[np.ix_(*middles)]
    np.testing.assert_array_equal((depth == 255).all(axis=-1), np.isinf(found.uncertainty))
    viridis = matplotlib.colormaps["viridis"]
    for (row, column), share in ((low, 0.0), (high, 1.0)):
        np.testing.assert_allclose(depth[row, column], viridis(share, bytes=True)[:3], atol=1)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 4, [0, 1, 2, 3, 4]), (-0.1, 0.5, [-0.1, 0, 0.1, 0.2, 0.3, 0.4, 0.5]), (3, 3, [])],
)
def test_ticks_of_a_colour_bar_are_round_numbers(low, high, ticks):
    np.testing.assert_allclose(nice_ticks(low, high), ticks, atol=1e-9)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_reconstruction_is_one_window_of_its_files(tmp_path, surface, file_format):
    recipe = Recipe(registration="none", refinement="none")
    result = depth_from_focus(surface.stack, recipe)
    out = tmp_path / "out"
    save_reconstruction(result, out, file_format=file_format, input={"path": "here"})
    for name in DepthMap._fields:
        np.testing.assert_array_equal(read(out, name, file_format), getattr(result.refined, name))
    np.testing.assert_array_equal(read_transforms(out / "transforms.json"), result.transforms)
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["positions"] == surface.stack.positions.tolist()
    assert provenance["input"]["path"] == "here"
    assert provenance["input"]["shape"] == [1, 1, *surface.stack.planes.shape]


def test_stacks_and_images_go_into_either_format(tmp_path, rng):
    planes = rng.integers(0, 65535, (4, 9, 10, 3)).astype(np.uint16)
    stack = FocalStack(planes, [3.0, 2.5, 1.0, 0.0], (0.3, 0.2), "micrometer")
    record = {"made": "here"}
    write_stack(tmp_path / "a.ome.zarr", stack, record=record)
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    scales = image_of(group)
    assert "".join(axis.name for axis in scales.axes) == "czyx"
    scale, translation = scales.datasets[0].coordinateTransformations
    assert (scale.scale, translation.translation) == ([1.0, 1.0, 0.3, 0.2], [0.0, 3.0, 0.0, 0.0])
    np.testing.assert_array_equal(group["0"][:], np.moveaxis(planes, -1, 0))
    positions = [3.0, 2.5, 1.0, 0.0]
    assert group.attrs["napari-dff"] == {"made": "here", "positions": positions, "colour": True}
    np.testing.assert_array_equal(read_stack(tmp_path / "a.ome.zarr").planes, planes)

    write_image(str(tmp_path / "b.ome.zarr"), planes[0, ..., 0], stack)
    group = zarr.open_group(tmp_path / "b.ome.zarr", mode="r")
    np.testing.assert_array_equal(group["0"][:], planes[0, ..., 0])
    assert "napari-dff" not in group.attrs

    for name, settings in (("c.ome.tif", {}), ("d.ome.tif", {"compression": "deflate"})):
        write_stack(tmp_path / name, stack, record=record, **settings)
        back = read_stack(tmp_path / name)
        np.testing.assert_array_equal(back.planes, planes)
        np.testing.assert_array_equal(back.positions, stack.positions)
        with tifffile.TiffFile(tmp_path / name) as tif:
            described = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Description"]
        assert json.loads(described) == record
    with pytest.raises(ValueError, match="settings must be none for OME-Zarr, got compression"):
        write_stack(tmp_path / "e.ome.zarr", stack, compression="deflate")


def test_uneven_and_falling_positions_come_back_from_ome_zarr(tmp_path):
    planes = np.arange(5 * 16 * 16, dtype=np.uint16).reshape(5, 16, 16)
    for k, positions in enumerate(([9.0, 8.5, 7.0, 6.0, 5.5], [0.0, 1.0, 1.5, 4.0, 9.0])):
        stack = FocalStack(planes, positions, (0.2, 0.1), "micrometer")
        write_stack(tmp_path / f"{k}.ome.zarr", stack)
        back = read_stack(tmp_path / f"{k}.ome.zarr")
        np.testing.assert_allclose(back.positions, positions)
        assert (back.pixel_size, back.unit) == (stack.pixel_size, stack.unit)
        np.testing.assert_array_equal(np.asarray(back.planes), planes)
