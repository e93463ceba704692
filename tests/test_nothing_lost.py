"""Full disks, folders of every kind, two at a time: one sentence, and what was there is there."""

import contextlib
import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_dff import FocalStack, Recipe, read_stack
from napari_dff.cli.program import main
from napari_dff.io import copy_sample, staging, write_image, write_recipe, write_stack
from napari_dff.io.atomic import write_file, write_folder
from napari_dff.io.staging import STAGING_SUFFIX, recover

QUICK = ["--registration", "none", "--refinement", "none", "--quiet"]
RESULT = {
    "depth.ome.tif",
    "index.ome.tif",
    "uncertainty.ome.tif",
    "all_in_focus.ome.tif",
    "recipe.json",
    "provenance.json",
    "transforms.json",
    "preview.png",
}
FULL = "can't be written: No space left on device; free some space, or write elsewhere"


@pytest.fixture
def stack(tmp_path):
    """A focal stack as a file, in a folder of its own."""
    path = tmp_path / "in" / "stack.tif"
    path.parent.mkdir()
    save(path, 64)
    return path


def save(path: Path, size: int) -> None:
    planes = np.random.default_rng(2).integers(0, 255, (5, size, size)).astype(np.uint8)
    tifffile.imwrite(path, planes, photometric="minisblack")


def content(folder: Path) -> dict[str, bytes]:
    every = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in every}


def run(stack: Path, out: Path | str, *more: str) -> int:
    return main(["run", str(stack), "--out", str(out), *QUICK, *more])


def refused(capsys, sentence: str) -> None:
    """What is told is this one sentence."""
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1, told
    assert told[0].startswith("napari-dff: ")
    assert sentence in told[0]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB; skips where none may be made."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no disk may be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("file_format", ["ome-tiff", "ome-zarr"])
@pytest.mark.parametrize("foreseen", [True, False])
def test_a_full_disk_leaves_the_old_result(
    stack, small_disk, tmp_path, capsys, monkeypatch, foreseen, file_format
):
    assert run(stack, small_disk / "out") == 0
    before = content(small_disk)
    save(tmp_path / "large.tif", 600)  # random, so that it is too large compressed as well
    if not foreseen:
        monkeypatch.setattr("napari_dff.io.writers.result_files.check_space", lambda *_: None)
    capsys.readouterr()
    needed = "the results need 0.00396 GB, but only 0.000"
    for out in (small_disk / "out", small_disk / "other", small_disk):
        assert run(tmp_path / "large.tif", out, "--file_format", file_format) == 2
        refused(capsys, needed if foreseen else f"{out} {FULL}")
        assert content(small_disk) == before


def test_a_full_disk_fails_samples_and_stacks_in_one_sentence(small_disk, capsys):
    (small_disk / "filled").write_bytes(bytes(1_000_000))
    before = content(small_disk)
    assert main(["sample", "all", "--out", str(small_disk / "new")]) == 2
    refused(capsys, f"{small_disk / 'new'} {FULL}")
    planes = np.zeros((4, 200, 200))
    for name in ("a.tif", "a.ome.zarr"):
        with pytest.raises(OSError, match=r"the results need 0\.00128 GB, but only "):
            write_stack(small_disk / name, FocalStack(planes))
    with pytest.raises(OSError, match=FULL):
        write_image(small_disk / "a.tif", planes[0], FocalStack(planes), compression=None)
    assert content(small_disk) == before


def test_a_folder_that_is_a_disk_of_its_own_is_written(stack, small_disk):
    for window in ("9", "11"):
        assert run(stack, small_disk, "--window", window) == 0
        assert {path.name for path in small_disk.iterdir()} == RESULT
    assert not list(small_disk.parent.glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="such a limit is unknown there")
