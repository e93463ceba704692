"""Checks before anything is written, which protect the files of the user.

The record of a result lists the digest of each of its files. A file belongs to the user if the
record of its folder does not list it, if it was changed since, or if it is an input of a run.
"""

import hashlib
import os
import re
import shutil
import stat
import struct
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import napari_dff
from napari_dff.io.readers.zarr_store import is_zarr
from napari_dff.io.records import PROVENANCE_FILE, read_json, write_json
from napari_dff.model.checks import as_list, as_path, check_type

if sys.platform != "win32":
    import fcntl

FS_IOC_GETFLAGS = 0x80086601  # Linux: read the attributes that chattr sets
FS_IMMUTABLE_OR_APPEND = 0x10 | 0x20
BSD_IMMUTABLE_OR_APPEND = 0x00060006  # UF_ and SF_ flags, also of macOS


def check_suffix(path: str | os.PathLike[str], suffixes: Collection[str]) -> Path:
    """Return the absolute path; ValueError unless it ends in one of `suffixes`, in any case."""
    path = as_path("path", path).absolute()
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"path must end in {', '.join(suffixes)}, got {path.name!r}")
    return path


def check_space(folder: Path, needed: int) -> None:
    """Raise an OSError unless `needed` bytes are free on the disk of `folder`."""
    existing = _nearest_existing(folder)
    free = shutil.disk_usage(existing).free
    if needed > free:
        sizes = f"{needed / 1e9:.3g} GB, but only {free / 1e9:.3g} GB are free"
        raise OSError(f"the results need {sizes} at {existing}")


def check_folder(folder: Path) -> None:
    """Raise a NotADirectoryError if the folder, or a parent of it, is a file."""
    existing = _nearest_existing(folder)
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


def check_own(
    folder: Path, names: Collection[str], overwrite: bool = False, record: str = PROVENANCE_FILE
) -> None:
    """Raise a FileExistsError if one of `names` in `folder` belongs to the user."""
    foreign = [] if overwrite else foreign_files(folder, names, record)
    if foreign:
        raise FileExistsError(
            f"{folder} holds {', '.join(foreign)}, which no run of napari-dff has written or which "
            "was changed since: write elsewhere, or add --overwrite (overwrite=True in Python)"
        )


def check_not_input(
    folders: Iterable[Path],
    names: Collection[str],
    input_files: Iterable[Path],
    label: str = "the planes",  # names the input in the message
) -> None:
    """Raise a ValueError if files called `names` in `folders` would replace one of `input_files`.

    Nor may a folder be an input itself, as a folder of frames is, or lie within an input Zarr.
    """
    paths = {path for file in input_files for path in _absolute_paths(file)}
    protected = paths.union(*(path.parents for path in paths))
    for folder in folders:
        for out in _absolute_paths(folder):
            in_zarr = any(parent in paths and is_zarr(parent) for parent in out.parents)
            if out in paths or in_zarr or any(out / name in protected for name in names):
                real = os.path.realpath(folder)
                raise ValueError(f"out must be another folder than that of {label}, got {real}")


def foreign_files(folder: Path, names: Collection[str], record: str = PROVENANCE_FILE) -> list[str]:
    """Return those of `names` in `folder` that its record does not list with their digest."""
    present = [name for name in sorted(names) if os.path.lexists(folder / name)]
    try:
        digests = dict(read_json(folder / record, "a record")["files"])
    except (OSError, ValueError, KeyError, TypeError):  # no record, or another file of this name
        return present
    others = [name for name in present if name != record]
    return [name for name in others if digests.get(name) != compute_digest(folder / name)]


def write_record(folder: Path, content: dict[str, object], record: str = PROVENANCE_FILE) -> None:
    """Write the record of all files in `folder`, with their digests, as JSON."""
    files = {path.name: compute_digest(path) for path in sorted(folder.iterdir())}
    content = {"napari_dff": napari_dff.__version__, **content, "files": files}
    write_json(folder / record, content)


def compute_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and digests of all files in a folder.

    It is "" for what is neither: a pipe, for example, which could have no end.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        return ""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(each for each in path.rglob("*") if not each.is_dir())
    listing = [f"{each.relative_to(path).as_posix()} {compute_digest(each)}\n" for each in files]
    return hashlib.sha256(os.fsencode("".join(listing))).hexdigest()


def folder_names(names: Sequence[str]) -> list[str]:
    """Return distinct folder names, one for each of `names`; "" if there is only one."""
    names = as_list("names", names, "names of positions")
    for name in names:
        check_type("names", name, str)
    if len(names) == 1:
        return [""]
    safe = [re.sub(r"[^\w.-]+", "_", name).strip("._") or "position" for name in names]
    return [name if safe.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(safe)]


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


def _nearest_existing(folder: Path) -> Path:
    """Return the folder, or its nearest existing parent."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if os.path.exists(path))


def _absolute_paths(path: Path) -> set[Path]:
    """Return the absolute path, with links and with links resolved."""
    return {path.absolute(), Path(os.path.realpath(path))}
