"""Atomic writing: a folder gets all of its new files or none; a single file likewise.

New files are written to a staging folder beside the target, ``.NAME-xxxxxxxx.unfinished``, and
moved in when they are complete:

- ``lock`` is locked by the process that writes, and holds the inode of the staging folder. So a
  later run recognises a staging folder that a killed process of the same user has left. A folder
  that was planted, copied or unpacked has another inode and is left alone.
- ``new`` holds the new files, ``old`` the files that they replace.
- ``moves.json`` lists the files to move, once ``new`` is complete. Where the process is killed
  while it moves them, the next run that writes to the same folder finishes the moves. Names that
  this run may not write itself are never moved.

Reading never recovers and never writes anything.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PROVENANCE_FILE = (
    "provenance.json"  # moved out first and in last: a folder without it holds no result
)
STAGING_SUFFIX = ".unfinished"
STAGING_NAME = re.compile(rf"\..+-[a-z0-9_]{{8}}{re.escape(STAGING_SUFFIX)}")
LOCK, MOVES = "lock", "moves.json"
MAX_NAME_BYTES = 200  # of a name that another is made of; file systems allow 255
MAX_JOURNAL_BYTES = 100_000
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FS_IOC_GETFLAGS = 0x80086601  # Linux: attributes of a file, as chattr sets them
FS_IMMUTABLE_OR_APPEND = 0x10 | 0x20


@contextlib.contextmanager
def write_folder(
    folder: Path, names: Collection[str], check: Callable[[Path], None] = lambda folder: None
) -> Iterator[Path]:
    """Give a staging folder; what is written there moves into `folder` when the block ends well.

    Parameters
    ----------
    folder : path
        Made if missing.
    names : collection of str
        Names of files and folders that this may create, replace or remove in `folder`. All others
        are left alone.
    check : callable
        Called with `folder` before anything is written; raises where the files that are there
        must not be replaced.

    Raises
    ------
    OSError
        With one sentence, where `folder` can't be made or is a file, one of `names` can't be
        replaced, another run is writing to it, or the disk is full. Where complete files can't be
        moved in, they are kept beside `folder`, and the sentence says where.
    """
    folder = Path(os.path.realpath(folder))
    _check_folder(folder)
    with _staging(folder, names) as place:
        check(folder)
        present = _signatures(folder, names)
        for name in present:
            _check_replaceable(folder / name)
        yield place / "new"
        with _kept_on_failure(place, place / "new", folder):
            if folder.exists():
                if _signatures(folder, names) != present:  # files came or changed meanwhile
                    check(folder)
                _move_in(place, folder, names)
            else:
                _sync(place)
                os.replace(place / "new", folder)


@contextlib.contextmanager
def write_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; it becomes `path`, a file or a new .zarr, when the block ends well.

    Raises
    ------
    OSError
        As `write_folder` does; FileExistsError where `path` is a folder.
    """
    path = Path(os.path.realpath(path))
    if os.path.isdir(path):  # False where its name is too long
        if path.suffix == ".zarr":
            raise FileExistsError(f"{path} exists already: remove it, or give another name")
        raise IsADirectoryError(f"{path} is a folder; give a file to write")
    _check_folder(path.parent)
    with _staging(path, ()) as place:
        if path.exists():
            _check_replaceable(path)
        new = place / "new" / path.name
        yield new
        _sync(place)
        with _kept_on_failure(place, new, path):
            os.replace(new, path)


def recover(target: Path, names: Collection[str], current: Path | None = None) -> list[Path]:
    """Finish the moves into `target` that a killed run left, and remove what killed runs left.

    Returns the staging folders of runs that are writing to `target` now, without `current`.
    """
    target = Path(os.path.realpath(target))
    busy = []
    for place in _staging_folders(target):
        if place == current:
            continue
        same_target = place.name.rpartition("-")[0] == _hidden(target)
        lock = _open_lock(place)
        if lock is None:
            continue
        unlocked, done = None, False
        with (
            lock,
            contextlib.suppress(FileNotFoundError),
        ):  # its own process may remove it meanwhile
            unlocked = _locked(lock)
            if unlocked and _is_own(place, lock):
                done = _recover_from(place, target, names, same_target)
            elif unlocked and same_target:
                warnings.warn(
                    f"{place} looks like a leftover of a killed run but is not one of yours: it is "
                    "left alone",
                    stacklevel=2,
                )
        if done:
            _remove(place)  # on Windows an open file can't be removed
        if unlocked is False and same_target:
            busy.append(place)
    return busy


def has_interrupted_moves(folder: Path) -> bool:
    """Whether a run was killed while it moved its files into `folder`."""
    return any(
        place.name.rpartition("-")[0] == _hidden(folder) and (place / MOVES).is_file()
        for place in _staging_folders(Path(os.path.realpath(folder)))
    )


def check_space(folder: Path, needed: int) -> None:
    """Raise an OSError with one sentence unless `needed` bytes are free on the disk of `folder`."""
    existing = _existing(folder)
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise OSError(
            f"the results need {needed / 1e9:.3g} GB, but only {free / 1e9:.3g} GB are free "
            f"at {existing}"
        )


