"""Many stacks: a bad one stops nobody, a finished one isn't done again, a cluster does the same."""

import csv
import dataclasses
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

from napari_dff import Recipe, synthetic
from napari_dff.batch import executors as batch_executors
from napari_dff.batch.executors import WORKER_DIED, run_tasks, share_resources, worker_counts
from napari_dff.batch.job import Job
from napari_dff.batch.summary import Outcome
from napari_dff.batch.tasks import Task, make_tasks, run_task
from napari_dff.cli.program import main
from napari_dff.io.staging import STAGING_SUFFIX

PLAIN = Recipe(registration="none", refinement="none")
QUICK = ["--registration", "none", "--refinement", "none", "--quiet"]
MAPS = ("depth.tif", "index.tif", "uncertainty.tif", "all_in_focus.tif")


@pytest.fixture
def plates(tmp_path):
    """Two plates with a stack each, one of two times; and a file that is no stack."""
    for plate, seed in (("one", 1), ("two", 2)):
        (tmp_path / "plates" / plate).mkdir(parents=True)
        planes = synthetic.rough_surface(size=48, planes=7, seed=seed).stack.planes
        save(tmp_path / "plates" / plate / "a.ome.tif", planes)
    both = np.stack([planes, planes[:, ::-1]])
    save(tmp_path / "plates" / "two" / "b.ome.tif", both, axes="TZYX")
    (tmp_path / "plates" / "one" / "broken.ome.tif").write_bytes(b"no TIFF at all")
    return tmp_path / "plates"


