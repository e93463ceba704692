"""Many stacks: each file, position and time on its own, here or on a Dask cluster.

A stack that is finished is known again by its content: the pixels, what they are calibrated with,
and everything that was asked for. So an interrupted batch goes on where it was.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    as_completed,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

import napari_dff
from napari_dff import checks
from napari_dff.acquisition import Acquisition
from napari_dff.io import folder_names, read_acquisitions, write_table
from napari_dff.io.atomic import recover, write_folder
from napari_dff.io.ownership import check_not_input, check_own, earlier_input, write_record
from napari_dff.io.results import RESULT_NAMES, is_complete
from napari_dff.job import Job
from napari_dff.lazy import load_planes
from napari_dff.plan import FREE_MEMORY_FRACTION
from napari_dff.progress import no_progress
from napari_dff.threads import ThreadLimits, set_thread_limits, thread_count

WORKER_RANGE = checks.Range(1, 1024, 1)  # workers, or threads of each
ANSWER = 10  # seconds for a scheduler to answer
PATIENCE = 60  # seconds for the first worker of a cluster to come
TIDYING = 5  # seconds that a worker has, when it is told to end, to clear up
SUMMARY = "summary.json"  # the record of a batch
SUMMARY_NAMES = ("summary.csv", SUMMARY)
DIED = "its worker died, perhaps for lack of memory"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One focal stack with all its channels: what a worker does at a time.

    Parameters
    ----------
    path : Path
        The file or folder, absolute.
    axes, spacing
        As in `read_acquisitions`.
    position, time : int
        Which of those in the file.
    folder : Path
        For the result.
    job : Job
    threads : int
    """

    path: Path
    axes: str | None
    spacing: tuple[float, ...] | None
    position: int
    time: int
    folder: Path
    job: Job
    threads: int = 1


class Outcome(NamedTuple):
    """What became of a stack.

    Attributes
    ----------
    stack : str
        Its file.
    position, time : int, optional
        Which of those in the file; None where it can't be read.
    state : {"done", "found", "failed"}
        Computed, there already, or failed.
    seconds : float
    why : str
        Why it failed.
    folder : str
        Where its result is.
    replaced : str
        What an earlier result was made of that was there.
    """

    stack: str
    position: int | None
    time: int | None
    state: str
    seconds: float = 0.0
    why: str = ""
    folder: str = ""
    replaced: str = ""

    @property
    def label(self) -> str:
        """Its file, with position and time unless they are the first."""
        if not (self.position or self.time):
            return self.stack
        return f"{self.stack}, position {self.position}, time {self.time}"


def make_tasks(
    patterns: Sequence[str],
    out: Path,
    job: Job,
    *,
    axes: str | None = None,
    spacing: tuple[float, ...] | None = None,
) -> tuple[list[Task], list[Outcome]]:
    """The stacks that `patterns` name, and those files that can't be read at all.

    Each gets a folder in `out`: named as its file, and the folders that its pattern left open; then
    the position and the time, where there are several.

    Raises
    ------
    ValueError
        When nothing matches, or a result would replace what another stack is read from.
    """
    named = _named(patterns)
    tasks: list[Task] = []
    failed: list[Outcome] = []
    files: dict[Path, None] = {}  # everything that the batch reads
    for path, name in named.items():
        try:
            found = read_acquisitions(path, axes=axes, spacing=spacing)
            for each in found:
                job.focus_channel(each)
                files.update(dict.fromkeys(each.files))
        except Exception as error:  # one bad file doesn't stop the others
            failed.append(Outcome(str(path), None, None, "failed", why=str(error)))
            continue
        for position, place in enumerate(folder_names([each.name for each in found])):
            for at in range(found[position].times):
                moment = f"time_{at:03d}" if found[position].times > 1 else ""
                task = Task(
                    path=path,
                    axes=axes,
                    spacing=spacing,
                    position=position,
                    time=at,
                    folder=out.absolute() / name / place / moment,
                    job=job.at(place),
                )
                tasks.append(task)
    check_not_input([task.folder for task in tasks], RESULT_NAMES, files)
    check_not_input([out], SUMMARY_NAMES, files)
    return tasks, failed


def check_summary(out: Path, overwrite: bool = False) -> None:
    """Raise a FileExistsError where `out` holds a summary.csv that no batch has written."""
    check_own(out, SUMMARY_NAMES, overwrite, SUMMARY)


