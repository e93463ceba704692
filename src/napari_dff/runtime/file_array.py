"""Arrays in uncompressed files, of which only the parts that are needed are read.

They are not memory-mapped: if a mapped file is cut while it is read, the system ends the process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.lib.stride_tricks import as_strided

MAX_EXCESS = 4  # bytes that are read at once, over those that are needed; more, if a row has
MAX_ROW_EXCESS = 1 << 15  # at most so many more, which take less time than one more read
MAX_READ = 1 << 21  # bytes that are then read at once
CHANGED = "{} has changed since it was opened: open it again when it is complete"
FileState = tuple[int, int] | None  # size and time of change; None if there is no file


class FileArray(NDArrayOperatorsMixin):
    """An array in a file. Indexing and transposing read nothing, all else reads the array.

    Raises
    ------
    OSError
        On reading, if the file has changed since it was opened, or ends before the array does.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], offset: int, shape: Sequence[int]) -> None:
        self._path, self._state, self._offset = path, file_state(path), offset
        strides = np.cumprod([dtype.itemsize, *shape[:0:-1]])[::-1]
        # Shape and strides of the array, but none of its values: only positions are taken from it.
        self._map = as_strided(np.empty(1, dtype), shape, tuple(map(int, strides)))

    def _view(self, part: np.ndarray) -> FileArray:
        view = object.__new__(FileArray)
        view._path, view._state, view._map = self._path, self._state, part
        view._offset = self._offset + _address(part) - _address(self._map)
        return view

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles have the place in the file: those of the map would read its values.
        layout = self._map.dtype, self._map.shape, self._map.strides
        return _restore, (self._path, self._state, self._offset, *layout)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self._map.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._map.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values in memory, in native byte order."""
        return self._map.dtype.newbyteorder("=")

    def __len__(self) -> int:
        return len(self._map)

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        if all(part is None or part is Ellipsis or _is_basic(part) for part in parts):
            view = self._map[index]
            return self._view(view) if isinstance(view, np.ndarray) else self._value(parts)
        return np.asarray(self)[index]

    def _value(self, parts: tuple[Any, ...]) -> Any:
        """Return a single value."""
        return np.asarray(self._view(self._map[(*parts, ...)]))[()]

    def transpose(self, *axes: Any) -> FileArray:
        """Return the array with its axes in another order."""
        return self._view(self._map.transpose(*axes))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("copy must not be False: the array is in a file")
        out = np.empty(self.shape, self.dtype)
        if out.size:
            self._check_unchanged()
            with FileIO(self._path) as file:
                _read(file, self._map, self._offset, out)
            self._check_unchanged()
        return out if dtype is None else out.astype(dtype, copy=False)

    def _check_unchanged(self) -> None:
        if file_state(self._path) != self._state:
            raise OSError(CHANGED.format(self._path.name))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        values = (np.asarray(each) if isinstance(each, FileArray) else each for each in inputs)
        return getattr(ufunc, method)(*values, **settings)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"FileArray has no attribute {name}")
        return getattr(np.asarray(self), name)


def _restore(
    path: Path,
    state: FileState,
    offset: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> FileArray:
    """Return an array from what `FileArray.__reduce__` keeps."""
    array = object.__new__(FileArray)
    array._path, array._state, array._offset = path, state, offset
    array._map = as_strided(np.empty(1, dtype), shape, strides)
    return array


def file_state(path: Path | str) -> FileState:
    """Return size and time of change of a file; None if there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, status.st_mtime_ns


def _is_basic(part: Any) -> bool:
    return isinstance(part, (int, np.integer, slice)) and not isinstance(part, bool)


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _read(file: FileIO, part: np.ndarray, offset: int, out: np.ndarray) -> None:
    """Read an array of the strides of `part`, whose first value is at `offset`, into `out`."""
    spans = [(n - 1) * stride for n, stride in zip(part.shape, part.strides, strict=True)]
    first = sum(span for span in spans if span < 0)
    size = sum(map(abs, spans)) + part.itemsize
    if part.ndim > 1 and size > MAX_EXCESS * part.nbytes:
        stride = part.strides[0]
        is_far = abs(stride) - part[0].nbytes > MAX_ROW_EXCESS
        step = 1 if is_far else max(1, MAX_READ // max(1, abs(stride)))
        if step < len(part):
            for i in range(0, len(part), step):
                here = i if step == 1 else slice(i, i + step)
                _read(file, part[here], offset + i * stride, out[here])
            return
    if part.flags.c_contiguous and part.dtype.isnative and out.flags.c_contiguous:
        _read_bytes(file, offset, out.reshape(-1).view(np.uint8).data)
        return
    values = np.empty(size, np.uint8)
    _read_bytes(file, offset + first, values.data)
    start = np.frombuffer(values.data, part.dtype, 1, -first)
    out[...] = as_strided(start, part.shape, part.strides)


def _read_bytes(file: FileIO, position: int, target: memoryview) -> None:
    file.seek(position)
    while len(target):
        count = file.readinto(target)
        if not count:
            name = Path(str(file.name)).name
            raise OSError(f"{name} ends before its pixels: it is cut short")
        target = target[count:]
