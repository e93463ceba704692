"""Write files atomically: a folder gets all of its new files or none, and a file all its bytes.

New files are written to a staging folder next to the target, ``.NAME-xxxxxxxx.unfinished``, and
moved in when they are complete:

- ``lock`` is locked by the process that writes, and holds the inode of the staging folder. So a
  later run recognises a staging folder that a killed process of the same user has left. A folder
  that was planted, copied or unpacked has another inode and is left alone.
- ``new`` holds the new files, ``old`` the files that they replace.
- ``moves.json`` lists the files to move, once ``new`` is complete. If the process is killed
  while it moves them, the next run that writes to the same folder finishes the moves. Names that
  this run may not write itself are never moved.

Reading never recovers and never writes anything.
"""

import contextlib
import errno
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

from napari_dff.io import staging as staging_folders
from napari_dff.io.file_checks import check_folder, check_replaceable
from napari_dff.runtime.progress import raise_if_cancelled

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WAIT_S = 0.5  # between two attempts to write where another run is writing
T = TypeVar("T")


class FolderInUseError(OSError):
    """Another run is writing into the same folder."""


def retry_while_in_use(action: Callable[[], T], announce: Callable[[], object]) -> T:
    """Return the result of `action`, which is tried again as long as another run writes there.

    `announce` is called once, before the first wait. The wait ends with the other run, also where
    it was killed, as the system then releases its lock.
    """
    for attempt in itertools.count():
        try:
            return action()
        except FolderInUseError:
            if attempt == 0:
                announce()
            raise_if_cancelled()
            time.sleep(WAIT_S)
    raise AssertionError("not reached")


@contextlib.contextmanager
def write_folder(
    folder: Path,  # created if missing
    names: Collection[str],  # that may be created, replaced or removed in it; no others are
    check: Callable[[Path], None] = lambda folder: None,  # raises if files must not be replaced
) -> Iterator[Path]:
    """Yield a staging folder whose files are moved into `folder` if the block ends without error.

    OSError if `folder` cannot be written, or the disk is full; FolderInUseError if another run is
    writing to it. If complete files cannot be moved in, they are kept, and the message names the
    place.
    """
    folder = Path(os.path.realpath(folder))
    check_folder(folder)
    with _staging_folder(folder, names) as staging:
        check(folder)
        present = staging_folders.file_signatures(folder, names)
        for name in present:
            check_replaceable(folder / name)
        yield staging / "new"
        with _keep_on_failure(staging, staging / "new", folder):
            if folder.exists():
                if staging_folders.file_signatures(folder, names) != present:
                    check(folder)  # another program has changed files
                staging_folders.move_in(staging, folder, names)
            else:
                staging_folders.sync_to_disk(staging)
                os.replace(staging / "new", folder)


@contextlib.contextmanager
def write_file(path: Path) -> Iterator[Path]:
    """Yield a path that becomes `path`, a file or new .zarr, if the block ends without error."""
    path = Path(os.path.realpath(path))
    if os.path.isdir(path):  # False if the name is too long
        if path.suffix == ".zarr":
            raise FileExistsError(f"{path} exists already: remove it, or give another name")
        raise IsADirectoryError(f"{path} is a folder; give a file to write")
    check_folder(path.parent)
    with _staging_folder(path, ()) as staging:
        if path.exists():
            check_replaceable(path)
        new = staging / "new" / path.name
        yield new
        staging_folders.sync_to_disk(staging)
        with _keep_on_failure(staging, new, path):
            os.replace(new, path)


@contextlib.contextmanager
def _staging_folder(target: Path, names: Collection[str]) -> Iterator[Path]:
    """Yield a staging folder with a folder "new", and remove it afterwards; explain OSErrors."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            target.stat()  # raises an OSError if the name is too long
        staging, lock = staging_folders.create_staging_folder(target)
    except OSError as error:
        raise type(error)(f"{target} can't be written: {error.strerror}") from error
    try:
        with lock:
            while others := staging_folders.recover(target, names, staging):
                # Of runs that start at the same time, the first by name continues.
                if any((each / "new").exists() or each.name < staging.name for each in others):
                    message = f"another run is writing {target}: let it end, or write elsewhere"
                    raise FolderInUseError(message)
                time.sleep(0.01)
            (staging / "new").mkdir()
            yield staging
    except OSError as error:
        if error.errno in DISK_FULL or " requested and " in str(error):  # message of NumPy
            why = error.strerror or os.strerror(errno.ENOSPC)
            raise OSError(
                f"{target} can't be written: {why}; free some space, or write elsewhere"
            ) from error
        raise
    finally:
        staging_folders.clean_up(staging)


@contextlib.contextmanager
def _keep_on_failure(staging: Path, new: Path, target: Path) -> Iterator[None]:
    """Keep complete files if they cannot be moved in, and name the place in the OSError."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if (staging / staging_folders.MOVES).exists():  # moved files can't be moved back
            message = f"{target} is written in part ({why}): the next run into it finishes it"
        else:
            kept_path = _keep(staging, new, target)
            message = f"{target} can't be written: {why}; the finished result is in {kept_path}"
        raise type(error)(message) from error


def _keep(staging: Path, new: Path, target: Path) -> Path:
    """Move `new` to a free name next to `target`, within it or in the temporary folder."""
    for folder in (target.parent, target, Path(tempfile.gettempdir())):
        suffixes = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        paths = (folder / f"{target.stem}-finished{suffix}{target.suffix}" for suffix in suffixes)
        free_path = next(path for path in paths if not os.path.lexists(path))
        with contextlib.suppress(OSError):
            return Path(shutil.move(new, free_path))
    (staging / staging_folders.LOCK).unlink()  # a staging folder without lock is not removed
    return new
