"""Killed at any moment: a folder is as before or all new, the next run goes on, nothing piles up.

What is killed are forks of a process of its own, which has loaded everything already; of a batch it
is the real program, all of it or a part.
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
    pytest.mark.skipif(not hasattr(os, "fork"), reason="what is killed here is a fork"),
]
STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}  # of which Python tells
IMAGES = ("depth.tif", "index.tif", "uncertainty.tif", "all_in_focus.tif")
QUICK = ["--registration", "none", "--refinement", "none", "--quiet"]


@pytest.fixture(scope="module")
def elsewhere():
    """Call a function in a process of its own, which has no threads and may be forked."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def forked(work) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(1)
    return pid


def ended(pid: int) -> bool:
    """Wait for it; whether it ended by itself, and well, or was killed."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code == 0


def killed_before(step: int, work) -> bool:
    """Let `work` be killed before its n-th step on the disk; whether it has that many."""
    steps = itertools.count()

    def hook(event, _):
        if event in STEPS and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def hooked():
        sys.addaudithook(hook)
        work()

    return not ended(forked(hooked))


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    every = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in every}


def left_in(folder: Path) -> list[Path]:
    """What isn't finished; may vanish meanwhile."""
    every = (Path(root, name) for root, names, _ in os.walk(folder) for name in names)
    return [path for path in every if path.name.endswith(STAGING_SUFFIX)]


NAMES = ("depth.tif", "index.tif", PROVENANCE_FILE, "recipe.json", "map.zarr", "picture.zarr")


def small_result(place: Path, version: str) -> None:
    for name in ("depth.tif", "index.tif", PROVENANCE_FILE, "recipe.json"):
        (place / name).write_text(f"{version} {name}")
    (place / "map.zarr" / "0").mkdir(parents=True)
    (place / "map.zarr" / "0" / f"of {version}").write_text(version)


def write(folder: Path, version: str) -> None:
    with write_folder(folder, NAMES) as place:
        small_result(place, version)


def write_zarr(path: Path, version: str) -> None:
    with write_file(path) as new:
        new.mkdir()
        small_result(new, version)


def made(root: Path, target: Path, writer, old: bool) -> dict[str, bytes]:
    """A target as it is before; its content."""
    target.parent.mkdir(parents=True)
    if old:
        writer(target, "old")
        if writer is write:
            (target / "picture.zarr").mkdir()
            (target / "picture.zarr" / "0").write_text("old, of another format")
            (target / "mine").mkdir()
            (target / "mine" / "notes.txt").write_text("mine")
    return content(root)


def kill_at_every_step(root: Path, name: str, writer, old: bool) -> list[int]:
    """Kill a write at every step, and what the next one does about it at every step of that."""
    place = root / "expected"
    expected = [made(place, place / "in" / name, writer, old)]
    writer(place / "in" / name, "new")
    expected.append(content(place))
    kills = [0, 0, 0]  # of the write; those that left a mixture; of what finished that
    for step in itertools.count():
        place = root / str(step)
        target = place / "in" / name
        assert made(place, target, writer, old) == expected[0]
        if not killed_before(step, partial(writer, target, "new")):
            assert content(place) == expected[1]
            return kills
        kills[0] += 1
        there = content(place)
        visible = {k: v for k, v in there.items() if STAGING_SUFFIX not in k}
        if visible not in expected:  # no reader takes it for a result
            assert not (target / PROVENANCE_FILE).exists()
            kills[1] += 1
            for again in itertools.count():
                if not killed_before(again, partial(recover, target, NAMES)):
                    break
                kills[2] += 1
        recover(target, NAMES)
        assert content(place) in expected
        assert not left_in(place)
    return kills


@pytest.mark.parametrize(
    ("writer", "old"),
    [(write, False), (write, True), (write_zarr, False)],
    ids=["a new folder", "a folder over an old one", "a new Zarr"],
)
def test_killed_before_any_step_it_is_the_old_or_the_new(elsewhere, tmp_path, writer, old):
    kills = elsewhere(kill_at_every_step, tmp_path, "out.zarr", writer, old)
    assert kills[0] > 20
    assert (kills[1] > 0) == old


