"""A process that is killed leaves the old or the new result; the next run removes its leftovers.

Forks of a process that has loaded all libraries are killed; of a batch, the program or a worker.
"""

import csv
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest
import tifffile

from napari_dff import synthetic
from napari_dff.batch.job import Job
from napari_dff.batch.tasks import make_tasks, run_task
from napari_dff.cli import program as cli
from napari_dff.io.atomic import write_file, write_folder
from napari_dff.io.records import PROVENANCE_FILE
from napari_dff.io.staging import MOVES, STAGING_SUFFIX, recover
from napari_dff.io.writers.result_files import RESULT_NAMES
from napari_dff.model.recipe import Recipe

pytestmark = [
    pytest.mark.endurance,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the tests kill forks"),
]
FILE_OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}  # audit events
IMAGES = ("depth.ome.tif", "index.ome.tif", "uncertainty.ome.tif", "all_in_focus.ome.tif")
FAST_OPTIONS = ["--registration", "none", "--refinement", "none", "--quiet"]


@pytest.fixture(scope="module")
def in_subprocess():
    """Call a function in a process that has no threads, so that it can fork."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def fork(work) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(1)
    return pid


def wait_for_end(pid: int) -> bool:
    """Wait for the end of a process; return False if it was killed."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code == 0


def kill_before_operation(step: int, work) -> bool:
    """Kill `work` before its n-th file operation; return False if it has fewer."""
    steps = itertools.count()

    def hook(event, _):
        if event in FILE_OPERATIONS and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def hooked():
        sys.addaudithook(hook)
        work()

    return not wait_for_end(fork(hooked))


