"""Arrange arrays with axes named by the file or the user as (T, C, Z, Y, X[, 3])."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.io.readers.calibration import UNCALIBRATED, Calibration
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.stack import MIN_PLANES
from napari_dff.runtime.file_array import CHANGED, FileState, file_state
from napari_dff.runtime.free_memory import available_bytes
from napari_dff.runtime.words import shorten

AXIS_ORDER = "PTCZYXS"  # position, time, channel, focus, row, column, sample (red, green, blue)
CHUNK_PX = 512
MAX_REASON = 300  # characters of a message of a library


class StackError(ValueError):
    """A file or folder that can't be read as a focal stack."""


def reason(error: Exception) -> str:
    """Return the message of an error of a library, in one line."""
    if isinstance(error, (ArithmeticError, AttributeError, IndexError, TypeError)):
        return "its metadata are inconsistent"
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"there is no {os.fspath(error.filename)!r}"
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 1]}…"  # of a file's content


@contextlib.contextmanager
def as_stack_error(problem: str) -> Iterator[None]:
    """Raise a StackError with `problem` and the reason for any other error."""
    try:
        yield
    except StackError:
        raise
    except Exception as error:  # decoders raise many types for damaged files
        raise StackError(f"{problem}: {reason(error)}") from error


@dataclass(frozen=True, eq=False)
class Source:
    """One array of a file, loaded on demand, and its metadata."""

    data: Any  # numpy, dask or `runtime.file_array.FileArray`
    axes: tuple[str, ...]  # a letter of `AXIS_ORDER`, another name that the file uses, or ""
    file: str  # name of the file, for messages
    name: str = ""  # of the position
    channels: tuple[str, ...] = ()  # names, if the file has any
    calibration: Calibration = UNCALIBRATED
    warnings: tuple[str, ...] = ()  # on doubtful content
    files: tuple[Path, ...] = ()  # that contain the data, in addition to the requested one
    exif: Mapping[str, Any] = field(
        default_factory=dict
    )  # of the first plane, by the names of EXIF
    icc_profile: bytes = b""  # of the colours; empty if the file has none

    @property
    def axis_lengths(self) -> str:
        """Axes and lengths, for messages: "T 3, Z 5, Y 512, X 512"."""
        pairs = zip(self.axes, self.data.shape, strict=True)
        return ", ".join(f"{axis or 'unnamed'} {length}" for axis, length in pairs)


def check_axes(axes: str) -> str:
    """Return `axes` in capitals; ValueError unless letters of `AXIS_ORDER` with Z, Y and X."""
    letters = axes.upper() if isinstance(axes, str) else ""
    is_unique = len(set(letters)) == len(letters)
    if not (is_unique and set("ZYX") <= set(letters) <= set(AXIS_ORDER)):
        raise ValueError(
            "axes must be letters of P (position), T, C, Z, Y, X and S (red, green, blue), each "
            f"once and Z, Y and X among them, for example TZYX; got {shorten(axes)}"
        )
    return letters


