"""Pipes and devices in the place of files are refused in a sentence, and never waited for."""

import os
import re
import shutil

import numpy as np
import pytest
import tifffile
import zarr

from napari_dff import synthetic
from napari_dff.cli.program import main
from napari_dff.io import read_acquisitions
from napari_dff.io.file_checks import foreign_files

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
PLANES = synthetic.rough_surface(size=32, planes=5, seed=1).stack.planes


def frames(folder):
    folder.mkdir()
    for i, plane in enumerate(PLANES):
        tifffile.imwrite(folder / f"{i}.tif", plane)
    return folder


def replace_by_pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["stack.tif", "stack.ome.tif", "film.png", "film.avi", "a.czi"])
def test_a_pipe_is_no_stack(name, tmp_path, capsys):
    os.mkfifo(tmp_path / name)
    assert main(["info", str(tmp_path / name)]) == 2
    assert f"{name} must be a regular file, got a pipe" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["3.tif", "3.png", "3.jpg"])
def test_a_pipe_is_no_frame(name, tmp_path, capsys):
    folder = frames(tmp_path / "frames")
    (folder / "3.tif").unlink()
    os.mkfifo(folder / name)
    assert main(["info", str(folder)]) == 2
    assert f"{name} must be a regular file" in capsys.readouterr().err
    assert main(["info", *map(str, sorted(folder.iterdir()))]) == 2


def test_a_pipe_is_no_companion_of_ome_tiff(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.ome.tif", PLANES, ome=True)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        text = tif.ome_metadata
    data = '<TiffData IFD="0"><UUID FileName="b.ome.tif">urn:uuid:b</UUID></TiffData>'
    text = re.sub(r"<TiffData[^>]*/>", data, text)
    tifffile.imwrite(tmp_path / "a.ome.tif", PLANES, description=text, metadata=None)
    os.mkfifo(tmp_path / "b.ome.tif")
    assert main(["info", str(tmp_path / "a.ome.tif")]) == 2
    assert "b.ome.tif must be a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["c/2/0/0", "zarr.json"])
def test_a_pipe_is_no_part_of_zarr(name, tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=PLANES, chunks=(1, 32, 32), zarr_format=3)
    replace_by_pipe(tmp_path / "a.zarr" / name)
    with pytest.raises(ValueError, match=f"a.zarr/{name} must be a regular file"):
        read_acquisitions(tmp_path / "a.zarr")


def test_links_to_regular_files_are_read(tmp_path):
    folder, links = frames(tmp_path / "frames"), tmp_path / "links"
    links.mkdir()
    for path in folder.iterdir():
        (links / path.name).symlink_to(path)
    (acquisition,) = read_acquisitions(links)
    np.testing.assert_array_equal(np.asarray(acquisition.data[0, 0]), PLANES)


def test_pipes_among_results_are_refused(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.tif", PLANES)
    run = ["run", str(tmp_path / "a.tif"), "--quiet", "--registration", "none", "--out"]
    run_fast = ["--refinement", "none"]
    assert main([*run, str(tmp_path / "result"), *run_fast]) == 0
    for name in ("depth.ome.tif", "provenance.json", "transforms.json"):
        damaged = tmp_path / f"with {name}"
        shutil.copytree(tmp_path / "result", damaged)
        replace_by_pipe(damaged / name)
        assert name in foreign_files(damaged, [name])
        assert main([*run, str(tmp_path / "out"), "--depth-from", str(damaged)]) == 2
        assert main([*run, str(damaged), *run_fast]) == 2  # its own files are not all its own
    for option in ("--recipe", "--transforms"):
        for path in (str(damaged / name), "/dev/zero"):
            assert main([*run, str(tmp_path / "out"), option, path]) == 2
    assert "it is not a file" in capsys.readouterr().err
