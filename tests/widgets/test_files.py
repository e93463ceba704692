"""Opening and saving through the manifest: what napari's own reader and writers don't keep."""

import json

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from npe2 import PluginManager
from PIL import Image as Picture

from napari_dff import Recipe, depth_from_focus, synthetic
from napari_dff.cli.program import main
from napari_dff.io import save_reconstruction, write_image, write_stack
from napari_dff.model.stack import FocalStack
from napari_dff.widgets.app.axes import acquisition_of
from napari_dff.widgets.app.layers import (
    full_values,
    is_stack,
    plugin_metadata,
    role_of,
    settings_of,
)
from napari_dff.widgets.files.layer_writer import SaveError
from napari_dff.widgets.files.reader import reader
from napari_dff.widgets.files.result_writer import write_results

STILL = Recipe(registration="none", refinement="none", window=11)
FOUR = ("uncertainty", "plane index", "all in focus", "depth")
UNEVEN = np.array([3.0, 5.0, 7.5, 9.0, 11.0, 13.0, 15.0, 20.0])


@pytest.fixture(scope="module")
def small():
    return synthetic.rough_surface(size=64, planes=8, seed=5).stack.planes


@pytest.fixture(scope="module")
def stack(small):
    return FocalStack(small, UNEVEN, (0.5, 0.25), "micrometer")


@pytest.fixture(scope="module")
def many(small):
    """(T, C, Z, Y, X)."""
    other = (65535 - small) // 3
    return np.stack([[other, small], [other[:, ::-1], small[:, ::-1]]])


@pytest.fixture
def model():
    """A viewer without a window: layers are opened and saved, and not drawn."""
    PluginManager.instance().discover()
    return ViewerModel()


def opened(viewer, path):
    return viewer.open(str(path), plugin="napari-dff")


def saved(layers, path, plugin="napari-dff"):
    """Through napari's own door, as File ▸ Save does."""
    from napari.plugins.io import save_layers

    return save_layers(str(path), layers, plugin=plugin)


# Reading -----------------------------------------------------------------------------------------


def test_a_stack_has_its_positions_scale_and_units(model, stack, tmp_path):
    path = tmp_path / "mine.ome.tif"
    write_stack(path, stack)
    (layer,) = opened(model, path)
    assert layer.name == "mine"
    assert isinstance(layer.data, np.ndarray)
    assert not isinstance(layer.data, np.memmap)
    np.testing.assert_array_equal(layer.data, stack.planes)
    np.testing.assert_allclose(layer.scale, (np.diff(UNEVEN).mean(), 0.5, 0.25))
    np.testing.assert_allclose(layer.translate, (3.0, 0, 0))
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    np.testing.assert_allclose(acquisition_of(layer).stack().positions, UNEVEN)
    assert layer.source.path == str(path)


