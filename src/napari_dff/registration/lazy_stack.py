"""Planes moved where and when they are read: nothing as large as the stack is held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_dff.images import as_dtype
from napari_dff.lazy import read_plane, release_mapped_pages
from napari_dff.progress import Progress, no_progress
from napari_dff.registration.estimation import PlaneReport
from napari_dff.threads import run_parallel
from napari_dff.validation import as_numbers
from napari_dff.warp import narrow, needed, warped
from napari_dff.windows import Window, full_window, plan_windows

PIECE = 1024  # pixels, longest side of what is moved in one go
STILL = 1e-9  # a motion as near as this to none is none
SINGULAR = 1e-12  # determinant of a motion that can't be undone


@dataclass(frozen=True, eq=False)
class LazyAlignedStack:
    """Planes that are moved, and brought to one light, where and when they are read.

    Each pixel is resampled once, by cubic splines, whether a window is read or all: of a lazy
    array no more is read than the window needs. Borders are repeated where a plane has no data.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type; numpy, memory map, zarr or dask.
    transforms : (Z, 3, 3) array
        (y, x, 1) of a plane → (y, x, 1) of the result, as in `Alignment`.
    gains : (Z,) or (Z, 3) array, optional
        Factors of the light of each plane, or of each of its channels; None keeps it.
    report : tuple of PlaneReport
        How each plane was aligned; empty where the transforms were known.

    Raises
    ------
    ValueError
        When transforms or gains don't belong to as many planes, or a motion can't be undone.
    """

    planes: Any
    transforms: np.ndarray
    gains: np.ndarray | None = None
    report: tuple[PlaneReport, ...] = ()

    def __post_init__(self) -> None:
        count, *_ = self.shape
        transforms = as_numbers("transforms", self.transforms).astype(np.float64)
        if transforms.shape != (count, 3, 3):
            raise ValueError(
                f"transforms must be one 3 × 3 matrix for each of the {count} planes, "
                f"got shape {transforms.shape}"
            )
        for i, matrix in enumerate(transforms):
            if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < SINGULAR:
                raise ValueError(
                    f"transforms must have inverses, got {matrix.tolist()} for plane {i}"
                )
        object.__setattr__(self, "transforms", transforms)
        if self.gains is None:
            return
        gains = np.asarray(self.gains, dtype=np.float64)
        if gains.shape not in {(count,), (count, *self.shape[3:])} or not np.isfinite(gains).all():
            raise ValueError(
                f"gains must be one number for each of the {count} planes, or one a channel, "
                f"got shape {gains.shape}"
            )
        object.__setattr__(self, "gains", gains)

    @property
    def shape(self) -> tuple[int, ...]:
        """(Z, Y, X) or (Z, Y, X, 3)."""
        return tuple(self.planes.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the planes."""
        return np.dtype(self.planes.dtype)

    @property
    def ndim(self) -> int:
        """3, or 4 for colour."""
        return len(self.shape)

    @property
    def is_identity(self) -> bool:
        """Whether the planes are as they were."""
        return self.gains is None and all(self._back(i) is None for i in range(len(self)))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """What `index` (of planes, rows, columns, channels: numbers or slices) says, in memory."""
        given = index if isinstance(index, tuple) else (index,)
        which, down, across, *channels = given + (slice(None),) * (3 - len(given))
        top, bottom, rows = _span(down, self.shape[1])
        left, right, columns = _span(across, self.shape[2])
        window, left_over = Window(top, bottom, left, right), (rows, columns, *channels)
        numbers = range(len(self))[which]
        if isinstance(numbers, int):
            return self._read(numbers, window)[left_over]
        out = np.empty((len(numbers), *window.shape, *self.shape[3:]), dtype=self.dtype)
        for k, i in enumerate(numbers):
            out[k] = self._read(i, window)
        return out[(slice(None), *left_over)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def valid(self, window: Window) -> np.ndarray:
        """Where in `window` every plane has data: (h, w) bool."""
        covered = np.ones(window.shape, dtype=bool)
        for i in range(len(self)):
            back = self._back(i)
            if back is not None:
                narrow(covered, back, window, self._size)
        return covered

    @property
    def _size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[1], self.shape[2]

    def _back(self, i: int) -> np.ndarray | None:
        """From the result to plane `i`; None where that stays."""
        if np.abs(self.transforms[i] - np.eye(3)).max() <= STILL:
            return None
        return np.linalg.inv(self.transforms[i])

    def _read(self, i: int, window: Window) -> np.ndarray:
        """One window of one plane."""
        if 0 in window.shape:
            return np.empty((*window.shape, *self.shape[3:]), dtype=self.dtype)
        back = self._back(i)
        part = window if back is None else needed(back, window, full_window(self._size))
        source = read_plane(self.planes, i, part.slices)
        if back is None and self.gains is None:
            return source
        out = np.empty((*window.shape, *self.shape[3:]), dtype=self.dtype)
        for piece in _pieces(window):
            need = piece if back is None else needed(back, piece, part)
            values = source[need.slices_in(part)]
            if back is not None:
                values = as_dtype(warped(values, need, self._size, back, piece), self.dtype)
            if self.gains is not None:
                values = as_dtype(values * self.gains[i], self.dtype)
            out[piece.slices_in(window)] = values
        return out


def load_aligned(moved: LazyAlignedStack, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """All planes in memory, (Z, Y, X[, 3]), and where every one has data, (Y, X) bool."""
    out = np.empty(moved.shape, dtype=moved.dtype)
    size = (moved.shape[1], moved.shape[2])
    valid = np.empty(size, dtype=bool)

    def move(i: int) -> None:
        out[i] = moved[i]
        release_mapped_pages(moved)

    def cover(window: Window) -> None:
        valid[window.slices] = moved.valid(window)

    run_parallel(move, range(len(moved)), progress, desc="Resampling")
    run_parallel(cover, plan_windows(size, 1), no_progress, desc="")
    return out, valid


def _span(index: Any, size: int) -> tuple[int, int, Any]:
    """First and last (exclusive) of the places that `index` names, and its index among those."""
    places = range(size)[index]
    if isinstance(places, int):
        return places, places + 1, 0
    if not places:
        return 0, 0, slice(None)
    first, last = sorted((places[0], places[-1]))
    return first, last + 1, slice(None, None, places.step)


def _pieces(window: Window) -> Iterator[Window]:
    """Windows of at most `PIECE` pixels a side that make up `window`."""
    for top in range(window.top, window.bottom, PIECE):
        for left in range(window.left, window.right, PIECE):
            bottom, right = min(top + PIECE, window.bottom), min(left + PIECE, window.right)
            yield Window(top, bottom, left, right)
