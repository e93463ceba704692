"""Result files: written window by window, and visible only when all of them are complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Literal, Self

import numpy as np

from napari_dff.imaging.images import block_means
from napari_dff.io.atomic import write_folder
from napari_dff.io.file_checks import check_own, check_space, write_record
from napari_dff.io.image_metadata import ImageMetadata, WindowWriter
from napari_dff.io.records import (
    ALL_IN_FOCUS,
    IMAGE_NAMES,
    MAP_DTYPES,
    PROVENANCE_FILE,
    Provenance,
    ResultLayout,
    read_json,
    squeeze_time,
    write_json,
)
from napari_dff.io.writers.tiff import OmeTiffWriter
from napari_dff.io.writers.zarr_store import OmeZarrWriter
from napari_dff.model import checks
from napari_dff.model.depth_map import DepthMap
from napari_dff.runtime.windows import Window

FileFormat = Literal["ome-tiff", "ome-zarr"]
FORMATS: dict[str, tuple[str, Callable[[Path, ImageMetadata], WindowWriter]]] = {
    "ome-tiff": (".tif", OmeTiffWriter),
    "ome-zarr": (".ome.zarr", OmeZarrWriter),
}
RESULT_NAMES = {name + suffix for name in IMAGE_NAMES for suffix, _ in FORMATS.values()} | {
    "recipe.json",
    "transforms.json",
    "preview.png",
    PROVENANCE_FILE,
}
THUMBNAIL_WIDTH_PX = 440  # about the width of a map in the preview
BLOCK_MEAN_DTYPES = ("uint8", "uint16", "int16", "float32", "float64")  # supported by cv2.resize
DISPLAY_PERCENTILES = (0.2, 99.8)


class ResultFiles:
    """The files of one result: written window by window, and moved into the folder when complete.

    A context manager. Windows may be written in any order and from several threads. If its block
    ends without error, all files are moved into the folder at once; otherwise the folder stays as
    it was. An earlier result is replaced, whatever its format; files of other names are left alone.

    Parameters
    ----------
    folder : path
        Created if missing. Gets ``depth`` (float32, in the unit of the layout), ``index`` (uint16),
        ``uncertainty`` (float32) and ``all_in_focus`` (dtype of the planes), each ``.tif`` or
        ``.ome.zarr``; ``recipe.json``, ``provenance.json``, ``transforms.json`` and
        ``preview.png``.
    layout : ResultLayout
    provenance : Provenance
        Written to ``provenance.json`` and into each image.
    file_format : {"ome-tiff", "ome-zarr"}
    overwrite : bool
        Replace files of these names that do not belong to an earlier result, too.

    Raises
    ------
    FileExistsError
        On entering, if the folder holds such files and `overwrite` is False.
    OSError
        On entering, if the folder cannot be written or the disk has too little space. On leaving,
        if the files cannot be moved in; the message then names where they are kept.
    ValueError
        On leaving, if some pixels were not written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        layout: ResultLayout,
        provenance: Provenance,
        *,
        file_format: FileFormat = "ome-tiff",
        overwrite: bool = False,
    ) -> None:
        checks.check_choice("file_format", file_format, FORMATS)
        self._folder, self._layout, self._provenance = Path(folder), layout, provenance
        self._format, self._overwrite = file_format, overwrite
        self._transforms = np.tile(np.eye(3), (*layout.positions.shape, 1, 1))
        self._thumbnail = Thumbnail(layout.shape, len(layout.channels), layout.colour)
        self._missing_pixels = [layout.shape[0] * layout.shape[1]] * layout.times
        self._lock = Lock()

    def __enter__(self) -> Self:
        record = self._provenance.as_json(self._layout)
        suffix, open_writer = FORMATS[self._format]
        images = {name: self._layout.image_metadata(name, record) for name in IMAGE_NAMES}
        with contextlib.ExitStack() as stack:
            staging = write_folder(self._folder, RESULT_NAMES, self._check_own)
            self._staging = stack.enter_context(staging)
            check_space(self._folder, sum(metadata.nbytes for metadata in images.values()))
            self._files = {
                name: open_writer(self._staging / (name + suffix), metadata)
                for name, metadata in images.items()
            }
            self._exit_stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._exit_stack.__exit__(kind, error, trace)
            return
        with self._exit_stack:
            self._finish()

    def write_window(
        self, window: Window, depth_map: DepthMap, images: Sequence[np.ndarray], *, time: int = 0
    ) -> None:
        """Write one window of all images.

        Parameters
        ----------
        window : Window
        depth_map : DepthMap
            Of the window.
        images : one (h, w) or (h, w, 3) array for each channel
            All-in-focus images of the window.
        time : int
            0 … T-1.

        Raises
        ------
        ValueError
            If a shape or dtype differs from the layout.
        """
        self._check_window(window, depth_map, images, time)
        index = self._time_index(time)
        for name in MAP_DTYPES:
            self._files[name].write(getattr(depth_map, name), window, index)
        for channel, image in enumerate(images):
            image_index = (*index, channel) if len(images) > 1 else index
            self._files[ALL_IN_FOCUS].write(image, window, image_index)
        if time == 0:
            self._thumbnail.write_window(window, depth_map, images)
        with self._lock:
            self._missing_pixels[time] -= window.shape[0] * window.shape[1]

    def depth_map(self, window: Window, *, time: int = 0) -> DepthMap:
        """Read a window of the depth map back; zeros where nothing was written."""
        index = self._time_index(time)
        return DepthMap(*(self._files[name].read(window, index) for name in DepthMap._fields))

    def set_transforms(self, transforms: np.ndarray, *, time: int = 0) -> None:
        """Set the (Z, 3, 3) transforms of one time; the default is the identity."""
        self._transforms[time] = transforms

    def _time_index(self, time: int) -> tuple[int, ...]:
        return (time,) if self._layout.times > 1 else ()

    def _check_window(
        self, window: Window, depth_map: DepthMap, images: Sequence[np.ndarray], time: int
    ) -> None:
        layout = self._layout
        if not 0 <= time < layout.times:
            raise ValueError(f"time must be 0 to {layout.times - 1}, got {time}")
        if len(images) != len(layout.channels):
            raise ValueError(
                f"images must be one for each of the {len(layout.channels)} channels, "
                f"got {len(images)}"
            )
        (top, bottom, left, right), (height, width) = window, layout.shape
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError(f"window must lie within {height} × {width} pixels, got {window}")
        shape = (*window.shape, 3) if layout.colour else window.shape
        for image in images:
            if image.shape != shape or not np.can_cast(image.dtype, layout.dtype, "equiv"):
                raise ValueError(
                    f"images must be {shape} {layout.dtype}, got {image.shape} {image.dtype}"
                )
        for name, values in depth_map._asdict().items():
            if values.shape != window.shape:
                raise ValueError(f"{name} must be {window.shape}, got {values.shape}")

    def _finish(self) -> None:
        """Write the files that depend on all windows."""
        from napari_dff.io.writers.figure import preview_figure  # imports matplotlib, 0.6 s

        for time, missing in enumerate(self._missing_pixels):
            if missing > 0:
                raise ValueError(
                    f"all pixels must be written, {missing} of time {time} are missing"
                )
        staging, layout, thumbnail = self._staging, self._layout, self._thumbnail
        write_json(staging / "recipe.json", self._provenance.settings, indent=2)
        write_json(staging / "transforms.json", {"transforms": squeeze_time(self._transforms)})
        ranges = [_display_range(image) for image in thumbnail.images]
        self._files[ALL_IN_FOCUS].set_display_ranges(ranges)
        image = thumbnail.images[self._provenance.focus_channel]
        figure = preview_figure(image, thumbnail.depth_map, layout.positions[0], layout.unit)
        figure.savefig(staging / "preview.png", dpi=100, pil_kwargs={"compress_level": 1})
        write_record(staging, self._provenance.as_json(layout))

    def _check_own(self, folder: Path) -> None:
        check_own(folder, RESULT_NAMES, self._overwrite)


