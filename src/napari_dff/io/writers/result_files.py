"""Result files: written window by window, and visible only when all of them are complete."""

import contextlib
import dataclasses
import functools
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from PIL import Image

from napari_dff.io import records
from napari_dff.io.atomic import write_folder
from napari_dff.io.environment import environment_record
from napari_dff.io.file_checks import check_own, check_space, write_record
from napari_dff.io.image_metadata import ImageMetadata
from napari_dff.io.readers.results import read_provenance
from napari_dff.io.writers.images import FORMATS, FileFormat, ImageWriter
from napari_dff.io.writers.preview import DISPLAY_PERCENTILES, draw_preview
from napari_dff.io.writers.thumbnail import Thumbnail
from napari_dff.model import checks
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import FocusScale, Recipe
from napari_dff.model.result import FocusOffset, ImageQuality, Reconstruction
from napari_dff.model.units import depth_unit_symbol
from napari_dff.registration import PlaneReport
from napari_dff.runtime.windows import Window, full_window

RESULT_NAMES = {name + end for name in records.IMAGE_NAMES for end in records.IMAGE_SUFFIXES}
RESULT_NAMES |= {"recipe.json", "transforms.json", "preview.png", records.PROVENANCE_FILE}
RESULT_NAMES |= set(records.REPORT_FILES)  # of an earlier result, which a new one replaces
MAP_NAMES = {"depth": "depth", "index": "plane index", "uncertainty": "uncertainty"}


def save_reconstruction(
    result: Reconstruction,
    folder: str | os.PathLike[str],
    *,
    file_format: FileFormat = "ome-tiff",
    overwrite: bool = False,
    input: Mapping[str, Any] | None = None,
) -> None:
    """Write a result: depth, index, uncertainty, all-in-focus image, recipe, transforms, preview.

    All files are written to a staging folder and moved in when they are complete; an earlier result
    stays until then. Files of other names in the folder are left alone.

    Parameters
    ----------
    result : Reconstruction
    folder : path
        Created if missing. Gets ``depth.ome.tif`` (float32, in the unit of the stack),
        ``index.ome.tif`` (uint16), ``uncertainty.ome.tif`` (float32), ``all_in_focus.ome.tif``
        (dtype of the planes), ``recipe.json``, ``provenance.json``, ``transforms.json`` (for
        `read_transforms`) and ``preview.png``.
    file_format : {"ome-tiff", "ome-zarr", "ome-zarr-0.4"}
        File format of the images. Those of OME-Zarr, version 0.5 unless 0.4 is chosen, end in
        ``.ome.zarr``.
    overwrite : bool
        Replace files of these names that no run has written, or that were changed since, too. A
        result whose files ``provenance.json`` lists is always replaced.
    input : mapping, optional
        More information on the source of the stack, such as its ``path``, for ``provenance.json``.

    Raises
    ------
    ValueError
        If the format does not support the dtype of the planes.
    FileExistsError
        If the folder holds files of these names that do not belong to a result.
    OSError
        If the files cannot be written; nothing is changed then.
    """
    checks.check_type("result", result, Reconstruction)
    stack = result.stack
    # only shape and dtype of the planes are used: no need to load them
    planes = np.broadcast_to(np.empty((), stack.planes.dtype), (1, 1, *stack.planes.shape))
    acquisition = Acquisition(planes, stack.positions[np.newaxis], stack.pixel_size, stack.unit)
    formats: dict[str, Any] = {"file_format": file_format, "overwrite": overwrite}
    with ResultFiles(folder, acquisition, result.recipe, input or {}, **formats) as files:
        window = full_window(result.refined.depth.shape)
        if result.window is not None:
            files.set_window(result.window)
        files.write_window(window, result.refined, [result.all_in_focus])
        files.set_transforms(result.transforms, gains=result.gains)
        files.set_quality(result.quality)
        files.set_scale(result.scale)


def is_complete(folder: Path, digest: str, file_format: FileFormat) -> bool:
    """Whether `folder` holds a complete result of this digest."""
    try:
        record = read_provenance(folder)
    except (OSError, ValueError):
        return False
    suffix = FORMATS[file_format][0]
    files = [name + suffix for name in records.IMAGE_NAMES] + ["recipe.json", "transforms.json"]
    return record.get("digest") == digest and all((folder / name).exists() for name in files)


