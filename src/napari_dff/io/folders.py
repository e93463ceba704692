"""A folder gets all of its files, or none, whatever happens meanwhile; a single file likewise.

All is written to a place beside its target, ``.NAME-xxxxxxxx.unfinished``, which holds "new", later
"old" and "moves.json", and "lock" as long as there is anything else. A process that ends, however,
lets go of the lock: so it is known whose place is left over. Once moves.json is there, everything
moves in, if need be by the next run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

RECORD = "provenance.json"  # leaves first and comes last: a folder without it holds no result
UNFINISHED = ".unfinished"
LOCK, MOVES = "lock", "moves.json"
LONGEST = 200  # bytes of a name that another is made of; file systems allow 255
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def complete(folder: Path, *, instead_of: Iterable[str] = ()) -> Iterator[Path]:
    """Write into a place of its own; what is there moves into `folder` when all went well.

    A file or folder of the same name is replaced, and those named in `instead_of` are taken away;
    whatever else is in `folder` is left alone.

    Raises
    ------
    OSError
        With one sentence, where `folder` can't be made or is a file, another run is writing into
        it, or the disk becomes full.
    """
    folder = Path(os.path.realpath(folder))
    _check_folder(folder)
    with _place(folder) as place:
        yield place / "new"
        if folder.exists():
            _move_in(place, folder, folder, instead_of)
        else:
            _sync(place)
            os.replace(place / "new", folder)


@contextlib.contextmanager
def in_place(path: Path) -> Iterator[Path]:
    """Somewhere to write to; it becomes `path`, a file or a .zarr, when all went well.

    Raises
    ------
    OSError
        As `complete` does.
    """
    path = Path(os.path.realpath(path))
    if os.path.isdir(path) and path.suffix != ".zarr":
        raise IsADirectoryError(f"{path} is a folder; give a file to write")
    _check_folder(path.parent)
    with _place(path) as place:
        new = place / "new" / path.name
        yield new
        if path.exists() and new.is_dir():  # can't be replaced in one step
            _move_in(place, path, path.parent)
        else:
            _sync(place)
            os.replace(new, path)


def settle(target: Path, mine: Path | None = None) -> list[Path]:
    """Finish what a killed run was moving to `target`, and clear up what it left.

    The places of runs that are writing there now; `mine` isn't looked at.
    """
    target = Path(os.path.realpath(target))
    busy = []
    for place in _places(target):
        if place == mine:
            continue
        try:
            lock = (place / LOCK).open("r+b")
        except OSError:
            with contextlib.suppress(OSError):
                place.rmdir()  # of a run that was killed before its first file, or after its last
            continue
        with lock:
            free = _locked(lock)
            if free and (place / MOVES).exists():
                _finish(place, target)
            if free:
                _remove(place)  # while it is locked: it may just have been made, see `_made`
        if free:
            _remove(place)  # of Windows, where what is open can't be removed
        if free is False:
            busy.append(place)
    return busy


def check_space(folder: Path, needed: int) -> None:
    """Raise an OSError with one sentence unless so many bytes are free where `folder` shall be."""
    there = _existing(folder)
    free = shutil.disk_usage(there).free
    if needed > free:
        raise OSError(
            f"the results need {needed / 1e9:.3g} GB, but only {free / 1e9:.3g} GB are free "
            f"at {there}"
        )


def names_of(names: Sequence[str]) -> list[str]:
    """Names of folders, one for each of `names`, none twice; "" where there is only one."""
    if len(names) == 1:
        return [""]
    safe = [re.sub(r"[^\w.-]+", "_", name).strip("._") or "position" for name in names]
    return [name if safe.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(safe)]


def _existing(folder: Path) -> Path:
    """The folder, or what there is of its parents."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if os.path.exists(place))


def _check_folder(folder: Path) -> None:
    there = _existing(folder)
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is a file; give a folder to write into")


