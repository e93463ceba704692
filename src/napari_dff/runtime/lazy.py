"""Lazy arrays: read planes, or windows of planes, into memory."""

import mmap
import sys
from typing import Any

import numpy as np

from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.windows import Window


def load_planes(planes: Any, progress: Progress = no_progress) -> np.ndarray:
    """Return `planes` in memory; numpy arrays and memory maps are returned unchanged."""
    if isinstance(planes, np.ndarray):
        return planes
    out = np.empty(tuple(planes.shape), planes.dtype)

    def read(i: int) -> None:
        out[i] = planes[i]

    run_parallel(read, range(len(out)), progress, desc="Reading")
    return out


def read_window(planes: Any, window: Window) -> np.ndarray:
    """Return `window` of all planes in memory, (Z, h, w[, 3]); of lazy planes read nothing else."""
    if isinstance(planes, np.ndarray):
        return planes[(slice(None), *window.slices)]
    part = np.empty((planes.shape[0], *window.shape, *planes.shape[3:]), planes.dtype)
    chunks = getattr(planes, "chunks", ((1,),))[0]
    depth = chunks if isinstance(chunks, int) else max(chunks)  # so that each is decoded once

    def read(first: int) -> None:
        some = slice(first, first + depth)
        part[some] = planes[(some if depth > 1 else first, *window.slices)]
        release_mapped_pages(planes)

    run_parallel(read, range(0, len(part), depth), no_progress, desc="Reading")
    return part


def release_mapped_pages(planes: Any) -> None:
    """Release the memory that a memory map occupies; its pages are read again when needed."""
    mapped: Any = getattr(getattr(planes, "planes", planes), "_mmap", None)
    if sys.platform != "win32" and mapped is not None and getattr(planes, "mode", "r") != "c":
        mapped.madvise(mmap.MADV_DONTNEED)


def take(array: Any, index: tuple[int, ...]) -> Any:
    """Return the part of an array at `index` along its leading axes; lazy arrays stay lazy."""
    return as_indexable(array, len(index))[index] if index else array


def as_indexable(array: Any, leading: int) -> Any:
    """Return a numpy or dask array: others, as of zarr, become dask arrays without being read."""
    if isinstance(array, np.ndarray) or hasattr(array, "dask"):
        return array
    import dask.array as da  # takes 0.3 s

    chunks = getattr(array, "chunks", None) or (*(1,) * leading, *array.shape[leading:])
    return da.from_array(array, chunks=chunks, name=False)  # type: ignore[no-untyped-call]
