"""Animated images, videos, datasets of Micro-Manager, lists of frames, raw photographs, RGBA."""

import importlib.util
import json
import os
import struct
from pathlib import Path

import cv2
import dask.array as da
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_dff import FocalStack
from napari_dff.batch.tasks import _match_paths
from napari_dff.io import StackError, read_acquisitions, read_stack
from napari_dff.model.acquisition import Acquisition

COLOURS = np.random.default_rng(2).integers(0, 255, (4, 16, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["webp", "png", "gif"])
def test_the_frames_of_an_animated_image_are_planes(suffix, tmp_path):
    data = COLOURS // 128 * 255
    first, *others = map(Image.fromarray, data)
    options = {"lossless": True} if suffix == "webp" else {}
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=others, **options)
    planes = read_stack(tmp_path / f"a.{suffix}").planes
    np.testing.assert_array_equal(planes, data)
    assert planes.dtype == np.uint8


def test_a_single_image_is_no_animation(tmp_path):
    image = Image.fromarray(COLOURS[0])
    image.save(tmp_path / "a.webp")
    image.save(tmp_path / "b.jpg", format="MPO", save_all=True, append_images=[image] * 3)
    for name in ("a.webp", "b.jpg"):
        with pytest.raises(StackError, match=rf"{name} is a single image: give the folder"):
            read_stack(tmp_path / name)


def video(path: Path, frames: np.ndarray, code: str = "FFV1", **depth) -> Path:
    size, options = frames.shape[2:0:-1], []
    if frames.dtype == np.uint16:
        options = [cv2.VIDEOWRITER_PROP_DEPTH, cv2.CV_16U, cv2.VIDEOWRITER_PROP_IS_COLOR, 0]
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), 10, size, options
    )
    if not writer.isOpened():
        pytest.skip("this build of OpenCV writes no videos")
    for frame in frames:
        writer.write(frame[..., ::-1] if frame.ndim == 3 else frame)
    writer.release()
    return path


def test_the_frames_of_a_video_are_planes(tmp_path):
    frames = np.repeat(np.repeat(COLOURS, 4, axis=1), 4, axis=2)
    np.testing.assert_array_equal(read_stack(video(tmp_path / "a.avi", frames)).planes, frames)
    grey = np.broadcast_to(frames[..., :1], frames.shape)
    planes = read_stack(video(tmp_path / "b.avi", grey)).planes
    np.testing.assert_array_equal(planes, frames[..., 0])


def test_videos_that_would_lose_bits_are_refused(tmp_path):
    path = video(tmp_path / "a.avi", np.zeros((4, 48, 64), np.uint16))
    with pytest.raises(StackError, match=r"a\.avi has 16 bits per sample, which would be lost"):
        read_stack(path)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(StackError, match=r"b\.mp4 can't be read as a video"):
        read_stack(tmp_path / "b.mp4")


def test_a_video_of_more_frames_than_its_header_says_is_bounded(monkeypatch, tmp_path):
    frames = iter(np.zeros((500, 48, 64, 3), np.uint8))

    class Capture:
        isOpened, release = (lambda self: True), (lambda self: None)

        def get(self, name):
            sizes = {cv2.CAP_PROP_FRAME_HEIGHT: 48, cv2.CAP_PROP_FRAME_WIDTH: 64}
            return sizes.get(name, 1)  # of one frame, by the header

        def read(self):
            return True, next(frames, None)

    (tmp_path / "a.avi").write_bytes(b"a video")
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: Capture())
    monkeypatch.setattr("napari_dff.io.readers.axes.available_bytes", lambda: 1e6)
    with pytest.raises(StackError, match=r"a\.avi has chunks .*, but only 0\.0 GB of memory"):
        read_stack(tmp_path / "a.avi")
    assert next(frames, None) is not None


def ndtiff(folder: Path) -> Path:
    """Write a dataset of two channels and four planes as the library ndtiff 3 does."""
    folder.mkdir()
    name = f"{folder.name}_NDTiffStack.tif"
    summary = json.dumps({"z-step_um": 0.5, "PixelSize_um": 0.1}).encode()
    content = bytearray(struct.pack("<2sHI", b"II", 42, 28 + len(summary)))
    content += struct.pack("<IIIII", 483729, 3, 0, 2355492, len(summary)) + summary
    index = b""
    for channel in ("DAPI", "GFP"):
        for z in range(4):
            metadata = json.dumps({"PixelSizeUm": 0.1, "ZPositionUm": 3 + 0.5 * z}).encode()
            pixels = np.full((16, 20), 10 * z + (channel == "GFP"), np.uint16).tobytes()
            start = len(content)
            data, text = start + 2 + 9 * 12 + 4, start + 2 + 9 * 12 + 4 + len(pixels)
            entries = [
                (256, 4, 1, 20), (257, 4, 1, 16), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
                (273, 4, 1, data), (277, 3, 1, 1), (279, 4, 1, len(pixels)),
                (51123, 2, len(metadata), text),
            ]  # fmt: skip
            content += struct.pack("<H", 9) + b"".join(struct.pack("<HHII", *e) for e in entries)
            last = channel == "GFP" and z == 3
            content += struct.pack("<I", 0 if last else text + len(metadata))
            content += pixels + metadata
            axes = json.dumps({"z": z, "channel": channel}).encode()
            for part in (axes, name.encode()):
                index += struct.pack("<I", len(part)) + part
            index += struct.pack("<8I", data, 20, 16, 1, 0, text, len(metadata), 0)
    (folder / name).write_bytes(content)
    (folder / "NDTiff.index").write_bytes(index)
    return folder


