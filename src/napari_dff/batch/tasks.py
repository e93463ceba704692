"""Tasks of a batch: one focal stack each, found by patterns of paths, and computed in a worker.

The digest of a result covers the planes, their calibration and all settings. A finished stack is
recognized by it, so that an interrupted batch continues where it stopped.
"""

import dataclasses
import glob
import hashlib
import itertools
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import napari_dff
from napari_dff.batch.job import Job
from napari_dff.batch.summary import SUMMARY_NAMES, Outcome, announce_wait
from napari_dff.io import folder_names, read_acquisitions
from napari_dff.io.atomic import retry_while_in_use
from napari_dff.io.file_checks import check_not_input, compute_digest
from napari_dff.io.readers.results import earlier_input, read_quality, read_sentences
from napari_dff.io.staging import recover
from napari_dff.io.writers.result_files import RESULT_NAMES, is_complete
from napari_dff.model.acquisition import Acquisition
from napari_dff.pipeline.planning import FREE_MEMORY_FRACTION
from napari_dff.runtime.lazy import as_plane_file, copy_chunks, is_ready
from napari_dff.runtime.progress import no_progress
from napari_dff.runtime.threads import set_thread_limits, thread_limits

DEPTH_FILE_PREFIXES = ("depth", "index", "uncertainty", "transforms")  # used by depth_from
SEPARATE_TIMES = (
    "coherence must be none in a batch, which computes times separately, got {}: use run"
)


@dataclass(frozen=True)
class Task:
    """One focal stack with all its channels."""

    path: Path  # absolute, of its file or folder
    axes: str | None  # as in `read_acquisitions`
    spacing: tuple[float, ...] | None
    position: int  # number in the file
    time: int
    folder: Path  # of the result
    job: Job
    threads: int = 1  # of the worker

    def read(self) -> Acquisition:
        """Return the stack as an acquisition of one time, not in memory yet."""
        acquisitions = read_acquisitions(self.path, axes=self.axes, spacing=self.spacing)
        acquisition, times = acquisitions[self.position], slice(self.time, self.time + 1)
        return dataclasses.replace(
            acquisition, data=acquisition.data[times], positions=acquisition.positions[times]
        )

    def outcome(self, state: str, seconds: float = 0.0, **details: Any) -> Outcome:
        """Return the outcome of the task."""
        path, seconds = str(self.path), round(seconds, 2)
        return Outcome(path, self.position, self.time, state, seconds, **details)


def make_tasks(
    patterns: Sequence[str],
    out: Path,
    job: Job,
    *,
    axes: str | None = None,
    spacing: tuple[float, ...] | None = None,
) -> tuple[list[Task], list[Outcome]]:
    """Return a task for each stack that matches `patterns`, and a failure for each unreadable file.

    A pattern that matches nothing, beside others that do, is a failure too.
    Folders of results repeat the folders that match wildcards, then file, position and time.
    ValueError if nothing matches, or if a result would replace a file that the batch reads.
    """
    tasks: list[Task] = []
    failures: list[Outcome] = []
    input_files: dict[Path, None] = {}
    for path, name in _match_paths(patterns).items():
        try:
            acquisitions = read_acquisitions(path, axes=axes, spacing=spacing)
            for acquisition in acquisitions:
                job.focus_channel(acquisition)
                if job.recipe.coherence != "none":
                    raise ValueError(SEPARATE_TIMES.format(job.recipe.coherence))
                input_files.update(dict.fromkeys(acquisition.files))
        except Exception as error:  # a broken file must not stop the batch
            failures.append(Outcome(str(path), None, None, "failed", why=str(error)))
            continue
        position_names = folder_names([acquisition.name for acquisition in acquisitions])
        for position, position_name in enumerate(position_names):
            folder, times = out.absolute() / name / position_name, acquisitions[position].times
            for t in range(times):
                target = folder / f"time_{t:03d}" if times > 1 else folder
                tasks.append(Task(path, axes, spacing, position, t, target, job.at(position_name)))
    missing = [each for each in patterns if not (os.path.exists(each) or _expand(each))]
    failures += [
        Outcome(os.path.abspath(each), None, None, "failed", why=f"nothing matches {each}")
        for each in missing
    ]
    check_not_input([task.folder for task in tasks], RESULT_NAMES, input_files)
    check_not_input([out], SUMMARY_NAMES, input_files)
    return tasks, failures


def run_task(task: Task) -> Outcome:
    """Compute the result of a task unless it is complete already; runs in a worker."""
    start = time.perf_counter()
    set_thread_limits(thread_limits()._replace(threads=task.threads))
    try:
        state, replaced = _complete_result(task)
        details: dict[str, Any] = {"folder": str(task.folder), "replaced": replaced}
        details |= read_quality(task.folder) | read_sentences(task.folder)
    except SystemExit:  # from a signal; the pool would take it for a result and keep the worker
        os._exit(1)
    except Exception as error:  # listed in the summary; the other tasks continue
        return task.outcome("failed", time.perf_counter() - start, why=str(error) or repr(error))
    seconds = time.perf_counter() - start
    return task.outcome(state, seconds, **details)