@contextlib.contextmanager
def _place(target: Path) -> Iterator[Path]:
    """A place to write to, with a folder "new", gone afterwards; errors get one sentence."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            target.stat()  # fails where its name is too long
        place, lock = _made(target)
    except OSError as error:
        raise type(error)(f"{target} can't be written: {error.strerror}") from error
    try:
        with lock:
            while others := settle(target, place):
                # Of those that begin at once the first by name goes on, when the others are gone.
                if any((each / "new").exists() or each.name < place.name for each in others):
                    raise OSError(
                        f"another run is writing {target}: let it end, or write elsewhere"
                    )
                time.sleep(0.01)
            (place / "new").mkdir()
            yield place
    except OSError as error:
        if error.errno in FULL or " requested and " in str(error):  # as NumPy says it
            why = error.strerror or os.strerror(errno.ENOSPC)
            raise OSError(
                f"{target} can't be written: {why}; free some space, or write elsewhere"
            ) from error
        raise
    finally:
        if not (place / MOVES).exists():
            _remove(place)


def _made(target: Path) -> tuple[Path, BinaryIO]:
    """A new place beside `target`, and its lock.

    In it, if it is a folder from which nothing can be moved beside it: as where it is a disk of its
    own, or what is around it may not be written.
    """
    within = target if target.is_dir() else target.parent
    while True:
        made = tempfile.mkdtemp(prefix=f"{_hidden(target)}-", suffix=UNFINISHED, dir=within)
        place = Path(made)
        with contextlib.suppress(OSError):
            place = place.rename(target.parent / place.name)
        with contextlib.suppress(FileNotFoundError):  # another run took it for left over
            lock = (place / LOCK).open("xb")
            if _locked(lock) is not False and (place / LOCK).exists():
                return place, lock
            lock.close()


def _places(target: Path) -> list[Path]:
    """All places of all runs that write, or wrote, to `target`."""
    found = []
    for folder in (target.parent, target):
        with contextlib.suppress(OSError):
            found += [
                folder / name
                for name in os.listdir(folder)
                if name.endswith(UNFINISHED) and name.rpartition("-")[0] == _hidden(target)
            ]
    return found


def _hidden(target: Path) -> str:
    """What the names of all places of a target begin with."""
    name = os.fsencode(target.name)
    return f".{target.name if len(name) <= LONGEST else hashlib.sha256(name).hexdigest()}"


def _locked(file: BinaryIO) -> bool | None:
    """Whether the file is ours now, until it is closed or the process ends; None where none can."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # as some network drives
        return None
    return True


def _sync(folder: Path) -> None:
    """Have all of it on the disk, lest after a power cut there be names without content."""

    def sync(path: Path) -> None:
        with path.open("r+b") as file:
            os.fsync(file.fileno())

    with ThreadPoolExecutor(8) as pool:  # ten times as fast for the many files of a Zarr
        list(pool.map(sync, (path for path in folder.rglob("*") if path.is_file())))


def _move_in(place: Path, target: Path, folder: Path, instead_of: Iterable[str] = ()) -> None:
    """Everything that is new, or nothing: a file that is held open somewhere can't be replaced."""
    names = sorted(os.listdir(place / "new"), key=lambda name: name == RECORD)
    there = [n for n in (*reversed(names), *instead_of) if os.path.lexists(folder / n)]
    (place / "old").mkdir()
    told = {"inside": folder == target, "there": there, "names": names}
    (place / "old" / MOVES).write_text(json.dumps(told), encoding="utf-8")
    _sync(place)
    os.replace(place / "old" / MOVES, place / MOVES)
    moves, done = _moves(place, folder, there, names), 0
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


def _finish(place: Path, target: Path) -> None:
    """What `_move_in` was killed at; nothing where the folder is gone since."""
    told = json.loads((place / MOVES).read_text(encoding="utf-8"))
    folder = target if told["inside"] else target.parent
    names = ([Path(name).name for name in told[key]] for key in ("there", "names"))
    if folder.is_dir():
        for source, to in _moves(place, folder, *names):
            if os.path.lexists(source) and not os.path.lexists(to):  # not done yet
                os.replace(source, to)
    (place / MOVES).unlink()


def _moves(
    place: Path, folder: Path, there: Sequence[str], names: Sequence[str]
) -> list[tuple[Path, Path]]:
    """First what is there away, then what is new in."""
    away = [(folder / name, place / "old" / name) for name in there]
    return away + [(place / "new" / name, folder / name) for name in names]


def _remove(place: Path) -> None:
    """Remove it, again where something under way still writes into it or holds it open.

    Its lock last: without one, there must be nothing else.
    """
    for wait in (0.0, 0.1, 0.5):
        time.sleep(wait)
        for part in ("new", "old", ""):
            shutil.rmtree(place / part, ignore_errors=True)
        if not place.exists():
            return