def write_summary(out: Path, outcomes: Sequence[Outcome], overwrite: bool = False) -> None:
    """Write summary.csv and summary.json: what became of each stack."""
    rows = sorted(outcomes)
    columns = {name: [getattr(row, name) for row in rows] for name in Outcome._fields}
    with write_folder(out, SUMMARY_NAMES, lambda folder: check_summary(folder, overwrite)) as place:
        write_table(place / "summary.csv", columns)
        write_record(place, {"stacks": [row._asdict() for row in rows]}, SUMMARY)


def run_tasks(tasks: Sequence[Task], *, workers: int = 1, scheduler: str = "") -> Iterator[Outcome]:
    """Do all `tasks`, and tell of each when it is finished, in whatever order.

    Parameters
    ----------
    tasks : sequence of Task
    workers : int
        Processes on this machine.
    scheduler : str
        Address of a running Dask scheduler, "tcp://…", whose workers are used instead. They must
        see the same files under the same names.

    Raises
    ------
    ImportError
        For a scheduler without the package distributed.
    OSError
        When the scheduler doesn't answer.
    """
    if scheduler:
        yield from _on_cluster(tasks, scheduler)
        return
    left = deque(tasks)
    while left:
        suspects = yield from _until_one_dies(left, workers)
        for task in suspects:  # one by one, so that only the culprit fails
            if (yield from _until_one_dies(deque([task]), 1)):
                yield _failed(task, DIED)


def run_task(task: Task) -> Outcome:
    """Do one task, unless its result is there already; runs in a worker."""
    start = time.perf_counter()
    set_thread_limits(ThreadLimits(threads=task.threads))
    try:
        acquisition = _one_time(
            read_acquisitions(task.path, axes=task.axes, spacing=task.spacing)[task.position],
            task.time,
        )
        job = task.job
        if job.megabytes is None:
            job = dataclasses.replace(job, megabytes=_of_this_worker())
        plan = job.plan(acquisition)
        if plan.fits_in_memory:
            acquisition = _held(acquisition)
        key = compute_result_digest(acquisition, job)
        recover(task.folder, RESULT_NAMES)
        state, replaced = "found", ""
        if not is_complete(task.folder, key, job.file_format):
            state, replaced = "done", earlier_input(task.folder)
            source = {"path": str(task.path), "time": task.time}
            job.run(acquisition, task.folder, plan, source, no_progress, digest=key)
    except SystemExit:  # see _end; the pool would take it for a result, and wait for the worker
        os._exit(1)
    except Exception as error:  # told in the summary; the others go on
        return _failed(task, str(error) or repr(error), time.perf_counter() - start)
    seconds = round(time.perf_counter() - start, 2)
    folder = str(task.folder)
    return Outcome(*_which(task), state, seconds, folder=folder, replaced=replaced)


def compute_result_digest(acquisition: Acquisition, job: Job) -> str:
    """A digest of all that a result depends on: planes, calibration, recipe, version."""
    digest = hashlib.sha256()
    known = None if job.depth_from is None else _digest_of(job.depth_from)
    asked = {
        "version": napari_dff.__version__,
        "recipe": dataclasses.asdict(job.recipe),
        "channel": job.focus_channel(acquisition),
        "transforms": None if job.transforms is None else job.transforms.tolist(),
        "depth_from": known,
        "format": job.file_format,
        "positions": acquisition.positions.tolist(),
        "pixel_size": acquisition.pixel_size,
        "unit": acquisition.unit,
        "channels": acquisition.channels,
        "shape": acquisition.data.shape,
        "dtype": str(acquisition.data.dtype),
    }
    digest.update(json.dumps(asked, sort_keys=True).encode())
    for where in np.ndindex(*acquisition.data.shape[:3]):
        digest.update(np.ascontiguousarray(acquisition.data[where]).data)
    return digest.hexdigest()


