"""Stacks are computed once, when their last plane is written, and never before."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import tifffile

from napari_dff import Recipe, synthetic
from napari_dff.batch.job import Job
from napari_dff.batch.watch import WatchSettings, watch
from napari_dff.cli.program import main
from napari_dff.io.readers.incoming import find_stacks, has_all_planes
from napari_dff.io.readers.results import read_provenance

UNALIGNED = Recipe(registration="none", refinement="none")
QUICK = ["--registration", "none", "--refinement", "none", "--interval", "0.02"]
PLANES = synthetic.rough_surface(size=48, planes=7, seed=1).stack.planes
LENGTHS = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.5}
NEVER_S = 20.0  # far longer than a test takes


def save_ome(path, planes=PLANES):
    metadata = {"axes": "ZYX", **LENGTHS}
    tifffile.imwrite(path, planes, ome=True, metadata=metadata, photometric="minisblack")


def save_frame(folder, z):
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / f"img_z{z:03d}.tif", PLANES[z])


def save_frames(folder, count=7):
    for z in range(count):
        save_frame(folder, z)


def announce(folder, **counts):
    """Begin the metadata of Micro-Manager, which are no complete JSON before the end."""
    folder.mkdir(exist_ok=True)
    text = json.dumps({"Summary": counts}, indent=1)[:-2] + ',\n"FrameKey-0-0-0": {\n'
    (folder / "metadata.txt").write_text(text, encoding="utf-8")


def outcomes(folder, idle_s=0.1, settle_s=NEVER_S, **settings):
    conditions = {"interval_s": 0.02, "idle_s": idle_s, "settle_s": settle_s, **settings}
    return watch(folder, folder / "out", Job(UNALIGNED), WatchSettings(**conditions))


def states(folder, **settings):
    return [(o.stack.rpartition("/")[2], o.state) for o in outcomes(folder, **settings)]


def plane_count(result):
    return read_provenance(result)["input"]["shape"][2]


@pytest.fixture
def writer():
    """Return a function that does something in a thread after each of several pauses."""
    threads = []

    def start(*actions, pause_s=0.1):
        def work():
            for action in actions:
                time.sleep(pause_s)
                action()

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("kind", ["metadata of Micro-Manager", "number of planes", "settled"])
def test_a_folder_of_frames_is_computed_once_when_its_last_frame_is_there(tmp_path, writer, kind):
    folder, written = tmp_path / "s1", []
    if kind == "metadata of Micro-Manager":
        announce(folder, Slices=7, Channels=1, Frames=1, Positions=1)
    settings = {"planes": 7} if kind == "number of planes" else {}
    settings |= {"settle_s": 0.3} if kind == "settled" else {}

    def save(z):
        save_frame(folder, z)
        written.append(z)

    save_frame(folder, 0)
    save_frame(folder, 1)
    writer(*(lambda z=z: save(z) for z in range(2, 7)), pause_s=0.06)
    found = []
    for outcome in outcomes(tmp_path, **settings):
        assert written[-1] == 6
        found.append((outcome.state, outcome.folder))
    assert found == [("done", str(tmp_path / "out" / "s1"))]
    assert plane_count(tmp_path / "out" / "s1") == 7


def test_a_file_that_is_copied_slowly_is_computed_when_its_metadata_are_fulfilled(tmp_path, writer):
    save_ome(tmp_path / "whole.dat")
    content = (tmp_path / "whole.dat").read_bytes()
    parts = [content[k : k + 6000] for k in range(0, len(content), 6000)]
    (tmp_path / "a").mkdir()

    def append(part):
        with (tmp_path / "a" / "stack.ome.tif").open("ab") as file:
            file.write(part)

    append(parts[0])
    writer(*(lambda part=part: append(part) for part in parts[1:]), pause_s=0.06)
    (outcome,) = outcomes(tmp_path, idle_s=0.2)
    assert outcome.state == "done"
    assert (tmp_path / "a" / "stack.ome.tif").read_bytes() == content
    assert (tmp_path / "out" / "a" / "stack" / "depth.ome.tif").is_file()


def test_a_last_frame_that_is_written_in_part_is_waited_for(tmp_path):
    save_frames(tmp_path / "s1")
    last = tmp_path / "s1" / "img_z006.tif"
    content = last.read_bytes()
    last.write_bytes(content[: len(content) // 2])
    (stack,) = find_stacks(tmp_path, tmp_path / "out")
    assert has_all_planes(stack, 7) is None
    last.write_bytes(content)
    (stack,) = find_stacks(tmp_path, tmp_path / "out")
    assert has_all_planes(stack, 7)
    assert has_all_planes(stack, 8) is False
    assert has_all_planes(stack, None) is None


def test_a_restart_computes_only_what_is_new_or_was_taken_again(tmp_path):
    save_ome(tmp_path / "a.ome.tif")
    save_ome(tmp_path / "b.ome.tif", PLANES[:, ::-1])
    assert states(tmp_path) == [("a.ome.tif", "done"), ("b.ome.tif", "done")]
    save_ome(tmp_path / "b.ome.tif", PLANES[:, :, ::-1])
    shutil.copy(tmp_path / "b.ome.tif", tmp_path / "c.ome.tif")
    found = [("a.ome.tif", "found"), ("b.ome.tif", "done"), ("c.ome.tif", "done")]
    assert states(tmp_path) == found


def test_a_stack_that_is_taken_again_is_computed_again(tmp_path, writer):
    save_ome(tmp_path / "a.ome.tif", PLANES[:4])
    found = []
    for outcome in outcomes(tmp_path):
        found.append(outcome.state)
        if len(found) == 1:
            save_ome(tmp_path / "a.ome.tif")
    assert found == ["done", "done"]
    assert plane_count(tmp_path / "out" / "a") == 7


def test_a_stack_that_starts_too_late_is_named_at_once(tmp_path, capsys):
    save_ome(tmp_path / "late.ome.tif", PLANES[3:])
    save_ome(tmp_path / "good.ome.tif")
    words = ["watch", str(tmp_path), "--out", str(tmp_path / "out"), *QUICK, "--until", "2"]
    assert main(words) == 0
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if line.startswith("take it again")]
    assert "late.ome.tif: The stack may start too late: where its first plane" in line
    assert "good.ome.tif: computed in" in printed.out
    assert (tmp_path / "out" / "summary.csv").read_text(encoding="utf-8").count("done") == 2


def test_what_cannot_be_computed_is_reported_and_the_others_are_computed(tmp_path, capsys):
    (tmp_path / "broken.tif").write_bytes(b"no TIFF")
    save_ome(tmp_path / "a.ome.tif")
    save_ome(tmp_path / "a.tif", PLANES[::-1])  # its result has the same folder
    words = ["watch", str(tmp_path), "--out", str(tmp_path / "out"), *QUICK, "--quiet"]
    assert main([*words, "--settle", "0.1", "--idle", "0.1"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("failed: ") for line in lines) == 2
    assert any("a.ome.tif has the same folder for its result" in line for line in lines)
    assert (tmp_path / "out" / "a" / "depth.ome.tif").is_file()


def test_results_hidden_files_and_pictures_beside_stacks_are_no_stacks(tmp_path):
    save_ome(tmp_path / "a.ome.tif")
    tifffile.imwrite(tmp_path / "snapshot.tif", PLANES[0])
    save_frames(tmp_path / ".hidden", 3)
    save_frames(tmp_path / "result", 3)
    (tmp_path / "result" / "provenance.json").write_text("{}", encoding="utf-8")
    save_frames(tmp_path / "out", 3)
    names = [each.path.name for each in find_stacks(tmp_path, tmp_path / "out")]
    assert names == ["a.ome.tif"]


def test_ctrl_c_ends_in_order(tmp_path):
    words = ["watch", str(tmp_path), "--out", str(tmp_path / "out"), *QUICK]
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_dff", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # background processes of a shell ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert "waiting for stacks" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (
        130,
        "napari-dff: interrupted; the same command continues\n",
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["watch", "nowhere", "--out", "out"], "folder must be one that stacks are written into"),
        (["watch", ".", "--out", "."], "out must be another folder than that of the stacks"),
        (["watch", ".", "--out", "out", "--planes", "1"], "planes must be a whole number from 2"),
        (["watch", ".", "--out", "out", "--idle", "-1"], "idle must be a number from 0"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]
