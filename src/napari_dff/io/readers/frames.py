"""Folders with one image per plane, read on demand."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.io.readers import axes as source_axes
from napari_dff.io.readers.axes import Source, StackError
from napari_dff.io.readers.calibration import UNCALIBRATED, Calibration
from napari_dff.io.readers.frame_order import FrameGrid, arrange_frames, by_capture_time
from napari_dff.io.readers.orientation import turned_shape
from napari_dff.io.readers.photos import (
    PILLOW_SUFFIXES,
    RAW_SUFFIXES,
    Photo,
    read_header,
    read_pixels,
)
from napari_dff.io.records import IMAGE_NAMES, IMAGE_SUFFIXES, PROVENANCE_FILE
from napari_dff.runtime.file_array import file_state
from napari_dff.runtime.progress import no_progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.words import abbreviate

# Of the same frame in several formats, the first is used.
FRAME_SUFFIXES = (".tif", ".tiff", ".png", *sorted(PILLOW_SUFFIXES - {".png"}))
RESULT_FRAMES = {name + suffix for name in IMAGE_NAMES for suffix in IMAGE_SUFFIXES}
RESULT_FRAMES |= {"preview.png"}


def frames_in(folder: Path) -> list[Path]:
    """Return the image files of a folder, in the order of their names; raw files if no others."""
    files = [path for path in folder.iterdir() if path.name[0] != "."]
    for suffixes in (FRAME_SUFFIXES, RAW_SUFFIXES):
        paths = [path for path in files if path.suffix.lower() in suffixes]
        if paths:
            try:
                return arrange_frames(folder.name, paths).paths
            except StackError:  # several stacks; `frames_sources` raises it
                return sorted(paths)
    return []


def frames_sources(folder: Path) -> list[Source]:
    """Return the frames of a folder, each position as one lazy array; only headers are read."""
    paths = frames_in(folder)
    if not paths:
        has_folders = any(each.is_dir() for each in folder.iterdir())
        hint = f"; name stacks in its folders as '{folder.name}/*'" if has_folders else ""
        kinds = ", ".join(FRAME_SUFFIXES)
        raise StackError(f"folder {folder.name} holds no image files ({kinds}){hint}")
    if (folder / PROVENANCE_FILE).is_file():
        planes = [path for path in paths if path.name not in RESULT_FRAMES]
        results = [path for path in paths if path not in planes]
        return sources_of_frames(folder.name, planes or paths, results if planes else [])
    return sources_of_frames(folder.name, paths)


def sources_of_frames(
    name: str, paths: Sequence[Path], results: Sequence[Path] = ()
) -> list[Source]:
    """Return frames, each position as one lazy array; only headers are read.

    `name` is of their folder, for messages. Images in `results` of an earlier run, and others that
    have its record, are left out with a warning.
    """
    paths, messages = _without_duplicates(paths)
    damaged: list[str] = []
    inspect = functools.partial(read_header, messages=damaged)
    headers = run_parallel(inspect, paths, no_progress, desc="Reading")
    photos = dict(zip(paths, headers, strict=True))
    planes = [path for path in paths if not photos[path].is_result]
    if planes:
        results = [*results, *(path for path in paths if photos[path].is_result)]
    planes = planes or paths
    if results:
        messages.append(f"{_names(results)}: results of an earlier run, not used as planes")
    grid = arrange_frames(name, planes)
    first = grid.paths[0]
    for path in grid.paths:
        _check_type(first, photos[first], path, photos[path])
    ordered, order_messages = _in_capture_order(grid, photos)
    orientation, turn_messages = _common_orientation(grid.paths, photos)
    messages += [*grid.warnings, *order_messages, *turn_messages, *damaged[:1]]
    source_axes.check_memory(first.name, photos[first].shape, photos[first].dtype)
    data = _lazy_frames(ordered, photos[first], orientation)
    axes = (*grid.axes, *"YXS"[: data.ndim - 1])
    source = Source(
        data.reshape(*grid.lengths, *data.shape[1:]),
        axes,
        name,
        channels=grid.channels,
        calibration=_calibration(grid),
        warnings=tuple(dict.fromkeys(messages)),
        files=tuple(ordered),
        exif=photos[first].exif,
        icc_profile=photos[first].icc_profile,
    )
    return _split_positions(source, grid.positions)


def _calibration(grid: FrameGrid) -> Calibration:
    """Return the focus positions that the names give, without a pixel size."""
    if not grid.focus_positions:
        return UNCALIBRATED
    times = dict(zip(grid.axes, grid.lengths, strict=True)).get("T", 1)
    positions = np.tile(grid.focus_positions, (times, 1))
    return Calibration(unit="micrometer", focus_positions=positions, has_pixel_size=False)


def _check_type(first: Path, expected: Photo, path: Path, photo: Photo) -> None:
    """Raise StackError unless a frame has shape and type of the first."""
    if (photo.shape, photo.dtype) != (expected.shape, expected.dtype):
        got = f"{first.name} is {expected.kind}, {path.name} is {photo.kind}"
        raise StackError(f"frames must have one shape and type: {got}")


def _lazy_frames(paths: Sequence[Path], photo: Photo, orientation: int) -> Any:
    """Return frames as a dask array that decodes one at a time."""
    import dask.array as da  # 0.3 s, needed only here

    shape = turned_shape(photo.shape, orientation)
    states = list(map(file_state, paths))

    def read(block_id: tuple[int, ...]) -> np.ndarray:
        path = paths[block_id[0]]
        try:
            frame = read_pixels(path, orientation)
        finally:
            source_axes.check_unchanged(path, states[block_id[0]])
        _check_type(paths[0], photo._replace(shape=shape), path, Photo(frame.shape, frame.dtype))
        return frame[np.newaxis]

    chunks = ((1,) * len(paths), *((n,) for n in shape))
    empty = np.empty((0,) * len(chunks), photo.dtype)
    blocks = {"chunks": chunks, "dtype": photo.dtype, "meta": empty}
    return da.map_blocks(read, **blocks)  # type: ignore[no-untyped-call]


def _without_duplicates(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return one file for each frame that is there in several formats, and a warning."""
    by_stem: dict[Path, list[Path]] = {}
    for path in paths:
        by_stem.setdefault(path.with_suffix(""), []).append(path)
    preferred = [min(files, key=_preference) for files in by_stem.values()]
    if len(preferred) == len(paths):
        return list(paths), []
    repeated = next(files for files in by_stem.values() if len(files) > 1)
    used = min(repeated, key=_preference)
    others = " and ".join(path.suffix for path in sorted(repeated) if path != used)
    count = sum(len(files) > 1 for files in by_stem.values())
    message = f"{count} frames are there as {used.suffix} and as {others}, such as {used.name}"
    return preferred, [f"{message}: {used.suffix} is used; keep one format in the folder"]


