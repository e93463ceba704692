"""Files of the user are never deleted or replaced, whatever lies beside a result."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_dff import FocalStack, depth_from_focus, save_reconstruction
from napari_dff.cli.program import main
from napari_dff.io import (
    StackError,
    copy_sample,
    read_stack,
    staging,
    write_stack,
    write_table,
)
from napari_dff.io.atomic import write_folder
from napari_dff.io.staging import LOCK, MOVES, STAGING_SUFFIX, has_interrupted_moves
from napari_dff.io.writers.meshes import save_mesh
from napari_dff.io.writers.result_files import RESULT_NAMES
from napari_dff.surface import Mesh
from napari_dff.widgets.files.reader import reader

FAST_OPTIONS = ["--registration", "none", "--refinement", "none", "--quiet"]
PLANES = np.random.default_rng(5).integers(0, 255, (5, 64, 64)).astype(np.uint8)


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "in" / "stack.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, PLANES, photometric="minisblack")
    return path


@pytest.fixture(scope="module")
def result():
    """Result of the planes by the default recipe."""
    return depth_from_focus(FocalStack(PLANES))


@pytest.fixture(scope="module")
def earlier_result(tmp_path_factory):
    """Return a function that copies the folder of a run on the planes."""
    folder = tmp_path_factory.mktemp("earlier")
    tifffile.imwrite(folder / "stack.tif", PLANES, photometric="minisblack")
    assert run(folder / "stack.tif", folder / "out") == 0
    return lambda target: shutil.copytree(folder / "out", target)


def run(stack, out, *options) -> int:
    return main(["run", str(stack), "--out", str(out), *FAST_OPTIONS, *options])


def content(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def error_line(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


# 1. Staging folders that no run has left


def journal_of_version_0_1(directory, names):
    """Return a journal in the format of version 0.1."""
    return {"inside": False, "there": directory, "names": names}


def journal(old, new):
    return {"old": {name: [1, 2, 3] for name in old}, "new": new}


JOURNALS = {
    "of version 0.1": journal_of_version_0_1(["thesis.docx", "photos"], [".bashrc"]),
    "names of files beside": journal(["thesis.docx", "photos"], [".bashrc"]),
    "names of files above": journal(["../thesis.docx"], ["../.bashrc"]),
    "absolute names": journal(["/etc/hostname"], ["/tmp/.bashrc"]),
    "names of a result": journal(["depth.ome.tif"], ["depth.ome.tif"]),
    "empty": None,
    "no JSON": "{",
    "no names": [],
    "no lists of names": {"old": 3, "new": None},
}


def write_fake_staging_folder(parent: Path, recorded_moves, *, inode: bool) -> Path:
    """Write a staging folder of `parent/results` that no run has created."""
    folder = parent / f".results-aaaaaaaa{STAGING_SUFFIX}"
    (folder / "old").mkdir(parents=True)
    (folder / "new").mkdir()
    (folder / "new" / ".bashrc").write_text("planted")
    (folder / "new" / "depth.ome.tif").write_text("planted")
    (folder / LOCK).write_text(str(folder.lstat().st_ino) if inode else "")
    text = (
        ""
        if recorded_moves is None
        else recorded_moves
        if isinstance(recorded_moves, str)
        else json.dumps(recorded_moves)
    )
    (folder / MOVES).write_text(text)
    return folder


@pytest.mark.parametrize("inode", [False, True], ids=["copied", "with the number of its lock"])
@pytest.mark.parametrize("kind", JOURNALS)
def test_a_journal_that_no_run_has_written_is_ignored(
    stack, result, earlier_result, tmp_path, recwarn, kind, inode
):
    home = tmp_path / "home"
    (home / "photos").mkdir(parents=True)
    (home / "photos" / "1.jpg").write_text("mine")
    (home / "thesis.docx").write_text("mine")
    earlier_result(home / "results")
    staging_folder = write_fake_staging_folder(home, JOURNALS[kind], inode=inode)
    before = content(home)
    assert run(stack, tmp_path / "other", "--depth-from", str(home / "results")) == 0
    for path in (home / "results", home, home / "photos"):
        reader(str(path))
    assert not recwarn.list
    assert content(home) == before
    with pytest.warns(UserWarning, match=str(staging_folder)):  # and the run continues
        save_reconstruction(result, home / "results")
    after = content(home)
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if not name.startswith("results"))
    assert after["results/depth.ome.tif"] not in (b"planted", before["results/depth.ome.tif"])


def test_a_staging_folder_of_another_user_is_left_alone(tmp_path, monkeypatch):
    staging_folder = write_fake_staging_folder(tmp_path, journal([], ["depth.ome.tif"]), inode=True)
    monkeypatch.setattr(os, "geteuid", lambda: staging_folder.lstat().st_uid + 1)
    with write_folder(tmp_path / "results", RESULT_NAMES) as new:
        (new / "index.ome.tif").write_text("mine")
    assert (staging_folder / "new" / "depth.ome.tif").exists()
    assert content(tmp_path / "results") == {"index.ome.tif": b"mine"}


def test_a_link_or_a_pipe_in_the_place_of_a_staging_folder_or_lock_is_left_alone(tmp_path):
    target = write_fake_staging_folder(
        tmp_path / "target", journal([], ["depth.ome.tif"]), inode=True
    )
    link = tmp_path / f".results-aaaaaaaa{STAGING_SUFFIX}"
    link.symlink_to(target)
    pipe = tmp_path / f".results-bbbbbbbb{STAGING_SUFFIX}"
    pipe.mkdir()
    os.mkfifo(pipe / LOCK)
    with write_folder(tmp_path / "results", RESULT_NAMES) as new:
        (new / "index.ome.tif").write_text("mine")
    assert (target / "new" / "depth.ome.tif").exists()
    assert link.is_symlink()
    assert pipe.is_dir()


def interrupted_run(folder: Path, monkeypatch, *names: str) -> None:
    """Leave the files of a run that was killed after its first move into `folder`."""
    calls, real = iter(range(100)), os.replace

    def replace(source, target):
        if next(calls) > 1:
            raise KeyboardInterrupt
        real(source, target)

    def interrupt(moves):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(staging.os, "replace", replace)
        patch.setattr(staging, "reversed", interrupt, raising=False)
        with contextlib.suppress(KeyboardInterrupt), write_folder(folder, RESULT_NAMES) as new:
            for name in names:
                (new / name).write_text("new")
    assert has_interrupted_moves(folder)


def test_an_interrupted_run_is_finished_by_the_next_run_and_not_by_a_reader(
    stack, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("depth.ome.tif", "provenance.json"):
        (out / name).write_text("old")
    interrupted_run(out, monkeypatch, "depth.ome.tif", "provenance.json")
    before = content(tmp_path)
    assert reader(str(out)) is None or content(tmp_path) == before
    assert run(stack, tmp_path / "x", "--depth-from", str(out)) == 2
    assert "a run was interrupted while it moved its result there" in error_line(capsys)
    assert content(tmp_path) == before
    with write_folder(out, RESULT_NAMES, lambda folder: None):
        assert content(out) == {"depth.ome.tif": b"new", "provenance.json": b"new"}


def test_a_file_written_after_an_interrupted_run_is_not_moved(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "depth.ome.tif").write_text("old")
    (out / "index.ome.tif").write_text("old")
    interrupted_run(out, monkeypatch, "depth.ome.tif", "index.ome.tif")
    (remaining,) = out.iterdir()
    remaining.write_text("my own")
    with (
        pytest.warns(UserWarning, match="has changed since"),
        write_folder(out, RESULT_NAMES),
    ):
        assert remaining.read_text() == "my own"


def test_leftovers_of_killed_runs_under_other_names_are_removed(tmp_path):
    leftover, lock = staging.create_staging_folder(tmp_path / "earlier")
    (leftover / "new").mkdir()
    (leftover / "new" / "depth.ome.tif").write_text("half")
    running, running_lock = staging.create_staging_folder(tmp_path / "other")
    lock.close()
    with write_folder(tmp_path / "out", ["a"]) as new:
        (new / "a").write_text("a")
    assert not leftover.exists()
    assert running.exists()
    running_lock.close()


# 2. Files that no run has written


USER_FILES = ["depth.ome.tif", "preview.png", "recipe.json", "index.ome.zarr/0", "provenance.json"]


@pytest.mark.parametrize("name", USER_FILES)
def test_files_of_the_user_are_replaced_only_with_overwrite(stack, result, tmp_path, capsys, name):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("{}")
    for options in ([], ["--file_format", "ome-zarr"]):
        assert run(stack, out, *options) == 2
        assert f"{out} holds {name.split('/')[0]}, which no run of" in error_line(capsys)
        assert content(out) == {name: b"{}"}
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_reconstruction(result, out)
    assert content(out) == {name: b"{}"}
    assert run(stack, out, "--overwrite") == 0
    assert (out / "depth.ome.tif").stat().st_size > 100


@pytest.mark.parametrize("name", ["depth.ome.tif", "preview.png", "recipe.json"])
def test_a_result_file_that_was_changed_belongs_to_the_user(
    stack, earlier_result, tmp_path, capsys, name
):
    out = earlier_result(tmp_path / "out")
    (out / name).write_bytes((out / name).read_bytes() + b" ")
    before = content(out)
    assert run(stack, out) == 2
    assert f"{out} holds {name}, which no run" in error_line(capsys)
    assert content(out) == before


def test_results_hold_no_path_of_the_machine_unless_asked(stack, tmp_path):
    for name, options in (("out", []), ("asked", ["--record-paths"])):
        assert run(stack, tmp_path / name, *options) == 0
        paths = [p for p in (tmp_path / name).iterdir() if str(tmp_path).encode() in p.read_bytes()]
        assert bool(paths) == bool(options)


def test_an_earlier_result_that_is_replaced_is_named(stack, tmp_path, capsys, in_this_process):
    arguments = ["run", str(stack), "--out", str(tmp_path / "out"), *FAST_OPTIONS[:-1]]
    assert main(arguments) == 0
    assert "replaces" not in capsys.readouterr().err
    assert main([*arguments, "--file_format", "ome-zarr"]) == 0
    assert f"out: replaces the result of {stack.name}\n" in capsys.readouterr().err
    assert not (tmp_path / "out" / "depth.ome.tif").exists()
    arguments = [
        "batch",
        str(stack),
        "--out",
        str(tmp_path / "all"),
        *FAST_OPTIONS[:-1],
        "--workers",
        "1",
    ]
    assert main(arguments) == 0
    assert main([*arguments, "--window", "11"]) == 0
    assert f"replaced the result of {stack.name}" in capsys.readouterr().err
    with (tmp_path / "all" / "summary.json").open() as file:
        assert [row["replaced"] for row in json.load(file)["stacks"]] == [stack.name]


@pytest.mark.parametrize("name", ["summary.csv", "summary.json"])
def test_a_summary_that_no_batch_has_written_is_kept(
    stack, tmp_path, capsys, in_this_process, name
):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("my own")
    arguments = ["batch", str(stack), "--out", str(out), *FAST_OPTIONS, "--workers", "1"]
    assert main(arguments) == 2
    assert f"{out} holds {name}, which no run" in error_line(capsys)
    assert content(out) == {name: b"my own"}
    assert main([*arguments, "--overwrite"]) == 0
    assert main(arguments) == 0
    with (out / "summary.csv").open("a") as file:
        file.write("my remarks")
    assert main(arguments) == 2


def test_samples_replace_only_the_bundled_files(tmp_path, capsys):
    for _ in range(2):
        copy_sample("cell_sheet", tmp_path)
    (tmp_path / "cell_sheet.ome.tif").write_text("my own")
    assert main(["sample", "cell_sheet", "--out", str(tmp_path)]) == 2
    assert "cell_sheet.ome.tif is not the bundled file: write elsewhere" in error_line(capsys)
    assert main(["sample", "cell_sheet", "--out", str(tmp_path), "--overwrite"]) == 0


def test_a_texture_never_replaces_a_picture_that_belongs_to_no_mesh(tmp_path):
    vertices = np.array([[0.0, 0, 0], [0, 0, 1], [0, 1, 0]])
    mesh = Mesh(vertices, np.array([[0, 1, 2]]), np.zeros((3, 2)))
    picture = np.arange(16, dtype=np.uint8).reshape(4, 4)
    (tmp_path / "part.png").write_text("my own")
    with pytest.raises(FileExistsError, match=r"part\.png exists and belongs to no mesh"):
        save_mesh(tmp_path / "part.obj", mesh, texture=picture)
    assert content(tmp_path) == {"part.png": b"my own"}
    (tmp_path / "part.png").unlink()
    for _ in range(2):  # its own texture is replaced
        save_mesh(tmp_path / "part.obj", mesh, texture=picture)
    assert len(content(tmp_path)) == 3


# Files that are read are not replaced, with or without --overwrite


@pytest.fixture
def split_ome_tiff(tmp_path):
    """Return the folder of an OME-TIFF in two files, one of them with the name of a result."""
    folder = tmp_path / "set"
    folder.mkdir()
    uuids = [f"urn:uuid:0000000{i}-0000-0000-0000-000000000000" for i in range(2)]
    names = ["first.ome.tif", "depth.ome.tif"]
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="{z % 3}" PlaneCount="1">'
        f'<UUID FileName="{names[z // 3]}">{uuids[z // 3]}</UUID></TiffData>'
        for z in range(6)
    )
    for i, name in enumerate(names):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuids[i]}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            'Type="uint8" SizeX="64" SizeY="64" SizeZ="6" SizeC="1" SizeT="1">'
            f'<Channel ID="Channel:0"/>{data}</Pixels></Image></OME>'
        )
        planes = PLANES[[0, 1, 2] if i == 0 else [3, 4, 0]]
        tifffile.imwrite(
            folder / name, planes, description=xml, metadata=None, photometric="minisblack"
        )
    return folder


def test_no_file_of_an_input_of_several_files_is_replaced(split_ome_tiff, capsys):
    before = content(split_ome_tiff)
    assert read_stack(split_ome_tiff / "first.ome.tif").planes.shape == (6, 64, 64)
    for options in ([], ["--overwrite"]):
        assert run(split_ome_tiff / "first.ome.tif", split_ome_tiff, *options) == 2
        assert (
            f"out must be another folder than that of the planes, got {split_ome_tiff}"
            in error_line(capsys)
        )
        assert content(split_ome_tiff) == before
    shutil.copytree(split_ome_tiff, split_ome_tiff / "deeper" / "depth.ome.tif")
    assert (
        run(
            split_ome_tiff / "deeper" / "depth.ome.tif" / "first.ome.tif", split_ome_tiff / "deeper"
        )
        == 2
    )


@pytest.mark.parametrize("name", ["preview.png", "transforms.json", "depth.ome.tif"])
def test_a_folder_of_frames_with_the_name_of_a_result_is_kept(tmp_path, capsys, name):
    frames = tmp_path / name
    frames.mkdir()
    for i, plane in enumerate(PLANES):
        tifffile.imwrite(frames / f"{i}.tif", plane)
    before = content(tmp_path)
    for options in ([], ["--overwrite"]):
        assert run(frames, tmp_path, *options) == 2
        assert "out must be another folder than that of the planes" in error_line(capsys)
    assert content(tmp_path) == before


def test_frames_that_are_links_into_the_output_folder_are_kept(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "frames").mkdir()
    for i, plane in enumerate(PLANES):
        tifffile.imwrite(tmp_path / "frames" / f"{i}.tif", plane)
    shutil.move(tmp_path / "frames" / "2.tif", tmp_path / "out" / "depth.ome.tif")
    (tmp_path / "frames" / "2.tif").symlink_to(tmp_path / "out" / "depth.ome.tif")
    before = content(tmp_path)
    assert run(tmp_path / "frames", tmp_path / "out", "--overwrite") == 2
    assert "out must be another folder than that of the planes" in error_line(capsys)
    assert content(tmp_path) == before


def test_other_inputs_than_the_planes_are_not_replaced(stack, tmp_path, capsys):
    earlier = tmp_path / "earlier"
    assert run(stack, earlier) == 0
    before = content(earlier)
    for flag, path, name in (
        ("--depth-from", earlier, "depth_from"),
        ("--transforms", earlier / "transforms.json", "transforms"),
    ):
        assert run(stack, earlier, flag, str(path), "--overwrite") == 2
        assert f"out must be another folder than that of {name}" in error_line(capsys)
    assert content(earlier) == before
    assert run(stack, earlier, "--recipe", str(earlier / "recipe.json")) == 0
    (tmp_path / "mine").mkdir()
    shutil.copy(earlier / "recipe.json", tmp_path / "mine")
    recipe = str(tmp_path / "mine" / "recipe.json")
    assert run(stack, tmp_path / "mine", "--recipe", recipe, "--overwrite") == 2
    assert "out must be another folder than that of the recipe" in error_line(capsys)


def test_a_batch_writes_no_result_among_the_frames_of_another_stack(tmp_path, capsys):
    folder = tmp_path / "in"
    (folder / "a").mkdir(parents=True)
    tifffile.imwrite(folder / "a.tif", PLANES, photometric="minisblack")
    for i, plane in enumerate(PLANES):
        tifffile.imwrite(folder / "a" / f"{i}.tif", plane)
    before = content(tmp_path)
    arguments = [
        "batch",
        str(folder / "a.tif"),
        str(folder / "a"),
        "--out",
        str(folder),
        *FAST_OPTIONS,
    ]
    assert main([*arguments, "--overwrite"]) == 2
    assert "out must be another folder than that of the planes" in error_line(capsys)
    assert content(tmp_path) == before


# 3. Paths in metadata


def write_tiff_with_reference(path: Path, name: str) -> None:
    """Write a TIFF with OME metadata by which its plane is in the file `name`."""
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:00000000-0000-0000-0000-000000000001"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="64" SizeY="64" '
        'SizeZ="1" SizeC="1" SizeT="1"><Channel ID="Channel:0"/><TiffData IFD="0">'
        f'<UUID FileName="{name}">urn:uuid:00000000-0000-0000-0000-000000000002</UUID>'
        "</TiffData></Pixels></Image></OME>"
    )
    tifffile.imwrite(path, PLANES[0], description=xml, metadata=None, photometric="minisblack")


@pytest.fixture
def outside_file(tmp_path):
    """Return an OME-TIFF outside the folder of the files that refer to it."""
    (tmp_path / "secret").mkdir()
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:00000000-0000-0000-0000-000000000002"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="64" SizeY="64" '
        'SizeZ="1" SizeC="1" SizeT="1"><Channel ID="Channel:0"/><TiffData IFD="0"/></Pixels>'
        "</Image></OME>"
    )
    path = tmp_path / "secret" / "s.ome.tif"
    tifffile.imwrite(path, PLANES[1], description=xml, metadata=None, photometric="minisblack")
    return path


def error_in_napari(path: Path) -> str:
    """Return the message that napari shows for a file or folder."""
    read = reader(str(path))
    assert read is not None
    with pytest.raises(StackError) as error:
        read(str(path))
    return str(error.value)


@pytest.mark.parametrize("absolute", [False, True])
def test_a_frame_that_refers_to_a_file_outside_its_folder_is_refused(
    tmp_path, outside_file, capsys, absolute
):
    frames = tmp_path / "frames"
    frames.mkdir()
    for i in range(4):
        write_tiff_with_reference(
            frames / f"{i}.tif", str(outside_file) if absolute else "../secret/s.ome.tif"
        )
    assert run(frames, tmp_path / "out") == 2
    assert "which isn't in its folder" in error_line(capsys)
    assert "which isn't in its folder" in error_in_napari(frames)


@pytest.mark.parametrize("name", ["depth", "index", "uncertainty"])
def test_a_result_that_refers_to_a_file_outside_its_folder_is_refused(
    stack, earlier_result, tmp_path, outside_file, capsys, name
):
    out = earlier_result(tmp_path / "result")
    write_tiff_with_reference(out / f"{name}.ome.tif", "../secret/s.ome.tif")
    assert run(stack, tmp_path / "other", "--depth-from", str(out)) == 2
    assert "which isn't in its folder" in error_line(capsys)
    assert not (tmp_path / "other").exists()
    assert "which isn't in its folder" in error_in_napari(out)


def test_a_zarr_that_refers_to_an_array_outside_its_folder_is_refused(tmp_path, capsys):
    write_stack(tmp_path / "secret.ome.zarr", FocalStack(PLANES))
    write_stack(tmp_path / "a.ome.zarr", FocalStack(PLANES))
    attributes = tmp_path / "a.ome.zarr" / "zarr.json"
    text = attributes.read_text()
    new_text = text.replace('"path": "0"', '"path": "../secret.ome.zarr/0"')
    assert new_text != text
    attributes.write_text(new_text)
    assert run(tmp_path / "a.ome.zarr", tmp_path / "out") == 2
    assert "a.ome.zarr" in error_line(capsys)


# 4. A finished result is kept, and leftovers of killed runs are removed


@pytest.fixture
def make_immutable(tmp_path):
    """Make a file immutable; skips where the file system has no such attribute."""
    paths = []

    def change(path: Path) -> None:
        if not shutil.which("chattr") or subprocess.run(["chattr", "+i", path]).returncode:
            pytest.skip("files can't be made immutable here")
        paths.append(path)

    yield change
    for path in paths:
        subprocess.run(["chattr", "-i", path], check=True)


@pytest.mark.parametrize("name", ["depth.ome.tif", "preview.png", ""])
def test_an_immutable_target_is_reported_before_the_run(
    stack, earlier_result, tmp_path, capsys, monkeypatch, make_immutable, name
):
    out = earlier_result(tmp_path / "out")
    before = content(out)
    make_immutable(out / name)
    monkeypatch.setattr(
        "napari_dff.batch.job.run", lambda *_, **__: pytest.fail("the run has started")
    )
    capsys.readouterr()
    assert run(stack, out) == 2
    error = error_line(capsys)
    assert "immutable" in error if name else "can't be written" in error
    assert content(out) == before


def test_a_read_only_target_is_reported_before_the_run(
    stack, earlier_result, tmp_path, capsys, monkeypatch
):
    out = earlier_result(tmp_path / "out")
    (out / "depth.ome.tif").chmod(0o444)
    before = content(out)
    monkeypatch.setattr(
        "napari_dff.batch.job.run", lambda *_, **__: pytest.fail("the run has started")
    )
    for options in ([], ["--overwrite"]):
        assert run(stack, out, *options) == 2
        assert "depth.ome.tif can't be replaced: it is read-only" in error_line(capsys)
    assert content(out) == before


def test_a_result_that_cannot_replace_the_old_one_is_kept(
    stack, result, tmp_path, capsys, make_immutable
):
    out = tmp_path / "out"
    save_reconstruction(result, out)
    before = content(out)
    with pytest.raises(PermissionError, match=r"the finished result is in .*out-finished"):
        save_with_immutable_file(result, out, make_immutable)
    assert content(out) == before
    finished = content(tmp_path / "out-finished")
    assert finished.keys() == before.keys()
    assert run(stack, tmp_path / "x", "--depth-from", str(tmp_path / "out-finished")) == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def save_with_immutable_file(result, out, make_immutable):
    """Save a result, and make a file of the old one immutable while it is written."""
    from napari_dff.io.writers import result_files as results

    write_real_record = results.write_record

    def write_record(*arguments):
        write_real_record(*arguments)
        make_immutable(out / "index.ome.tif")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "write_record", write_record)
        save_reconstruction(result, out)


def test_a_file_written_during_a_run_and_the_result_are_both_kept(tmp_path):
    out = tmp_path / "out"
    out.mkdir()

    def check(folder):
        if (folder / "depth.ome.tif").exists():
            raise FileExistsError("depth.ome.tif is your own")

    writing = contextlib.ExitStack()
    new = writing.enter_context(write_folder(out, ["depth.ome.tif"], check))
    (new / "depth.ome.tif").write_text("result")
    (out / "depth.ome.tif").write_text("my own")
    with pytest.raises(FileExistsError, match=r"your own; the finished result is in .*-finished"):
        writing.close()
    assert content(tmp_path) == {
        "out/depth.ome.tif": b"my own",
        "out-finished/depth.ome.tif": b"result",
    }


def test_a_single_file_that_cannot_be_replaced_is_kept(tmp_path, monkeypatch):
    def replace(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(staging.os, "replace", replace)
    with pytest.raises(PermissionError, match=r"the finished result is in .*table-finished\.csv"):
        write_table(tmp_path / "table.csv", {"a": [1]})
    assert content(tmp_path).keys() == {"table-finished.csv"}


def test_a_single_file_that_can_be_moved_nowhere_stays_where_it_was_written(tmp_path, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(staging.os, "replace", fail)
    monkeypatch.setattr(shutil, "move", fail)
    place = r"the finished result is in .*\.unfinished.new.table\.csv"
    with pytest.raises(PermissionError, match=place):
        write_table(tmp_path / "table.csv", {"a": [1]})
    assert [path.name for path in tmp_path.rglob("*.csv")] == ["table.csv"]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signals here")
@pytest.mark.parametrize(
    ("command", "name"),
    [("run", "SIGTERM"), ("run", "SIGHUP"), ("run", "SIGINT"), ("batch", "SIGTERM")],
)
def test_signals_clean_up_as_ctrl_c_does(tmp_path, command, name):
    planes = np.random.default_rng(1).integers(0, 255, (12, 700, 700)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", planes, photometric="minisblack")
    out = tmp_path / "there" / "out"
    command = [sys.executable, "-m", "napari_dff", command, str(tmp_path / "stack.tif")]
    command += ["--out", str(out), "--quiet"] + ["--workers", "1"] * (command == "batch")
    number = getattr(signal, name)
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            number, signal.SIG_DFL
        ),  # background processes of a shell ignore it
    )
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if list((tmp_path / "there").glob(f"**/.*{STAGING_SUFFIX}/new/*")):
            break
        time.sleep(0.01)
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert "cancelled" in error or "interrupted" in error
    assert not list((tmp_path / "there").glob(f"**/.*{STAGING_SUFFIX}"))
    assert not list((tmp_path / "there").glob("**/depth.ome.tif"))
