"""Move complete files from a staging folder into their folder, all or none.

The list of moves, ``moves.json``, is written first. If the process is killed between two moves, a
later run finishes them from this list.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from napari_dff.io.file_checks import file_signatures
from napari_dff.io.staging import MOVES, remove_staging_folder

# moved out first and in last: a folder without it holds no result
PROVENANCE_FILE = "provenance.json"
MAX_JOURNAL_BYTES = 100_000


def move_in(staging: Path, folder: Path, names: Collection[str]) -> None:
    """Move all new files in, or none: a file that another program has open cannot be replaced."""
    new = sorted(os.listdir(staging / "new"), key=lambda name: name == PROVENANCE_FILE)
    now = file_signatures(folder, {*names, *new})
    old = sorted(now, key=lambda name: name != PROVENANCE_FILE)
    (staging / "old").mkdir()
    journal = json.dumps({"old": {name: now[name] for name in old}, "new": new})
    (staging / "old" / MOVES).write_text(journal, encoding="utf-8")
    sync_to_disk(staging)
    os.replace(staging / "old" / MOVES, staging / MOVES)
    moves, done = _list_moves(staging, folder, old, new), 0
    try:
        for source, destination in moves:
            os.replace(source, destination)
            done += 1
    except BaseException:
        for source, destination in reversed(moves[:done]):
            os.replace(destination, source)
        (staging / MOVES).unlink()
        raise
    (staging / MOVES).unlink()


def recover_staging_folder(
    staging: Path, target: Path, names: Collection[str], same_target: bool
) -> bool:
    """Finish the moves of a killed run and remove its folder; False if it has to stay."""
    if (staging / MOVES).exists():
        if not same_target:
            return False  # complete files, which the next run into their own folder moves in
        try:
            _finish_moves(staging, target, names)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            warnings.warn(
                f"{staging / MOVES} is damaged ({error}): look for the files of an interrupted run "
                "beside it, then remove its folder",
                stacklevel=3,
            )
            return False
    remove_staging_folder(staging)  # while it is locked: see `create_staging_folder`
    return True


def _finish_moves(staging: Path, target: Path, names: Collection[str]) -> None:
    """Finish the moves of a killed run; drop them if the target folder no longer exists.

    ValueError if the journal lists other files than `names`, or if a file that it would replace
    has changed since.
    """
    with (staging / MOVES).open(encoding="utf-8") as file:
        journal = json.loads(file.read(MAX_JOURNAL_BYTES))
    old, new = dict(journal["old"]), list(journal["new"])
    for name in (*old, *new):
        if name not in names:
            raise ValueError(f"it lists {name!r}")
    for name, signature in file_signatures(target, old).items():
        is_moved = os.path.lexists(staging / "old" / name)
        if not is_moved and list(signature) != old[name]:
            raise ValueError(f"{name} has changed since")
    if target.is_dir():
        for source, destination in _list_moves(staging, target, old, new):
            if os.path.lexists(source) and not os.path.lexists(destination):  # not done yet
                os.replace(source, destination)
    (staging / MOVES).unlink()


def _list_moves(
    staging: Path, folder: Path, old: Iterable[str], new: Iterable[str]
) -> list[tuple[Path, Path]]:
    """Return source and destination of each move: old files out, then new files in."""
    moves_out = [(folder / name, staging / "old" / name) for name in old]
    return moves_out + [(staging / "new" / name, folder / name) for name in new]


def sync_to_disk(folder: Path) -> None:
    """Flush all files to the disk: after a power cut, names without content could remain."""

    def sync_file(path: Path) -> None:
        with path.open("r+b") as file:
            os.fsync(file.fileno())

    with ThreadPoolExecutor(8) as pool:  # ten times as fast for the many chunks of a Zarr
        list(pool.map(sync_file, (path for path in folder.rglob("*") if path.is_file())))