@pytest.mark.parametrize("file_format", ["ome-tiff", "ome-zarr"])
def test_files_larger_than_the_disk_can_have_are_told(stack, tmp_path, capsys, file_format):
    import resource

    out = tmp_path / "out"
    assert run(stack, out) == 0
    before, limits = content(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    capsys.readouterr()
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        assert run(stack, out, "--file_format", file_format) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    refused(capsys, f"{out} can't be written: File too large; free some space")
    assert content(tmp_path) == before


@pytest.mark.parametrize("sits_in_the_way", ["out", "deep/in/out"])
def test_a_file_where_a_folder_should_be_is_told(stack, tmp_path, capsys, sits_in_the_way):
    file = tmp_path / sits_in_the_way.split("/")[0]
    file.write_text("a file")
    before = content(tmp_path)
    assert run(stack, tmp_path / sits_in_the_way) == 2
    refused(capsys, f"{file} is a file; give a folder to write into")
    with pytest.raises(NotADirectoryError, match="is a file; give a folder"):
        write_recipe(file / "recipe.json", Recipe())
    assert content(tmp_path) == before


def test_a_folder_that_may_not_be_written_is_told(stack, tmp_path, capsys):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    out = closed / "out" if os.access(closed, os.W_OK) is False else Path("/sys/out")
    if not out.parent.exists():
        pytest.skip("this person may write everywhere")
    assert run(stack, out) == 2
    refused(capsys, f"{out} can't be written: ")


def test_a_file_or_a_folder_in_the_place_of_a_file_is_kept(tmp_path):
    (tmp_path / "a.tif").mkdir()
    (tmp_path / "a.tif" / "mine.txt").write_text("mine")
    (tmp_path / "a.ome.zarr").mkdir()
    image, stack = np.zeros((4, 4), np.uint8), FocalStack(np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(IsADirectoryError, match="is a folder; give a file to write"):
        write_image(tmp_path / "a.tif", image, stack)
    with pytest.raises(FileExistsError, match="exists already: remove it, or give another name"):
        write_stack(tmp_path / "a.ome.zarr", stack)
    assert content(tmp_path) == {"a.tif/mine.txt": b"mine"}


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_folder_is_followed(stack, tmp_path, there):
    link, real = tmp_path / "link", tmp_path / "real"
    if there:
        real.mkdir()
    link.symlink_to(real)
    assert run(stack, link) == 0
    assert link.is_symlink()
    assert {path.name for path in real.iterdir()} == RESULT


@pytest.mark.parametrize(
    "name", ["with spaces", "测定 №5 µm", "n" * 255, "ü" * 127, ".hidden", "[a]*"]
)
def test_every_name_of_a_folder_will_do(tmp_path, name):
    for _ in range(2):
        assert main(["sample", "cell_sheet", "--out", str(tmp_path / "out" / name)]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_a_name_that_is_too_long_is_told_before_any_work(stack, tmp_path, capsys):
    before = content(tmp_path)
    for out in (tmp_path / ("n" * 256), tmp_path / ("n" * 256) / "out"):
        assert run(stack, out) == 2
        refused(capsys, "can't be written: File name too long")
    with pytest.raises(OSError, match="can't be written: File name too long"):
        write_recipe(tmp_path / ("n" * 256), Recipe())
    assert content(tmp_path) == before


def test_planes_are_never_replaced_nor_joined_by_results(stack, tmp_path, capsys, monkeypatch):
    planes = tifffile.imread(stack)
    frames, zarr = tmp_path / "frames", tmp_path / "planes.ome.zarr"
    frames.mkdir()
    for i, plane in enumerate(planes):
        tifffile.imwrite(frames / f"{i}.tif", plane)
    write_stack(zarr, FocalStack(planes))
    (tmp_path / "depth").mkdir()
    write_stack(tmp_path / "depth" / "depth.ome.tif", FocalStack(planes))
    before = content(tmp_path)
    monkeypatch.chdir(frames)
    for source, out in (
        (frames, frames),
        (frames, "."),
        (".", "."),
        (zarr, zarr),
        (zarr, zarr / "0"),
        (tmp_path / "depth" / "depth.ome.tif", tmp_path / "depth"),
    ):
        assert run(source, out) == 2
        folder = os.path.realpath(out)
        refused(capsys, f"out must be another folder than that of the planes, got {folder}")
    assert run(stack, stack) == 2
    refused(capsys, f"out must be another folder than that of the planes, got {stack}")
    assert content(tmp_path) == before
    assert run(frames, "results") == 0
    monkeypatch.chdir(stack.parent)
    assert run(stack, ".") == 0
    assert {path.name for path in stack.parent.iterdir()} == {*RESULT, "stack.tif"}
    assert read_stack(frames).planes.shape == planes.shape


def test_a_stack_is_written_over_the_file_it_is_read_from(stack):
    planes = tifffile.imread(stack)
    write_stack(stack, read_stack(stack))
    np.testing.assert_array_equal(read_stack(stack).planes, planes)
    assert [path.name for path in stack.parent.iterdir()] == [stack.name]


def test_of_two_runs_into_one_folder_the_second_is_refused(stack, tmp_path, capsys):
    out = tmp_path / "out-else"
    with write_folder(out, ["mine.txt"]) as place:
        (place / "mine.txt").write_text("of the first run")
        assert run(stack, out) == 2
        refused(capsys, f"another run is writing {out}: let it end, or write elsewhere")
        assert recover(out, [])
        assert run(stack, tmp_path / "out") == 0  # with which the other's name begins
        assert (place / "mine.txt").exists()
    assert content(out) == {"mine.txt": b"of the first run"}
    assert not recover(out, [])
    assert run(stack, out) == 0


def test_many_at_once_write_whole_results_or_none(tmp_path):
    def write(version: int) -> str:
        try:
            with write_folder(tmp_path / "out", "abc") as place:
                for name in "abc":
                    (place / name).write_text(str(version))
        except OSError as error:
            return "another run is writing" in str(error) and "refused"
        return "written"

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(64))) == {"written", "refused"}
    assert len(set(content(tmp_path / "out").values())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_only_looks_like_left_over_stays(tmp_path):
    out, names = tmp_path / "out", [".out-12345678", f".out-else-12345678{STAGING_SUFFIX}", ".out"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("mine")
        (tmp_path / name / "lock").write_text("mine")
    copy_sample("cell_sheet", out)
    assert {path.name for path in tmp_path.iterdir()} == {"out", *names}
    assert all(len(content(tmp_path / name)) == 2 for name in names)


def test_moves_that_can_be_neither_finished_nor_undone_are_finished_later(tmp_path, monkeypatch):
    out = tmp_path / "out"
    for version in "old", "new":
        if version == "new":
            calls = iter(range(100))

            def replace(source, target, real=os.replace, calls=calls):
                if next(calls) > 3:
                    raise PermissionError("another program holds it open")
                real(source, target)

            monkeypatch.setattr(staging.os, "replace", replace)
        try:
            with write_folder(out, "abc") as place:
                for name in "abc":
                    (place / name).write_text(version)
        except PermissionError:
            monkeypatch.undo()
    assert set(content(out).values()) != {b"new"}
    recover(out, "abc")
    assert content(out) == dict.fromkeys("abc", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_moves_in_is_on_the_disk_before(tmp_path, monkeypatch):
    synced = set()
    monkeypatch.setattr(
        staging.os, "fsync", lambda file: synced.add(os.readlink(f"/proc/self/fd/{file}"))
    )
    for folder in ("out", "out"):
        with write_folder(tmp_path / folder, ["a", "b.zarr"]) as place:
            (place / "a").write_text("a")
            (place / "b.zarr").mkdir()
            (place / "b.zarr" / "0").write_text("b")
            names = {str(path) for path in place.rglob("*") if path.is_file()}
        assert names <= synced


def test_a_zarr_is_written_whole_and_replaces_nothing(tmp_path):
    path = tmp_path / "a.zarr"
    for refused in (False, True):
        with contextlib.suppress(FileExistsError), write_file(path) as new:
            assert not refused
            new.mkdir()
            (new / "0").write_text("new")
        assert content(tmp_path) == {"a.zarr/0": b"new"}


@pytest.mark.skipif(sys.platform == "win32", reason="files are locked in another way there")
def test_where_files_cannot_be_locked_nobody_is_refused_or_cleared_up(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(staging.fcntl, "flock", flock)
    for name in "first", "second":
        first, second = (write_folder(tmp_path / "out", [name]) for _ in range(2))
        with first as place, second as other:
            (place / name).write_text(name)
            (other / name).write_text(f"{name}, done earlier")
    assert content(tmp_path) == {"out/first": b"first", "out/second": b"second"}


def test_a_place_that_is_cleared_up_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    real, answers = staging.lock_file, iter([False])
    monkeypatch.setattr(staging, "lock_file", lambda file: next(answers, None) or real(file))
    with write_folder(tmp_path / "out", ["a"]) as place:
        (place / "a").write_text("a")
    assert content(tmp_path) == {"out/a": b"a"}
