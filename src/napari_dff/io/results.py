"""The files of a result, however large: written window by window, complete or not there at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Literal, Self

import numpy as np

from napari_dff import checks
from napari_dff.depth import DepthMap
from napari_dff.images import block_means
from napari_dff.io.atomic import RECORD, check_space, write_folder
from napari_dff.io.ownership import check_own, write_record
from napari_dff.io.pixels import Growing, Pixels
from napari_dff.io.records import (
    MAPS,
    PICTURES,
    Layout,
    Record,
    from_json,
    of_each_time,
    write_json,
)
from napari_dff.io.tiff_files import GrowingTiff
from napari_dff.io.zarr_files import GrowingZarr
from napari_dff.windows import Window

FileFormat = Literal["ome-tiff", "ome-zarr"]
FORMATS: dict[str, tuple[str, Callable[[Path, Pixels], Growing]]] = {
    "ome-tiff": (".tif", GrowingTiff),
    "ome-zarr": (".ome.zarr", GrowingZarr),
}
RESULT_NAMES = {name + end for name in (*MAPS, PICTURES) for end, _ in FORMATS.values()} | {
    "recipe.json",
    "transforms.json",
    "preview.png",
    RECORD,
}
SEEN = 440  # pixels, about the width of a map in the preview
AVERAGED = ("uint8", "uint16", "int16", "float32", "float64")  # what OpenCV takes means of


class ResultFiles:
    """The files of one result, written window by window; nothing is there until all of it is.

    A context manager. Windows may come in any order and from several threads. When its block ends
    well, everything moves into the folder at once; when it doesn't, what was there stays. A result
    that was there is replaced, in whichever format it is; files of other names are left alone.

    Parameters
    ----------
    folder : path
        Made if missing. Gets ``depth`` (float32, in the unit of the layout), ``index`` (uint16),
        ``uncertainty`` (float32) and ``all_in_focus`` (dtype of the planes), each ``.tif`` or
        ``.ome.zarr``; ``recipe.json``, ``provenance.json``, ``transforms.json`` and
        ``preview.png``.
    layout : Layout
    record : Record
        Written beside the images and into each of them.
    file_format : {"ome-tiff", "ome-zarr"}
    overwrite : bool
        Replace files of these names that are not those of an earlier result, too.

    Raises
    ------
    FileExistsError
        On entering, when the folder holds such files and `overwrite` is False.
    OSError
        On entering, when the disk has no room for it or it can't be written. On leaving, when the
        files can't be moved in; they are kept then, and the sentence says where.
    ValueError
        On leaving, when there are pixels that were never put.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        layout: Layout,
        record: Record,
        *,
        file_format: FileFormat = "ome-tiff",
        overwrite: bool = False,
    ) -> None:
        checks.check_choice("file_format", file_format, FORMATS)
        self._overwrite = overwrite
        self._folder, self._layout, self._record = Path(folder), layout, record
        self._format = file_format
        self._transforms = np.tile(np.eye(3), (*layout.positions.shape, 1, 1))
        self._glance = Glance(layout.shape, len(layout.channels), layout.colour)
        self._missing = [layout.shape[0] * layout.shape[1]] * layout.times
        self._lock = Lock()

    def __enter__(self) -> Self:
        told = self._record.of_result(self._layout)
        suffix, grow = FORMATS[self._format]
        files = {name: self._layout.pixels(name, told) for name in (*MAPS, PICTURES)}
        with contextlib.ExitStack() as undo:
            writing = write_folder(self._folder, RESULT_NAMES, self._check_own)
            self._place = undo.enter_context(writing)
            check_space(self._folder, sum(pixels.nbytes for pixels in files.values()))
            self._files = {
                name: grow(self._place / (name + suffix), pixels) for name, pixels in files.items()
            }
            self._leave = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._leave.__exit__(kind, error, trace)
            return
        with self._leave:
            self._finish()

    def put(
        self, window: Window, found: DepthMap, pictures: Sequence[np.ndarray], *, time: int = 0
    ) -> None:
        """Write one window of everything.

        Parameters
        ----------
        window : Window
            Of the plane.
        found : DepthMap
            Of the window.
        pictures : one (h, w) or (h, w, 3) array for each channel
            All-in-focus images of the window.
        time : int
            0 … T-1.

        Raises
        ------
        ValueError
            When something has another shape or dtype than the layout says.
        """
        self._check(window, found, pictures, time)
        where = self._where(time)
        for name in MAPS:
            self._files[name].put(getattr(found, name), window, where)
        several = len(pictures) > 1
        for channel, picture in enumerate(pictures):
            at = (*where, channel) if several else where
            self._files[PICTURES].put(picture, window, at)
        if time == 0:
            self._glance.put(window, found, pictures)
        with self._lock:
            self._missing[time] -= window.shape[0] * window.shape[1]

    def depth_map(self, window: Window, *, time: int = 0) -> DepthMap:
        """Read back what was put; zeros where nothing was."""
        return DepthMap(*(self._files[n].get(window, self._where(time)) for n in DepthMap._fields))

    def put_transforms(self, transforms: np.ndarray, *, time: int = 0) -> None:
        """Keep the (Z, 3, 3) motions of one time; those that nobody puts are the identity."""
        self._transforms[time] = transforms

    def _where(self, time: int) -> tuple[int, ...]:
        return (time,) if self._layout.times > 1 else ()

    def _check(
        self, window: Window, found: DepthMap, pictures: Sequence[np.ndarray], time: int
    ) -> None:
        layout = self._layout
        if not 0 <= time < layout.times:
            raise ValueError(f"time must be 0 to {layout.times - 1}, got {time}")
        if len(pictures) != len(layout.channels):
            raise ValueError(
                f"pictures must be one for each of the {len(layout.channels)} channels, "
                f"got {len(pictures)}"
            )
        (top, bottom, left, right), (height, width) = window, layout.shape
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError(f"window must lie within {height} × {width} pixels, got {window}")
        wanted = (*window.shape, 3) if layout.colour else window.shape
        for picture in pictures:
            if picture.shape != wanted or not np.can_cast(picture.dtype, layout.dtype, "equiv"):
                raise ValueError(
                    f"pictures must be {wanted} {layout.dtype}, got {picture.shape} {picture.dtype}"
                )
        for name, values in found._asdict().items():
            if values.shape != window.shape:
                raise ValueError(f"{name} must be {window.shape}, got {values.shape}")

    def _finish(self) -> None:
        """Everything that needs the whole."""
        from napari_dff.figure import preview_figure  # 0.6 s of matplotlib, needed only here

        for time, missing in enumerate(self._missing):
            if missing > 0:
                raise ValueError(f"a result must be whole: {missing} pixels of time {time} lack")
        write_json(self._place / "recipe.json", self._record.settings, indent=2)
        write_json(self._place / "transforms.json", {"transforms": of_each_time(self._transforms)})
        seen, layout = self._glance, self._layout
        self._files[PICTURES].shown([_limits(picture) for picture in seen.pictures])
        picture = seen.pictures[self._record.focus_channel]
        figure = preview_figure(picture, seen.found, layout.positions[0], layout.unit)
        look = {"compress_level": 1}
        figure.savefig(self._place / "preview.png", dpi=100, pil_kwargs=look)
        write_record(self._place, self._record.of_result(layout))

    def _check_own(self, folder: Path) -> None:
        check_own(folder, RESULT_NAMES, self._overwrite)


