"""Folders with one image a plane, read when a plane is wanted."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tifffile import natural_sorted

from napari_dff.io.axes import Source, StackError, check_piece, reason
from napari_dff.io.tiff_opening import open_tiff
from napari_dff.io.tiff_reading import TIFFS, check_codec
from napari_dff.progress import no_progress
from napari_dff.threads import run_parallel

FORMATS = ("PNG", "JPEG", "JPEG2000", "BMP", "WEBP")  # of all that pillow knows
FRAMES = {".jpg", ".jpeg", ".jp2", ".png", ".tif", ".tiff", ".bmp", ".webp"}


class _Look(NamedTuple):
    """Shape and type of a frame without its alpha channel."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{' × '.join(map(str, self.shape))} {self.dtype}"


def frames_in(folder: Path) -> list[Path]:
    """The image files of a folder, in natural order."""
    names = [p for p in folder.iterdir() if p.suffix.lower() in FRAMES and p.name[0] != "."]
    return [Path(p) for p in natural_sorted(str(p) for p in names)]


def frames_source(folder: Path) -> Source:
    """All frames of a folder as one array, of which only the headers are read.

    Raises
    ------
    StackError
        Where there are none, or they aren't single images, all alike.
    """
    paths = frames_in(folder)
    if not paths:
        within = any(each.is_dir() for each in folder.iterdir())
        hint = f"; name stacks in its folders as '{folder.name}/*'" if within else ""
        kinds = ", ".join(sorted(FRAMES))
        raise StackError(f"folder {folder.name} holds no image files ({kinds}){hint}")
    looks: dict[int, _Look] = {}
    odd: list[str] = []

    def look(i: int) -> None:
        looks[i] = _look(paths[i], odd)

    run_parallel(look, range(len(paths)), no_progress, desc="Reading")
    first = looks[0]

    def check(i: int, found: _Look) -> None:
        if found != first:
            raise StackError(
                f"all frames must be alike: {paths[0].name} is {first}, {paths[i].name} is {found}"
            )

    def read(block_id: tuple[int, ...]) -> np.ndarray:
        frame = _frame(paths[block_id[0]])
        check(block_id[0], _Look(frame.shape, frame.dtype))
        return frame[np.newaxis]

    for i in range(1, len(paths)):
        check(i, looks[i])
    check_piece(paths[0].name, first.shape, first.dtype)
    import dask.array as da  # 0.3 s, needed only here

    chunks = ((1,) * len(paths), *((n,) for n in first.shape))
    empty = np.empty((0,) * len(chunks), first.dtype)
    data = da.map_blocks(  # type: ignore[no-untyped-call]
        read, chunks=chunks, dtype=first.dtype, meta=empty
    )
    axes = ("", "Y", "X", "S")[: data.ndim]
    return Source(data, axes, folder.name, doubts=tuple(odd[:1]), files=tuple(paths))


def _look(path: Path, odd: list[str]) -> _Look:
    """Look of a frame from its header; StackError when the file is no single image."""
    try:
        if path.suffix.lower() in TIFFS:
            with open_tiff(path, odd) as (tif, _):
                series = tif.series[0]
                check_codec(path.name, series.keyframe)
                axes, shape, dtype = series.axes, series.shape, series.dtype
            if axes == "SYX":
                axes, shape = "YXS", (*shape[1:], shape[0])
        else:
            with _picture(path) as picture:
                pixel = np.asarray(Image.new(_mode(picture), (1, 1)))
                several = [n for n in (getattr(picture, "n_frames", 1),) if n > 1]
                shape = (*several, picture.height, picture.width, *pixel.shape[2:])
            axes, dtype = "?" * len(several) + "YXS"[: pixel.ndim], pixel.dtype
    except StackError:
        raise
    except Exception as error:  # every reader has its own
        raise StackError(f"{path.name} can't be read as an image: {reason(error)}") from error
    if len(shape) > 2 and axes != "YXS":
        pages = math.prod(n for axis, n in zip(axes, shape, strict=True) if axis not in "YXS")
        raise StackError(
            f"frames must be single images, and {path.name} holds {pages} pages: open it by "
            "itself, or use batch for a folder of stacks"
        )
    coloured = len(shape) == 3 and shape[2] >= 3
    return _Look((*shape[:2], 3) if coloured else tuple(shape[:2]), np.dtype(dtype))


def _frame(path: Path) -> np.ndarray:
    try:
        if path.suffix.lower() not in TIFFS:
            content = io.BytesIO(path.read_bytes())  # of which nobody gets more than there is
            with _picture(content) as picture:
                return _visible(np.asarray(picture.convert(_mode(picture))))
        with open_tiff(path, []) as (tif, _):
            frame = tif.series[0].asarray()
            return _visible(np.moveaxis(frame, 0, 2) if tif.series[0].axes == "SYX" else frame)
    except StackError:
        raise
    except Exception as error:  # every reader has its own
        raise StackError(f"{path.name} can't be read as an image: {reason(error)}") from error


def _picture(file: Path | io.BytesIO) -> Image.Image:
    """A picture, of which only the header is read: by its content, whatever its name."""
    return Image.open(file, formats=FORMATS)


def _mode(picture: Image.Image) -> str:
    """What its pixels are to numpy: colours of a palette, 16 bits where pillow makes 32 of them."""
    if picture.palette is not None:
        return "RGBA" if "transparency" in picture.info else picture.palette.mode
    return "I;16" if (picture.format, picture.mode) == ("PNG", "I") else picture.mode


def _visible(frame: np.ndarray) -> np.ndarray:
    """A frame without its alpha channel."""
    if frame.ndim == 2:
        return frame
    return frame[..., 0] if frame.shape[2] < 3 else frame[..., :3]
