"""Checks of files and folders before anything is written, and their digests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import struct
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

if sys.platform != "win32":
    import fcntl

FS_IOC_GETFLAGS = 0x80086601  # Linux: read the attributes that chattr sets
FS_IMMUTABLE_OR_APPEND = 0x10 | 0x20
BSD_IMMUTABLE_OR_APPEND = 0x00060006  # UF_ and SF_ flags, also of macOS


def check_space(folder: Path, needed: int) -> None:
    """Raise an OSError unless `needed` bytes are free on the disk of `folder`."""
    existing = nearest_existing(folder)
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise OSError(
            f"the results need {needed / 1e9:.3g} GB, but only {free / 1e9:.3g} GB are free "
            f"at {existing}"
        )


def check_folder(folder: Path) -> None:
    """Raise a NotADirectoryError if the folder, or a parent of it, is a file."""
    existing = nearest_existing(folder)
    if not existing.is_dir():
        raise NotADirectoryError(f"{existing} is a file; give a folder to write into")


def check_replaceable(path: Path) -> None:
    """Raise a PermissionError if an existing file cannot, or must not, be replaced."""
    status, folder = path.lstat(), path.parent.stat()
    if stat.S_ISLNK(status.st_mode):
        return
    owners = {status.st_uid, folder.st_uid, 0}
    if not status.st_mode & 0o222:
        why = "is read-only"
    elif hasattr(os, "geteuid") and folder.st_mode & stat.S_ISVTX and os.geteuid() not in owners:
        why = "belongs to another user"
    elif _is_immutable(path, status):
        why = "is immutable"
    else:
        return
    raise PermissionError(f"{path} can't be replaced: it {why}; change that, or write elsewhere")


def _is_immutable(path: Path, status: os.stat_result) -> bool:
    """Whether an attribute set by chattr or chflags forbids to replace the file."""
    if getattr(status, "st_flags", 0) & BSD_IMMUTABLE_OR_APPEND:
        return True
    if sys.platform != "linux":
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        answer = fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(8))
        return bool(struct.unpack("i", answer[:4])[0] & FS_IMMUTABLE_OR_APPEND)
    except OSError:  # a file system without attributes
        return False
    finally:
        os.close(descriptor)


def nearest_existing(folder: Path) -> Path:
    """Return the folder, or its nearest existing parent."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if os.path.exists(path))


def file_signatures(folder: Path, names: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Return inode, size and time of change of each of `names` that exists in `folder`."""
    signatures: dict[str, tuple[int, ...]] = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            status = (folder / name).lstat()
            signatures[name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return signatures


def compute_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and digests of all files in a folder."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(each for each in path.rglob("*") if not each.is_dir())
    listing = [f"{each.relative_to(path).as_posix()} {compute_digest(each)}\n" for each in files]
    return hashlib.sha256(os.fsencode("".join(listing))).hexdigest()


def folder_names(names: Sequence[str]) -> list[str]:
    """Return distinct folder names, one for each of `names`; "" if there is only one."""
    if len(names) == 1:
        return [""]
    safe = [re.sub(r"[^\w.-]+", "_", name).strip("._") or "position" for name in names]
    return [name if safe.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(safe)]
