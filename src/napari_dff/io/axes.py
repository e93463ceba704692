"""From an array whose axes a file, or a person, names to (T, C, Z, Y, X[, 3])."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from napari_dff.acquisition import Acquisition
from napari_dff.io.calibration import UNCALIBRATED, Calibration
from napari_dff.stack import MIN_PLANES

ORDER = "PTCZYXS"  # position, time, channel, focus, row, column, sample (red, green, blue)
CHUNK = 512  # pixels


class StackError(ValueError):
    """A file or folder that can't be read as a focal stack; the sentence says why."""


def reason(error: Exception) -> str:
    """What an error of a library says, in one line."""
    if isinstance(error, (ArithmeticError, AttributeError, IndexError, TypeError)):
        return "what it says of itself doesn't fit together"
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@dataclass(frozen=True, eq=False)
class Source:
    """One array of a file, unread, with what the file says about it.

    Parameters
    ----------
    data : array
        numpy, memory map or dask.
    axes : tuple of str
        A letter of `ORDER` for each axis of `data`, another word where it is none of these, and
        nothing where the file doesn't name it.
    file : str
        Name of the file, for sentences.
    name : str
        Of the position.
    channels : tuple of str
        Their names, if the file has any.
    calibration : Calibration
    doubts : tuple of str
        What is odd about it, in sentences.
    files : tuple of Path
        Files that it is read from, beside the one that was asked for.
    """

    data: Any
    axes: tuple[str, ...]
    file: str
    name: str = ""
    channels: tuple[str, ...] = ()
    calibration: Calibration = UNCALIBRATED
    doubts: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def counts(self) -> str:
        """Axes and lengths, for sentences: "T 3, Z 5, Y 512, X 512"."""
        pairs = zip(self.axes, self.data.shape, strict=True)
        return ", ".join(f"{axis or 'unnamed'} {length}" for axis, length in pairs)


def check_axes(axes: str) -> str:
    """`axes` in capitals; ValueError unless they are letters of `ORDER` with Z, Y and X."""
    letters = axes.upper()
    once = len(set(letters)) == len(letters)
    if not (once and set("ZYX") <= set(letters) <= set(ORDER)):
        raise ValueError(
            "axes must be letters of P (position), T, C, Z, Y, X and S (red, green, blue), each "
            f"once and Z, Y and X among them, for example TZYX; got {axes!r}"
        )
    return letters