def save(path: Path, planes: np.ndarray, axes: str = "ZYX") -> None:
    metadata = {"axes": axes, "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.5}
    tifffile.imwrite(path, planes, ome=True, metadata=metadata, photometric="minisblack")


def table(out: Path) -> dict[str, dict[str, str]]:
    """The summary, by the name of the folder, or of the file where there is none."""
    with (out / "summary.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {str(Path(r["folder"]).relative_to(out)) if r["folder"] else r["stack"]: r for r in rows}


def work(plates: Path, out: Path, *more: str, recipe: Recipe = PLAIN) -> list[Outcome]:
    """All tasks, in this process."""
    tasks, failed = make_tasks([str(plates / "*" / "*.ome.tif"), *more], out, Job(recipe))
    return [*failed, *(run_task(task) for task in tasks)]


def complete_in(out: Path) -> set[Path]:
    """Folders of results that are there."""
    every = {p.parent for p in out.rglob("preview.png")}
    return {p for p in every if not any(part.startswith(".") for part in p.relative_to(out).parts)}


def bytes_of(out: Path) -> dict[str, bytes]:
    """What the images hold: their files also tell when they were made."""
    files = sorted(path for path in out.rglob("*.tif"))
    return {str(path.relative_to(out)): tifffile.imread(path).tobytes() for path in files}


def test_one_bad_file_stops_nobody_and_each_gets_its_folder(plates, tmp_path, capsys):
    out = tmp_path / "out"
    pattern = str(plates / "*" / "*.ome.tif")
    assert main(["batch", pattern, "--out", str(out), *QUICK, "--workers", "2"]) == 1
    rows = table(out)
    places = {"one/a", "two/a", "two/b/time_000", "two/b/time_001"}
    assert {name for name, row in rows.items() if row["state"] == "done"} == places
    (bad,) = (row for row in rows.values() if row["state"] == "failed")
    assert bad["stack"].endswith("broken.ome.tif")
    assert "can't be read as TIFF" in bad["why"]
    assert (bad["position"], bad["time"]) == ("", "")
    last = rows["two/b/time_001"]
    assert (Path(last["stack"]).name, last["position"], last["time"]) == ("b.ome.tif", "0", "1")
    assert 0 < float(last["seconds"]) < 60
    assert len(last["seconds"].partition(".")[2]) <= 2
    told = capsys.readouterr()
    assert "4 done, 0 there already, 1 failed" in told.out
    assert "broken.ome.tif" in told.err
    for place in places:
        assert all((out / place / name).exists() for name in MAPS)
    again = main(["batch", pattern, "--out", str(out), *QUICK, "--workers", "1"])
    assert again == 1
    assert "0 done, 4 there already, 1 failed" in capsys.readouterr().out


def test_a_finished_stack_is_known_by_content_not_by_date(plates, tmp_path):
    out = tmp_path / "out"
    first = work(plates, out)
    assert [o.state for o in first].count("done") == 4
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.tif")}
    left_over = out / "one" / f".a-12345678{STAGING_SUFFIX}"  # of a run that was killed at its end
    left_over.mkdir()
    (left_over / "lock").touch()
    for path in plates.rglob("*.ome.tif"):
        os.utime(path, (1e9, 1e9))
    assert [o.state for o in work(plates, out)].count("found") == 4
    assert stamps == {path: path.stat().st_mtime_ns for path in out.rglob("*.tif")}
    assert not left_over.exists()
    # another pixel, another recipe, or a file that is gone: done again, and only these
    changed = tifffile.imread(plates / "one" / "a.ome.tif")
    changed[3, 20, 20] += 1
    save(plates / "one" / "a.ome.tif", changed)
    (out / "two" / "b" / "time_001" / "depth.tif").unlink()
    states = {Path(o.folder).relative_to(out): o.state for o in work(plates, out) if o.folder}
    assert {str(p) for p, s in states.items() if s == "done"} == {"one/a", "two/b/time_001"}
    other = dataclasses.replace(PLAIN, window=11)
    assert [o.state for o in work(plates, out, recipe=other)].count("done") == 4


def test_calibration_counts_as_content(plates, tmp_path):
    out = tmp_path / "out"
    tasks, _ = make_tasks([str(plates / "one" / "a.ome.tif")], out, Job(PLAIN))
    assert run_task(tasks[0]).state == "done"
    spaced, _ = make_tasks(
        [str(plates / "one" / "a.ome.tif")], out, Job(PLAIN), spacing=(2.0, 0.1, 0.1)
    )
    assert run_task(spaced[0]).state == "done"
    assert run_task(spaced[0]).state == "found"


def test_an_interrupted_batch_goes_on_where_it_was(plates, tmp_path):
    out, first = tmp_path / "out", plates / "two" / "a.ome.tif"
    for i in range(16):  # so that the signal comes before the last
        shutil.copy(first, first.with_name(f"copy {i}.ome.tif"))
    words = [
        sys.executable,
        "-m",
        "napari_dff",
        "batch",
        str(plates / "*" / "*.ome.tif"),
    ]
    words += ["--out", str(out), *QUICK, "--workers", "1"]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # heard even where whoever runs the tests ignores it, as what a shell has in the background
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 60
    while not complete_in(out) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    there = complete_in(out)
    assert 0 < len(there) < 20
    stamps = {p: (p / "depth.tif").stat().st_mtime_ns for p in there}
    outcomes = {Path(o.folder): o.state for o in work(plates, out) if o.folder}
    assert len(outcomes) == 20
    assert {p for p, state in outcomes.items() if state == "found"} == there
    assert stamps == {p: (p / "depth.tif").stat().st_mtime_ns for p in there}
    assert not [p for p in out.rglob(".*") if p.is_dir()]  # nothing half-written stays


def test_a_cluster_of_two_workers_gives_the_same_bytes(plates, tmp_path):
    distributed = pytest.importorskip("distributed", reason="extra distributed is not installed")
    here, there = tmp_path / "here", tmp_path / "there"
    recipe = Recipe(registration="none")
    work(plates, here, recipe=recipe)
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with distributed.LocalCluster(**settings, dashboard_address=None) as cluster:
        tasks, _ = make_tasks([str(plates / "*" / "*.ome.tif")], there, Job(recipe))
        outcomes = list(run_tasks(tasks, scheduler=cluster.scheduler_address))
    assert {outcome.state for outcome in outcomes} == {"done"}
    assert bytes_of(here) == bytes_of(there)


def test_a_worker_that_dies_fails_only_its_own_stack(plates, tmp_path):
    out = tmp_path / "out"
    tasks, _ = make_tasks([str(plates / "*" / "*.ome.tif")], out, Job(PLAIN))
    tasks[0] = dataclasses.replace(tasks[0], job=Slow(PLAIN))  # is told to end in its midst
    tasks[1] = dataclasses.replace(tasks[1], job=Deadly(PLAIN))
    outcomes = {o.label: o for o in run_tasks(tasks[:3], workers=2)}
    assert len(outcomes) == 3
    dead = outcomes.pop(str(tasks[1].path))
    assert (dead.state, dead.why) == ("failed", WORKER_DIED)
    assert {outcome.state for outcome in outcomes.values()} <= {"done", "found"}


class Slow(Job):
    """Takes its time."""

    def plan(self, acquisition):
        time.sleep(2)
        return super().plan(acquisition)


class Deadly(Job):
    """Ends its worker without a word, as a machine out of memory does."""

    def plan(self, acquisition):
        os._exit(9)


def test_files_of_one_name_get_folders_of_their_own(plates, tmp_path):
    paths = [str(plates / plate / "a.ome.tif") for plate in ("one", "two")]
    tasks, _ = make_tasks(paths, tmp_path / "out", Job(PLAIN))
    places = [str(task.folder.relative_to(tmp_path / "out")) for task in tasks]
    assert places == ["one/a", "two/a"]


def test_wrong_numbers_of_workers_are_said(plates, tmp_path, capsys):
    words = ["batch", str(plates / "*" / "a.ome.tif"), "--out", str(tmp_path / "out"), *QUICK]
    for name in ("workers", "threads"):
        assert main([*words, f"--{name}", "0"]) == 2
        assert f"{name} must be a whole number from 1 to 1024, got 0" in capsys.readouterr().err


def test_nothing_that_matches_and_no_scheduler_are_said(tmp_path, capsys):
    words = ["batch", str(tmp_path / "*.tif"), "--out", str(tmp_path / "out")]
    assert main(words) == 2
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
        job=Job(megabytes=4000),
    )
    shared, workers = share_resources([task] * 9, 4, None, "")
    assert (workers, shared[0].threads, shared[0].job.megabytes) == (4, 1, 1000)
    on_cluster, _ = share_resources([task], None, 2, "tcp://address")
    assert (on_cluster[0].threads, on_cluster[0].job.megabytes) == (2, 4000)
