"""Batches: failures stop nothing, complete results are skipped, clusters give the same results."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_dff import Recipe, synthetic
from napari_dff.batch import executors as batch_executors
from napari_dff.batch.executors import WORKER_DIED, run_tasks, share_resources, worker_counts
from napari_dff.batch.job import Job
from napari_dff.batch.summary import Outcome
from napari_dff.batch.tasks import Task, make_tasks, run_task
from napari_dff.cli.program import main
from napari_dff.io.atomic import write_folder
from napari_dff.io.staging import STAGING_SUFFIX
from napari_dff.io.writers.result_files import RESULT_NAMES

UNALIGNED = Recipe(registration="none", refinement="none")
FAST_OPTIONS = ["--registration", "none", "--refinement", "none", "--quiet"]
IMAGE_NAMES = ("depth.ome.tif", "index.ome.tif", "uncertainty.ome.tif", "all_in_focus.ome.tif")


@pytest.fixture
def input_folder(tmp_path):
    """Return a folder of two stacks, a stack of two times and a file that is no stack."""
    for plate, seed in (("one", 1), ("two", 2)):
        (tmp_path / "plates" / plate).mkdir(parents=True)
        planes = synthetic.rough_surface(size=48, planes=7, seed=seed).stack.planes
        save_stack(tmp_path / "plates" / plate / "a.ome.tif", planes)
    two_times = np.stack([planes, planes[:, ::-1]])
    save_stack(tmp_path / "plates" / "two" / "b.ome.tif", two_times, axes="TZYX")
    (tmp_path / "plates" / "one" / "broken.ome.tif").write_bytes(b"no TIFF at all")
    return tmp_path / "plates"


def save_stack(path: Path, planes: np.ndarray, axes: str = "ZYX") -> None:
    metadata = {"axes": axes, "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.5}
    tifffile.imwrite(path, planes, ome=True, metadata=metadata, photometric="minisblack")


def read_summary(out: Path) -> dict[str, dict[str, str]]:
    """Return the rows of the summary by folder, or by file if there is no folder."""
    with (out / "summary.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {r["folder"] or r["stack"]: r for r in rows}


def run_all_tasks(
    input_folder: Path, out: Path, *patterns: str, recipe: Recipe = UNALIGNED
) -> list[Outcome]:
    """Run all tasks in this process."""
    tasks, failures = make_tasks(
        [str(input_folder / "*" / "*.ome.tif"), *patterns], out, Job(recipe)
    )
    return [*failures, *(run_task(task) for task in tasks)]


def complete_folders(out: Path) -> set[Path]:
    """Return the folders of complete results."""
    folders = {p.parent for p in out.rglob("preview.png")}
    return {
        p for p in folders if not any(part.startswith(".") for part in p.relative_to(out).parts)
    }


def image_bytes(out: Path) -> dict[str, bytes]:
    """Return the pixels of all images, without the dates in their files."""
    files = sorted(path for path in out.rglob("*.tif"))
    return {str(path.relative_to(out)): tifffile.imread(path).tobytes() for path in files}


def test_an_unreadable_file_does_not_stop_the_batch_and_each_stack_gets_a_folder(
    input_folder, tmp_path, capsys, request
):
    out = tmp_path / "out"
    pattern = str(input_folder / "*" / "*.ome.tif")
    assert main(["batch", pattern, "--out", str(out), *FAST_OPTIONS, "--workers", "2"]) == 1
    rows = read_summary(out)
    folders = {"one/a", "two/a", "two/b/time_000", "two/b/time_001"}
    assert {name for name, row in rows.items() if row["state"] == "done"} == folders
    (failure,) = (row for row in rows.values() if row["state"] == "failed")
    assert failure["stack"] == "one/broken.ome.tif"
    assert "can't be read as TIFF" in failure["why"]
    assert (failure["position"], failure["time"]) == ("", "")
    last = rows["two/b/time_001"]
    assert (Path(last["stack"]).name, last["position"], last["time"]) == ("b.ome.tif", "0", "1")
    assert 0 < float(last["seconds"]) < 60
    quality = json.loads((out / "two/b/time_001" / "provenance.json").read_text())["quality"]
    assert {name: float(last[name]) for name in quality} == quality
    assert (failure["seams"], failure["sharpness"]) == ("", "")
    assert len(last["seconds"].partition(".")[2]) <= 2
    output = capsys.readouterr()
    assert "4 done, 0 there already, 1 failed" in output.out
    assert "broken.ome.tif" in output.err
    for folder in folders:
        assert all((out / folder / name).exists() for name in IMAGE_NAMES)
    assert "sharpest in the first plane" in last["advice"]
    request.getfixturevalue("in_this_process")
    assert main(["batch", pattern, "--out", str(out), *FAST_OPTIONS]) == 1
    assert "0 done, 4 there already, 1 failed" in capsys.readouterr().out
    for name in ("sharpness", "advice"):
        assert read_summary(out)["two/b/time_001"][name] == last[name]


def test_planes_that_are_left_out_are_in_the_summary_and_printed_once(tmp_path, capfd):
    planes = synthetic.rough_surface(size=48, planes=7, seed=1).stack.planes.copy()
    planes[2] = 0
    save_stack(tmp_path / "a.ome.tif", planes)
    command = ["batch", str(tmp_path / "a.ome.tif"), "--out", str(tmp_path / "out"), *FAST_OPTIONS]
    command = [*(option for option in command if option != "--quiet"), "--workers", "1"]
    for state in ("done", "found"):
        assert main(command) == 0
        (row,) = read_summary(tmp_path / "out").values()
        assert row["state"] == state
        assert row["notes"].startswith("plane 2 has no contrast")
        assert capfd.readouterr().err.count("plane 2 has no contrast") == 1
    record = json.loads((tmp_path / "out" / row["folder"] / "provenance.json").read_text())
    assert record["notes"] == [row["notes"]]
    assert " ".join(record["advice"]) == row["advice"]


def test_a_complete_result_is_recognized_by_content_not_by_date(input_folder, tmp_path):
    out = tmp_path / "out"
    first = run_all_tasks(input_folder, out)
    assert [o.state for o in first].count("done") == 4
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.tif")}
    leftover = out / "one" / f".a-12345678{STAGING_SUFFIX}"  # of a killed run
    leftover.mkdir()
    (leftover / "lock").touch()
    for path in input_folder.rglob("*.ome.tif"):
        os.utime(path, (1e9, 1e9))
    assert [o.state for o in run_all_tasks(input_folder, out)].count("found") == 4
    assert stamps == {path: path.stat().st_mtime_ns for path in out.rglob("*.tif")}
    assert not leftover.exists()
    # Only a stack with another pixel, with another recipe or without a file is computed again.
    changed = tifffile.imread(input_folder / "one" / "a.ome.tif")
    changed[3, 20, 20] += 1
    save_stack(input_folder / "one" / "a.ome.tif", changed)
    (out / "two" / "b" / "time_001" / "depth.ome.tif").unlink()
    states = {
        Path(o.folder).relative_to(out): o.state
        for o in run_all_tasks(input_folder, out)
        if o.folder
    }
    assert {str(p) for p, s in states.items() if s == "done"} == {"one/a", "two/b/time_001"}
    other_recipe = dataclasses.replace(UNALIGNED, window=11)
    assert [o.state for o in run_all_tasks(input_folder, out, recipe=other_recipe)].count(
        "done"
    ) == 4


def test_another_calibration_is_computed_again(input_folder, tmp_path):
    out = tmp_path / "out"
    tasks, _ = make_tasks([str(input_folder / "one" / "a.ome.tif")], out, Job(UNALIGNED))
    assert run_task(tasks[0]).state == "done"
    spaced, _ = make_tasks(
        [str(input_folder / "one" / "a.ome.tif")], out, Job(UNALIGNED), spacing=(2.0, 0.1, 0.1)
    )
    assert run_task(spaced[0]).state == "done"
    assert run_task(spaced[0]).state == "found"


def test_an_interrupted_batch_continues_where_it_stopped(input_folder, tmp_path):
    out, first = tmp_path / "out", input_folder / "two" / "a.ome.tif"
    for i in range(16):  # so that the signal comes before the last
        shutil.copy(first, first.with_name(f"copy {i}.ome.tif"))
    command = [
        sys.executable,
        "-m",
        "napari_dff",
        "batch",
        str(input_folder / "*" / "*.ome.tif"),
    ]
    command += ["--out", str(out), *FAST_OPTIONS, "--workers", "1"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # background processes of a shell ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 60
    while not complete_folders(out) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)
    assert process.returncode == 130, output
    complete = complete_folders(out)
    assert 0 < len(complete) < 20
    stamps = {p: (p / "depth.ome.tif").stat().st_mtime_ns for p in complete}
    outcomes = {Path(o.folder): o.state for o in run_all_tasks(input_folder, out) if o.folder}
    assert len(outcomes) == 20
    assert {p for p, state in outcomes.items() if state == "found"} == complete
    assert stamps == {p: (p / "depth.ome.tif").stat().st_mtime_ns for p in complete}
    assert not [p for p in out.rglob(".*") if p.is_dir()]  # no incomplete result


def test_a_cluster_of_two_workers_gives_the_same_bytes(input_folder, tmp_path):
    distributed = pytest.importorskip("distributed", reason="extra distributed is not installed")
    local, remote = tmp_path / "here", tmp_path / "there"
    recipe = Recipe(registration="none")
    run_all_tasks(input_folder, local, recipe=recipe)
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with distributed.LocalCluster(**settings, dashboard_address=None) as cluster:
        tasks, _ = make_tasks([str(input_folder / "*" / "*.ome.tif")], remote, Job(recipe))
        outcomes = list(run_tasks(tasks, scheduler=cluster.scheduler_address))
    assert {outcome.state for outcome in outcomes} == {"done"}
    assert image_bytes(local) == image_bytes(remote)


def test_a_port_that_is_silent_is_no_scheduler(monkeypatch, input_folder, tmp_path, capsys):
    pytest.importorskip("distributed", reason="extra distributed is not installed")
    monkeypatch.setattr(batch_executors, "SCHEDULER_TIMEOUT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        arguments = ["batch", str(input_folder / "*" / "a.ome.tif"), "--out", str(tmp_path / "out")]
        assert main([*arguments, *FAST_OPTIONS, "--scheduler", address]) == 2
    assert f"scheduler {address} does not answer within 1 s" in capsys.readouterr().err


@pytest.mark.parametrize("lost", ["worker", "scheduler"])
def test_a_cluster_that_is_lost_fails_the_remaining_stacks_with_the_reason(
    lost, monkeypatch, input_folder, tmp_path
):
    distributed = pytest.importorskip("distributed", reason="extra distributed is not installed")
    for name in ("SCHEDULER_TIMEOUT_S", "WORKER_TIMEOUT_S", "CHECK_INTERVAL_S"):
        monkeypatch.setattr(batch_executors, name, 1)
    tasks, _ = make_tasks([str(input_folder / "*" / "*.ome.tif")], tmp_path / "out", Job(UNALIGNED))
    tasks[1:] = [dataclasses.replace(each, job=SlowJob(UNALIGNED)) for each in tasks[1:]]
    settings = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
    with distributed.LocalCluster(**settings, dashboard_address=None) as cluster:
        address, whys = cluster.scheduler_address, []
        for outcome in run_tasks(tasks, scheduler=address):
            if not whys:
                assert outcome.state == "done"
                cluster.scale(0) if lost == "worker" else cluster.close()
            whys.append(outcome.why)
    words = {"worker": "has had no worker for 1 s", "scheduler": "does not answer any more"}[lost]
    assert len(whys) == len(tasks)
    assert whys[-1].startswith(f"scheduler {address} {words}")


def test_batches_into_one_folder_wait_for_each_other(input_folder, tmp_path, capfd):
    out, pattern = tmp_path / "out", str(input_folder / "*" / "a.ome.tif")
    command = [sys.executable, "-m", "napari_dff", "batch", pattern, "--out", str(out)]
    with write_folder(out / "one" / "a", RESULT_NAMES):
        other = subprocess.Popen([*command, *FAST_OPTIONS], stderr=subprocess.PIPE, text=True)
        waits = next(line for line in other.stderr if "waiting" in line)
        assert waits == f"waiting for another run, which is writing {out / 'one' / 'a'}\n"
    assert other.communicate()[1] == ""
    assert other.returncode == 0
    assert {row["state"] for row in read_summary(out).values()} == {"done"}


def test_a_worker_that_dies_fails_only_its_own_stack(input_folder, tmp_path):
    out = tmp_path / "out"
    tasks, _ = make_tasks([str(input_folder / "*" / "*.ome.tif")], out, Job(UNALIGNED))
    tasks[0] = dataclasses.replace(tasks[0], job=SlowJob(UNALIGNED))  # is stopped in its plan
    tasks[1] = dataclasses.replace(tasks[1], job=CrashingJob(UNALIGNED))
    outcomes = {o.label: o for o in run_tasks(tasks[:3], workers=2)}
    assert len(outcomes) == 3
    failure = outcomes.pop(str(tasks[1].path))
    assert (failure.state, failure.why) == ("failed", WORKER_DIED)
    assert {outcome.state for outcome in outcomes.values()} <= {"done", "found"}


class SlowJob(Job):
    """Takes 2 s longer."""

    def plan(self, acquisition):
        time.sleep(2)
        return super().plan(acquisition)


class CrashingJob(Job):
    """Ends its worker without cleaning up, as the system does if memory is full."""

    def plan(self, acquisition):
        os._exit(9)


def test_files_of_the_same_name_get_different_folders(input_folder, tmp_path):
    paths = [str(input_folder / plate / "a.ome.tif") for plate in ("one", "two")]
    tasks, _ = make_tasks(paths, tmp_path / "out", Job(UNALIGNED))
    folders = [str(task.folder.relative_to(tmp_path / "out")) for task in tasks]
    assert folders == ["one/a", "two/a"]


def test_invalid_numbers_of_workers_are_refused(input_folder, tmp_path, capsys):
    arguments = [
        "batch",
        str(input_folder / "*" / "a.ome.tif"),
        "--out",
        str(tmp_path / "out"),
        *FAST_OPTIONS,
    ]
    for name in ("workers", "threads"):
        assert main([*arguments, f"--{name}", "0"]) == 2
        assert f"{name} must be a whole number from 1 to 1024, got 0" in capsys.readouterr().err


def test_a_pattern_that_matches_nothing_beside_others_is_a_failure(input_folder, tmp_path):
    patterns = [str(input_folder / "one" / "a.ome.tif"), str(input_folder / "missing.tif")]
    tasks, failures = make_tasks(patterns, tmp_path / "out", Job(UNALIGNED))
    assert len(tasks) == 1
    (failure,) = failures
    assert (failure.stack, failure.state) == (patterns[1], "failed")
    assert failure.why == f"nothing matches {patterns[1]}"


def test_a_pattern_that_matches_nothing_is_refused(tmp_path, capsys):
    arguments = ["batch", str(tmp_path / "*.tif"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "nothing matches" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_workers_share_cores_and_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(batch_executors, "thread_count", lambda: 8)
    assert worker_counts(None, None, 3) == (3, 2)
    assert worker_counts(None, None, 100) == (8, 1)
    assert worker_counts(2, None, 100) == (2, 1)
    assert worker_counts(None, 4, 100) == (8, 4)
    task = Task(
        path=tmp_path,
        axes=None,
        spacing=None,
        position=0,
        time=0,
        folder=tmp_path,
        job=Job(megabytes=4200),
    )
    monkeypatch.setattr(batch_executors, "resident_megabytes", lambda: 200.0)  # of the parent
    shared, workers = share_resources([task] * 9, 4, None, "")
    assert (workers, shared[0].threads, shared[0].job.megabytes) == (4, 1, 1000)
    on_cluster, _ = share_resources([task], None, 2, "tcp://address")
    assert (on_cluster[0].threads, on_cluster[0].job.megabytes) == (2, 4200)
