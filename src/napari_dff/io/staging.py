"""Staging folders ``.NAME-xxxxxxxx.unfinished``: created, locked, recognized and removed.

`napari_dff.io.atomic` describes their content.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

STAGING_SUFFIX = ".unfinished"
STAGING_NAME = re.compile(rf"\..+-[a-z0-9_]{{8}}{re.escape(STAGING_SUFFIX)}")
LOCK, MOVES = "lock", "moves.json"
MAX_NAME_BYTES = 200  # of the target in the name of its staging folder; file systems allow 255


def create_staging_folder(target: Path) -> tuple[Path, BinaryIO]:
    """Create a staging folder next to `target`, and lock it.

    It stays within `target` if it cannot be moved to the parent folder: `target` is on another
    disk, or the parent is not writable.
    """
    within = target if target.is_dir() else target.parent
    while True:
        staging = Path(
            tempfile.mkdtemp(prefix=f"{staging_prefix(target)}-", suffix=STAGING_SUFFIX, dir=within)
        )
        with contextlib.suppress(OSError):
            staging = staging.rename(target.parent / staging.name)
        with contextlib.suppress(FileNotFoundError):  # another run has removed it
            lock = (staging / LOCK).open("xb")
            if lock_file(lock) is not False and (staging / LOCK).exists():
                lock.write(str(staging.lstat().st_ino).encode())
                lock.flush()
                os.fsync(lock.fileno())
                return staging, lock
            lock.close()


def list_staging_folders(target: Path) -> list[Path]:
    """Return all staging folders next to `target` and within it, also those of other targets."""
    folders: list[Path] = []
    for folder in (target.parent, target):
        with contextlib.suppress(OSError):
            folders += [
                folder / name for name in os.listdir(folder) if STAGING_NAME.fullmatch(name)
            ]
    return folders


def staging_prefix(target: Path) -> str:
    """Return the name of a staging folder of `target` up to its random part."""
    name = os.fsencode(target.name)
    short = target.name if len(name) <= MAX_NAME_BYTES else hashlib.sha256(name).hexdigest()
    return f".{short}"


def open_lock(staging: Path) -> BinaryIO | None:
    """Open the lock of a staging folder; None if there is none or it belongs to another user.

    An empty folder is removed: its run was killed before its first file or after its last.
    """
    with contextlib.suppress(OSError):
        if not _is_private(staging, stat.S_ISDIR):
            return None
        if os.path.lexists(staging / LOCK):
            regular = _is_private(staging / LOCK, stat.S_ISREG)
            return (staging / LOCK).open("r+b") if regular else None
        staging.rmdir()
    return None


def _is_private(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether a path is of that kind, not a link, and belongs to this user."""
    status = path.lstat()
    return kind(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())


def is_own(staging: Path, lock: BinaryIO) -> bool:
    """Whether a run created this folder here: it was not copied, unpacked or planted."""
    content = lock.read(40)
    if not content:  # its run was killed between two steps of `create_staging_folder`
        return os.listdir(staging) == [LOCK]
    return content == str(staging.lstat().st_ino).encode()


def lock_file(file: BinaryIO) -> bool | None:
    """Lock a file until it is closed or the process ends.

    False if another process holds the lock, None if the file system has no locks.
    """
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


def clean_up(staging: Path) -> None:
    """Remove a staging folder at the end of its run unless it holds files to keep."""
    if (staging / MOVES).exists() or not (staging / LOCK).exists():
        return
    remove_staging_folder(staging)
    if sys.exc_info()[0] is not None:  # a thread of zarr may write one more chunk
        time.sleep(0.2)
        remove_staging_folder(staging)


def remove_staging_folder(staging: Path) -> None:
    """Remove a staging folder, and try again if another thread still writes into it.

    The lock is removed last: a folder without lock must be empty.
    """
    for wait in (0.0, 0.1, 0.5):
        time.sleep(wait)
        for part in ("new", "old", ""):
            shutil.rmtree(staging / part, ignore_errors=True)
        if not staging.exists():
            return