def test_times_and_channels_are_axes(viewer, many, tmp_path):
    path = tmp_path / "series.ome.tif"
    metadata = {
        "axes": "TCZYX",
        "PhysicalSizeZ": 2.0,
        "PhysicalSizeY": 0.5,
        "PhysicalSizeX": 0.25,
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    tifffile.imwrite(path, many, ome=True, photometric="minisblack", metadata=metadata)
    (layer,) = opened(viewer, path)
    np.testing.assert_array_equal(layer.data, many)
    assert layer.axis_labels == ("t", "c", "z", "y", "x")
    np.testing.assert_allclose(layer.scale, (1, 1, 2, 0.5, 0.25))
    units = [str(unit) for unit in layer.units]
    assert units == ["pixel"] * 2 + ["micrometer"] * 3
    widget = viewer.window.add_plugin_dock_widget("napari-dff", "Focus measure")[1]
    assert widget.axes._channels() == [("0 DAPI", 0), ("1 GFP", 1)]
    path = tmp_path / "times.tif"  # one axis alone
    tifffile.imwrite(path, many[:, 1], imagej=True, metadata={"axes": "TZYX"})
    (layer,) = opened(viewer, path)
    assert layer.axis_labels == ("t", "z", "y", "x")
    np.testing.assert_array_equal(layer.data, many[:, 1])


def test_imagej_colour_and_zarr(model, small, drifting, tmp_path):
    path = tmp_path / "imagej.tif"
    told = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
    tifffile.imwrite(path, small, imagej=True, resolution=(4.0, 2.0), metadata=told)
    (layer,) = opened(model, path)
    np.testing.assert_allclose(layer.scale, (2.0, 0.5, 0.25))
    colour = FocalStack(drifting.stack.planes, None, (0.5, 0.5), "millimeter")
    write_stack(tmp_path / "colour.ome.tif", colour)
    (layer,) = opened(model, tmp_path / "colour.ome.tif")
    assert layer.rgb
    assert layer.ndim == 3
    assert str(layer.units[0]) == "millimeter"
    even = FocalStack(small, 4 + 2.0 * np.arange(8), (0.5, 0.25), "micrometer")
    write_stack(tmp_path / "even.ome.zarr", even)
    (layer,) = opened(model, tmp_path / "even.ome.zarr")
    assert layer.name == "even"
    np.testing.assert_array_equal(layer.data, small)
    np.testing.assert_allclose(layer.scale, (2.0, 0.5, 0.25))
    np.testing.assert_allclose(layer.translate, (4.0, 0, 0))


def test_a_folder_of_frames_and_what_is_large_stays_lazy(model, small, tmp_path, monkeypatch):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, plane in enumerate(small):
        Picture.fromarray((plane >> 8).astype(np.uint8)).save(folder / f"frame{i}.png")
    (layer,) = opened(model, folder)
    assert layer.name == "frames"
    np.testing.assert_array_equal(layer.data, small >> 8)
    (folder / "results").mkdir()  # as a run may have put them there
    (folder / "results" / "provenance.json").write_text("{}")
    (folder / "results" / "depth.ome.tif").write_bytes(b"")
    monkeypatch.setattr("napari_dff.widgets.app.layer_data.MAX_LOADED_BYTES", 0)
    (lazy,) = opened(model, folder)
    assert not isinstance(lazy.data, np.ndarray)
    np.testing.assert_array_equal(np.asarray(lazy.data), small >> 8)


def test_what_is_no_stack_is_opened_as_by_napari_itself(model, small, tmp_path):
    tifffile.imwrite(tmp_path / "flat.tif", small[0])
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((32, 32, 3), np.uint8), photometric="rgb")
    movie = {"axes": "TYX"}
    tifffile.imwrite(tmp_path / "movie.ome.tif", small, photometric="minisblack", metadata=movie)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    for name in ("flat.tif", "rgb.tif", "movie.ome.tif"):
        (own,) = opened(model, tmp_path / name)
        (other,) = model.open(str(tmp_path / name), plugin="napari")
        np.testing.assert_array_equal(own.data, other.data)
        assert own.units == other.units
    paths = [str(tmp_path / "flat.tif")] * 3
    (stacked,) = model.open(paths, stack=True, plugin="napari-dff")
    assert stacked.data.shape == (3, 64, 64)
    for name in ("empty", "notes"):
        assert reader(str(tmp_path / name)) is None, name


def test_what_cannot_be_read_is_told_in_a_sentence(model, small, tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"II*\0nonsense")
    with pytest.raises(ValueError, match=r"broken\.tif"):
        opened(model, tmp_path / "broken.tif")
    tifffile.imwrite(tmp_path / "unnamed.tif", np.stack([small] * 2), photometric="minisblack")
    with pytest.raises(ValueError, match="name them in their order"):
        opened(model, tmp_path / "unnamed.tif")
    (tmp_path / "x.czi").write_bytes(b"no such thing")
    with pytest.raises(ValueError, match="bioio"):
        opened(model, tmp_path / "x.czi")
    assert len(model.layers) == 0


def test_the_copied_command_of_a_file_gives_the_same(person, stack, tmp_path):
    path = tmp_path / "mine.ome.tif"
    write_stack(path, stack)
    opened(person.viewer, path)
    widget = person.open("all")
    widget.form.settings["registration"].value = "none"
    widget.form.settings["refinement"].value = "none"
    person.run(widget)
    words = widget.command().split()
    assert words[:3] == ["napari-dff", "run", str(path)]
    assert "--spacing" not in words  # the file tells, and tells more
    assert widget.command_caveat() == ""
    words[words.index("results")] = str(tmp_path / "out")
    assert main([*words[1:], "--quiet"]) == 0
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out" / "depth.ome.tif"), person.values("refined depth")
    )
    person.viewer.layers["mine"].scale = (2.0, 0.5, 0.25)
    assert "--spacing 2 0.5 0.25" in widget.command()


def test_a_run_s_folder_becomes_its_layers(person, stack, tmp_path):
    result = depth_from_focus(stack, STILL)
    widget, measure = person.open("all", "measure")
    for file_format in ("ome-tiff", "ome-zarr"):
        person.viewer.layers.clear()
        widget.form.settings["window"].value = 15
        save_reconstruction(result, tmp_path / file_format, file_format=file_format)
        layers = opened(person.viewer, tmp_path / file_format)
        check_layers_of_a_folder(person, widget, measure, result, layers)