class ResultFiles:
    """The files of one result, as `save_reconstruction` lists them: a context manager.

    Windows may be written in any order and from several threads. The files are moved into the
    folder if the block ends without error and all pixels are written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        acquisition: Acquisition,  # with axes T and C; its pixels are not read
        recipe: Recipe,
        inputs: Mapping[str, Any] = MappingProxyType({}),  # as of `make_provenance`
        *,
        digest: str = "",
        file_format: FileFormat = "ome-tiff",
        overwrite: bool = False,
    ) -> None:
        checks.check_choice("file_format", file_format, FORMATS)
        self._folder = checks.as_path("folder", folder)
        self._acquisition, self.recipe = acquisition, recipe
        self._provenance = records.make_provenance(recipe, acquisition, inputs, digest)
        self._format, self._overwrite = file_format, overwrite
        times, channels, self.planes, *plane = acquisition.data.shape
        self.times = len(acquisition.positions)
        self._reports: list[list[dict[str, Any]]] = [[] for _ in range(self.times)]
        self._qualities: list[ImageQuality | None] = [None] * self.times
        self._gains: list[Any] = [None] * self.times
        self._sentences: dict[str, list[str]] = {}
        self._scale: FocusScale | None = None
        self._offsets: Sequence[FocusOffset] = ()
        self._transforms = np.tile(np.eye(3), (*acquisition.positions.shape, 1, 1))
        self._thumbnail = Thumbnail((plane[0], plane[1]), channels, len(plane) == 3)
        self._missing_pixels = [plane[0] * plane[1]] * times
        self._windows: list[Window] = []  # of the first time
        self._lock, self._origin = Lock(), (0.0, 0.0)

    def __enter__(self) -> Self:
        images = {name: self._image_metadata(name) for name in records.IMAGE_NAMES}
        check = functools.partial(check_own, names=RESULT_NAMES, overwrite=self._overwrite)
        with contextlib.ExitStack() as stack:
            self._staging = stack.enter_context(write_folder(self._folder, RESULT_NAMES, check))
            check_space(self._folder, sum(metadata.nbytes for metadata in images.values()))
            self._files = self._open_images()
            self._exit_stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            self._exit_stack.__exit__(*error)
        else:
            with self._exit_stack:
                self._finish()

    def _open_images(self) -> dict[str, ImageWriter]:
        suffix, open_writer = FORMATS[self._format]
        return {
            name: open_writer(self._staging / (name + suffix), self._image_metadata(name))
            for name in records.IMAGE_NAMES
        }

    def set_window(self, window: Window) -> None:
        """Reduce all images to a window of the planes, before anything is written."""
        times, channels, count, _, _, *colour = self._acquisition.data.shape
        shape = (times, channels, count, *window.shape, *colour)
        data = np.broadcast_to(np.empty((), self._acquisition.data.dtype), shape)
        self._acquisition = dataclasses.replace(self._acquisition, data=data)
        height, width = self._acquisition.pixel_size
        self._origin = window.top * height, window.left * width
        self._provenance["window"] = list(window)
        self._thumbnail = Thumbnail(window.shape, channels, bool(colour))
        self._missing_pixels = [window.shape[0] * window.shape[1]] * times
        for path in [self._staging / (name + FORMATS[self._format][0]) for name in self._files]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._files = self._open_images()

    def write_window(
        self,
        window: Window,
        depth_map: DepthMap,  # of the window
        images: Sequence[np.ndarray],  # all-in-focus image of the window in each channel
        *,
        time: int = 0,
    ) -> None:
        """Write a window of all images; ValueError if a shape or dtype does not fit."""
        self._check_window(window, depth_map, images, time)
        index = self._time_index(time)
        for name in records.MAP_DTYPES:
            self._files[name].write(getattr(depth_map, name), window, index)
        for channel, image in enumerate(images):
            image_index = (*index, channel) if len(images) > 1 else index
            self._files[records.ALL_IN_FOCUS].write(image, window, image_index)
        if time == 0:
            self._thumbnail.write_window(window, depth_map, images)
            self._windows.append(window)
        with self._lock:
            self._missing_pixels[time] -= window.shape[0] * window.shape[1]

    def depth_map(self, window: Window, *, time: int = 0) -> DepthMap:
        """Read a window of the depth map back; zeros where nothing was written."""
        index = self._time_index(time)
        return DepthMap(*(self._files[name].read(window, index) for name in DepthMap._fields))

    def set_transforms(
        self,
        transforms: np.ndarray,
        report: tuple[PlaneReport, ...] = (),
        gains: np.ndarray | None = None,
        *,
        time: int = 0,
    ) -> None:
        """Set transforms, (Z, 3, 3), report and gains, as in `Reconstruction`, of one time.

        The default is the identity.
        """
        self._transforms[time] = transforms
        self._gains[time] = None if gains is None else gains.tolist()
        self._reports[time] = records.report_record(report)

    def set_quality(self, quality: ImageQuality | None, *, time: int = 0) -> None:
        """Set the quality of the all-in-focus image of one time."""
        self._qualities[time] = quality

    def set_sentences(self, notes: Sequence[str], advice: Sequence[str]) -> None:
        """Set sentences on the planes, and on the quality of the result, for the provenance."""
        self._sentences = {"notes": list(notes)} if notes else {}
        self._sentences["advice"] = list(advice)

    def set_scale(self, scale: FocusScale | None) -> None:
        """Set the sigma and window that focus was measured with."""
        self._scale = scale

    def set_offsets(self, offsets: Sequence[FocusOffset]) -> None:
        """Set the focus offset of the focus channel, then of each other channel."""
        self._offsets = offsets

    @property
    def acquisition(self) -> Acquisition:
        """What the result is of."""
        return self._acquisition

    def _image_metadata(self, name: str) -> ImageMetadata:
        """Return the metadata of an image of the result; T and C only if longer than 1."""
        acquisition, is_map = self._acquisition, name in records.MAP_DTYPES
        dtype = np.dtype(records.MAP_DTYPES[name]) if is_map else acquisition.data.dtype
        letters = "TYX" if is_map else "TCYXS"
        sizes = dict(zip("TCZYXS", acquisition.data.shape, strict=False))
        sizes = {a: n for a, n in sizes.items() if a in letters and (n > 1 or a in "YX")}
        calibration = acquisition.pixel_size, acquisition.unit
        channels = () if is_map else acquisition.channels
        details: dict[str, Any] = {"channels": channels, "record": self._provenance}
        details["origin"] = self._origin
        details["has_pixel_size"] = acquisition.has_pixel_size
        details["time_increment"] = acquisition.time_increment
        if is_map:
            unit = f" ({depth_unit_symbol(acquisition.unit)})" if name != "index" else ""
            details |= {"value_name": MAP_NAMES[name] + unit, "has_means": name != "index"}
        else:
            details |= {"exif": acquisition.exif, "icc_profile": acquisition.icc_profile}
        axes, shape = "".join(sizes), tuple(sizes.values())
        return ImageMetadata(axes, shape, dtype, *calibration, **details)

    def _time_index(self, time: int) -> tuple[int, ...]:
        return (time,) if self._acquisition.times > 1 else ()

    def _check_window(
        self, window: Window, depth_map: DepthMap, images: Sequence[np.ndarray], time: int
    ) -> None:
        times, channels, _, height, width, *colour = self._acquisition.data.shape
        if not 0 <= time < times:
            raise ValueError(f"time must be 0 to {times - 1}, got {time}")
        if len(images) != channels:
            expected = f"one for each of the {channels} channels"
            raise ValueError(f"images must be {expected}, got {len(images)}")
        top, bottom, left, right = window
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError(f"window must lie within {height} × {width} pixels, got {window}")
        shape, dtype = (*window.shape, *colour), self._acquisition.data.dtype
        for image in images:
            if image.shape != shape or not np.can_cast(image.dtype, dtype, "equiv"):
                raise ValueError(f"images must be {shape} {dtype}, got {image.shape} {image.dtype}")
        for name, values in depth_map._asdict().items():
            if values.shape != window.shape:
                raise ValueError(f"{name} must be {window.shape}, got {values.shape}")

    def _finish(self) -> None:
        """Write the files that depend on all windows."""
        for t, missing in enumerate(self._missing_pixels):
            if missing > 0:
                raise ValueError(f"all pixels must be written, {missing} of time {t} are missing")
        staging, thumbnail, acquisition = self._staging, self._thumbnail, self._acquisition
        records.write_json(staging / "recipe.json", records.recipe_record(self.recipe), indent=2)
        transforms: dict[str, Any] = {"transforms": records.squeeze_time(self._transforms)}
        transforms |= records.gains_record(self._gains)
        if any(self._reports):
            transforms["report"] = self._reports if self.times > 1 else self._reports[0]
        records.write_json(staging / "transforms.json", transforms)
        limits = (np.percentile(image, DISPLAY_PERCENTILES) for image in thumbnail.images)
        ranges = [(float(low), float(max(high, low + 1e-6))) for low, high in limits]
        for name, file in self._files.items():
            file.finish(ranges if name == records.ALL_IN_FOCUS else ())
        image = thumbnail.images[acquisition.focus_channel]
        positions, unit = acquisition.positions[0], acquisition.unit
        preview = draw_preview(image, thumbnail.depth_map, positions, unit)
        Image.fromarray(preview).save(staging / "preview.png", compress_level=1)
        record = records.exposure_record(self._gains) | records.quality_record(self._qualities)
        record |= records.scale_record(self._scale) | records.tiles_record(self._windows)
        record |= records.offsets_record(self._offsets, acquisition)
        record["environment"] = environment_record()
        write_record(staging, {**self._provenance, **record, **self._sentences})
