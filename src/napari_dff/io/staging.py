"""Staging folders ``.NAME-xxxxxxxx.unfinished``: created, locked, moved in, recovered, removed.

`napari_dff.io.atomic` describes their content.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from napari_dff.io.records import PROVENANCE_FILE

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

STAGING_SUFFIX = ".unfinished"
STAGING_NAME = re.compile(rf"\..+-[a-z0-9_]{{8}}{re.escape(STAGING_SUFFIX)}")
LOCK, MOVES = "lock", "moves.json"
MAX_NAME_BYTES = 200  # of the target in the name of its staging folder; file systems allow 255
MAX_JOURNAL_BYTES = 100_000


def create_staging_folder(target: Path) -> tuple[Path, BinaryIO]:
    """Create a staging folder next to `target`, or within it, and lock it."""
    within = target if target.is_dir() else target.parent
    prefix = f"{_staging_prefix(target)}-"
    while True:
        staging = Path(tempfile.mkdtemp(STAGING_SUFFIX, prefix, within))
        with contextlib.suppress(OSError):  # `target` is on another disk, or its parent read-only
            staging = staging.rename(target.parent / staging.name)
        with contextlib.suppress(FileNotFoundError):  # another run has removed it
            lock = (staging / LOCK).open("xb")
            if lock_file(lock) is not False and (staging / LOCK).exists():
                lock.write(str(staging.lstat().st_ino).encode())
                lock.flush()
                os.fsync(lock.fileno())
                return staging, lock
            lock.close()


def lock_file(file: BinaryIO) -> bool | None:
    """Lock a file; False if another process holds the lock, None if its disk has no locks."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # no locks, e.g. on some network drives
        return None
    return True


def recover(target: Path, names: Collection[str], current: Path | None = None) -> list[Path]:
    """Finish the moves of killed runs into `target`, and remove leftovers of killed runs.

    Return the staging folders of other runs than `current` that are writing to `target` now.
    """
    target = Path(os.path.realpath(target))
    busy = []
    for staging in _list_staging_folders(target):
        lock = None if staging == current else _open_lock(staging)
        if lock is None:
            continue
        same_target, unlocked, done = _is_staging_of(staging, target), None, False
        # the process that holds the lock may remove the folder meanwhile
        with lock, contextlib.suppress(FileNotFoundError):
            unlocked = lock_file(lock)
            if unlocked and _is_own(staging, lock):
                done = _recover_staging_folder(staging, target, names, same_target)
            elif unlocked and same_target:
                problem = "looks like a leftover of a killed run but is not one of yours"
                warnings.warn(f"{staging} {problem}: it is left alone", stacklevel=2)
        if done:
            _remove(staging)  # on Windows an open file can't be removed
        if unlocked is False and same_target:
            busy.append(staging)
    return busy


def has_interrupted_moves(folder: Path) -> bool:
    """Whether a run was killed while it moved its files into `folder`."""
    folder = Path(os.path.realpath(folder))
    own = (path for path in _list_staging_folders(folder) if _is_staging_of(path, folder))
    return any((path / MOVES).is_file() for path in own)


def move_in(staging: Path, folder: Path, names: Collection[str]) -> None:
    """Move all new files in, or none: a file that another program has open cannot be replaced."""
    # The record is moved out first and in last: a folder without it holds no result.
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


def clean_up(staging: Path) -> None:
    """Remove a staging folder at the end of its run unless it holds files to keep."""
    if (staging / MOVES).exists() or not (staging / LOCK).exists():
        return
    _remove(staging)
    if sys.exc_info()[0] is not None:  # a thread of zarr may write one more chunk
        time.sleep(0.2)
        _remove(staging)


def sync_to_disk(folder: Path) -> None:
    """Flush all files to the disk: after a power cut, names without content could remain."""

    def sync_file(path: Path) -> None:
        with path.open("r+b") as file:
            os.fsync(file.fileno())

    with ThreadPoolExecutor(8) as pool:  # ten times as fast for the many chunks of a Zarr
        list(pool.map(sync_file, (path for path in folder.rglob("*") if path.is_file())))


def file_signatures(folder: Path, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return inode, size and time of change of each of `names` that exists in `folder`."""
    signatures: dict[str, tuple[int, ...]] = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            status = (folder / name).lstat()
            signatures[name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return signatures


def _staging_prefix(target: Path) -> str:
    """Return the name of a staging folder of `target` up to its random part."""
    name = os.fsencode(target.name)
    short = target.name if len(name) <= MAX_NAME_BYTES else hashlib.sha256(name).hexdigest()
    return f".{short}"


def _is_staging_of(staging: Path, target: Path) -> bool:
    return staging.name.rpartition("-")[0] == _staging_prefix(target)


def _list_staging_folders(target: Path) -> list[Path]:
    """Return all staging folders next to `target` and within it, also those of other targets."""
    folders: list[Path] = []
    for folder in (target.parent, target):
        with contextlib.suppress(OSError):
            names = filter(STAGING_NAME.fullmatch, os.listdir(folder))
            folders += [folder / name for name in names]
    return folders


def _open_lock(staging: Path) -> BinaryIO | None:
    """Open the lock of a staging folder; None if there is none or it belongs to another user."""
    with contextlib.suppress(OSError):
        if not _is_private(staging, stat.S_ISDIR):
            return None
        if os.path.lexists(staging / LOCK):
            regular = _is_private(staging / LOCK, stat.S_ISREG)
            return (staging / LOCK).open("r+b") if regular else None
        staging.rmdir()  # empty: its run was killed before its first file or after its last
    return None


def _is_private(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """Whether a path is of that kind, not a link, and belongs to this user."""
    status = path.lstat()
    return is_kind(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())


def _is_own(staging: Path, lock: BinaryIO) -> bool:
    """Whether a run created this folder here: it was not copied, unpacked or planted."""
    content = lock.read(40)
    if not content:  # its run was killed between two steps of `create_staging_folder`
        return os.listdir(staging) == [LOCK]
    return content == str(staging.lstat().st_ino).encode()


def _recover_staging_folder(
    staging: Path, target: Path, names: Collection[str], same_target: bool
) -> bool:
    """Finish the moves of a killed run and remove its folder; False if it has to stay."""
    if (staging / MOVES).exists():
        if not same_target:
            return False  # complete files, which the next run into their own folder moves in
        try:
            _finish_moves(staging, target, names)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            hint = "look for the files of an interrupted run beside it, then remove its folder"
            warnings.warn(f"{staging / MOVES} is damaged ({error}): {hint}", stacklevel=3)
            return False
    _remove(staging)  # while it is locked: see `create_staging_folder`
    return True


def _finish_moves(staging: Path, target: Path, names: Collection[str]) -> None:
    """Finish the moves of a killed run; ValueError if the journal cannot be followed any more."""
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
    if target.is_dir():  # else the folder was removed, and the new files are dropped
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


def _remove(staging: Path) -> None:
    """Remove a staging folder, and try again if another thread still writes into it."""
    for wait in (0.0, 0.1, 0.5):
        time.sleep(wait)
        for part in ("new", "old", ""):  # the lock last: a folder without lock must be empty
            shutil.rmtree(staging / part, ignore_errors=True)
        if not staging.exists():
            return