def content(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def staging_folders(folder: Path) -> list[Path]:
    """Return the staging folders of unfinished writes, which may disappear meanwhile."""
    paths = (Path(root, name) for root, names, _ in os.walk(folder) for name in names)
    return [path for path in paths if path.name.endswith(STAGING_SUFFIX)]


NAMES = (
    "depth.ome.tif",
    "index.ome.tif",
    PROVENANCE_FILE,
    "recipe.json",
    "map.zarr",
    "picture.zarr",
)


def write_small_result(folder: Path, version: str) -> None:
    for name in ("depth.ome.tif", "index.ome.tif", PROVENANCE_FILE, "recipe.json"):
        (folder / name).write_text(f"{version} {name}")
    (folder / "map.zarr" / "0").mkdir(parents=True)
    (folder / "map.zarr" / "0" / f"of {version}").write_text(version)


def write(folder: Path, version: str) -> None:
    with write_folder(folder, NAMES) as new:
        write_small_result(new, version)


def write_zarr(path: Path, version: str) -> None:
    with write_file(path) as new:
        new.mkdir()
        write_small_result(new, version)


def prepare_target(root: Path, target: Path, writer, old: bool) -> dict[str, bytes]:
    """Create the target as it is before the write; return its content."""
    target.parent.mkdir(parents=True)
    if old:
        writer(target, "old")
        if writer is write:
            (target / "picture.zarr").mkdir()
            (target / "picture.zarr" / "0").write_text("old, of another format")
            (target / "mine").mkdir()
            (target / "mine" / "notes.txt").write_text("mine")
    return content(root)


def kill_at_every_operation(root: Path, name: str, writer, old: bool) -> list[int]:
    """Kill a write at every operation, and the recovery from it at every operation."""
    step_root = root / "expected"
    expected = [prepare_target(step_root, step_root / "in" / name, writer, old)]
    writer(step_root / "in" / name, "new")
    expected.append(content(step_root))
    kills = [0, 0, 0]  # of writes; of writes that left old and new files; of recoveries
    for step in itertools.count():
        step_root = root / str(step)
        target = step_root / "in" / name
        assert prepare_target(step_root, target, writer, old) == expected[0]
        if not kill_before_operation(step, partial(writer, target, "new")):
            assert content(step_root) == expected[1]
            return kills
        kills[0] += 1
        files = content(step_root)
        visible = {k: v for k, v in files.items() if STAGING_SUFFIX not in k}
        if visible not in expected:  # readers refuse it
            assert not (target / PROVENANCE_FILE).exists()
            kills[1] += 1
            for recovery_step in itertools.count():
                if not kill_before_operation(recovery_step, partial(recover, target, NAMES)):
                    break
                kills[2] += 1
        recover(target, NAMES)
        assert content(step_root) in expected
        assert not staging_folders(step_root)
    return kills


@pytest.mark.parametrize(
    ("writer", "old"),
    [(write, False), (write, True), (write_zarr, False)],
    ids=["a new folder", "a folder over an old one", "a new Zarr"],
)
def test_a_write_killed_before_any_operation_leaves_the_old_or_the_new_result(
    in_subprocess, tmp_path, writer, old
):
    kills = in_subprocess(kill_at_every_operation, tmp_path, "out.zarr", writer, old)
    assert kills[0] > 20
    assert (kills[1] > 0) == old


def save_stack(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    planes = synthetic.rough_surface(size=48, planes=7, seed=seed).stack.planes
    tifffile.imwrite(path, planes, photometric="minisblack")
    return path


def result_content(folder: Path) -> dict[str, bytes]:
    """Return the content of the files of a result, without their dates."""
    images = {name: tifffile.imread(folder / name).tobytes() for name in IMAGES}
    texts = {name: (folder / name).read_bytes() for name in ("recipe.json", "transforms.json")}
    return images | texts | {"preview.png": b"" * (folder / "preview.png").exists()}


def kill_runs_at_random(root: Path, seed: int, kills: int) -> dict[str, int]:
    """Kill runs over the results of another recipe, at random times."""
    stack, out, chance = (
        save_stack(root / "stack.tif", 1),
        root / "there" / "out",
        random.Random(seed),
    )
    out.parent.mkdir()

    def run(window: int, folder: Path = out):
        command = ["run", str(stack), "--out", str(folder), "--window", str(window), *FAST_OPTIONS]
        assert cli.main([*command, "--threads", "1"]) == 0  # more could not be forked

    expected = {}
    for window in (9, 21):
        run(window, root / f"wanted {window}")
        expected[window] = result_content(root / f"wanted {window}")
    assert all(expected[9][name] != expected[21][name] for name in IMAGES)
    start = time.monotonic()
    run(9)
    duration = time.monotonic() - start
    state, counts = 9, {"old": 0, "new": 0, "left over": 0}
    for kill in range(kills):
        other = 30 - state
        before, earlier_folders = content(out), set(staging_folders(out.parent))
        pid = fork(lambda window=other: run(window))
        move_delay = 0.02 if kill % 2 else 0.5  # seconds; on a busy machine files take long to sync
        file_name, delay = (("", duration), ("new", duration / 2), ("old", move_delay))[kill % 3]
        end, reached = time.monotonic() + 20 * duration, False
        while file_name and not reached and time.monotonic() < end:
            reached = any(
                (path / file_name).exists()
                for path in set(staging_folders(out.parent)) - earlier_folders
            )
        time.sleep(chance.uniform(0, delay))
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
        folders = staging_folders(out.parent)
        counts["left over"] += bool(folders)
        if any((path / MOVES).exists() for path in folders):
            recover(out, RESULT_NAMES)
        assert not reached or not earlier_folders & set(folders)  # leftovers are removed first
        if content(out) == before:
            counts["old"] += 1
        else:
            assert result_content(out) == expected[other]
            counts["new"] += 1
            state = other
    run(30 - state)
    assert result_content(out) == expected[30 - state]
    assert not staging_folders(out.parent)
    return counts


def test_a_run_killed_at_random_leaves_the_old_or_the_new_result(in_subprocess, tmp_path, effort):
    counts = in_subprocess(kill_runs_at_random, tmp_path, 7, 9 * effort)
    assert counts["old"] > 0
    assert counts["new"] > 0
    assert counts["left over"] > 0


def run_batch_in_process(pattern: str, out: Path, window: int) -> dict[Path, dict[str, bytes]]:
    """Compute a batch without workers; return its results."""
    job = Job(Recipe(registration="none", refinement="none", window=window))
    tasks, _ = make_tasks([pattern], out, job)
    assert {run_task(task).state for task in tasks} == {"done"}
    return {task.folder.relative_to(out): result_content(task.folder) for task in tasks}


def worker_processes(process: psutil.Process) -> list[psutil.Process]:
    return [p for p in process.children() if "spawn_main" in " ".join(p.cmdline())]


def start_program(command: list[str]) -> psutil.Popen:
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return psutil.Popen(command, start_new_session=True, **quiet)


def test_a_batch_continues_after_its_program_or_a_worker_was_killed(
    in_subprocess, tmp_path, effort
):
    chance, out, pattern = random.Random(5), tmp_path / "out", str(tmp_path / "in" / "*.tif")
    for seed in range(4):
        save_stack(tmp_path / "in" / f"{seed}.tif", seed)
    new = in_subprocess(run_batch_in_process, pattern, tmp_path / "wanted", 21)
    for _ in range(effort):
        shutil.rmtree(out, ignore_errors=True)
        old = in_subprocess(run_batch_in_process, pattern, out, 9)
        command = [
            sys.executable,
            "-m",
            "napari_dff",
            "batch",
            pattern,
            "--out",
            str(out),
        ]
        command += [*FAST_OPTIONS, "--window", "21", "--workers", str(min(effort, 2))]
        for victim in ("program", "worker") if effort == 1 else ("all", "program", "worker"):
            process = start_program(command)
            while not staging_folders(out) and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.1))
            workers = worker_processes(process)
            if victim == "all":
                os.killpg(process.pid, signal.SIGKILL)
            elif victim == "program":
                process.kill()
            elif workers:
                chance.choice(workers).kill()
            output = process.communicate(timeout=60)
            assert not psutil.wait_procs(workers, timeout=10)[1]  # workers end with their parent
            for folder in old:
                recover(out / folder, RESULT_NAMES)
                assert result_content(out / folder) in (old[folder], new[folder])
        assert process.returncode == 0, output
        assert not staging_folders(out)
        assert {folder: result_content(out / folder) for folder in new} == new
        with (out / "summary.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert {row["state"] for row in rows} <= {"done", "found"}
        assert len(rows) == 4
