"""The pages of a TIFF series as one lazy array of light: missing pages, colours, orientation."""

import functools
import importlib.util
import lzma
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

from napari_dff.io.readers.axes import StackError, as_dask_array
from napari_dff.io.readers.image_headers import count_pixels
from napari_dff.io.readers.orientation import ORIENTATION_TAG, TURNS
from napari_dff.io.readers.photometric import PALETTE, Conversion, find_conversion
from napari_dff.io.readers.unpacked_size import DEFLATE_RATIO, MAX_RATIO, SPARE_BYTES, unpack
from napari_dff.runtime.file_array import FileArray
from napari_dff.runtime.lazy import as_dask

MULTI_FILE_KINDS = ("ome", "mmstack", "ndtiff")  # planes may be in several files
# Compressions whose strips Python decodes, up to no limit, where imagecodecs is not installed.
PYTHON_CODECS = {8: "zlib", 32946: "zlib", 34925: "lzma", 50000: "zstd"}
# Compressions whose strips are images with a header: JPEG, JPEG 2000, XL and XR, PNG, WebP, LERC.
IMAGE_COMPRESSIONS = {
    *(6, 7, 33003, 33004, 33005, 33007, 34712, 34892, 22610, 34934, 50002, 52546),
    *(34927, 34933, 50001, 34887),
}
SMALL_BYTES = 256 << 20  # that a strip may unpack to without being counted
TURNED_KINDS = ("generic", "uniform", "shaped")  # others store pixels as they are shown


class SeriesPixels(NamedTuple):
    """The pixels of a series."""

    data: Any  # dask or `FileArray`
    axes: str  # letters of tifffile
    warnings: tuple[str, ...] = ()


def check_codec(name: str, page: tifffile.TiffPage) -> None:
    """Raise StackError if the pixels of `page` can only be decoded with imagecodecs.

    Some decoders stop at no size: `page` gets one that checks it, for all pages like it.
    """
    is_supported = page.compression in tifffile.TIFF.DECOMPRESSORS
    if not (is_supported and page.predictor in tifffile.TIFF.UNPREDICTORS):
        kind = getattr(page.compression, "name", str(page.compression))
        raise StackError(f"{name} is compressed ({kind}): pip install imagecodecs, then try again")
    codec = PYTHON_CODECS.get(int(page.compression))
    if codec is not None and importlib.util.find_spec("imagecodecs") is None:
        decode, pixel_bytes = page.decode, math.prod(page.chunks) * np.dtype(page.dtype).itemsize
        # `decode` is a cached property of tifffile, so that it can be set.
        page.decode = functools.partial(_decode_checked, decode, codec, pixel_bytes)
    elif int(page.compression) in IMAGE_COMPRESSIONS:
        page.decode = functools.partial(_decode_image, page.decode, math.prod(page.chunks))


def _decode_checked(
    decode: Callable[..., Any],
    codec: str,
    pixel_bytes: int,
    data: bytes | None,
    *arguments: Any,
    **settings: Any,
) -> Any:
    """Decode a strip; ValueError if it unpacks to far more than `pixel_bytes`."""
    if data is not None and (codec != "zlib" or len(data) * DEFLATE_RATIO > SMALL_BYTES):
        unpack(codec, data, pixel_bytes, {"format": lzma.FORMAT_AUTO})
    return decode(data, *arguments, **settings)


def _decode_image(
    decode: Callable[..., Any],
    pixel_count: int,
    data: bytes | None,
    *arguments: Any,
    **settings: Any,
) -> Any:
    """Decode a strip that is an image with a header of its own; ValueError if that is far larger.

    The decoders allocate what it describes, whatever the tags of the page are.
    """
    count = count_pixels(data) if data is not None else 0
    if count > MAX_RATIO * pixel_count + SPARE_BYTES:
        raise ValueError(f"a strip of {pixel_count} pixels holds an image of {count} pixels")
    return decode(data, *arguments, **settings)