def is_complete(folder: Path, digest: str, file_format: FileFormat) -> bool:
    """Whether `folder` holds a whole result of this digest."""
    try:
        told = from_json(folder / RECORD, "the record of a run")
    except (OSError, ValueError):
        return False
    suffix = FORMATS[file_format][0]
    files = [name + suffix for name in (*MAPS, PICTURES)] + ["recipe.json", "transforms.json"]
    return told.get("digest") == digest and all((folder / name).exists() for name in files)


class Glance:
    """A result shrunk while its windows come: every n-th pixel of the maps, means of the pictures.

    Attributes
    ----------
    found : DepthMap
        Shrunk.
    pictures : list of (Y, X[, 3]) float32
        Shrunk, one for each channel.
    """

    def __init__(self, shape: tuple[int, int], channels: int, colour: bool) -> None:
        self.fewer = max(1, shape[1] // SEEN, shape[0] // (4 * SEEN))
        small = tuple(-(-size // self.fewer) for size in shape)
        self.found = DepthMap(*(np.zeros(small, MAPS[name]) for name in DepthMap._fields))
        values = (*small, 3) if colour else small
        self.pictures = [np.zeros(values, np.float32) for _ in range(channels)]

    def put(self, window: Window, found: DepthMap, pictures: Sequence[np.ndarray]) -> None:
        """Keep what is seen of a window."""
        n = self.fewer
        rows, columns = (
            slice(-(-start // n), -(-stop // n))
            for start, stop in ((window.top, window.bottom), (window.left, window.right))
        )
        first = slice(-window.top % n, None), slice(-window.left % n, None)
        for small, values in zip(self.found, found, strict=True):
            small[rows, columns] = values[first][::n, ::n]
        for small, picture in zip(self.pictures, pictures, strict=True):
            part = picture[first]
            if part.size:
                part = part if part.dtype.name in AVERAGED else part.astype(np.float32)
                small[rows, columns] = block_means(part, n)


def _limits(picture: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(picture, (0.2, 99.8))
    return float(low), float(max(high, low + 1e-6))