def _preference(path: Path) -> int:
    suffix = path.suffix.lower()
    return FRAME_SUFFIXES.index(suffix) if suffix in FRAME_SUFFIXES else len(FRAME_SUFFIXES)


def _in_capture_order(
    grid: FrameGrid, photos: Mapping[Path, Photo]
) -> tuple[list[Path], list[str]]:
    """Return frames in the order in which the camera took them, where the names only count."""
    if not grid.is_counted:
        return grid.paths, []
    ordered = by_capture_time(grid.paths, [photos[path].capture_time for path in grid.paths])
    if ordered is None:
        return grid.paths, []
    i = next(i for i, (a, b) in enumerate(zip(ordered, grid.paths, strict=True)) if a != b)
    early, late = ordered[i], grid.paths[i]
    message = (
        f"{early.name} was taken before {late.name} (EXIF DateTimeOriginal), against the order of "
        "their names: the frames are ordered by capture time; rename them if that is wrong"
    )
    return ordered, [message]


def _common_orientation(
    paths: Sequence[Path], photos: Mapping[Path, Photo]
) -> tuple[int, list[str]]:
    """Return the orientation of most frames, and a warning if some have another."""
    values = Counter(photos[path].orientation for path in paths)
    orientation = values.most_common(1)[0][0]
    others = [path for path in paths if photos[path].orientation != orientation]
    if not others:
        return orientation, []
    message = (
        f"{_names(others)} have another EXIF orientation than the other frames: all frames are "
        f"turned by orientation {orientation}; correct the files if the camera was turned"
    )
    return orientation, [message]


def _split_positions(source: Source, names: Sequence[str]) -> list[Source]:
    """Return a source for each position, with its name; P is the first axis."""
    if not names:
        return [source]
    return [
        dataclasses.replace(source, data=source.data[i], axes=source.axes[1:], name=name)
        for i, name in enumerate(names)
    ]


def _names(paths: Sequence[Path]) -> str:
    return abbreviate([path.name for path in paths], 3)