def series_pixels(
    path: Path, series: tifffile.TiffPageSeries, missing_files: Sequence[str]
) -> SeriesPixels:
    """Return the pixels of a series, read or decoded on demand.

    Planes that were never written, at the end of an axis, are left out with a warning. StackError
    if the planes are in `missing_files`.
    """
    page = series.keyframe
    check_codec(path.name, page)
    if int(page.compression) in {*PYTHON_CODECS, *IMAGE_COMPRESSIONS}:
        for each in series.pages:  # some pages have decoders of their own
            if each is not None and each is not page and each.keyframe is each:
                check_codec(path.name, each)
    axis, length = _complete_part(path, series, missing_files)
    conversions = _conversions(path.name, series)
    data, axes, warnings = _stored_pixels(path, series), series.axes, tuple[str, ...]()
    if axis is not None:
        data = data[(slice(None),) * axis + (slice(length),)]
        described = " × ".join(f"{n} {a}" for a, n in zip(axes, series.shape, strict=True))
        warnings = (
            f"{path.name} holds a stack that was stopped, or is cut short: its metadata describe "
            f"{described}, but only {length} along {axes[axis]} are complete, and are used",
        )
    if conversions:
        data, axes = _convert(as_dask(data, sum(n not in "YXS" for n in axes)), axes, conversions)
    turned_data, axes = _turn(data, axes, series)
    return SeriesPixels(turned_data, axes, warnings)


def _stored_pixels(path: Path, series: tifffile.TiffPageSeries) -> Any:
    page = series.keyframe
    array: Any = uncompressed_array(series)
    if array is not None:
        return array
    import zarr  # 0.3 s, needed only here

    _check_ends(path, series)
    store = series.aszarr(level=0, chunkmode=0 if page.is_tiled else 2)  # tiles, or whole pages
    array = zarr.open_array(store, mode="r")
    return as_dask_array(array, array.chunks, series.axes, path.name, _paths(series))


def _paths(series: tifffile.TiffPageSeries) -> Any:
    """Return the path of the file, or those of the pages along the leading axes."""
    page = series.keyframe
    leading = series.shape[: len(series.shape) - len(page.shape)]
    if not series.is_multifile or math.prod(leading) != len(series.pages):
        return page.parent.filehandle.path
    files = [(each or page).parent.filehandle.path for each in series.pages]
    return np.array(files, object).reshape(leading)


def uncompressed_array(series: tifffile.TiffPageSeries) -> FileArray | None:
    """Return the pixels of a series if they are uncompressed and in one piece of one file."""
    page, file = series.keyframe, series.keyframe.parent  # not always the file that was opened
    if series.dataoffset is None or not page.is_memmappable or series.is_multifile:
        return None
    dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
    path, shape = Path(file.filehandle.path), tuple(map(int, series.shape))
    if series.dataoffset + math.prod(shape) * dtype.itemsize > file.filehandle.size:
        raise StackError(f"{path.name} is cut short: its pixels go beyond its end")
    return FileArray(path, dtype, series.dataoffset, shape)


def _complete_part(
    path: Path, series: tifffile.TiffPageSeries, missing_files: Sequence[str]
) -> tuple[int | None, int]:
    """Return the axis that is cut, and its length, so that no plane is missing; None if complete.

    The offset of a missing plane is 0 in a truncated Micro-Manager file.
    """
    pages: Any = series if series.kind in MULTI_FILE_KINDS else ()
    is_truncated_kind = series.kind == "mmstack"
    is_there = np.array(
        [page is not None and not (is_truncated_kind and page.offset == 0) for page in pages], bool
    )
    missing = int((~is_there).sum())
    if not missing:
        return None, 0
    problem = f"{missing} of the {len(series)} planes of {path.name} are missing"
    if missing_files:
        raise StackError(f"{problem}: {missing_files[0]} must be in the same folder")
    shape = series.shape[: len(series.shape) - series.keyframe.ndim]
    if math.prod(shape) != is_there.size:
        raise StackError(problem)
    grid = is_there.reshape(shape)
    lengths = []
    for axis in range(grid.ndim):
        others = tuple(i for i in range(grid.ndim) if i != axis)
        complete = np.cumprod(grid.all(axis=others)).sum()
        lengths.append(int(complete))
    shares = [length / n for length, n in zip(lengths, shape, strict=True)]
    axis = int(np.argmax(shares))
    if not lengths[axis]:
        raise StackError(f"{problem}, not only at the end: copy all its files again")
    return axis, lengths[axis]