def check_layers_of_a_folder(person, widget, measure, result, layers):
    assert [role_of(each) for each in layers] == [f"refined {role}" for role in FOUR]
    by_role = dict(zip(FOUR, layers, strict=True))
    found = result.refined
    np.testing.assert_array_equal(full_values(by_role["depth"]), found.depth)
    np.testing.assert_array_equal(by_role["uncertainty"].data, found.uncertainty)
    np.testing.assert_array_equal(by_role["all in focus"].data, result.all_in_focus)
    known = np.isfinite(found.uncertainty)
    np.testing.assert_array_equal(by_role["plane index"].data[known], found.index[known] + 1)
    assert (by_role["plane index"].data[~known] == 0).all()
    for layer in layers:
        np.testing.assert_allclose(layer.scale, (0.5, 0.25))
        assert str(layer.units[0]) == "micrometer"
        assert not is_stack(layer)
    assert by_role["depth"].colormap.name == "viridis"
    limits = np.percentile(found.depth[known], (0.5, 99.5))
    np.testing.assert_allclose(by_role["depth"].contrast_limits, limits, rtol=1e-6)
    assert [each.visible for each in layers] == [False, False, True, True]
    # A click brings the recipe back.
    person.viewer.layers.selection.active = by_role["uncertainty"]
    assert widget.form.settings["window"].value == 11
    measure.input_layer.value = by_role["depth"]  # and what is beside it is found
    person.run(measure)
    assert np.isfinite(measure.measurement.quantities[0].uncertainty)


def test_the_images_of_a_run_one_by_one(model, stack, tmp_path):
    result = depth_from_focus(stack, STILL)
    save_reconstruction(result, tmp_path / "out")
    (depth,) = opened(model, tmp_path / "out" / "depth.ome.tif")
    assert role_of(depth) == "refined depth"
    assert settings_of(depth)["window"] == 11
    (labels,) = opened(model, tmp_path / "out" / "index.ome.tif")
    assert labels._type_string == "labels"
    known = np.isfinite(result.refined.uncertainty)
    assert ((labels.data == 0) == ~known).all()
    write_image(tmp_path / "plain.ome.tif", result.all_in_focus, stack)
    (plain,) = opened(model, tmp_path / "plain.ome.tif")  # no record of ours
    assert role_of(plain) == ""


@pytest.mark.parametrize("file_format", ["ome-tiff", "ome-zarr"])
def test_a_run_of_many_times_lies_on_its_series(model, many, file_format, tmp_path):
    path, at = tmp_path / "series.ome.tif", np.repeat([UNEVEN, UNEVEN + 1], 2, axis=0).ravel()
    metadata = {
        "axes": "TCZYX",
        "PhysicalSizeY": 0.5,
        "PhysicalSizeX": 0.25,
        "Plane": {"PositionZ": at.tolist(), "PositionZUnit": ["µm"] * 32},
    }
    tifffile.imwrite(path, many, ome=True, photometric="minisblack", metadata=metadata)
    flags = ["--focus-channel", "1", "--file-format", file_format, "--quiet", *STILL.flags()]
    assert main(["run", str(path), "--out", str(tmp_path / "out"), *flags]) == 0
    place = (1, 1, np.diff(UNEVEN).mean(), 0.5, 0.25)
    source = model.add_image(
        many,
        scale=place,
        translate=(0, 0, 3, 0, 0),
        axis_labels=tuple("tczyx"),
        units=("pixel",) * 2 + ("micrometer",) * 3,
    )
    steps = model.dims.nsteps
    layers = dict(zip(FOUR, opened(model, tmp_path / "out"), strict=True))
    assert layers["depth"].name == "depth · series"
    assert layers["depth"].data.shape == (2, 1, 1, 64, 64)
    assert layers["all in focus"].data.shape == (2, 2, 1, 64, 64)
    assert model.dims.nsteps == steps
    assert layers["depth"].axis_labels == source.axis_labels
    alone = depth_from_focus(FocalStack(many[1, 1], UNEVEN + 1), STILL)
    np.testing.assert_array_equal(full_values(layers["depth"])[1, 0, 0], alone.refined.depth)
    np.testing.assert_array_equal(layers["all in focus"].data[1, 1, 0], alone.all_in_focus)
    world = source.data_to_world((1, 1, 7, 20, 30))
    model.dims.set_point(range(5), world)
    assert layers["depth"].get_value(world, world=True) == alone.refined.depth[20, 30]
    assert plugin_metadata(layers["depth"])["focus_channel"] == 1


