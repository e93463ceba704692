"""Focal stacks that were taken together: at all times, positions and channels."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.model import checks
from napari_dff.model.stack import FocalStack, drop_alpha
from napari_dff.runtime.lazy import take
from napari_dff.runtime.progress import Progress, with_location
from napari_dff.runtime.words import shorten

CHANNEL_LABELS = ("c", "ch", "channel", "channels")
AXIS_WORDS = {"t": "time", "p": "position", "c": "channel"}
TIME_RANGE = checks.Range(0.0, checks.MAX_MAGNITUDE, 1.0)  # s
Index = tuple[int, ...]  # along the leading axes


@dataclass(frozen=True, eq=False)
class Acquisition:
    """Focal stacks along named leading axes, such as time and channel; nothing is read yet.

    Each stack is reconstructed separately, but channels share the depth of the focus channel, so
    that results have length 1 along the channel axis.

    Parameters
    ----------
    data : (…, Z, Y, X), (…, Z, Y, X, 3) or (…, Z, Y, X, 4) array
        Alpha is dropped; numpy, memory map, zarr or dask, with the leading axes `axes`.
    positions : (Z,) or (…, Z) array
        Focus position of each plane in `unit`, strictly rising or falling along Z; for all stacks,
        or for each index along the leading axes, with or without the channel axis. The attribute
        is (…, Z) float64 with all leading axes but the channel axis.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length, as napari's ``layer.units`` spells it ("micrometer"), or "pixel".
    channels : tuple of str
        Names of the channels.
    name : str
        Of the position; empty if the file has only one.
    axes : tuple of str
        Names of the leading axes, lower case.
    focus_channel : int
        The channel whose focus determines the depth.
    files : tuple of Path
        Files and folders that the planes are read from; empty if they are in memory.
    has_pixel_size : bool
        Whether the pixel size is known; False if only the positions have a unit of length.
    exif : mapping
        What the camera wrote into the first plane, by the names of EXIF: "Model", "FNumber".
    icc_profile : bytes
        Colour profile of the planes; empty if there is none.
    time_increment : float, optional
        Seconds from one time to the next; None if it is unknown.

    Raises
    ------
    ValueError
        If any of these does not fit the others.
    """

    data: Any
    positions: Any
    pixel_size: tuple[float, float] = (1.0, 1.0)
    unit: str = "pixel"
    channels: tuple[str, ...] = ("",)
    name: str = ""
    axes: tuple[str, ...] = ("t", "c")
    focus_channel: int = 0
    files: tuple[Path, ...] = ()
    has_pixel_size: bool = True
    exif: Mapping[str, Any] = field(default_factory=dict)
    icc_profile: bytes = b""
    time_increment: float | None = None

    def __post_init__(self) -> None:
        self._check_types()
        leading = len(self.axes)
        object.__setattr__(self, "data", drop_alpha(self.data, leading + 4))
        shape = tuple(self.data.shape)
        if len(shape) - leading not in (3, 4) or 0 in shape[:leading]:
            names = ", ".join([*self.axes, "z", "y", "x"]).upper()
            raise ValueError(f"data must have axes ({names}[, 3]), got shape {shape}")
        object.__setattr__(self, "positions", self._positions_per_stack())
        count = 1 if self.channel_axis is None else shape[self.channel_axis]
        if len(self.channels) != count:
            raise ValueError(f"channels must be {count} names, one for each, got {self.channels}")
        if not 0 <= self.focus_channel < count:
            raise ValueError(f"focus channel must be 0 to {count - 1}, got {self.focus_channel}")
        self.stack()  # checks planes, positions and unit

    def _check_types(self) -> None:
        if not (hasattr(self.data, "shape") and hasattr(self.data, "dtype")):
            raise ValueError(f"data must be an array, got {shorten(self.data)}")
        for name in ("axes", "channels"):
            values = getattr(self, name)
            if isinstance(values, str) or not _are_instances(values, str):
                raise ValueError(f"{name} must be a tuple of names, got {shorten(values)}")
        if not _are_instances(self.files, Path):
            raise ValueError(f"files must be a tuple of paths, got {shorten(self.files)}")
        checks.check_type("name", self.name, str)
        checks.check_type("exif", self.exif, Mapping)
        checks.check_type("icc_profile", self.icc_profile, bytes)
        checks.check_type("focus_channel", self.focus_channel, int)
        if self.time_increment is not None:
            TIME_RANGE.check("time_increment", self.time_increment)

    def _positions_per_stack(self) -> np.ndarray:
        leading, count = self.leading_shape, self.data.shape[len(self.axes)]
        positions: np.ndarray = checks.as_numbers("positions", self.positions).astype(np.float64)
        per_stack = shape = (*self.drop_channel(leading), count)
        channel = self.channel_axis if positions.ndim == len(leading) + 1 else None
        if channel is not None:
            shape = (*leading, count)
        if positions.ndim in (1, len(shape)) and positions.shape[-1] == count:
            with contextlib.suppress(ValueError):  # of a shape that does not fit
                positions = np.broadcast_to(positions, shape)
                return (positions if channel is None else positions.take(0, axis=channel)).copy()
        expected = f"one number per plane, ({count},) or {per_stack}"
        raise ValueError(f"positions must be {expected}, got shape {positions.shape}")

    @property
    def leading_shape(self) -> Index:
        """Lengths of the leading axes."""
        return tuple(self.data.shape[: len(self.axes)])

    @property
    def channel_axis(self) -> int | None:
        """Number of the channel axis, if there is one."""
        return channel_axis(self.axes)

    @property
    def result_shape(self) -> Index:
        """Lengths of the leading axes of a result: 1 for the channel axis."""
        return self.with_channel(self.leading_shape, 1)

    @property
    def indices(self) -> list[Index]:
        """Index of each result along the leading axes: 0 along the channel axis."""
        return list(np.ndindex(self.result_shape))

    @property
    def times(self) -> int:
        """Number of times."""
        return int(self.leading_shape[self.axes.index("t")]) if "t" in self.axes else 1

    @property
    def other_channels(self) -> list[int]:
        """All channels but the focus channel."""
        return [c for c in range(len(self.channels)) if c != self.focus_channel]

    def with_channel(self, index: Index, channel: int) -> Index:
        """Return `index` with another channel; that of a result has channel 0."""
        return tuple(channel if i == self.channel_axis else n for i, n in enumerate(index))

    def focus_index(self, index: Index) -> Index:
        """Return `index` with the focus channel."""
        return self.with_channel(index, self.focus_channel)

    def drop_channel(self, index: Index) -> Index:
        """Return `index` without its entry for the channel axis."""
        return tuple(n for i, n in enumerate(index) if i != self.channel_axis)

    def previous_time(self, index: Index) -> Index | None:
        """Return the index of the time before; None at the first time, or without a time axis."""
        axis = self.axes.index("t") if "t" in self.axes else None
        if axis is None or index[axis] == 0:
            return None
        return tuple(n - (i == axis) for i, n in enumerate(index))

    def stack(self, *index: int) -> FocalStack:
        """Return the focal stack at `index`, not read yet; missing indices are 0."""
        if len(index) > len(self.axes):
            raise ValueError(f"index must have at most {len(self.axes)} numbers, got {len(index)}")
        for name, number, length in zip(self.axes, index, self.leading_shape, strict=False):
            checks.Range(0, length - 1, 1).check(AXIS_WORDS.get(name, name), number)
        index += (0,) * (len(self.axes) - len(index))
        positions = self.positions[self.drop_channel(index)]
        return FocalStack(take(self.data, index), positions, self.pixel_size, self.unit)

    def focus_stack(self, index: Index) -> FocalStack:
        """Return the focal stack of the focus channel at `index`."""
        return self.channel_stack(index, self.focus_channel)

    def channel_stack(self, index: Index, channel: int) -> FocalStack:
        """Return the focal stack of a channel at `index`."""
        return self.stack(*self.with_channel(index, channel))

    def iterate(self, progress: Progress) -> Iterator[tuple[Index, Progress]]:
        """Yield the index of each result, with a progress that names it."""
        for index in self.indices:
            yield index, with_location(progress, self.describe(index))

    def describe(self, index: Index) -> str:
        """Return the index of a result in words, see `describe_index`."""
        return describe_index(self.axes, index, self.result_shape)

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return one array of the results at all `indices`, with their leading axes."""
        return np.stack(parts).reshape(*self.result_shape, *parts[0].shape)

    def channel(self, wanted: str | int | None) -> int:
        """Return the number of a channel, 0 … C-1, by name or number.

        Raises
        ------
        ValueError
            If `wanted` is None although there are several channels, or if there is no such channel.
        """
        if wanted is None and len(self.channels) == 1:
            return 0
        index = find_index(wanted, self.channels)
        if index is not None:
            return index
        names = ", ".join(f"{i} {name}".strip() for i, name in enumerate(self.channels))
        if wanted is None:
            raise ValueError(f"the focus channel must be chosen, of {names}")
        raise ValueError(f"the focus channel must be one of {names}, got {shorten(wanted)}")


def _are_instances(values: Any, kind: type) -> bool:
    """Return whether values are a tuple or list whose entries are all a `kind`."""
    return isinstance(values, tuple | list) and all(isinstance(each, kind) for each in values)


def find_index(wanted: str | int | None, names: Sequence[str]) -> int | None:
    """Return the index of a name that occurs once, or an index itself; None if there is none."""
    if isinstance(wanted, str) and names.count(wanted) == 1:
        return names.index(wanted)
    number = int(wanted) if isinstance(wanted, str) and wanted.isdecimal() else wanted
    return number if isinstance(number, int) and 0 <= number < len(names) else None


def channel_axis(axes: Sequence[str]) -> int | None:
    """Return the number of the channel axis among leading axes; None if there is none."""
    return next((i for i, name in enumerate(axes) if name in CHANNEL_LABELS), None)


def describe_index(axes: Sequence[str], index: Sequence[int], shape: Sequence[int]) -> str:
    """Return an index in words, without axes of length 1: "time 3 of 20, position 1 of 2"."""
    axes = [AXIS_WORDS.get(name, name) for name in axes]
    parts = zip(axes, index, shape, strict=False)
    return ", ".join(f"{name} {i + 1} of {n}" for name, i, n in parts if n > 1)
