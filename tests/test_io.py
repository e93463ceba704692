import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_dff import FocalStack, Recipe, depth_from_focus, read_stack, save_reconstruction
from napari_dff.io import StackError, read_recipe, read_transforms, sample_path, write_stack

FILES = {
    "depth.ome.tif", "index.ome.tif", "uncertainty.ome.tif", "all_in_focus.ome.tif",
    "recipe.json", "preview.png",
    "transforms.json", "provenance.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def result(surface):
    return depth_from_focus(surface.stack, Recipe(registration="none", refinement="none"))


def test_frames_are_read_in_natural_order(tmp_path):
    for k in (1, 2, 10):
        iio.imwrite(tmp_path / f"s{k}.png", np.full((8, 9), k, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    stack = read_stack(tmp_path)
    np.testing.assert_array_equal(stack.planes[:, 0, 0], [1, 2, 10])
    assert stack.unit == "pixel"


def test_colour_frames_keep_their_order_of_channels(tmp_path):
    frame = np.zeros((8, 8, 4), np.uint8)
    frame[..., 0], frame[..., 3] = 200, 255
    for k in range(3):
        iio.imwrite(tmp_path / f"{k}.png", frame)
    planes = read_stack(tmp_path).planes
    assert planes.shape == (3, 8, 8, 3)
    np.testing.assert_array_equal(planes[0, 0, 0], [200, 0, 0])


def test_ome_tiff_round_trip(tmp_path, rng):
    planes = rng.integers(0, 65535, (4, 9, 10)).astype(np.uint16)
    stack = FocalStack(planes, [0.0, 1.0, 2.5, 3.0], (0.3, 0.2), "micrometer")
    write_stack(tmp_path / "schönes Bild.ome.tif", stack)
    back = read_stack(tmp_path / "schönes Bild.ome.tif")
    np.testing.assert_array_equal(back.planes, planes)
    np.testing.assert_allclose(back.positions, stack.positions)
    assert back.pixel_size == (0.3, 0.2)
    assert back.unit == "micrometer"


def test_ome_tiff_without_plane_positions_uses_the_spacing(tmp_path):
    sizes = {"PhysicalSizeX": 500, "PhysicalSizeY": 400, "PhysicalSizeZ": 2000}
    units = {f"{name}Unit": "nm" for name in sizes}
    planes = np.zeros((3, 8, 8), np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, metadata={"axes": "ZYX", **sizes, **units})
    stack = read_stack(tmp_path / "a.ome.tif")
    np.testing.assert_allclose(stack.positions, [0, 2000, 4000])
    assert (stack.pixel_size, stack.unit) == ((400, 500), "nanometer")


def test_imagej_tiff_has_its_calibration(tmp_path):
    planes = np.zeros((5, 8, 8), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", planes, imagej=True, resolution=(4.0, 2.0),
        metadata={"axes": "ZYX", "spacing": 0.7, "unit": "um"},
    )  # fmt: skip
    stack = read_stack(tmp_path / "a.tif")
    np.testing.assert_allclose(stack.positions, 0.7 * np.arange(5))
    assert stack.pixel_size == pytest.approx((0.5, 0.25))
    assert stack.unit == "micrometer"


def test_plain_tiff_counts_planes_unless_told(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 8, 8), np.uint16))
    assert read_stack(tmp_path / "a.tif").unit == "pixel"
    stack = read_stack(tmp_path / "a.tif", spacing=(2.0, 0.5, 0.5))
    np.testing.assert_allclose(stack.positions, 2 * np.arange(5))
    assert (stack.pixel_size, stack.unit) == ((0.5, 0.5), "micrometer")
    with pytest.raises(ValueError, match="one or three positive lengths"):
        read_stack(tmp_path / "a.tif", spacing=(1.0, 2.0))


def test_what_cannot_be_read_is_told_why(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)  # no bioio
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        read_stack(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StackError, match="holds no image files"):
        read_stack(tmp_path / "empty")
    (tmp_path / "a.txt").write_bytes(b"x")
    with pytest.raises(StackError, match="neither a folder of frames nor TIFF"):
        read_stack(tmp_path / "a.txt")
    (tmp_path / "broken.tif").write_bytes(b"II*\0no")
    with pytest.raises(StackError, match=r"broken\.tif can't be read as TIFF"):
        read_stack(tmp_path / "broken.tif")
    tifffile.imwrite(
        tmp_path / "c.ome.tif", np.zeros((4, 2, 8, 8), np.uint8), metadata={"axes": "ZCYX"}
    )
    with pytest.raises(StackError, match=r"c\.ome\.tif holds 2 channels: choose one with channel"):
        read_stack(tmp_path / "c.ome.tif")
    frames = tmp_path / "frames"
    frames.mkdir()
    iio.imwrite(frames / "0.png", np.zeros((8, 8), np.uint8))
    iio.imwrite(frames / "1.png", np.zeros((8, 9), np.uint8))
    with pytest.raises(StackError, match=r"0\.png is 8 × 8 uint8, 1\.png is 8 × 9 uint8"):
        read_stack(frames)
    (frames / "1.png").write_bytes(b"nothing")
    with pytest.raises(StackError, match=r"1\.png can't be read as an image"):
        read_stack(frames)


def test_a_result_is_complete_and_calibrated(tmp_path, result):
    save_reconstruction(result, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES
    with tifffile.TiffFile(tmp_path / "out" / "depth.ome.tif") as tif:
        depth, ome = tif.asarray(), tifffile.xml2dict(tif.ome_metadata)
    np.testing.assert_array_equal(depth, result.refined.depth)
    pixels = ome["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.5, "µm")
    index = tifffile.imread(tmp_path / "out" / "index.ome.tif")
    assert index.dtype == np.uint16
    picture = tifffile.imread(tmp_path / "out" / "all_in_focus.ome.tif")
    np.testing.assert_array_equal(picture, result.all_in_focus)
    assert read_recipe(tmp_path / "out" / "recipe.json") == result.recipe
    moved = read_transforms(tmp_path / "out" / "transforms.json")
    np.testing.assert_array_equal(moved, result.transforms)
    with pytest.raises(ValueError, match="does not contain transforms"):
        read_transforms(tmp_path / "out" / "recipe.json")
    assert iio.imread(tmp_path / "out" / "preview.png").shape[1] == 1500


def test_a_second_result_replaces_the_first_and_leaves_other_files(tmp_path, result):
    out = tmp_path / "out"
    save_reconstruction(result, out)
    (out / "depth.ome.tif").write_bytes(b"old")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds depth\.ome\.tif, which no run"):
        save_reconstruction(result, out)
    assert (out / "depth.ome.tif").read_bytes() == b"old"
    save_reconstruction(result, out, overwrite=True)
    save_reconstruction(result, out)
    assert (out / "depth.ome.tif").stat().st_size > 100
    assert (out / "notes.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_interrupted_write_leaves_what_was_there(tmp_path, result, monkeypatch):
    out = tmp_path / "out"
    save_reconstruction(result, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    monkeypatch.setattr("json.dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_reconstruction(result, out)
    with pytest.raises(ZeroDivisionError):
        save_reconstruction(result, tmp_path / "new")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_file_in_the_way_is_not_overwritten(tmp_path, result):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file; give a folder"):
        save_reconstruction(result, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_recipes_that_are_not_recipes(tmp_path):
    path = tmp_path / "r.json"
    for text, words in (
        ("{", "is not a recipe"),
        ("[1]", "it is not a JSON object"),
        ('{"sigmaa": 1}', "did you mean 'sigma'"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_recipe(path)


def test_samples_are_calibrated():
    stack = read_stack(sample_path("rough_surface"))
    assert stack.unit == "micrometer"
    assert stack.pixel_size == (0.5, 0.5)
    np.testing.assert_allclose(np.diff(stack.positions), 2.0)
    with pytest.raises(ValueError, match="name must be one of"):
        sample_path("cat")
