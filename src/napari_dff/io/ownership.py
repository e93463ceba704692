"""Protect files of the user: those that no run has written, and those that a run reads.

The record of a result lists the digest of each of its files. A file that is not in the record of
its folder, or was changed since, belongs to the user.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

import napari_dff
from napari_dff.io.file_checks import compute_digest
from napari_dff.io.moves import PROVENANCE_FILE
from napari_dff.io.readers.zarr_store import is_zarr
from napari_dff.io.records import read_json, write_json


def write_record(folder: Path, content: dict[str, object], record: str = PROVENANCE_FILE) -> None:
    """Write the record of all files in `folder`, with their digests, as JSON."""
    files = {path.name: compute_digest(path) for path in sorted(folder.iterdir())}
    content = {"napari_dff": napari_dff.__version__, **content, "files": files}
    write_json(folder / record, content)


def foreign_files(folder: Path, names: Collection[str], record: str = PROVENANCE_FILE) -> list[str]:
    """Return those of `names` in `folder` that its record does not list with their digest."""
    present = [name for name in sorted(names) if os.path.lexists(folder / name)]
    try:
        content = read_json(folder / record, "a record")
        digests = dict(content["files"])
    except (OSError, ValueError, KeyError, TypeError):  # no record, or another file of this name
        return present
    others = [name for name in present if name != record]
    return [name for name in others if digests.get(name) != compute_digest(folder / name)]


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


def earlier_input(folder: Path) -> str:
    """Return the path of the input of the result in `folder`, "" if there is no result."""
    try:
        content = read_json(folder / PROVENANCE_FILE, "a record")
        return str(content["input"].get("path") or "planes in memory")
    except (OSError, ValueError, KeyError, AttributeError):
        return ""


def check_not_input(
    folders: Iterable[Path],
    names: Collection[str],
    input_files: Iterable[Path],
    label: str = "the planes",
) -> None:
    """Raise a ValueError if files called `names` in `folders` would replace one of `input_files`.

    Also if a folder is one of them, e.g. one of frames, or lies in a Zarr among them. `label` is
    their name in the message.
    """
    paths = {path for file in input_files for path in _absolute_paths(file)}
    protected = paths.union(*(path.parents for path in paths))
    for folder in folders:
        for out in _absolute_paths(folder):
            in_zarr = any(parent in paths and is_zarr(parent) for parent in out.parents)
            if out in paths or in_zarr or any(out / name in protected for name in names):
                real = os.path.realpath(folder)
                raise ValueError(f"out must be another folder than that of {label}, got {real}")


def _absolute_paths(path: Path) -> set[Path]:
    """Return the absolute path, with links and with links resolved."""
    return {path.absolute(), Path(os.path.realpath(path))}