# Saving ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
def test_a_saved_layer_comes_back_as_it_was(model, small, many, drifting, ending, tmp_path):
    place = {"scale": (2.0, 0.5, 0.25), "translate": (7.0, 3.0, 1.0)}
    look = {"units": ("micrometer",) * 3, "axis_labels": ("z", "y", "x"), **place}
    five = {
        "scale": (1, 1, -2.0, 0.5, 0.25),
        "translate": (0, 0, 7.0, 3.0, 1.0),
        "axis_labels": tuple("ctzyx"),
        "units": ("pixel",) * 2 + ("millimeter",) * 3,
    }
    layers = [
        model.add_image(small, name="grey", colormap="viridis", **look),
        model.add_image(drifting.stack.planes, name="colour", rgb=True, **look),
        model.add_image(small.astype(np.float32), name="bare", scale=(3, 2, 2)),
        model.add_image(np.moveaxis(many, 0, 1), name="series", **five),
        model.add_image(np.moveaxis(many, 0, 1)[:, :1, :1], name="one plane", **five),
        model.add_labels((small > 20000).astype(np.int64), name="drawn", **look),
        model.add_image(small[0], name="plane", scale=(0.5, 0.25), units=("micrometer",) * 2),
    ]
    for layer in layers:
        path = tmp_path / f"{layer.name}{ending}"
        assert saved([layer], path) == [str(path)]
        (back,) = opened(model, path)
        assert back._type_string == layer._type_string
        np.testing.assert_array_equal(np.asarray(back.data), layer.data)
        np.testing.assert_allclose(back.scale, layer.scale)
        np.testing.assert_allclose(back.translate, layer.translate)
        assert back.units == layer.units
        assert back.axis_labels == layer.axis_labels
        assert getattr(back, "rgb", False) == getattr(layer, "rgb", False)
        assert back.name.startswith(layer.name)
    assert model.layers["grey [1]"].colormap.name == "viridis"
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(
        f"{layer.name}{ending}" for layer in layers
    )


def test_other_programs_read_scale_and_positions_of_what_is_saved(model, many, tmp_path):
    at = 7 + 2.0 * np.arange(8) + np.array([[0.0], [0.5]])  # of each time
    told = {"channels": ("a", "b"), "positions": np.stack([at, at])}
    layer = model.add_image(
        np.moveaxis(many, 0, 1),
        scale=(1, 1, 2, 0.5, 0.25),
        translate=(0, 0, 7, 0, 0),
        axis_labels=tuple("ctzyx"),
        units=("pixel",) * 2 + ("micrometer",) * 3,
        metadata={"napari-dff": told},
    )
    (path,) = saved([layer], tmp_path / "x.ome.tif")
    from napari_dff.io import read_acquisitions

    (found,) = read_acquisitions(path)
    np.testing.assert_array_equal(np.asarray(found.data), many)
    np.testing.assert_allclose(found.positions, at)
    assert found.pixel_size == (0.5, 0.25)
    assert found.channels == ("a", "b")
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        assert tif.series[0].axes == "TCZYX"


def test_results_are_saved_as_a_run_and_come_back(person, stack, tmp_path):
    viewer = person.viewer
    write_stack(tmp_path / "mine.ome.tif", stack)
    (source,) = opened(viewer, tmp_path / "mine.ome.tif")
    widget = person.open("all")
    widget.form.settings["window"].value = 13
    person.run(widget)
    viewer.add_points([[1, 2, 3]])
    out = tmp_path / "mine.dff"
    before = {role: person.layer(f"refined {role}") for role in FOUR}
    written = saved(list(viewer.layers), out)
    names = {"depth", "index", "uncertainty", "all_in_focus"}
    files = {f"{name}.ome.tif" for name in names} | {"preview.png"}
    files |= {"recipe.json", "provenance.json", "transforms.json"}
    assert {each.name for each in out.iterdir()} == files
    assert len(written) == len(files)
    told = json.loads((out / "provenance.json").read_text())
    assert told["recipe"]["window"] == 13
    assert told["input"]["path"] == "mine.ome.tif"
    np.testing.assert_allclose(told["positions"], UNEVEN)
    expected = depth_from_focus(acquisition_of(source).stack(), widget.recipe())
    assert told["quality"] == expected.quality._asdict()
    moved = json.loads((out / "transforms.json").read_text())["transforms"]
    np.testing.assert_allclose(moved, expected.transforms)
    after = dict(zip(FOUR, opened(viewer, out), strict=True))
    for role, layer in after.items():
        np.testing.assert_array_equal(layer.data, before[role].data)
        np.testing.assert_allclose(layer.scale, before[role].scale)
        np.testing.assert_allclose(layer.translate, before[role].translate)
        assert role_of(layer) == role_of(before[role])
        assert settings_of(layer)["window"] == 13
    saved(list(after.values()), tmp_path / "again.dff")
    again = json.loads((tmp_path / "again.dff" / "provenance.json").read_text())
    assert again["quality"] == told["quality"]
    (single,) = saved([before["depth"]], tmp_path / "depth of mine.ome.tif")
    (back,) = opened(viewer, single)
    assert role_of(back) == "refined depth"
    assert settings_of(back) == settings_of(before["depth"])


