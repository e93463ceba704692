"""Summary of a batch: one row for each stack, as summary.csv and summary.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from napari_dff.io import write_table
from napari_dff.io.atomic import write_folder
from napari_dff.io.file_checks import check_own, write_record

SUMMARY_TABLE = "summary.csv"
SUMMARY_RECORD = "summary.json"
SUMMARY_NAMES = (SUMMARY_TABLE, SUMMARY_RECORD)


class Outcome(NamedTuple):
    """Outcome of a task: a row of the summary.

    Attributes
    ----------
    stack : str
        File of the stack.
    position, time : int, optional
        Numbers of the position and of the time in the file; None if it cannot be read.
    state : {"done", "found", "failed"}
        Computed now, already complete, or failed.
    seconds : float
    why : str
        Reason of the failure.
    folder : str
        Folder of the result.
    replaced : str
        Input of the earlier result that was replaced, if any.
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
        """File, with position and time unless they are the first."""
        if not (self.position or self.time):
            return self.stack
        return f"{self.stack}, position {self.position}, time {self.time}"


def check_summary(out: Path, overwrite: bool = False) -> None:
    """Raise a FileExistsError if `out` holds a summary.csv that no batch has written."""
    check_own(out, SUMMARY_NAMES, overwrite, SUMMARY_RECORD)


def write_summary(out: Path, outcomes: Sequence[Outcome], overwrite: bool = False) -> None:
    """Write the outcome of each stack to summary.csv and summary.json."""
    rows = sorted(outcomes)
    columns = {name: [getattr(row, name) for row in rows] for name in Outcome._fields}
    with write_folder(out, SUMMARY_NAMES, lambda folder: check_summary(folder, overwrite)) as new:
        write_table(new / SUMMARY_TABLE, columns)
        write_record(new, {"stacks": [row._asdict() for row in rows]}, SUMMARY_RECORD)
