"""Planes that are downsampled where they are read, strip by strip, in little memory."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_dff.imaging.images import luminance, read_plane
from napari_dff.imaging.warp import downsample, downsampling_factor
from napari_dff.runtime.lazy import release_mapped_pages

MAX_SIDE_PX = 1024  # longer side of the planes that are compared
STRIP_VALUES = 1 << 22  # numbers that are read and downsampled at a time, about


@dataclass(frozen=True, eq=False)
class DownsampledStack:
    """Means of `factor` × `factor` pixels; rows and columns that do not fill a block are dropped.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type; numpy, memory map, zarr or dask. Each part is read once.
    as_grey : bool
        Return the luminance, float32. Otherwise channels are kept, as float32 where `factor` is
        more than 1.
    """

    planes: Any
    as_grey: bool = False

    @property
    def factor(self) -> int:
        """The factor by which the longer side becomes `MAX_SIDE_PX` or less."""
        return downsampling_factor(self.planes.shape[1:3], MAX_SIDE_PX)

    @property
    def shape(self) -> tuple[int, ...]:
        """(Z, Y, X), or (Z, Y, X, 3) unless `as_grey`."""
        count, height, width, *channels = self.planes.shape
        size = (count, height // self.factor, width // self.factor)
        return size if self.as_grey else (*size, *channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the planes where they are returned as they are, otherwise float32."""
        unchanged = self.factor == 1 and not self.as_grey
        return np.dtype(self.planes.dtype if unchanged else np.float32)

    def __getitem__(self, index: tuple[int, slice, slice]) -> np.ndarray:
        """Return a part (rows, columns) of one plane."""
        i, rows, columns = index
        if self.factor == 1:
            part = read_plane(self.planes, i, (rows, columns))
            return luminance(part) if self.as_grey else part
        top, bottom, _ = rows.indices(self.shape[1])
        left, right, _ = columns.indices(self.shape[2])
        full_columns = slice(self.factor * left, self.factor * right)
        convert = luminance if self.as_grey else _as_float32
        means = [
            downsample(convert(strip), self.factor)
            for full_rows in self._row_blocks(self.factor * top, self.factor * bottom)
            for strip in self._strips(read_plane(self.planes, i, (full_rows, full_columns)))
        ]
        release_mapped_pages(self.planes)
        return np.concatenate(means)

    def _row_blocks(self, top: int, bottom: int) -> list[slice]:
        """Return the rows that are read at a time: whole chunks, so that each is decoded once."""
        chunks = getattr(self.planes, "chunks", None)
        chunk_rows = 1 if not chunks else int(np.max(chunks[1]))
        rows = -(-self._strip_rows // chunk_rows) * chunk_rows
        rows = -(-rows // self.factor) * self.factor
        edges = [top, *range((top // rows + 1) * rows, bottom, rows), bottom]
        return [slice(*pair) for pair in itertools.pairwise(edges)]

    def _strips(self, part: np.ndarray) -> list[np.ndarray]:
        """Split `part` into the strips that are downsampled at a time."""
        rows = self._strip_rows
        return [part[k : k + rows] for k in range(0, len(part), rows)]

    @property
    def _strip_rows(self) -> int:
        """The number of rows of a strip, a multiple of `factor`."""
        width = int(np.prod(self.planes.shape[2:]))
        return max(1, STRIP_VALUES // width // self.factor) * self.factor


def _as_float32(part: np.ndarray) -> np.ndarray:
    return np.asarray(part, dtype=np.float32)