def worker_counts(
    workers: int | None, threads: int | None, tasks: int, scheduler: str = ""
) -> tuple[int, int]:
    """How many workers, and threads each: as many as there are cores where nobody says.

    Workers of a cluster have one thread where nobody says.
    """
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None:
            WORKER_RANGE.check(name, value)
    if workers is None and not scheduler:
        workers = max(1, min(thread_count(), tasks))
        return workers, threads or max(1, thread_count() // workers)
    return workers or 1, threads or 1


def memory_per_worker(megabytes: float | None, workers: int) -> float:
    """Megabytes for each of the workers on this machine, of all that may be taken."""
    free = FREE_MEMORY_FRACTION * psutil.virtual_memory().available / 1e6
    return (free if megabytes is None else megabytes) / workers


def _named(patterns: Sequence[str]) -> dict[Path, str]:
    """Files that match, and what each is called, no two alike.

    As it lies below the folder that its pattern begins with; where two would be called the same,
    as it lies below what all files have in common.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        fixed = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)
        base = Path(*fixed)
        base = base.parent if base == Path(pattern) else base
        for path in sorted(glob.glob(pattern)):
            found.setdefault(Path(path).absolute(), Path(path).relative_to(base))
    if not found:
        named = " ".join(patterns)
        raise ValueError(f"nothing matches {named}" if named else "no stacks are given: name files")
    common = Path(os.path.commonpath([path.parent for path in found]))
    full = {path: path.relative_to(common) for path in found}
    for names in (found, full):
        short = [str(name.parent / name.name.split(".")[0]) for name in names.values()]
        if len(set(short)) == len(short):
            return dict(zip(names, short, strict=True))
    return {path: str(name) for path, name in full.items()}


def _of_this_worker() -> float | None:
    """Megabytes that a Dask cluster gives to this worker; None elsewhere, or where it sets none."""
    try:
        from distributed import get_worker

        allowed = get_worker().memory_manager.memory_limit
    except (ImportError, ValueError, AttributeError):
        return None
    return FREE_MEMORY_FRACTION * allowed / 1e6 if allowed else None


def _which(task: Task) -> tuple[str, int, int]:
    return str(task.path), task.position, task.time


def _failed(task: Task, why: str, seconds: float = 0.0) -> Outcome:
    return Outcome(*_which(task), "failed", round(seconds, 2), why)


def _one_time(acquisition: Acquisition, at: int) -> Acquisition:
    part = slice(at, at + 1)
    return dataclasses.replace(
        acquisition, data=acquisition.data[part], positions=acquisition.positions[part]
    )


def _held(acquisition: Acquisition) -> Acquisition:
    """The same in memory, so that it is read once."""
    if isinstance(acquisition.data, np.ndarray):
        return acquisition
    channels = [load_planes(acquisition.data[0, c]) for c in range(len(acquisition.channels))]
    return dataclasses.replace(acquisition, data=np.stack(channels)[None])


def _digest_of(folder: Path) -> dict[str, str]:
    """Of the files in a folder of results."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name.startswith(("depth", "index", "uncertainty", "transforms"))
        or ".zarr" in str(path)
    }


def _until_one_dies(left: deque[Task], workers: int) -> Generator[Outcome, None, list[Task]]:
    """Do tasks until none is left, or a worker dies; those that it may have died of."""
    running: dict[Future[Outcome], Task] = {}
    with _workers(workers) as pool:
        try:
            while left or running:
                while left and len(running) < workers:
                    future = pool.submit(run_task, left[0])
                    running[future] = left.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    outcome = future.result()
                    del running[future]
                    yield outcome
        except BrokenProcessPool:
            pass
    for future in [future for future in running if not future.exception()]:
        del running[future]
        yield future.result()
    return list(running.values())


def _on_cluster(tasks: Sequence[Task], scheduler: str) -> Iterator[Outcome]:
    """Do all tasks on a Dask cluster."""
    with _cluster(scheduler) as executor:
        futures = {executor.submit(run_task, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                try:
                    yield future.result()
                except Exception as error:  # of the cluster, not of the task
                    yield _failed(futures[future], f"{DIED}: {error}")
        finally:
            for future in futures:
                future.cancel()


def _begin() -> None:
    """Leave Ctrl-C to the program that has begun this worker, and end when that does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _end(*_: object) -> None:
    """End at once, and tidy up on the way out; but end, whatever catches this."""
    last = threading.Timer(TIDYING, os._exit, (1,))
    last.daemon = True
    last.start()
    raise SystemExit(1)


@contextmanager
def _workers(count: int) -> Iterator[Executor]:
    """Processes on this machine."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)
    try:
        yield pool
    except KeyboardInterrupt:  # what is under way is given up: nothing of it is there yet
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _cluster(scheduler: str) -> Iterator[Executor]:
    """Workers of a Dask cluster."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "a scheduler needs the package distributed: pip install 'napari-dff[distributed]'"
        ) from error
    kept: dict[str, Any] = {"timeout": ANSWER, "set_as_default": False}
    with Client(scheduler, **kept) as client:  # type: ignore[no-untyped-call]
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise OSError(f"scheduler {scheduler} has no workers") from error
        yield client.get_executor(pure=False, retries=0)
