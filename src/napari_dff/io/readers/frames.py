"""Folders with one image per plane, read on demand."""

import functools
import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tifffile import natural_sorted

from napari_dff.io.readers import axes as source_axes
from napari_dff.io.readers.axes import Source, StackError, as_stack_error
from napari_dff.io.readers.tiff import TIFF_SUFFIXES, check_codec
from napari_dff.io.readers.tiff_opening import open_tiff
from napari_dff.runtime.progress import no_progress
from napari_dff.runtime.threads import run_parallel

PILLOW_FORMATS = ("PNG", "JPEG", "JPEG2000", "BMP", "WEBP")
FRAME_SUFFIXES = {".jpg", ".jpeg", ".jp2", ".png", ".tif", ".tiff", ".bmp", ".webp"}


class _FrameType(NamedTuple):
    """Shape and dtype of a frame without its alpha channel."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{' × '.join(map(str, self.shape))} {self.dtype}"


def frames_in(folder: Path) -> list[Path]:
    """Return the image files of a folder, in natural order."""
    names = [p for p in folder.iterdir() if p.suffix.lower() in FRAME_SUFFIXES and p.name[0] != "."]
    return [Path(p) for p in natural_sorted(str(p) for p in names)]


def frames_source(folder: Path) -> Source:
    """Return all frames of a folder as one lazy array; only the headers are read."""
    paths = frames_in(folder)
    if not paths:
        has_folders = any(each.is_dir() for each in folder.iterdir())
        hint = f"; name stacks in its folders as '{folder.name}/*'" if has_folders else ""
        kinds = ", ".join(sorted(FRAME_SUFFIXES))
        raise StackError(f"folder {folder.name} holds no image files ({kinds}){hint}")
    messages: list[str] = []
    inspect = functools.partial(_frame_type, messages=messages)
    types = run_parallel(inspect, paths, no_progress, desc="Reading")
    first = types[0]

    def check(path: Path, frame_type: _FrameType) -> None:
        if frame_type != first:
            got = f"{paths[0].name} is {first}, {path.name} is {frame_type}"
            raise StackError(f"frames must have one shape and type: {got}")

    def read(block_id: tuple[int, ...]) -> np.ndarray:
        path = paths[block_id[0]]
        frame = _read_frame(path)
        check(path, _FrameType(frame.shape, frame.dtype))
        return frame[np.newaxis]

    for path, frame_type in zip(paths, types, strict=True):
        check(path, frame_type)
    source_axes.check_memory(paths[0].name, first.shape, first.dtype)
    import dask.array as da  # 0.3 s, needed only here

    chunks = ((1,) * len(paths), *((n,) for n in first.shape))
    empty = np.empty((0,) * len(chunks), first.dtype)
    blocks = {"chunks": chunks, "dtype": first.dtype, "meta": empty}
    data = da.map_blocks(read, **blocks)  # type: ignore[no-untyped-call]
    axes = ("", "Y", "X", "S")[: data.ndim]
    return Source(data, axes, folder.name, warnings=tuple(messages[:1]), files=tuple(paths))


def _frame_type(path: Path, messages: list[str]) -> _FrameType:
    """Return the type of a frame from its header; StackError if not a single image."""
    with as_stack_error(f"{path.name} can't be read as an image"):
        if path.suffix.lower() in TIFF_SUFFIXES:
            with open_tiff(path, messages) as (tif, _):
                series = tif.series[0]
                check_codec(path.name, series.keyframe)
                axes, shape, dtype = series.axes, series.shape, series.dtype
            if axes == "SYX":
                axes, shape = "YXS", (*shape[1:], shape[0])
        else:
            with _open_image(path) as image:
                pixel = np.asarray(Image.new(_pixel_mode(image), (1, 1)))
                page_axis = [n for n in (getattr(image, "n_frames", 1),) if n > 1]
                shape = (*page_axis, image.height, image.width, *pixel.shape[2:])
            axes, dtype = "?" * len(page_axis) + "YXS"[: pixel.ndim], pixel.dtype
    if len(shape) > 2 and axes != "YXS":
        pages = math.prod(n for axis, n in zip(axes, shape, strict=True) if axis not in "YXS")
        problem = f"{path.name} holds {pages} pages"
        hint = "open it by itself, or use batch for a folder of stacks"
        raise StackError(f"frames must be single images, and {problem}: {hint}")
    is_colour = len(shape) == 3 and shape[2] >= 3
    return _FrameType((*shape[:2], 3) if is_colour else tuple(shape[:2]), np.dtype(dtype))


def _read_frame(path: Path) -> np.ndarray:
    with as_stack_error(f"{path.name} can't be read as an image"):
        if path.suffix.lower() in TIFF_SUFFIXES:
            with open_tiff(path, []) as (tif, _):
                frame = tif.series[0].asarray()
                samples_first = tif.series[0].axes == "SYX"
            frame = np.moveaxis(frame, 0, 2) if samples_first else frame
        else:
            content = io.BytesIO(path.read_bytes())  # limits reads to the size of the file
            with _open_image(content) as image:
                frame = np.asarray(image.convert(_pixel_mode(image)))
        return frame if frame.ndim == 2 else source_axes.without_alpha(frame)


def _open_image(file: Path | io.BytesIO) -> Image.Image:
    """Open an image by its content, whatever its suffix; only the header is read."""
    return Image.open(file, formats=PILLOW_FORMATS)


def _pixel_mode(image: Image.Image) -> str:
    """Return the pillow mode to convert to: palettes to colours, 16-bit PNG not to 32 bits."""
    if image.palette is not None:
        return "RGBA" if "transparency" in image.info else image.palette.mode
    return "I;16" if (image.format, image.mode) == ("PNG", "I") else image.mode
