"""Whose files are in a folder: those of a result of ours, the user's own, those being read.

The record of a result lists the digest of each of its files. A file that isn't in the record of its
folder, or was changed since, belongs to the user.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

import napari_dff
from napari_dff.io.file_checks import compute_digest
from napari_dff.io.moves import PROVENANCE_FILE
from napari_dff.io.records import read_json, write_json
from napari_dff.io.zarr_reading import is_zarr


def write_record(folder: Path, content: dict[str, object], record: str = PROVENANCE_FILE) -> None:
    """Write the record of all files in `folder`, with their digests, as JSON."""
    files = {path.name: compute_digest(path) for path in sorted(folder.iterdir())}
    content = {"napari_dff": napari_dff.__version__, **content, "files": files}
    write_json(folder / record, content)


def foreign_files(folder: Path, names: Collection[str], record: str = PROVENANCE_FILE) -> list[str]:
    """Return those of `names` that exist in `folder` and that no record of ours covers."""
    present = [name for name in sorted(names) if os.path.lexists(folder / name)]
    try:
        content = read_json(folder / record, "a record")
        digests = dict(content["files"])
    except (OSError, ValueError, KeyError, TypeError):  # no record, or a file of the user's own
        return present
    others = [name for name in present if name != record]
    return [name for name in others if digests.get(name) != compute_digest(folder / name)]


def check_own(
    folder: Path, names: Collection[str], overwrite: bool = False, record: str = PROVENANCE_FILE
) -> None:
    """Raise a FileExistsError where one of `names` in `folder` is a file of the user's own."""
    foreign = [] if overwrite else foreign_files(folder, names, record)
    if foreign:
        raise FileExistsError(
            f"{folder} holds {', '.join(foreign)}, which no run of napari-dff has written or which "
            "was changed since: write elsewhere, or add --overwrite (overwrite=True in Python)"
        )


def earlier_input(folder: Path) -> str:
    """Return what the result in `folder` was made of, "" where there is none of ours."""
    try:
        content = read_json(folder / PROVENANCE_FILE, "a record")
        return str(content["input"].get("path") or "planes in memory")
    except (OSError, ValueError, KeyError, AttributeError):
        return ""


def check_not_input(
    folders: Iterable[Path], names: Collection[str], files: Iterable[Path], what: str = "the planes"
) -> None:
    """Raise a ValueError where files in `folders` called `names` would replace one of `files`.

    Also where they would lie among the frames, or within the Zarr, that are read.
    """
    paths = {each for file in files for each in _absolute(file)}
    covered = paths.union(*(path.parents for path in paths))
    for folder in folders:
        for out in _absolute(folder):
            within = any(each in paths and is_zarr(each) for each in out.parents)
            if out in paths or within or any(out / name in covered for name in names):
                real = os.path.realpath(folder)
                raise ValueError(f"out must be another folder than that of {what}, got {real}")


def _absolute(path: Path) -> set[Path]:
    """The path as it is given, and with its links resolved."""
    return {path.absolute(), Path(os.path.realpath(path))}
