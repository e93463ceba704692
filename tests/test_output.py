"""Names of any bytes reach files and the terminal escaped; output that nobody reads is no error."""

import csv
import io
import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import zarr

from napari_dff import Acquisition, Recipe, synthetic
from napari_dff.batch.job import Job
from napari_dff.cli.program import main, program
from napari_dff.io import read_acquisitions, sample_path, write_table
from napari_dff.runtime.progress import no_progress
from napari_dff.runtime.words import printable

PLANES = synthetic.rough_surface(size=32, planes=5, seed=1).stack.planes
FAST = ["--registration", "none", "--refinement", "none"]
ON_UNIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
NAMES = {
    "a\x1b[31mb": r"a\x1b[31mb",
    "a\udcffb": r"a\xffb",
    "a\nb": r"a\nb",
    "a\u202egnp.b": r"a\u202egnp.b",
    "größe 焦点": "größe 焦点",
}


@pytest.mark.parametrize(("name", "escaped"), NAMES.items(), ids=NAMES.values())
def test_control_characters_are_escaped(name, escaped):
    assert printable(name) == escaped


@ON_UNIX
def test_any_names_are_listed_in_the_summary(tmp_path, capsys, in_this_process):
    names = [*NAMES, "=HYPERLINK(1)", "@x", "-1", "+1"]
    for i, name in enumerate(names):
        path = tmp_path / f"{name}.tif"
        path.touch() if i >= len(NAMES) else tifffile.imwrite(path, PLANES)
    code = main(["batch", str(tmp_path / "*.tif"), "--out", str(tmp_path / "out"), *FAST, "-v"])
    assert code == 1
    printed = capsys.readouterr()
    assert "\x1b[31m" not in printed.out + printed.err
    assert r"failed: " in printed.err
    with (tmp_path / "out" / "summary.csv").open(encoding="utf-8", newline="") as file:
        states = {row["stack"]: row["state"] for row in csv.DictReader(file)}
    expected = {f"{escaped}.tif": "done" for escaped in NAMES.values()}
    expected |= {f"'{name}.tif": "failed" for name in ("=HYPERLINK(1)", "@x", "-1", "+1")}
    assert states == expected
    record = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert {row["stack"] for row in record["stacks"]} == {f"{name}.tif" for name in names}


def test_numbers_in_tables_stay_numbers(tmp_path):
    write_table(tmp_path / "t.csv", {"a": [-1.5, None], "b": ["-1.5", "x"]})
    assert (tmp_path / "t.csv").read_text().split() == ["a,b", "-1.5,'-1.5", ",x"]


@pytest.mark.parametrize("text", ["a;=1", "=1;@x", " =1", "＝1", "＠x", "a; -1", "a;＋1"])
def test_no_text_in_a_table_is_a_formula_in_any_country(text, tmp_path):
    write_table(tmp_path / "t.csv", {text: [text]})
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert len(cells) == 2
    for part in [part for cell in cells for part in cell.split(";")]:
        assert part.strip()[0] not in "=+-@＝＋－＠"


@pytest.mark.parametrize("file_format", ["ome-tiff", "ome-zarr"])
def test_any_names_of_channels_are_written(file_format, tmp_path):
    names = ("<b>&\x1b", "\udcff")
    acquisition = Acquisition(np.stack([PLANES, PLANES])[None], np.arange(5.0), channels=names)
    job = Job(Recipe(registration="none", refinement="none"), channel=0, file_format=file_format)
    folder = tmp_path / "out"
    job.run(acquisition, folder, job.plan(acquisition), {"path": "\udcff"}, no_progress)
    if file_format == "ome-tiff":
        with tifffile.TiffFile(folder / "all_in_focus.ome.tif") as tif:
            root = ElementTree.fromstring(tif.ome_metadata)
        found = [each.get("Name") for each in root.iter() if each.tag.endswith("}Channel")]
    else:
        (folder / "all_in_focus.ome.zarr" / "zarr.json").read_bytes().decode("utf-8")
        group = zarr.open_group(folder / "all_in_focus.ome.zarr", mode="r")
        found = [each["label"] for each in group.attrs["ome"]["omero"]["channels"]]
    assert found == [r"<b>&\x1b", r"\xff"]
    json.loads((folder / "provenance.json").read_bytes())


@pytest.fixture
def positions(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for p in range(2):
        for z, plane in enumerate(PLANES):
            tifffile.imwrite(folder / f"p{p}_z{z}.tif", plane)
    assert len(read_acquisitions(folder)) == 2
    return folder


@ON_UNIX
@pytest.mark.parametrize("closed", ["stdout unread", "stderr unread", "stdin, stdout and stderr"])
def test_output_that_nobody_reads_is_no_error(closed, positions, tmp_path):
    command = [sys.executable, "-m", "napari_dff", "run", str(positions)]
    command += ["--out", str(tmp_path / "out"), *FAST]
    read_end, write_end = os.pipe()
    os.close(read_end)
    if "unread" in closed:
        code = subprocess.run(command, **{closed.split()[0]: write_end}).returncode
    else:
        code = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command]).returncode
    os.close(write_end)
    assert code == 0
    for name in ("p0", "p1"):
        json.loads((tmp_path / "out" / name / "provenance.json").read_bytes())


def test_a_full_disk_under_the_errors_is_an_error_of_the_program(monkeypatch, tmp_path):
    class Full(io.StringIO):
        file = (tmp_path / "errors").open("w")

        def flush(self):
            raise OSError(28, "No space left on device")

        def fileno(self):
            return self.file.fileno()

    monkeypatch.setattr("napari_dff.cli.program.accept_unread_output", lambda: None)
    monkeypatch.setattr("napari_dff.cli.program.main", lambda: 0)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(sys, "stderr", Full())
    with pytest.raises(SystemExit) as stop:
        program()
    assert stop.value.code == 2


def test_a_log_is_written_to_no_file_that_is_none(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.tif", PLANES)
    before = (tmp_path / "a.tif").read_bytes()
    info = ["info", str(tmp_path / "a.tif"), "--log-file"]
    assert main([*info, str(tmp_path / "a.tif")]) == 2
    assert "a.tif is no log of napari-dff: give another --log-file" in capsys.readouterr().err
    assert (tmp_path / "a.tif").read_bytes() == before
    for _ in range(2):
        assert main([*info, str(tmp_path / "log.txt")]) == 0
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert main([*info, str(tmp_path / "pipe")]) == 2
        assert "log-file must be a regular file" in capsys.readouterr().err


def test_a_log_that_cannot_be_written_is_reported_once(tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_dff.cli.log._LogFile.flush", fail)
    info = ["info", str(sample_path("bare_patch")), "--log-file", str(tmp_path / "log.txt")]
    assert main(info) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "the log can't be written: [Errno 28] No space left" in line


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_under_the_output_is_an_error_in_one_sentence(positions):
    command = [sys.executable, "-m", "napari_dff", "info", str(positions)]
    with open("/dev/full", "w") as full:
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1].startswith("napari-dff: the output can't be written:")
