"""Find focal stacks in a folder that is still being written, and whether all planes are there."""

import functools
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from napari_dff.io.readers.acquisitions import MICROSCOPE_SUFFIXES, read_acquisitions
from napari_dff.io.readers.bioio_files import BIOIO_PLUGINS
from napari_dff.io.readers.frames import FRAME_SUFFIXES
from napari_dff.io.readers.photos import RAW_SUFFIXES, read_pixels
from napari_dff.io.readers.sequences import VIDEO_SUFFIXES
from napari_dff.io.readers.tiff import TIFF_SUFFIXES, find_dataset
from napari_dff.io.readers.tiff_opening import open_tiff
from napari_dff.io.readers.zarr_store import is_zarr
from napari_dff.io.records import PROVENANCE_FILE

STACK_SUFFIXES = VIDEO_SUFFIXES | set(BIOIO_PLUGINS) | MICROSCOPE_SUFFIXES
IMAGE_SUFFIXES = {*FRAME_SUFFIXES, *RAW_SUFFIXES, *TIFF_SUFFIXES, *STACK_SUFFIXES}
FRAME_METADATA = "metadata.txt"  # of Micro-Manager, beside one image per file
COUNT_IN_METADATA = re.compile(r'"(Slices|Channels|Frames)"\s*:\s*(\d+)')
MAX_METADATA_BYTES = 20_000  # from its begin, where the summary is
KINDS_WITH_COUNT = ("ome", "mmstack")  # of TIFF: the metadata have the number of planes
CUT_SHORT = "stopped, or is cut short"  # in the warning of the reader
File = tuple[str, int, int]  # path, size, time of change


class IncomingStack(NamedTuple):
    """A focal stack that may not be complete yet."""

    path: Path  # file, or folder of frames or of a dataset
    files: tuple[File, ...]  # that it consists of now
    is_frames: bool = False  # one image per file

    @property
    def is_single_image(self) -> bool:
        """Whether it is one image, which may be the first of several."""
        return self.is_frames and len(self.files) == 1


def find_stacks(folder: Path, other: Path) -> Iterator[IncomingStack]:
    """Yield the stacks in a folder and below it.

    Hidden files, the folder `other`, and folders of results are left out.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:  # removed meanwhile, or a network drive that does not answer
        return
    paths = [folder / name for name in names]
    if folder == other or PROVENANCE_FILE in names:
        return
    if is_zarr(folder):
        yield IncomingStack(folder, _list_files(folder.rglob("*")))
        return
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if images and find_dataset(folder) is not None:
        yield IncomingStack(folder, _list_files(path for path in paths if path.is_file()))
    else:
        yield from _stacks_of_images(folder, images)
    for path in paths:
        if path.is_dir():
            yield from find_stacks(path, other)


def has_all_planes(stack: IncomingStack, planes: int | None) -> bool | None:
    """Return whether all planes are there; None if that is unknown, or cannot be read yet.

    `planes` is the number of images of a complete stack; None: that of the metadata.
    """
    try:
        if stack.is_frames:
            return _has_all_frames(stack, planes)
        if stack.path.is_dir() and is_zarr(stack.path):  # has its final shape from the start
            return None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            acquisitions = read_acquisitions(stack.path)
        count = sum(each.times * len(each.channels) * each.data.shape[2] for each in acquisitions)
        if any(CUT_SHORT in str(each.message) for each in caught):
            return False
        if planes is not None:
            return count >= planes
        return True if _names_its_planes(stack.path) else None
    except Exception:  # decoders raise many types
        return None


def _stacks_of_images(folder: Path, images: list[Path]) -> Iterator[IncomingStack]:
    """Yield files that hold stacks, or else the folder if it holds frames."""
    files = dict(zip(images, _list_files(images), strict=False))
    kinds = {path: _is_stack_file(*file) for path, file in files.items()}
    stacks = [path for path, is_stack in kinds.items() if is_stack]
    frames = [path for path, is_stack in kinds.items() if is_stack is False]
    if not frames:  # those that cannot be read yet are stacks, too
        stacks = list(files)
    if not stacks and files:
        yield IncomingStack(folder, tuple(files.values()), is_frames=True)
    for path in stacks:
        yield IncomingStack(path, (files[path],))


@functools.lru_cache(maxsize=65_536)
def _is_stack_file(name: str, size: int, changed: int) -> bool | None:
    """Whether a file holds several planes; None if it cannot be read yet."""
    path = Path(name)
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return path.suffix.lower() in STACK_SUFFIXES
    try:
        with open_tiff(path, []) as (tif, _):
            first = tif.pages.first
            if tif.is_imagej or tif.is_shaped:  # all planes may be behind one page
                return tif.series[0].size > first.size
            return len(tif.pages) > 1
    except Exception:  # of many types
        return None


def _has_all_frames(stack: IncomingStack, planes: int | None) -> bool | None:
    """Whether all images are there and the newest one can be decoded; None if unknown."""
    expected = _count_in_metadata(stack.path) if planes is None else planes
    if expected is None or len(stack.files) < expected:
        return None if expected is None else False
    newest, _, _ = max(stack.files, key=lambda file: file[2])
    read_pixels(Path(newest), orientation=1)
    return True


def _count_in_metadata(folder: Path) -> int | None:
    """Return the number of images that Micro-Manager has announced for a folder."""
    try:
        with (folder / FRAME_METADATA).open(encoding="utf-8", errors="replace") as file:
            counts = dict(COUNT_IN_METADATA.findall(file.read(MAX_METADATA_BYTES)))
    except OSError:
        return None
    if "Slices" not in counts:
        return None
    return int(counts["Slices"]) * int(counts.get("Channels", 1)) * int(counts.get("Frames", 1))


def _names_its_planes(path: Path) -> bool:
    """Whether the metadata of a file or dataset list its planes."""
    file = find_dataset(path) if path.is_dir() else path
    if file is None or file.suffix.lower() not in TIFF_SUFFIXES:
        return False
    with open_tiff(file, []) as (tif, _):
        return tif.series[0].kind in KINDS_WITH_COUNT


def _list_files(paths: Iterator[Path] | list[Path]) -> tuple[File, ...]:
    """Return path, size and time of change of each file that is there."""
    files = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # removed meanwhile
            continue
        files.append((str(path), status.st_size, status.st_mtime_ns))
    return tuple(files)