def _complete_result(task: Task) -> tuple[str, str]:
    """Compute a result unless it is complete; return state and input of the replaced result."""
    acquisition, job = task.read(), task.job
    if job.megabytes is None:
        job = dataclasses.replace(job, megabytes=_dask_worker_megabytes())
    plan = job.plan(acquisition)
    if plan.fits_in_memory:
        acquisition = _load(acquisition)
    digest = _compute_result_digest(acquisition, job)
    source = {"path": str(task.path), "time": task.time}

    def compute() -> tuple[str, str]:
        recover(task.folder, RESULT_NAMES)
        if is_complete(task.folder, digest, job.file_format):
            return "found", ""
        replaced = earlier_input(task.folder)
        job.run(acquisition, task.folder, plan, source, no_progress, digest=digest)
        return "done", replaced

    return retry_while_in_use(compute, lambda: announce_wait(task.folder))


def _compute_result_digest(acquisition: Acquisition, job: Job) -> str:
    """Return the SHA-256 of everything on which a result depends."""
    inputs = {
        "version": napari_dff.__version__,
        "recipe": dataclasses.asdict(job.recipe),
        "channel": job.focus_channel(acquisition),
        "transforms": None if job.transforms is None else job.transforms.tolist(),
        "depth_from": None if job.depth_from is None else _depth_file_digests(job.depth_from),
        "format": job.file_format,
        **({"focus_offset": job.focus_offset} if job.focus_offset else {}),
        "positions": acquisition.positions.tolist(),
        "pixel_size": acquisition.pixel_size,
        "unit": acquisition.unit,
        "channels": acquisition.channels,
        "shape": acquisition.data.shape,
        "dtype": str(acquisition.data.dtype),
    }
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode())
    for index in np.ndindex(*acquisition.data.shape[:2]):
        for plane in as_plane_file(acquisition.data[index]):
            digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def _depth_file_digests(folder: Path) -> dict[str, str]:
    """Return the digests of the files of a result that `depth_from` reads."""
    return {
        str(path.relative_to(folder)): compute_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (path.name.startswith(DEPTH_FILE_PREFIXES) or ".zarr" in str(path))
    }


def _match_paths(patterns: Sequence[str]) -> dict[Path, str]:
    """Return all paths that match, each with a unique name for its result.

    The name is the path below the part without wildcards, without suffixes. If names are equal, it
    is the path below the common folder of all paths; if still equal, with suffixes.
    """
    below_pattern: dict[Path, Path] = {}
    for pattern in patterns:
        matches = [pattern] if os.path.exists(pattern) else sorted(_expand(pattern))
        fixed = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)
        base = Path(pattern).parent if matches == [pattern] else Path(*fixed)
        for path in matches:
            below_pattern.setdefault(Path(path).absolute(), Path(path).relative_to(base))
    if not below_pattern:
        text = " ".join(patterns)
        raise ValueError(f"nothing matches {text}" if text else "no stacks are given: name files")
    common = Path(os.path.commonpath([path.parent for path in below_pattern]))
    below_common = {path: path.relative_to(common) for path in below_pattern}
    for paths in (below_pattern, below_common):
        names = [str(path.parent / path.name.split(".")[0]) for path in paths.values()]
        if len(set(names)) == len(names):
            return dict(zip(paths, names, strict=True))
    return {path: str(name) for path, name in below_common.items()}


def _expand(pattern: str) -> list[str]:
    """Return the paths that match; brackets are literal if they match nothing as wildcards."""
    return glob.glob(pattern) or glob.glob(pattern.replace("[", "[[]"))


def _load(acquisition: Acquisition) -> Acquisition:
    """Load the stack, which is read twice: for its digest and for its result."""
    if is_ready(acquisition.data):
        return acquisition
    loaded = np.empty(acquisition.data.shape, acquisition.data.dtype)
    for c in range(len(acquisition.channels)):
        copy_chunks(acquisition.data[0, c], loaded[0, c], no_progress)
    return dataclasses.replace(acquisition, data=loaded)


def _dask_worker_megabytes() -> float | None:
    """Return the usable memory of this Dask worker; None outside Dask or without a limit."""
    try:
        from distributed import get_worker

        limit_bytes = get_worker().memory_manager.memory_limit
    except (ImportError, ValueError, AttributeError):
        return None
    return FREE_MEMORY_FRACTION * limit_bytes / 1e6 if limit_bytes else None