def _check_ends(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Raise StackError if the first or the last page extends beyond the end of its file."""
    pages: tuple[Any, ...] = (series[0], series[-1])
    for page in filter(None, pages):
        ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False))
        if max(ends, default=0) > page.parent.filehandle.size:
            raise StackError(f"{path.name} is cut short: page {page.index} goes beyond its end")


def _conversions(name: str, series: tifffile.TiffPageSeries) -> list[Conversion]:
    """Return the conversion to light of all pages, or of each where their palettes differ."""
    conversion = find_conversion(name, series.keyframe)
    if conversion is None:
        return []
    if series.keyframe.photometric != PALETTE or len(series.pages) < 2:
        return [conversion]
    pages = [page.aspage() for page in series.pages if page is not None]
    colours: list[Any] = [page.colormap for page in pages]
    if all(np.array_equal(each, colours[0]) for each in colours[1:]):
        return [conversion]
    candidates = [find_conversion(name, page) for page in pages]
    conversions = [each for each in candidates if each is not None]
    if len(conversions) < len(pages) or len({each[1:] for each in conversions}) > 1:
        raise StackError(f"{name} has pages of different kinds of colours: save it as RGB")
    return conversions


def _convert(data: Any, axes: str, conversions: Sequence[Conversion]) -> tuple[Any, str]:
    """Return lazy pixels as light; samples are last."""
    import dask.array as da  # 0.3 s, needed only here

    if "S" in axes and axes[-1] != "S":
        data = da.moveaxis(data, axes.index("S"), -1)
        axes = axes.replace("S", "") + "S"
    has_samples = axes[-1] == "S"
    if has_samples:
        data = data.rechunk({data.ndim - 1: -1})
    leading = data.ndim - 2 - has_samples
    samples = conversions[0].samples
    shape, changes = data.shape[:leading], samples != (data.shape[-1] if has_samples else 1)

    def convert(pixels: np.ndarray, block_info: Any = None) -> np.ndarray:
        if len(conversions) == 1:
            return conversions[0].convert(pixels)
        start = [low for low, _ in block_info[0]["array-location"][:leading]]
        return conversions[int(np.ravel_multi_index(start, shape))].convert(pixels)

    if len(conversions) > 1:
        data = data.rechunk(dict.fromkeys(range(leading), 1))
    options: dict[str, Any] = {"dtype": conversions[0].dtype, "meta": None}
    if changes and samples == 3:
        chunks = data.chunks[:-1] if has_samples else data.chunks
        options |= {"chunks": (*chunks, (3,)), "new_axis": None if has_samples else data.ndim}
        axes = axes if has_samples else axes + "S"
    empty = np.empty(
        (0,) * (data.ndim + (axes[-1] == "S" and not has_samples)), conversions[0].dtype
    )
    options["meta"] = empty
    return da.map_blocks(convert, data, **options), axes  # type: ignore[no-untyped-call]


def _turn(data: Any, axes: str, series: tifffile.TiffPageSeries) -> tuple[Any, str]:
    """Return pixels upright, by the tag Orientation of a plain TIFF."""
    orientation = series.keyframe.tags.valueof(ORIENTATION_TAG, default=1)
    if series.kind not in TURNED_KINDS or orientation == 1 or orientation not in TURNS:
        return data, axes
    is_exchanged, flip_rows, flip_columns = TURNS[orientation]
    if is_exchanged:
        axes = axes.translate(str.maketrans("YX", "XY"))
    flips = {"Y": flip_rows, "X": flip_columns}
    return data[tuple(slice(None, None, -1 if flips.get(axis) else 1) for axis in axes)], axes
