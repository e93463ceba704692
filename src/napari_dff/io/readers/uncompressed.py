"""Uncompressed pixels in one piece of a file, read part by part.

They are not memory-mapped: if a mapped file is cut while it is read, the system ends the process.
"""

import itertools
import math
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.io.readers.axes import StackError

CHUNK_BYTES = 8 << 20  # of the rows that are read at a time
MIN_WIDTH_SHARE = 0.25  # of the columns; if fewer are needed, rows are read one by one


class UncompressedArray:
    """A C-contiguous array in a file; only the rows and columns that are indexed are read."""

    def __init__(
        self,
        path: Path,
        dtype: np.dtype[Any],
        offset: int,
        shape: tuple[int, ...],
        row_axis: int,  # Y; X follows, then perhaps colours
    ) -> None:
        self._path, self._offset, self._row_axis = path, offset, row_axis
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self._pixel_bytes = dtype.itemsize * math.prod(shape[row_axis + 2 :])
        rows = max(1, CHUNK_BYTES // (self._pixel_bytes * shape[row_axis + 1]))
        self.chunks = (*(1,) * row_axis, min(rows, shape[row_axis]), *shape[row_axis + 1 :])

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return a part, indexed by integers and slices; StackError if the file ends before it."""
        index = index if isinstance(index, tuple) else (index,)
        index += (slice(None),) * (self.ndim - len(index))
        last = self._row_axis + 2
        pairs = [_bounds(part, n) for part, n in zip(index[:last], self.shape, strict=False)]
        *leading, rows, columns = (bounds for bounds, _ in pairs)
        shape = (*(len(bounds) for bounds, _ in pairs), *self.shape[last:])
        out = np.empty(shape, self.dtype)
        if out.size:
            with FileIO(self._path) as file:
                for at in itertools.product(*leading):
                    target = out[tuple(i - span.start for i, span in zip(at, leading, strict=True))]
                    plane = int(np.ravel_multi_index(at, self.shape[: len(at)])) if at else 0
                    self._read_plane(file, plane, rows, columns, target)
        return out[(*(within for _, within in pairs), *index[last:])]

    def _read_plane(
        self, file: FileIO, plane: int, rows: range, columns: range, target: np.ndarray
    ) -> None:
        height, width = self.shape[self._row_axis : self._row_axis + 2]

        def read(row: int, column: int, values: np.ndarray) -> None:
            pixel = (plane * height + row) * width + column
            self._read_into(file, self._offset + pixel * self._pixel_bytes, values)

        if len(columns) == width:
            read(rows.start, 0, target)
        elif len(columns) >= MIN_WIDTH_SHARE * width:
            slab = np.empty((len(rows), width, *target.shape[2:]), self.dtype)
            read(rows.start, 0, slab)
            target[:] = slab[:, columns.start : columns.stop]
        else:
            for k, row in enumerate(rows):
                read(row, columns.start, target[k])

    def _read_into(self, file: FileIO, position: int, values: np.ndarray) -> None:
        file.seek(position)
        rest = values.reshape(-1).view(np.uint8).data
        while len(rest):
            count = file.readinto(rest)
            if not count:
                raise StackError(f"{self._path.name} ends before its pixels: it is cut short")
            rest = rest[count:]


def _bounds(index: Any, size: int) -> tuple[range, Any]:
    """Return the range that an integer or slice covers, and its index in that range."""
    places = range(size)[index]
    if isinstance(places, int):
        return range(places, places + 1), 0
    if not places:
        return range(0), slice(None)
    low, high = sorted((places[0], places[-1]))
    return range(low, high + 1), slice(None, None, places.step)