def as_dask_array(
    array: Any,
    chunks: Sequence[int],
    axes: Sequence[str],
    file: str,  # name for messages
    paths: Any = None,  # of the files that must not change: one, or an array for the leading axes
) -> Any:
    """Wrap an indexable array as a dask array in native byte order."""
    import dask.array as da  # 0.3 s, needed only here

    check_memory(file, chunks, array.dtype)
    pairs = zip(chunks, axes, strict=True)  # small chunks are merged: each has a fixed cost
    windows = tuple(max(n, CHUNK_PX // n * n) if axis in ("Y", "X") else n for n, axis in pairs)
    source = DecodedArray(array, file, paths)
    source.chunk_bytes = math.prod(chunks) * array.dtype.itemsize
    lazy = da.from_array(source, chunks=windows, name=False)  # type: ignore[no-untyped-call]
    return lazy if lazy.dtype.isnative else lazy.astype(lazy.dtype.newbyteorder("="))


def check_memory(file: str, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Raise StackError if an array of this shape, read from a header, does not fit in memory."""
    size, available = math.prod(shape) * dtype.itemsize, available_bytes()
    if size > available:
        chunks = f"chunks of {size / 1e9:.1f} GB, each decoded at once"
        free = f"only {available / 1e9:.1f} GB of memory are free"
        raise StackError(f"{file} has {chunks}, but {free}")


class DecodedArray:
    """Array decoded on indexing; raises StackError with the name of the file if that fails."""

    chunk_bytes = 0  # that are decoded at once, of all axes

    def __init__(self, array: Any, file: str, paths: Any = None) -> None:
        self._array, self._file = array, file
        self._paths = np.asarray(paths, object)
        self._states = {path: file_state(path) for path in self._paths.flat if path}
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, index: Any) -> np.ndarray:
        with as_stack_error(f"{self._file} can't be decoded"):
            try:
                return np.asarray(self._array[index])
            finally:
                for path in filter(None, set(np.ravel(self._paths[index[: self._paths.ndim]]))):
                    check_unchanged(path, self._states[path])


def check_unchanged(path: Path | str, state: FileState) -> None:
    """Raise StackError unless a file has the size and the time of change that it had."""
    if file_state(path) != state:
        raise StackError(CHANGED.format(Path(path).name))


def make_acquisitions(sources: Sequence[Source], axes: str | None) -> tuple[Acquisition, ...]:
    """Return one Acquisition for each position; StackError if planes or focus axis are unclear.

    Thumbnails, labels and overviews are skipped where there are stacks. Positions without a unique
    name are numbered.
    """
    if len(sources) > 1:
        stacks = [source for source in sources if _may_be_stack(source, axes)]
        if not stacks and len(sources) >= MIN_PLANES and all(map(_is_single_image, sources)):
            kinds = f"{len(sources)} single images of different kinds, as of size or compression"
            raise StackError(f"{sources[0].file} holds {kinds}: save all pages in one way")
        sources = stacks or sources
    acquisitions = [each for source in sources for each in _positions(source, axes)]
    names = [each.name for each in acquisitions]
    if len(names) == 1:
        names = [""]
    elif len(set(names)) < len(names) or "" in names:
        names = [f"position {i}" for i in range(len(names))]
    pairs = zip(acquisitions, names, strict=True)
    return tuple(dataclasses.replace(each, name=name) for each, name in pairs)


def _positions(source: Source, axes: str | None) -> list[Acquisition]:
    """Return the acquisition of each position of one array; only a single one has a name."""
    data = _in_standard_order(source, _find_focus_axis(source, axes))
    count, times, channels, planes = data.shape[:4]
    fields = source.calibration.acquisition_fields(times, planes)
    fields["channels"] = source.channels if len(source.channels) == channels else ("",) * channels
    fields["name"] = source.name if count == 1 else ""
    fields |= {"exif": source.exif, "icc_profile": source.icc_profile}
    fields["time_increment"] = source.calibration.time_increment if times > 1 else None
    try:
        return [Acquisition(each, **fields) for each in data]
    except ValueError as error:
        raise StackError(f"{source.file}: {error}") from error


def _axis_names(source: Source, axes: str | None) -> tuple[str, ...]:
    """Return the name of each axis: from `axes`, the choice of the user, or else from the file."""
    if axes is None:
        return source.axes
    shape = source.data.shape
    all_axes = range(len(shape))
    without_samples = [i for i in all_axes if source.axes[i] != "S"]  # samples needn't be named
    for candidates in (without_samples if "S" not in axes else all_axes, all_axes):
        for indices in (candidates, [i for i in candidates if shape[i] > 1]):
            if len(indices) == len(axes):
                letters = dict(zip(indices, axes, strict=True))
                return tuple(letters.get(i, "" if i in candidates else "S") for i in all_axes)
    expected = f"name each axis of {source.file}, which are {source.axis_lengths}"
    raise StackError(f"axes must {expected}; got {axes!r}")


def _may_be_stack(source: Source, axes: str | None) -> bool:
    """Return whether an array has enough planes, or axes that the user must name."""
    try:
        names = _axis_names(source, axes)
    except StackError:
        return False
    lengths = {name: n for name, n in zip(names, source.data.shape, strict=True) if n > 1}
    return lengths.get("Z", 1) >= MIN_PLANES or not all(map(_is_axis_letter, lengths))


def _is_single_image(source: Source) -> bool:
    """Return whether an array has only rows, columns and colours."""
    pairs = zip(source.axes, source.data.shape, strict=True)
    return all(n == 1 or name in ("Y", "X", "S") for name, n in pairs)


def _is_axis_letter(name: str) -> bool:
    return len(name) == 1 and name in AXIS_ORDER


def _find_focus_axis(source: Source, axes: str | None) -> tuple[str, ...]:
    """Return the names of the axes with the focus axis; StackError if it is ambiguous."""
    names = _axis_names(source, axes)
    description = f"{source.file} has the axes {source.axis_lengths}"
    pairs = list(zip(names, source.data.shape, strict=True))
    other_axes = [name for name, n in pairs if n > 1 and name not in ("Y", "X", "S")]
    if other_axes == [""] and "Z" not in names:  # a TIFF with pages, or a folder of frames
        return tuple("Z" if not name and n > 1 else name for name, n in pairs)
    if not all(map(_is_axis_letter, other_axes)):
        example = _example_axes(other_axes)
        raise StackError(f"{description}: name them in their order, for example --axes {example}")
    if "Z" in other_axes:
        return names
    if not other_axes and names[:1] == ("S",):  # as tifffile stores three or four planes
        other_axes = ["S"]
    if not other_axes:
        raise StackError(f"{description}: a single image, not a focal stack")
    focus_axis = "T" if "T" in other_axes else other_axes[-1]
    example = "".join("Z" if name == focus_axis else name for name in other_axes) + "YX"
    hint = f"if it is {focus_axis}, use --axes {example}"
    raise StackError(f"{description}, none of which is the focus axis (Z): {hint}")


def _example_axes(other_axes: list[str]) -> str:
    """Return an example of axis letters; axes without a letter get unused ones."""
    unnamed_count = sum(not _is_axis_letter(name) for name in other_axes)
    available = [letter for letter in "ZTCP" if letter not in other_axes][:unnamed_count]
    remaining = iter(sorted(available, key=AXIS_ORDER.index))
    letters = (name if _is_axis_letter(name) else next(remaining, "") for name in other_axes)
    return "".join(letters) + "YX"


def _in_standard_order(source: Source, names: tuple[str, ...]) -> Any:
    """Return the lazy array as (P, T, C, Z, Y, X[, 3])."""
    data = source.data[tuple(slice(None) if _is_axis_letter(name) else 0 for name in names)]
    letters = list(filter(_is_axis_letter, names))
    data = data.transpose([letters.index(letter) for letter in AXIS_ORDER if letter in letters])
    data = data[tuple(slice(None) if letter in letters else None for letter in AXIS_ORDER[:-1])]
    if "S" not in letters:
        return data
    if data.shape[-1] > 4:
        rule = "samples (S) must be 1 to 4, grey or colour with or without alpha"
        raise StackError(f"{source.file} has the axes {source.axis_lengths}: {rule}")
    return without_alpha(data)


def without_alpha(pixels: Any) -> Any:
    """Return (…, S) of grey or colour, S 1 to 4, without alpha: (…) or (…, 3)."""
    return pixels[..., 0] if pixels.shape[-1] < 3 else pixels[..., :3]
