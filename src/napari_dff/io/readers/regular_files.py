"""Only regular files are read: a pipe may never have data, and a device may have no end."""

import os
from collections.abc import Iterator
from pathlib import Path

from napari_dff.io.readers.axes import StackError


def check_regular(path: Path) -> None:
    """Raise a StackError if `path` exists and is neither a regular file nor a folder."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        _refuse(path.name)


def check_regular_tree(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield all files in `folder`; StackError for a pipe, a socket or a device, at any depth."""
    for entry in _entries(folder):
        if not entry.is_file() and not entry.is_dir() and os.path.exists(entry):
            _refuse(f"{folder.name}/{Path(entry.path).relative_to(folder).as_posix()}")
        yield entry


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield files and folders within `folder`; links to folders are not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))


def _refuse(name: str) -> None:
    raise StackError(f"{name} must be a regular file, got a pipe, a socket or a device")