def compute_digest(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder that of the names and digests of all its files."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(each for each in path.rglob("*") if not each.is_dir())
    listing = [f"{each.relative_to(path).as_posix()} {compute_digest(each)}\n" for each in files]
    return hashlib.sha256(os.fsencode("".join(listing))).hexdigest()


def folder_names(names: Sequence[str]) -> list[str]:
    """Return distinct names of folders, one for each of `names`; "" where there is only one."""
    if len(names) == 1:
        return [""]
    safe = [re.sub(r"[^\w.-]+", "_", name).strip("._") or "position" for name in names]
    return [name if safe.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(safe)]


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if os.path.exists(place))


def _check_folder(folder: Path) -> None:
    existing = _existing(folder)
    if not existing.is_dir():
        raise NotADirectoryError(f"{existing} is a file; give a folder to write into")


def _signatures(folder: Path, names: Collection[str]) -> dict[str, tuple[int, ...]]:
    """What identifies the present version of each of `names` that exists in `folder`."""
    signatures: dict[str, tuple[int, ...]] = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            status = (folder / name).lstat()
            signatures[name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return signatures


def _check_replaceable(path: Path) -> None:
    """PermissionError where a file that is there can't be, or shall not be, replaced."""
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
    """Whether an attribute of the file system, as of chattr or chflags, forbids to replace it."""
    if getattr(status, "st_flags", 0) & 0x00060006:  # BSD, macOS: UF_ and SF_ IMMUTABLE, APPEND
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


@contextlib.contextmanager
def _staging(target: Path, names: Collection[str]) -> Iterator[Path]:
    """A staging folder with a folder "new", removed afterwards; errors get one sentence."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            target.stat()  # fails where its name is too long
        place, lock = _new_staging_folder(target)
    except OSError as error:
        raise type(error)(f"{target} can't be written: {error.strerror}") from error
    try:
        with lock:
            while others := recover(target, names, place):
                # Of runs that begin at once the first by name goes on, when the others are gone.
                if any((each / "new").exists() or each.name < place.name for each in others):
                    raise OSError(
                        f"another run is writing {target}: let it end, or write elsewhere"
                    )
                time.sleep(0.01)
            (place / "new").mkdir()
            yield place
    except OSError as error:
        if error.errno in DISK_FULL or " requested and " in str(error):  # as NumPy words it
            why = error.strerror or os.strerror(errno.ENOSPC)
            raise OSError(
                f"{target} can't be written: {why}; free some space, or write elsewhere"
            ) from error
        raise
    finally:
        _clean_up(place)


@contextlib.contextmanager
def _kept_on_failure(place: Path, new: Path, target: Path) -> Iterator[None]:
    """Keep complete files where moving them in fails, and name the place in the OSError."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if (place / MOVES).exists():  # some files were moved and can't be moved back
            raise type(error)(
                f"{target} is written in part ({why}): it is finished by the next run into it"
            ) from error
        kept = _keep(new, target)
        raise type(error)(
            f"{target} can't be written: {why}; the finished result is in {kept}"
        ) from error


def _keep(new: Path, target: Path) -> Path:
    """Move `new` to a free name beside `target`, or within it, or into the temporary folder."""
    for folder in (target.parent, target, Path(tempfile.gettempdir())):
        for number in range(1, 1000):
            suffix = "" if number == 1 else f"-{number}"
            kept = folder / f"{target.stem}-finished{suffix}{target.suffix}"
            if os.path.lexists(kept):
                continue
            try:
                shutil.move(new, kept)
            except OSError:
                break
            return kept
    (new.parent / LOCK).unlink()  # nobody removes it then
    return new


def _clean_up(place: Path) -> None:
    """Remove a staging folder at the end of its run, unless it holds files to keep."""
    if (place / MOVES).exists() or not (place / LOCK).exists():
        return
    _remove(place)
    if sys.exc_info()[0] is not None:  # zarr's threads may write one more chunk, with its folder
        time.sleep(0.2)
        _remove(place)


def _new_staging_folder(target: Path) -> tuple[Path, BinaryIO]:
    """Make a staging folder beside `target`, and lock it.

    Within it where it is a folder from which nothing can be moved to its parent: a disk of its own,
    or a parent that can't be written.
    """
    within = target if target.is_dir() else target.parent
    while True:
        place = Path(
            tempfile.mkdtemp(prefix=f"{_hidden(target)}-", suffix=STAGING_SUFFIX, dir=within)
        )
        with contextlib.suppress(OSError):
            place = place.rename(target.parent / place.name)
        with contextlib.suppress(FileNotFoundError):  # another run has removed it as a leftover
            lock = (place / LOCK).open("xb")
            if _locked(lock) is not False and (place / LOCK).exists():
                lock.write(str(place.lstat().st_ino).encode())
                lock.flush()
                os.fsync(lock.fileno())
                return place, lock
            lock.close()


def _staging_folders(target: Path) -> list[Path]:
    """All staging folders beside `target` and within it, of whatever target."""
    found = []
    for folder in (target.parent, target):
        with contextlib.suppress(OSError):
            found += [folder / name for name in os.listdir(folder) if STAGING_NAME.fullmatch(name)]
    return found


def _hidden(target: Path) -> str:
    """The name of a staging folder up to its random part."""
    name = os.fsencode(target.name)
    short = target.name if len(name) <= MAX_NAME_BYTES else hashlib.sha256(name).hexdigest()
    return f".{short}"


def _open_lock(place: Path) -> BinaryIO | None:
    """Open the lock of a staging folder, unless it lacks one or belongs to another user."""
    with contextlib.suppress(OSError):
        if not _is_private(place, stat.S_ISDIR):
            return None
        if os.path.lexists(place / LOCK):
            regular = _is_private(place / LOCK, stat.S_ISREG)
            return (place / LOCK).open("r+b") if regular else None
        place.rmdir()  # empty, of a run that was killed before its first file or after its last
    return None


def _is_private(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether a path is of that kind, no link, and belongs to this user."""
    status = path.lstat()
    return kind(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())


def _is_own(place: Path, lock: BinaryIO) -> bool:
    """Whether the staging folder was made here, not copied, unpacked or planted."""
    content = lock.read(40)
    if not content:  # killed between two steps of `_new_staging_folder`
        return os.listdir(place) == [LOCK]
    return content == str(place.lstat().st_ino).encode()


def _locked(file: BinaryIO) -> bool | None:
    """Lock a file until it is closed or the process ends; None where files can't be locked."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # as on some network drives
        return None
    return True


def _sync(folder: Path) -> None:
    """Write all of it to the disk, lest after a power cut there are names without content."""

    def sync(path: Path) -> None:
        with path.open("r+b") as file:
            os.fsync(file.fileno())

    with ThreadPoolExecutor(8) as pool:  # ten times as fast for the many files of a Zarr
        list(pool.map(sync, (path for path in folder.rglob("*") if path.is_file())))


def _move_in(place: Path, folder: Path, names: Collection[str]) -> None:
    """Move all new files in, or none: a file that another program holds open can't be replaced."""
    new = sorted(os.listdir(place / "new"), key=lambda name: name == PROVENANCE_FILE)
    now = _signatures(folder, {*names, *new})
    old = sorted(now, key=lambda name: name != PROVENANCE_FILE)
    (place / "old").mkdir()
    journal = json.dumps({"old": {name: now[name] for name in old}, "new": new})
    (place / "old" / MOVES).write_text(journal, encoding="utf-8")
    _sync(place)
    os.replace(place / "old" / MOVES, place / MOVES)
    moves, done = _moves(place, folder, old, new), 0
    try:
        for source, to in moves:
            os.replace(source, to)
            done += 1
    except BaseException:
        for source, to in reversed(moves[:done]):
            os.replace(to, source)
        (place / MOVES).unlink()
        raise
    (place / MOVES).unlink()


def _recover_from(place: Path, target: Path, names: Collection[str], same_target: bool) -> bool:
    """Finish and remove the work of a killed run of this user; False where it has to stay."""
    if (place / MOVES).exists():
        if not same_target:
            return False  # a finished result, which the next run into its own folder moves in
        try:
            _finish_moves(place, target, names)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            warnings.warn(
                f"{place / MOVES} is damaged ({error}): look for the files of an interrupted run "
                "beside it, then remove its folder",
                stacklevel=3,
            )
            return False
    _remove(place)  # while it is locked: see `_new_staging_folder`
    return True


def _finish_moves(place: Path, target: Path, names: Collection[str]) -> None:
    """Do the moves at which a run was killed; none where the folder is gone since.

    ValueError where the journal names anything else than `names`, or a file that it would replace
    is no longer the one that was there.
    """
    with (place / MOVES).open(encoding="utf-8") as file:
        journal = json.loads(file.read(MAX_JOURNAL_BYTES))
    old, new = dict(journal["old"]), list(journal["new"])
    for name in (*old, *new):
        if name not in names:
            raise ValueError(f"it names {name!r}")
    for name, signature in _signatures(target, old).items():
        moved = os.path.lexists(place / "old" / name)
        if not moved and list(signature) != old[name]:
            raise ValueError(f"{name} has changed since")
    if target.is_dir():
        for source, to in _moves(place, target, old, new):
            if os.path.lexists(source) and not os.path.lexists(to):  # not done yet
                os.replace(source, to)
    (place / MOVES).unlink()


def _moves(
    place: Path, folder: Path, old: Iterable[str], new: Iterable[str]
) -> list[tuple[Path, Path]]:
    """First the old files out, then the new ones in."""
    away = [(folder / name, place / "old" / name) for name in old]
    return away + [(place / "new" / name, folder / name) for name in new]


def _remove(place: Path) -> None:
    """Remove a staging folder; again where something under way still writes into it.

    Its lock last: without one, there must be nothing else.
    """
    for wait in (0.0, 0.1, 0.5):
        time.sleep(wait)
        for part in ("new", "old", ""):
            shutil.rmtree(place / part, ignore_errors=True)
        if not place.exists():
            return
