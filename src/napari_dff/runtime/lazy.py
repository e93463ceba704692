"""Lazy arrays: read planes, or windows of planes, into memory or into a temporary file."""

import functools
import itertools
import math
import mmap
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_dff.runtime.file_array import FileArray
from napari_dff.runtime.progress import Progress, no_progress, raise_if_cancelled
from napari_dff.runtime.threads import run_parallel, thread_count
from napari_dff.runtime.windows import Window

MAX_PARALLEL_BYTES = 64 << 20  # of chunks that are decoded at a time; larger ones one by one
CHUNK_COPIES = 3.3  # of a chunk in memory while it is decoded
LARGE_TEMPORARY_FOLDER = "/var/tmp"  # on a disk, where /tmp may be in memory


def is_ready(planes: Any) -> bool:
    """Return whether windows can be read many times at little cost: no file must be decoded."""
    return isinstance(planes, (np.ndarray, FileArray))


def load_planes(planes: Any, progress: Progress = no_progress) -> np.ndarray:
    """Return `planes` in memory, or from which parts are read at little cost: `is_ready`."""
    if is_ready(planes):
        return planes
    out = np.empty(tuple(planes.shape), planes.dtype)
    copy_chunks(planes, out, progress)
    return out


def copy_chunks(planes: Any, target: np.ndarray, progress: Progress) -> None:
    """Copy lazy planes into an array of the same shape; each chunk is decoded once."""

    def copy(region: tuple[slice, ...]) -> None:
        raise_if_cancelled()
        target[region] = planes[region]
        release_mapped_pages(target)

    regions = list(itertools.product(*map(_spans, chunk_lengths(planes))))
    if _is_parallel(planes):
        run_parallel(copy, regions, progress, desc="Reading")
    else:
        for region in progress(regions, desc="Reading"):
            copy(region)


def as_plane_file(planes: Any, progress: Progress = no_progress) -> Any:
    """Return planes whose chunks cover several planes as a memory map; others unchanged.

    The map is of a temporary file without a name, which is removed with the array. It is needed to
    read single planes without decoding the chunks again for each. OSError if the disk is too small.
    """
    if is_ready(planes) or max(chunk_lengths(planes)[0]) == 1:
        return planes
    mapped = temporary_array(tuple(planes.shape), planes.dtype)
    copy_chunks(planes, mapped, progress)
    return mapped