def is_complete(folder: Path, digest: str, file_format: FileFormat) -> bool:
    """Whether `folder` holds a complete result of this digest."""
    try:
        record = read_json(folder / PROVENANCE_FILE, "the record of a run")
    except (OSError, ValueError):
        return False
    suffix = FORMATS[file_format][0]
    files = [name + suffix for name in IMAGE_NAMES] + ["recipe.json", "transforms.json"]
    return record.get("digest") == digest and all((folder / name).exists() for name in files)


class Thumbnail:
    """A reduced result for the preview, filled window by window.

    Maps are sampled at every n-th row and column; images are averaged over n × n pixels.

    Attributes
    ----------
    step : int
        n.
    depth_map : DepthMap
    images : list of (Y, X[, 3]) float32
        One for each channel.
    """

    def __init__(self, shape: tuple[int, int], channels: int, colour: bool) -> None:
        height, width = shape
        self.step = max(1, width // THUMBNAIL_WIDTH_PX, height // (4 * THUMBNAIL_WIDTH_PX))
        small = tuple(-(-size // self.step) for size in shape)
        self.depth_map = DepthMap(*(np.zeros(small, MAP_DTYPES[n]) for n in DepthMap._fields))
        image_shape = (*small, 3) if colour else small
        self.images = [np.zeros(image_shape, np.float32) for _ in range(channels)]

    def write_window(
        self, window: Window, depth_map: DepthMap, images: Sequence[np.ndarray]
    ) -> None:
        """Reduce and store the pixels of a window."""
        n = self.step
        rows, columns = (
            slice(-(-start // n), -(-stop // n))
            for start, stop in ((window.top, window.bottom), (window.left, window.right))
        )
        # the sampling grid starts at pixel (0, 0) of the plane, not of the window
        aligned = slice(-window.top % n, None), slice(-window.left % n, None)
        for small, values in zip(self.depth_map, depth_map, strict=True):
            small[rows, columns] = values[aligned][::n, ::n]
        for small, image in zip(self.images, images, strict=True):
            pixels = image[aligned]
            if pixels.size:
                if pixels.dtype.name not in BLOCK_MEAN_DTYPES:
                    pixels = pixels.astype(np.float32)
                small[rows, columns] = block_means(pixels, n)


def _display_range(image: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(image, DISPLAY_PERCENTILES)
    return float(low), float(max(high, low + 1e-6))
