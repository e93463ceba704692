"""Summary of a batch: one row for each stack, as summary.csv and summary.json."""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from napari_dff.io import write_table
from napari_dff.io.atomic import retry_while_in_use, write_folder
from napari_dff.io.file_checks import check_own, write_record
from napari_dff.runtime.words import printable

SUMMARY_TABLE = "summary.csv"
SUMMARY_RECORD = "summary.json"
SUMMARY_NAMES = (SUMMARY_TABLE, SUMMARY_RECORD)


class Outcome(NamedTuple):
    """Outcome of a task: a row of the summary."""

    stack: str  # its file
    position: int | None  # number in the file; None if it cannot be read
    time: int | None
    state: str  # "done": computed now, "found": already complete, or "failed"
    seconds: float = 0.0
    why: str = ""  # it failed
    folder: str = ""  # of the result
    replaced: str = ""  # input of the earlier result that was replaced
    seams: float | None = None  # as in `ImageQuality`; None if it is unknown
    noise: float | None = None
    sharpness: float | None = None
    notes: str = ""  # sentences on planes that are left out, their order and their light
    advice: str = ""  # sentences on alignment, depth range and image

    @property
    def label(self) -> str:
        """File, with position and time unless they are the first."""
        if not (self.position or self.time):
            return self.stack
        return f"{self.stack}, position {self.position}, time {self.time}"


def check_summary(out: Path, overwrite: bool = False) -> None:
    """Raise a FileExistsError if `out` holds a summary.csv that no batch has written."""
    check_own(out, SUMMARY_NAMES, overwrite, SUMMARY_RECORD)


def write_summary(
    out: Path, outcomes: Sequence[Outcome], overwrite: bool = False, record_paths: bool = False
) -> None:
    """Write the outcome of each stack to summary.csv and summary.json.

    Unless `record_paths`, stacks are named from their common folder, and results from `out`.
    """
    rows = sorted(outcomes if record_paths else _without_folders(out, outcomes))
    columns = {name: [getattr(row, name) for row in rows] for name in Outcome._fields}

    def write() -> None:
        check = partial(check_summary, overwrite=overwrite)
        with write_folder(out, SUMMARY_NAMES, check) as new:
            write_table(new / SUMMARY_TABLE, columns)
            write_record(new, {"stacks": [row._asdict() for row in rows]}, SUMMARY_RECORD)

    retry_while_in_use(write, lambda: announce_wait(out))


def announce_wait(folder: Path) -> None:
    """Print that another run is writing into `folder`, which this one waits for."""
    print(printable(f"waiting for another run, which is writing {folder}"), file=sys.stderr)


def _without_folders(out: Path, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return outcomes whose paths begin at the common folder of all stacks, or at `out`."""
    folders = [str(out.absolute())]
    if outcomes:
        folders.append(os.path.commonpath([os.path.dirname(each.stack) for each in outcomes]))
    prefixes = [folder + os.sep for folder in folders if folder != os.path.dirname(folder)]

    def shorten(value: Any) -> Any:
        for prefix in prefixes if isinstance(value, str) else ():
            value = value.replace(prefix, "")
        return value

    return [Outcome._make(map(shorten, outcome)) for outcome in outcomes]