def unread(array: Any, chunks: Sequence[int], axes: Sequence[str], file: str) -> Any:
    """Dask array over something that can be indexed, in the byte order of this machine.

    Small chunks are joined to windows of about `CHUNK` rows and columns, since each costs time of
    its own. `file` is named in the StackError when a chunk can't be decoded.
    """
    import dask.array as da  # 0.3 s, needed only here

    check_piece(file, chunks, array.dtype)
    joined = tuple(
        max(n, CHUNK // n * n) if axis in ("Y", "X") else n
        for n, axis in zip(chunks, axes, strict=True)
    )
    told = Decoded(array, file)
    lazy = da.from_array(told, chunks=joined, name=False)  # type: ignore[no-untyped-call]
    return lazy if lazy.dtype.isnative else lazy.astype(lazy.dtype.newbyteorder("="))


def check_piece(file: str, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """StackError where what must be decoded at once, as a header claims it, doesn't fit in memory.

    Nothing of a file needs to be there for such a claim.
    """
    size, free = math.prod(shape) * dtype.itemsize, psutil.virtual_memory().available
    if size > free:
        raise StackError(
            f"{file} claims pieces of {size / 1e9:.1f} GB, which are decoded at once, and "
            f"{free / 1e9:.1f} GB of memory are free"
        )


class Decoded:
    """What is decoded when it is indexed; a StackError that names the file where it can't be."""

    def __init__(self, array: Any, file: str) -> None:
        self._array, self._file = array, file
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, where: Any) -> np.ndarray:
        try:
            return np.asarray(self._array[where])
        except Exception as error:  # every decoder has its own
            raise StackError(f"{self._file} can't be decoded: {reason(error)}") from error


def acquisitions(sources: Sequence[Source], axes: str | None) -> tuple[Acquisition, ...]:
    """One Acquisition for each position in `sources`.

    Thumbnails, labels and overviews beside stacks are left out. Positions without a name of their
    own are called by their number.

    Raises
    ------
    StackError
        Where it isn't known which axis holds the focus positions, or they don't make a stack.
    """
    if len(sources) > 1:
        sources = [source for source in sources if _deep(source, axes)] or sources
    found = [each for source in sources for each in _positions(source, axes)]
    names = [name for name, _ in found]
    if len(found) == 1:
        names = [""]
    elif len(set(names)) < len(names) or "" in names:
        names = [f"position {i}" for i in range(len(found))]
    return tuple(
        Acquisition(**fields, name=name) for name, (_, fields) in zip(names, found, strict=True)
    )


def _positions(source: Source, axes: str | None) -> list[tuple[str, dict[str, Any]]]:
    """Name and fields of an Acquisition for each position of one array."""
    data = _arranged(source, _complete(source, axes))
    times, channels, planes = data.shape[1:4]
    names = source.channels if len(source.channels) == channels else ("",) * channels
    fields = {"channels": tuple(names), **source.calibration.at(times, planes)}
    found = [{"data": each, **fields} for each in data]
    try:
        Acquisition(**found[0])
    except ValueError as error:
        raise StackError(f"{source.file}: {error}") from error
    return [(source.name if len(found) == 1 else "", each) for each in found]


def _named(source: Source, axes: str | None) -> tuple[str, ...]:
    """Name of each axis: the person's, or else the file's."""
    if axes is None:
        return source.axes
    shape = source.data.shape
    every = range(len(shape))
    coloured = [i for i in every if source.axes[i] != "S"]  # samples needn't be named
    for among in (coloured if "S" not in axes else every, every):
        for places in (among, [i for i in among if shape[i] > 1]):
            if len(places) == len(axes):
                names = ["S" if i not in among else "" for i in every]
                for i, letter in zip(places, axes, strict=True):
                    names[i] = letter
                return tuple(names)
    raise StackError(
        f"axes must name each axis of {source.file}, which are {source.counts}; got {axes!r}"
    )


def _deep(source: Source, axes: str | None) -> bool:
    """Whether it looks like a stack, or like something that must be asked about."""
    try:
        names = _named(source, axes)
    except StackError:
        return False
    lengths = {name: n for name, n in zip(names, source.data.shape, strict=True) if n > 1}
    return lengths.get("Z", 1) >= MIN_PLANES or not all(map(_known, lengths))


def _known(name: str) -> bool:
    return len(name) == 1 and name in ORDER


def _complete(source: Source, axes: str | None) -> tuple[str, ...]:
    """Name of each axis, the focus axis among them; StackError where it isn't known which it is."""
    names, told = _named(source, axes), f"{source.file} has the axes {source.counts}"
    pairs = list(zip(names, source.data.shape, strict=True))
    further = [name for name, n in pairs if n > 1 and name not in ("Y", "X", "S")]
    if (
        further == [""] and "Z" not in names
    ):  # what a file of many pages, or a folder of frames, is when nobody says
        return tuple("Z" if not name and n > 1 else name for name, n in pairs)
    if not all(map(_known, further)):
        example = _example(further)
        raise StackError(f"{told}: name them in their order, for example --axes {example}")
    if "Z" in further:
        return names
    if not further and names[:1] == ("S",):  # as tifffile stores three or four planes
        further = ["S"]
    if not further:
        raise StackError(f"{told}: a single image, not a focal stack")
    mistaken = "T" if "T" in further else further[-1]
    example = "".join("Z" if name == mistaken else name for name in further) + "YX"
    raise StackError(
        f"{told}, none of them of focus positions (Z): if {mistaken} holds them, say --axes "
        f"{example}"
    )


def _example(further: list[str]) -> str:
    """Letters for all axes but Y and X, as they could be: those that have none get what is left."""
    missing = sum(not _known(name) for name in further)
    free = [letter for letter in "ZTCP" if letter not in further][:missing]
    left = iter(sorted(free, key=ORDER.index))
    return "".join(name if _known(name) else next(left, "") for name in further) + "YX"


def _arranged(source: Source, names: tuple[str, ...]) -> Any:
    """The array as (P, T, C, Z, Y, X) or (P, T, C, Z, Y, X, 3), unread."""
    data = source.data[tuple(slice(None) if _known(name) else 0 for name in names)]
    letters = [name for name in names if _known(name)]
    data = data.transpose([letters.index(letter) for letter in ORDER if letter in letters])
    data = data[tuple(slice(None) if letter in letters else None for letter in ORDER[:-1])]
    if "S" not in letters:
        return data
    samples = data.shape[-1]
    if samples > 4:
        raise StackError(
            f"{source.file} has the axes {source.counts}: samples (S) must be 1 to 4, grey or "
            "colour with or without alpha"
        )
    return data[..., 0] if samples < 3 else data[..., :3]  # without the alpha channel