def test_results_of_many_times_and_positions(person, many, tmp_path):
    viewer = person.viewer
    data = np.stack([many, many[::-1]])  # positions before times
    place = {"scale": (1, 1, 1, 2, 0.5, 0.25), "translate": (0, 0, 0, 5, 1, 2)}
    units = ("pixel",) * 3 + ("micrometer",) * 3
    viewer.add_image(data, name="mine", axis_labels=tuple("ptczyx"), units=units, **place)
    widget = person.open("all")
    widget.axes.focus.value = 1
    widget.form.settings["registration"].value = "none"
    widget.form.settings["refinement"].value = "none"
    person.run(widget)
    out = tmp_path / "mine.dff"
    saved(list(viewer.layers), out)
    folders = sorted(each.name for each in out.iterdir())
    assert folders == ["mine_position_0", "mine_position_1"]
    depth = tifffile.imread(out / folders[1] / "depth.ome.tif")
    np.testing.assert_array_equal(depth, person.values("refined depth")[1, :, 0, 0])
    pictures = tifffile.imread(out / folders[1] / "all_in_focus.ome.tif")
    np.testing.assert_array_equal(pictures, person.layer("refined all in focus").data[1, :, :, 0])
    first, second = (json.loads((out / f / "provenance.json").read_text()) for f in folders)
    assert first["quality"] == second["quality"][::-1]  # which has the times reversed
    assert len(opened(viewer, out)) == 8


def test_what_cannot_be_saved_is_told_and_leaves_nothing(model, small, many, tmp_path):
    series = model.add_image(many, name="series")
    with pytest.raises(SaveError, match="name the 5 axes of 'series'"):
        saved([series], tmp_path / "x.ome.tif")
    series.axis_labels = tuple("tpzyx")
    with pytest.raises(SaveError, match="have no axis 'p'"):
        saved([series], tmp_path / "x.ome.tif")
    layers = [model.add_image(small[0], name=str(i)) for i in range(3)]
    layers.append(model.add_labels(np.ones((64, 64), np.uint8)))
    with pytest.raises(SaveError, match="there are no results among these layers"):
        saved(layers, tmp_path / "x.dff")
    tuples = [layer.as_layer_data_tuple() for layer in layers]
    tuples[0][1]["metadata"] = {"napari-dff": {"role": "depth", "root": "mine"}}
    with pytest.raises(SaveError, match="select all results of 'mine'"):
        write_results(str(tmp_path / "x.dff"), tuples)
    assert list(tmp_path.iterdir()) == []


def test_saving_fails_as_a_whole(model, stack, tmp_path, monkeypatch):
    write_stack(tmp_path / "mine.ome.tif", stack)
    (layer,) = opened(model, tmp_path / "mine.ome.tif")
    before = (tmp_path / "mine.ome.tif").read_bytes()

    def full(*_args, **_settings):
        raise OSError("No space left on device")

    monkeypatch.setattr("napari_dff.io.writers.tiff.OmeTiffWriter.write", full)
    with pytest.raises(OSError, match="No space left"):
        saved([layer], tmp_path / "mine.ome.tif")
    assert (tmp_path / "mine.ome.tif").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_cropped_results_open_where_they_lie_and_are_saved_so(model, drifting, tmp_path):
    stack = FocalStack(drifting.stack.planes, None, (0.5, 0.25), "micrometer")
    result = depth_from_focus(stack, Recipe(crop="common", refinement="none"))
    save_reconstruction(result, tmp_path / "run")
    corner = np.array([result.window.top * 0.5, result.window.left * 0.25])
    layers = opened(model, tmp_path / "run")
    for layer in layers:
        np.testing.assert_allclose(layer.data_to_world((0,) * layer.ndim)[-2:], corner)
    again = tmp_path / "again.dff" / "provenance.json"
    saved(layers, again.parent)
    assert json.loads(again.read_text())["window"] == list(result.window)
    for layer in opened(model, again.parent):
        np.testing.assert_allclose(layer.data_to_world((0,) * layer.ndim)[-2:], corner)