def temporary_array(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a memory map of a temporary file without a name; OSError if the disk is too small."""
    size, folder = math.prod(shape) * np.dtype(dtype).itemsize, temporary_folder()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(
            f"planes are unpacked to {folder}, which needs {size / 1e9:.3g} GB, but only "
            f"{free / 1e9:.3g} GB are free there: name another folder in the variable TMPDIR"
        )
    with tempfile.TemporaryFile(dir=folder, prefix="napari-dff-") as file:
        if hasattr(os, "posix_fallocate"):  # or a full disk ends the process when a page is written
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, "r+", shape=shape)


def temporary_folder() -> str:
    """Return the folder for large temporary files: TMPDIR if set, else one on a disk."""
    has_choice = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    if not has_choice and os.access(LARGE_TEMPORARY_FOLDER, os.W_OK):
        return LARGE_TEMPORARY_FOLDER
    return tempfile.gettempdir()


def chunk_lengths(planes: Any) -> list[tuple[int, ...]]:
    """Return the lengths of the chunks along each axis; of an array without chunks, planes."""
    shape = planes.shape
    chunks = getattr(planes, "chunks", None) or (1, *shape[1:])
    return [
        each if isinstance(each, tuple) else (*(each,) * (n // each), *(n % each,) * (n % each > 0))
        for n, each in zip(shape, chunks, strict=True)
    ]


def decoding_bytes(planes: Any) -> float:
    """Return how much memory is needed to decode the chunks of lazy planes that are read."""
    if is_ready(planes):
        return 0.0
    is_parallel = _is_parallel(planes) or max(chunk_lengths(planes)[0]) == 1
    return CHUNK_COPIES * _largest_chunk(planes) * (thread_count() if is_parallel else 1)


def _is_parallel(planes: Any) -> bool:
    """Return whether chunks are copied in parallel."""
    return thread_count() * _largest_chunk(planes) <= MAX_PARALLEL_BYTES


def _largest_chunk(planes: Any) -> int:
    """Return the bytes of the largest chunk.

    Chunks in a file may cover several channels and times, and are decoded whole. The graph of dask
    has the array that decodes them, with their size, in a layer of its own.
    """
    size = math.prod(map(max, chunk_lengths(planes))) * int(np.dtype(planes.dtype).itemsize)
    layers = getattr(getattr(planes, "dask", None), "layers", {}).values()
    sources = (source for layer in layers if len(layer) == 1 for source in layer.values())
    return max(size, *(int(getattr(source, "chunk_bytes", 0)) for source in sources), 0)


def _spans(lengths: tuple[int, ...]) -> list[slice]:
    ends = list(itertools.accumulate(lengths))
    return [slice(end - n, end) for end, n in zip(ends, lengths, strict=True)]


def read_window(
    planes: Any, window: Window, used: np.ndarray | slice = slice(None), *, in_file: bool = False
) -> np.ndarray:
    """Return `window` of the planes at indices `used`, (Z, h, w[, 3]).

    Of lazy planes, nothing else is read. The result is in memory, unless `is_ready` planes are in a
    file. With `in_file`, it is a view of an array, else a `temporary_array`.
    """
    if is_ready(planes) and not in_file:
        return planes[(slice(None), *window.slices)][used]
    if isinstance(planes, np.ndarray) and isinstance(used, slice):
        return planes[(used, *window.slices)]
    return read_windows(planes, [window], used, in_file=in_file)[0]


def read_windows(
    planes: Any,
    windows: Sequence[Window],
    used: np.ndarray | slice = slice(None),
    *,
    in_file: bool = False,
) -> list[np.ndarray]:
    """Return copies of `windows` of the planes at indices `used`, each (Z, h, w[, 3]).

    The windows are read from each plane together, as lazy planes are often decoded whole. Copies
    are in memory or, if `in_file`, each is a `temporary_array`.
    """
    indices, allocate = np.arange(planes.shape[0])[used], temporary_array if in_file else np.empty
    sizes = ((len(indices), *window.shape, *planes.shape[3:]) for window in windows)
    copies: list[np.ndarray] = [allocate(size, planes.dtype) for size in sizes]
    around = functools.reduce(Window.union, windows)
    depth = max(chunk_lengths(planes)[0])  # so that each chunk is decoded once

    def read(first: int) -> None:
        low, high = np.searchsorted(indices, (first, first + depth)).tolist()
        if low == high:
            return
        values = planes[(slice(first, first + depth), *around.slices)]
        values = values if is_ready(values) else np.asarray(values)
        for copy, window in zip(copies, windows, strict=True):
            for k in range(low, high):
                copy[k] = values[(int(indices[k]) - first, *window.slices_in(around))]
            release_mapped_pages(copy)
        release_mapped_pages(planes)

    run_parallel(read, range(0, planes.shape[0], depth), no_progress, desc="Reading")
    return copies


def release_mapped_pages(planes: Any) -> None:
    """Release the memory that a memory map occupies; its pages are read again when needed."""
    mapped: Any = getattr(getattr(planes, "planes", planes), "_mmap", None)
    if sys.platform != "win32" and mapped is not None and getattr(planes, "mode", "r") != "c":
        mapped.madvise(mmap.MADV_DONTNEED)


def take(array: Any, index: tuple[int, ...]) -> Any:
    """Return the part of an array at `index` along its leading axes; lazy arrays stay lazy."""
    return as_indexable(array, len(index))[index] if index else array


def as_indexable(array: Any, leading: int) -> Any:
    """Return an array that supports slices; others, as of zarr, become dask arrays, not read."""
    return array if is_ready(array) else as_dask(array, leading)


def as_dask(array: Any, leading: int) -> Any:
    """Return an array as a dask array, with a chunk for each index of its `leading` axes."""
    if hasattr(array, "dask"):
        return array
    import dask.array as da  # takes 0.3 s

    chunks = getattr(array, "chunks", None) or (*(1,) * leading, *array.shape[leading:])
    return da.from_array(array, chunks=chunks, name=False)  # type: ignore[no-untyped-call]
