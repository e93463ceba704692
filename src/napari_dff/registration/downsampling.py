"""Planes read shrunk, a strip of rows at a time, so that little is held however large they are."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_dff.images import luminance
from napari_dff.lazy import read_plane, release_mapped_pages
from napari_dff.warp import shrunk, times

LARGEST = 1024  # pixels: planes with a longer side are compared shrunk
STRIP = 1 << 22  # values that are read and shrunk at a time, about


@dataclass(frozen=True, eq=False)
class Shrunk:
    """Planes as means of `factor` × `factor` pixels; what is left over is dropped.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type; numpy, memory map, zarr or dask. Each part is read once.
    colourless : bool
        Luminance, as float32; else what is shrunk is float32, and what isn't stays as it is.
    """

    planes: Any
    colourless: bool = False

    @property
    def factor(self) -> int:
        """How often planes are shrunk, to a longer side of `LARGEST`."""
        return times(self.planes.shape[1:3], LARGEST)

    @property
    def shape(self) -> tuple[int, ...]:
        """(Z, Y, X), or (Z, Y, X, 3) unless `colourless`."""
        count, height, width, *channels = self.planes.shape
        size = (count, height // self.factor, width // self.factor)
        return size if self.colourless else (*size, *channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the planes as long as they are what they were, else float32."""
        stays = self.factor == 1 and not self.colourless
        return np.dtype(self.planes.dtype if stays else np.float32)

    def __getitem__(self, index: tuple[int, slice, slice]) -> np.ndarray:
        """The part (rows, columns) of one plane."""
        i, rows, columns = index
        if self.factor == 1:
            part = read_plane(self.planes, i, (rows, columns))
            return luminance(part) if self.colourless else part
        top, bottom, _ = rows.indices(self.shape[1])
        left, right, _ = columns.indices(self.shape[2])
        across = slice(self.factor * left, self.factor * right)
        look = luminance if self.colourless else _as_float32
        means = [
            shrunk(look(strip), self.factor)
            for down in self._bands(self.factor * top, self.factor * bottom)
            for strip in self._strips(read_plane(self.planes, i, (down, across)))
        ]
        release_mapped_pages(self.planes)
        return np.concatenate(means)

    def _bands(self, top: int, bottom: int) -> list[slice]:
        """Rows that are read at a time: whole chunks, lest they are decoded again and again."""
        chunks = getattr(self.planes, "chunks", None)
        chunk = 1 if not chunks else int(np.max(chunks[1]))
        rows = -(-self._few // chunk) * chunk
        rows = -(-rows // self.factor) * self.factor
        edges = [top, *range((top // rows + 1) * rows, bottom, rows), bottom]
        return [slice(*pair) for pair in itertools.pairwise(edges)]

    def _strips(self, part: np.ndarray) -> list[np.ndarray]:
        """`part` in strips that are shrunk at a time."""
        return [part[k : k + self._few] for k in range(0, len(part), self._few)]

    @property
    def _few(self) -> int:
        """Rows of a strip, so many that whole ones are left of them when shrunk."""
        width = int(np.prod(self.planes.shape[2:]))
        return max(1, STRIP // width // self.factor) * self.factor


def _as_float32(part: np.ndarray) -> np.ndarray:
    return np.asarray(part, dtype=np.float32)