def save(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    planes = synthetic.rough_surface(size=48, planes=7, seed=seed).stack.planes
    tifffile.imwrite(path, planes, photometric="minisblack")
    return path


def images(folder: Path) -> dict[str, bytes]:
    """What the files of a result hold: they also tell when they were made."""
    held = {name: tifffile.imread(folder / name).tobytes() for name in IMAGES}
    texts = {name: (folder / name).read_bytes() for name in ("recipe.json", "transforms.json")}
    return held | texts | {"preview.png": b"" * (folder / "preview.png").exists()}


def run_killed(root: Path, seed: int, kills: int) -> dict[str, int]:
    """Kill runs over the results of another recipe, at random times."""
    stack, out, chance = save(root / "stack.tif", 1), root / "there" / "out", random.Random(seed)
    out.parent.mkdir()

    def run(window: int, folder: Path = out):
        words = ["run", str(stack), "--out", str(folder), "--window", str(window), *QUICK]
        assert cli.main([*words, "--threads", "1"]) == 0  # more could not be forked

    wanted = {}
    for window in (9, 21):
        run(window, root / f"wanted {window}")
        wanted[window] = images(root / f"wanted {window}")
    assert all(wanted[9][name] != wanted[21][name] for name in IMAGES)
    start = time.monotonic()
    run(9)
    whole = time.monotonic() - start
    state, counts = 9, {"old": 0, "new": 0, "left over": 0}
    for kill in range(kills):
        other = 30 - state
        before, dead = content(out), set(left_in(out.parent))
        pid = forked(lambda window=other: run(window))
        moving = 0.02 if kill % 2 else 0.5  # seconds; on a busy machine files take long to sync
        sign, delay = (("", whole), ("new", whole / 2), ("old", moving))[kill % 3]
        end, seen = time.monotonic() + 20 * whole, False
        while sign and not seen and time.monotonic() < end:
            seen = any((place / sign).exists() for place in set(left_in(out.parent)) - dead)
        time.sleep(chance.uniform(0, delay))
        os.kill(pid, signal.SIGKILL)
        ended(pid)
        places = left_in(out.parent)
        counts["left over"] += bool(places)
        if any((place / MOVES).exists() for place in places):
            recover(out, RESULT_NAMES)
        assert not seen or not dead & set(places)  # it has cleared up before it began
        if content(out) == before:
            counts["old"] += 1
        else:
            assert images(out) == wanted[other]
            counts["new"] += 1
            state = other
    run(30 - state)
    assert images(out) == wanted[30 - state]
    assert not left_in(out.parent)
    return counts


def test_a_run_killed_at_random_leaves_the_old_or_the_new(elsewhere, tmp_path, effort):
    counts = elsewhere(run_killed, tmp_path, 7, 9 * effort)
    assert counts["old"] > 0
    assert counts["new"] > 0
    assert counts["left over"] > 0


def done_here(pattern: str, out: Path, window: int) -> dict[Path, dict[str, bytes]]:
    """The results of a batch, without workers."""
    job = Job(Recipe(registration="none", refinement="none", window=window))
    tasks, _ = make_tasks([pattern], out, job)
    assert {run_task(task).state for task in tasks} == {"done"}
    return {task.folder.relative_to(out): images(task.folder) for task in tasks}


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    return [p for p in process.children() if "spawn_main" in " ".join(p.cmdline())]


def begun(words: list[str]) -> psutil.Popen:
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return psutil.Popen(words, start_new_session=True, **quiet)


def test_a_batch_killed_in_whole_or_part_goes_on(elsewhere, tmp_path, effort):
    chance, out, pattern = random.Random(5), tmp_path / "out", str(tmp_path / "in" / "*.tif")
    for seed in range(4):
        save(tmp_path / "in" / f"{seed}.tif", seed)
    new = elsewhere(done_here, pattern, tmp_path / "wanted", 21)
    for _ in range(effort):
        shutil.rmtree(out, ignore_errors=True)
        old = elsewhere(done_here, pattern, out, 9)
        words = [
            sys.executable,
            "-m",
            "napari_dff",
            "batch",
            pattern,
            "--out",
            str(out),
        ]
        words += [*QUICK, "--window", "21", "--workers", str(min(effort, 2))]
        for victim in ("program", "worker") if effort == 1 else ("all", "program", "worker"):
            process = begun(words)
            while not left_in(out) and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.1))
            workers = workers_of(process)
            if victim == "all":
                os.killpg(process.pid, signal.SIGKILL)
            elif victim == "program":
                process.kill()
            elif workers:
                chance.choice(workers).kill()
            told = process.communicate(timeout=60)
            assert not psutil.wait_procs(workers, timeout=10)[1]  # none goes on alone
            for folder in old:
                recover(out / folder, RESULT_NAMES)
                assert images(out / folder) in (old[folder], new[folder])
        assert process.returncode == 0, told
        assert not left_in(out)
        assert {folder: images(out / folder) for folder in new} == new
        with (out / "summary.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert {row["state"] for row in rows} <= {"done", "found"}
        assert len(rows) == 4
