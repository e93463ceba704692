"""Compute focal stacks while they are being taken: each one when its last plane is written.

The folder is looked through again and again, as network drives report no changes. A stack is
complete if all planes that its metadata list are there, or as many as the user expects, or if it
has not changed for some time. What has been computed already is recognized by its content, as by
`batch`; a stack that changes afterwards is computed again.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from napari_dff.batch.job import Job
from napari_dff.batch.summary import Outcome, check_summary, write_summary
from napari_dff.batch.tasks import Task, make_tasks, run_task
from napari_dff.io.readers.incoming import File, IncomingStack, find_stacks, has_all_planes
from napari_dff.io.readers.results import read_provenance
from napari_dff.model import checks
from napari_dff.pipeline.quality import is_about_range
from napari_dff.runtime.progress import raise_if_cancelled
from napari_dff.runtime.threads import thread_count

SECONDS = checks.Range(0.0, 1e9, 1.0)
PLANES = checks.Range(2, 1_000_000, 1)
RESULTS = checks.Range(1, 1_000_000, 1)
CANCEL_S = 0.1  # from a look whether the user has cancelled to the next
STATE_WORDS = {"done": "computed in {:.1f} s", "found": "there already"}


@dataclass(frozen=True, kw_only=True)
class WatchSettings:
    """When a stack is complete, and when to end."""

    planes: int | None = None  # images of a complete stack; None: as many as its metadata list
    settle_s: float = 10.0  # without a change, after which a stack counts as complete
    interval_s: float = 1.0  # from one look at the folder to the next
    idle_s: float | None = None  # without anything new or to do, after which to end; None: never
    until: int | None = None  # stacks with a result, at which to end; None: never

    def __post_init__(self) -> None:
        if self.planes is not None:
            PLANES.check("planes", self.planes)
        if self.until is not None:
            RESULTS.check("until", self.until)
        for name in ("settle_s", "interval_s", "idle_s"):
            if (value := getattr(self, name)) is not None:
                SECONDS.check(name.removesuffix("_s"), value)


@dataclass
class _Candidate:
    """What is known of a stack that has been seen."""

    files: tuple[File, ...]
    since: float  # when it was first seen like this
    is_complete: bool | None = None
    is_checked: bool = False
    is_done: bool = False

    def is_due(self, stack: IncomingStack, settings: WatchSettings, now: float) -> bool:
        """Whether to compute the stack, which has not changed since the last look."""
        if self.is_done or stack.is_single_image:
            return False
        if not self.is_checked:
            self.is_complete, self.is_checked = has_all_planes(stack, settings.planes), True
        return bool(self.is_complete) or now - self.since >= settings.settle_s


class Message(NamedTuple):
    """A sentence on a stack that has come in."""

    text: str
    is_warning: bool


def watch(
    folder: Path,
    out: Path,
    job: Job,
    settings: WatchSettings,
    *,
    threads: int | None = None,
    check: Callable[[list[Path]], None] = lambda folders: None,  # raises if they can't be written
    **reading: Any,  # axes and spacing, as of `make_tasks`
) -> Iterator[Outcome]:
    """Compute every stack that comes into a folder; yield each outcome when it is in the summary.

    Results are in folders of `out` that repeat the folders of the stacks. `Cancelled` if
    `raise_if_cancelled` raises it.
    """
    if not folder.is_dir():
        raise ValueError(f"folder must be one that stacks are written into, got {str(folder)!r}")
    if folder == out:
        raise ValueError(f"out must be another folder than that of the stacks, got {out}")
    check_summary(out, job.overwrite)
    owners: dict[Path, Path] = {}  # of the folders of results

    def compute(stack: Path) -> Iterator[Outcome]:
        target = out / stack.relative_to(folder).parent
        for task in _tasks(stack, target, job, check, reading):
            outcome = _run(task, threads, owners) if isinstance(task, Task) else task
            raise_if_cancelled()  # then the task has failed by that
            yield outcome

    return _with_summary(_watch(folder, out, settings, compute), out, job, settings.until)


def messages_of(outcome: Outcome) -> Iterator[Message]:
    """Yield what has become of a stack, and whether it should be taken again."""
    if outcome.state == "failed":
        yield Message(f"failed: {outcome.label}: {outcome.why}", True)
        return
    words = STATE_WORDS[outcome.state].format(outcome.seconds)
    yield Message(f"{outcome.label}: {words}: {outcome.folder}", False)
    if outcome.notes:
        yield Message(f"{outcome.label}: {outcome.notes}", True)
    for sentence in read_provenance(Path(outcome.folder)).get("advice", []):
        if is_about_range(sentence):
            yield Message(f"take it again: {outcome.label}: {sentence}", True)


def _watch(
    folder: Path, out: Path, settings: WatchSettings, compute: Callable[[Path], Iterator[Outcome]]
) -> Iterator[Outcome]:
    """Yield the outcomes of each stack when it is complete, until nothing comes for `idle_s`."""
    candidates: dict[Path, _Candidate] = {}
    last_event = time.monotonic()
    while True:
        stacks = list(find_stacks(folder, out))
        paths = {stack.path for stack in stacks}
        candidates = {path: each for path, each in candidates.items() if path in paths}
        for stack in stacks:
            now, earlier = time.monotonic(), candidates.get(stack.path)
            if earlier is None or earlier.files != stack.files:
                candidates[stack.path] = _Candidate(stack.files, now)
                last_event = now
            elif earlier.is_due(stack, settings, now):
                earlier.is_done = True
                yield from compute(stack.path)
                last_event = time.monotonic()
        waiting = [each for each in stacks if not each.is_single_image]
        idle_s, is_idle = settings.idle_s, all(candidates[each.path].is_done for each in waiting)
        if idle_s is not None and is_idle and time.monotonic() - last_event >= idle_s:
            return
        _pause(settings.interval_s)


def _with_summary(
    outcomes: Iterator[Outcome], out: Path, job: Job, until: int | None
) -> Iterator[Outcome]:
    """Yield outcomes when they are in the summary, `until` so many stacks have a result."""
    latest: dict[tuple[str, int | None, int | None], Outcome] = {}
    for outcome in outcomes:
        latest.pop((outcome.stack, None, None), None)  # it could not be read before
        latest[outcome.stack, outcome.position, outcome.time] = outcome
        write_summary(out, [*latest.values()], job.overwrite, job.record_paths)
        yield outcome
        results = {each.stack for each in latest.values() if each.state != "failed"}
        if until is not None and len(results) >= until:
            return


def _pause(seconds: float) -> None:
    """Wait, unless the user cancels."""
    end = time.monotonic() + seconds
    raise_if_cancelled()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, CANCEL_S))
        raise_if_cancelled()


def _tasks(
    path: Path,
    out: Path,
    job: Job,
    check: Callable[[list[Path]], None],
    reading: dict[str, Any],
) -> list[Task | Outcome]:
    """Return the tasks of a stack, and failures of what cannot be read or written."""
    try:
        tasks, failures = make_tasks([str(path)], out, job, **reading)
        check([task.folder for task in tasks])
    except ValueError as error:
        return [Outcome(str(path), None, None, "failed", why=str(error))]
    return [*failures, *tasks]


def _run(task: Task, threads: int | None, owners: dict[Path, Path]) -> Outcome:
    """Run a task in this process unless another stack has its folder."""
    owner = owners.setdefault(task.folder, task.path)
    if owner != task.path:
        why = f"{owner.name} has the same folder for its result: give it another name"
        return task.outcome("failed", why=why)
    return run_task(dataclasses.replace(task, threads=threads or thread_count()))