@pytest.mark.parametrize("name", ["", "a_NDTiffStack.tif"])
def test_ndtiff(name, tmp_path):
    (acquisition,) = read_acquisitions(ndtiff(tmp_path / "a") / name)
    np.testing.assert_array_equal(acquisition.data[0, 1, :, 0, 0], [1, 11, 21, 31])
    np.testing.assert_allclose(acquisition.positions, [[3, 3.5, 4, 4.5]])
    assert acquisition.channels == ("DAPI", "GFP")
    assert (acquisition.pixel_size, acquisition.unit) == ((0.1, 0.1), "micrometer")


def test_a_folder_of_an_mmstack_is_read(tmp_path):
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.5}
    path = tmp_path / "a_MMStack_Pos0.ome.tif"
    tifffile.imwrite(path, COLOURS[..., 0], ome=True, metadata={"axes": "ZYX", **sizes})
    np.testing.assert_array_equal(read_stack(tmp_path).planes, COLOURS[..., 0])


# Lists of frames, as a shell expands *.jpg


def write(folder: Path, *names: str) -> list[Path]:
    for i, name in enumerate(names):
        Image.fromarray(np.full((8, 9), i, np.uint8)).save(folder / name)
    return [folder / name for name in names]


def test_the_frames_of_one_stack_can_be_listed(tmp_path):
    paths = write(tmp_path, "z0.png", "z5.png", "z10.png", "other.png")[:3]
    stack = read_stack([paths[2], paths[0], str(paths[1])])
    np.testing.assert_array_equal(stack.planes[:, 0, 0], [0, 1, 2])
    (acquisition,) = read_acquisitions(paths)
    assert set(paths) <= set(acquisition.files)


def test_messages_name_the_folder_in_which_the_command_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [path.name for path in write(tmp_path, "0.png", "1.png", "2.png")]
    for path in (names, "."):
        with pytest.warns(UserWarning, match=f"^{tmp_path.name} has no pixel size"):
            read_stack(path, spacing=1)


def test_several_stacks_are_refused_with_a_hint(tmp_path):
    (tmp_path / "a").mkdir()
    paths = write(tmp_path / "a", "0.png", "1.png", "2.png")
    message = (
        "2 paths must be the frames of one stack, one image each, and a is not an image: use b"
    )
    with pytest.raises(StackError, match=message):
        read_stack([paths[0], tmp_path / "a"])
    for name in ("b.tif", "c.tif"):
        tifffile.imwrite(tmp_path / name, np.zeros((5, 8, 9), np.uint8))
    with pytest.raises(StackError, match=r"b\.tif holds 5 pages: open it by itself, or use batch"):
        read_stack([tmp_path / "b.tif", tmp_path / "c.tif"])
    with pytest.raises(ValueError, match="path must be a file, a folder or the frames"):
        read_stack([])


def test_brackets_in_the_names_of_folders_are_literal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("run [1]", "run 1", "run 2"):
        os.mkdir(folder)
        write(Path(folder), "a.png")
    names = {
        path.relative_to(tmp_path).as_posix(): n for path, n in _match_paths(["run [1]"]).items()
    }
    assert names == {"run [1]": "run [1]"}
    assert [path.parent.name for path in _match_paths(["run [1]/*.png"])] == ["run 1"]
    (tmp_path / "run 1" / "a.png").unlink()
    assert [path.parent.name for path in _match_paths(["run [1]/*.png"])] == ["run [1]"]
    assert [path.name for path in _match_paths(["run [12]"])] == ["run 1", "run 2"]


# RGBA


@pytest.mark.parametrize("as_array", [np.asarray, da.from_array])
def test_alpha_of_arrays_is_dropped(as_array):
    rgba = np.concatenate([COLOURS, np.full_like(COLOURS[..., :1], 255)], axis=-1)
    stack = FocalStack(as_array(rgba))
    np.testing.assert_array_equal(stack.planes, COLOURS)
    acquisition = Acquisition(as_array(rgba[None]), np.arange(4.0), axes=("t",))
    assert acquisition.data.shape == (1, *COLOURS.shape)


# Raw photographs


def dng(path: Path, value: int) -> None:
    """Write a raw photograph with a colour filter array."""
    pixels = np.full((64, 96), value, np.uint16)
    matrix = [v for row in np.eye(3) for n in row for v in (int(1000 * n), 1000)]
    tags = [
        (33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True),
        (50706, 1, 4, b"\1\4\0\0", True), (50708, 2, 0, "Test camera", True),
        (50714, 3, 1, 0, True), (50717, 4, 1, 16383, True),
        (50721, 10, 9, tuple(matrix), True), (50728, 5, 3, (1, 1) * 3, True),
        (271, 2, 0, "Test", True), (272, 2, 0, "Camera", True),
    ]  # fmt: skip
    options = {"photometric": 32803, "extratags": tags, "metadata": None, "subfiletype": 0}
    tifffile.imwrite(path, pixels, **options)


def test_raw_photographs_are_developed_in_16_bits(tmp_path):
    pytest.importorskip("rawpy")
    for i in range(3):
        dng(tmp_path / f"{i}.dng", 2000 * (i + 1))
    planes = np.asarray(read_stack(tmp_path).planes)
    assert (planes.shape[0], planes.shape[3], planes.dtype) == (3, 3, np.uint16)
    means = planes.mean(axis=(1, 2, 3))
    assert means[0] < means[1] < means[2]


def test_raw_photographs_need_rawpy(tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "rawpy" else find_spec(name)
    )
    dng(tmp_path / "0.dng", 100)
    with pytest.raises(StackError, match=r"0\.dng is a raw photograph, .* 'napari-dff\[raw\]'"):
        read_stack(tmp_path)
