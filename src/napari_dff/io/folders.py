"""A folder gets all of its files, or none."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


@contextlib.contextmanager
def complete(folder: Path, *, instead_of: Iterable[str] = ()) -> Iterator[Path]:
    """Write into a place of its own; what is there moves into `folder` when all went well.

    A file or folder of the same name is replaced, and those named in `instead_of` are taken away;
    whatever else is in `folder` is left alone.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give a folder to write into")
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield place
        if folder.exists():
            _move_in(place, folder, instead_of)
        else:
            place.chmod(0o755)
            os.replace(place, folder)
    finally:
        _remove(place)


def _move_in(place: Path, folder: Path, instead_of: Iterable[str]) -> None:
    """Everything in `place`, or nothing: a file that is held open somewhere can't be replaced."""
    names = sorted(file.name for file in place.iterdir())
    old = Path(tempfile.mkdtemp(dir=place))
    there = [name for name in {*names, *instead_of} if os.path.lexists(folder / name)]
    moves = [(folder / name, old / name) for name in there]
    moves += [(place / name, folder / name) for name in names]
    done = 0
    try:
        for source, target in moves:
            os.replace(source, target)
            done += 1
    except BaseException:
        for source, target in reversed(moves[:done]):
            os.replace(target, source)
        raise


def _remove(place: Path) -> None:
    """Remove it, again where something under way still writes into it or holds it open."""
    for wait in (0.0, 0.1, 0.5):
        time.sleep(wait)
        shutil.rmtree(place, ignore_errors=True)
        if not place.exists():
            return


def check_space(folder: Path, needed: int) -> None:
    """Raise an OSError with one sentence unless so many bytes are free where `folder` is."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"the results need {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free "
            f"at {folder}"
        )


def names_of(names: Sequence[str]) -> list[str]:
    """Names of folders, one for each of `names`, none twice; "" where there is only one."""
    if len(names) == 1:
        return [""]
    safe = [re.sub(r"[^\w.-]+", "_", name).strip("._") or "position" for name in names]
    return [name if safe.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(safe)]
