"""Aligned planes that are resampled where and when they are read."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_dff.imaging.images import as_dtype, read_plane
from napari_dff.imaging.warp import clear_outside, source_window, warp_window
from napari_dff.model.checks import as_numbers
from napari_dff.registration.report import PlaneReport
from napari_dff.runtime.lazy import release_mapped_pages
from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.windows import Window, full_window, plan_windows

MAX_BLOCK_PX = 1024  # longer side of the blocks that are resampled at a time
IDENTITY_TOLERANCE = 1e-9  # largest element of the difference to the identity
MAX_REPEAT_PX = 1.0  # beside a plane, where its border may count as data
MIN_LIT_SHARE = 0.5  # of the field, resampled
MIN_DETERMINANT = 1e-12  # of a transform that can be inverted


@dataclass(frozen=True, eq=False)
class LazyAlignedStack:
    """Planes that are resampled, and brought to one exposure, where and when they are read.

    Each pixel is resampled once, by cubic splines, and has the same value in a window as in the
    whole plane. Only the part of a lazy array that a window needs is read. Borders are repeated
    where a plane has no data.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type; numpy, memory map, zarr or dask.
    transforms : (Z, 3, 3) array
        (y, x, 1) of a plane → (y, x, 1) of the result, as in `Alignment`.
    gains : (Z,) or (Z, 3) array, optional
        By which the values of each plane, or of each of its channels, are multiplied; 1 when None.
    report : tuple of PlaneReport
        How each plane was aligned; empty where the transforms were known.
    window : Window, optional
        The part of the aligned planes that is the result; the pixels of the planes if None.
    notes : tuple of str
        Sentences on doubtful planes.
    field : (Y, X) bool array, optional
        The lit part of every plane, within a black border that does not move with the specimen, as
        of an eyepiece; planes have no data outside it. All of a plane if None.

    Raises
    ------
    ValueError
        When `transforms` or `gains` do not fit the planes, or a transform has no inverse.
    """

    planes: Any
    transforms: np.ndarray
    gains: np.ndarray | None = None
    report: tuple[PlaneReport, ...] = ()
    window: Window | None = None
    notes: tuple[str, ...] = ()
    field: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self)
        transforms = as_numbers("transforms", self.transforms).astype(np.float64)
        if transforms.shape != (count, 3, 3):
            raise ValueError(
                f"transforms must be one 3 × 3 matrix for each of the {count} planes, "
                f"got shape {transforms.shape}"
            )
        for i, m in enumerate(transforms):
            if not np.isfinite(m).all() or abs(np.linalg.det(m)) < MIN_DETERMINANT:
                raise ValueError(f"transforms must have inverses, got {m.tolist()} for plane {i}")
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
        return (*self.planes.shape[:1], *self._frame.shape, *self.planes.shape[3:])

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
        """Whether the planes are returned unchanged."""
        if self.gains is not None or self._frame != full_window(self._size):
            return False
        return all(self._inverse(i) is None for i in range(len(self)))

    def __len__(self) -> int:
        return int(self.planes.shape[0])

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return a part, indexed by integers and slices along (Z, Y, X[, 3]), in memory."""
        index = index if isinstance(index, tuple) else (index,)
        plane, y, x, *channels = index + (slice(None),) * (3 - len(index))
        top, bottom, rows = _bounds(y, self.shape[1])
        left, right, columns = _bounds(x, self.shape[2])
        window, within = Window(top, bottom, left, right), (rows, columns, *channels)
        planes = range(len(self))[plane]
        if isinstance(planes, int):
            return self._read(planes, window)[within]
        out = np.empty((len(planes), *window.shape, *self.shape[3:]), dtype=self.dtype)
        for k, i in enumerate(planes):
            out[k] = self._read(i, window)
        return out[(slice(None), *within)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def valid(self, window: Window) -> np.ndarray:
        """Return where in `window` every plane has data: (h, w) bool."""
        valid, window = np.ones(window.shape, dtype=bool), self._in_planes(window)
        for inverse in map(self._inverse, range(len(self))):
            if inverse is not None:
                clear_outside(valid, inverse, window, self._size)
            self._clear_dark(valid, inverse, window)
        return valid

    def plane_mask(self, window: Window) -> np.ndarray | None:
        """Return where in `window` each plane has data: (Z, h, w) bool; None if all have it.

        Or lies at most `MAX_REPEAT_PX` beside its border, which is repeated there.
        """
        mask = np.ones((len(self), *window.shape), dtype=bool)
        window = self._in_planes(window)
        for i in range(len(self)):
            inverse = self._inverse(i)
            if inverse is not None:
                clear_outside(mask[i], inverse, window, self._size, MAX_REPEAT_PX)
            self._clear_dark(mask[i], inverse, window)
        return None if mask.all() else mask

    def _clear_dark(self, valid: np.ndarray, inverse: np.ndarray | None, window: Window) -> None:
        """Set (h, w) `valid` to False where a plane is outside the lit field."""
        if self.field is None:
            return
        if inverse is None:
            valid &= self.field[window.slices]
            return
        part = source_window(inverse, window, full_window(self._size))
        lit = self.field[part.slices].astype(np.float32)
        valid &= warp_window(lit, part, self._size, inverse, window) > MIN_LIT_SHARE

    @property
    def _size(self) -> tuple[int, int]:
        return self.planes.shape[1], self.planes.shape[2]

    @property
    def _frame(self) -> Window:
        return self.window or full_window(self._size)

    def _in_planes(self, window: Window) -> Window:
        """Return a window of the result in the pixels of the reference plane."""
        return window.shift(self._frame.top, self._frame.left)

    def _inverse(self, i: int) -> np.ndarray | None:
        """Return the transform from the result to plane `i`; None for the identity."""
        if np.abs(self.transforms[i] - np.eye(3)).max() <= IDENTITY_TOLERANCE:
            return None
        return np.linalg.inv(self.transforms[i])

    def _read(self, i: int, window: Window) -> np.ndarray:
        """Return a window of plane `i`, resampled in blocks from the `part` of it that is read."""
        out = np.empty((*window.shape, *self.shape[3:]), dtype=self.dtype)
        if not out.size:
            return out
        inverse, size, window = self._inverse(i), self._size, self._in_planes(window)
        part = window if inverse is None else source_window(inverse, window, full_window(size))
        source = read_plane(self.planes, i, part.slices)
        if inverse is None and self.gains is None:
            return source
        tops = range(window.top, window.bottom, MAX_BLOCK_PX)
        lefts = range(window.left, window.right, MAX_BLOCK_PX)
        for top, left in itertools.product(tops, lefts):
            bottom, right = top + MAX_BLOCK_PX, left + MAX_BLOCK_PX
            block = Window(top, min(bottom, window.bottom), left, min(right, window.right))
            needed = block if inverse is None else source_window(inverse, block, part)
            values = source[needed.slices_in(part)]
            if inverse is not None:
                values = as_dtype(warp_window(values, needed, size, inverse, block), self.dtype)
            if self.gains is not None:
                values = as_dtype(values * self.gains[i], self.dtype)
            out[block.slices_in(window)] = values
        return out


def load_aligned(aligned: LazyAlignedStack, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """Return all planes in memory, (Z, Y, X[, 3]), and where every plane has data, (Y, X) bool."""
    out = np.empty(aligned.shape, dtype=aligned.dtype)
    size = aligned.shape[1], aligned.shape[2]
    valid = np.empty(size, dtype=bool)

    def resample_plane(i: int) -> None:
        out[i] = aligned[i]
        release_mapped_pages(aligned)

    def fill_valid(window: Window) -> None:
        valid[window.slices] = aligned.valid(window)

    run_parallel(resample_plane, range(len(aligned)), progress, desc="Resampling")
    run_parallel(fill_valid, plan_windows(size, 1), no_progress, desc="")
    return out, valid


def _bounds(index: Any, size: int) -> tuple[int, int, Any]:
    """Return start and stop of the range that an integer or slice covers, and its index in it."""
    places = range(size)[index]
    if isinstance(places, int):
        return places, places + 1, 0
    if not places:
        return 0, 0, slice(None)
    first, last = sorted((places[0], places[-1]))
    return first, last + 1, slice(None, None, places.step)
