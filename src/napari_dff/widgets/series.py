"""Stacks with axes before Z, Y, X: every time and position on its own, channels alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import psutil
from napari.layers import Image
from napari.viewer import Viewer

from napari_dff.progress import Progress, no_progress, with_location
from napari_dff.registration import LazyAlignedStack
from napari_dff.registration.lazy_stack import load_aligned
from napari_dff.stack import FocalStack
from napari_dff.widgets.axes import channel_axis, describe_index, leading_axis_names
from napari_dff.widgets.geometry import index_in_view
from napari_dff.widgets.layers import (
    at_index,
    leading_shape,
    pixel_size_of,
    planes_of,
    plugin_metadata,
    positions_of,
    require_stack,
    unit_of,
)
from napari_dff.windows import full_window

HELD = 0.5  # of the memory that is free, which aligned planes may take
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Series:
    """The focal stacks of a layer: one for each place along the axes before Z, and each channel.

    A layer with axes Z, Y, X has one place, (), and one channel.

    Parameters
    ----------
    planes : (…, Z, Y, X) or (…, Z, Y, X, 3) array
        Unread where they are lazy.
    names : tuple of str
        Of the axes before Z.
    positions : (Z,) or (…, Z) array
        Focus positions, in `unit`.
    pixel_size : (float, float)
    unit : str
    focus : int
        The channel whose focus tells the depth.
    """

    planes: Any
    names: tuple[str, ...]
    positions: np.ndarray
    pixel_size: tuple[float, float]
    unit: str
    focus: int = 0

    def __post_init__(self) -> None:
        self.stack(self.places[0])  # tells what doesn't fit

    @property
    def lengths(self) -> tuple[int, ...]:
        """Of the axes before Z."""
        return tuple(self.planes.shape[: len(self.names)])

    @property
    def channel(self) -> int | None:
        """Which of these axes is that of the channels."""
        return channel_axis(self.names)

    @property
    def channels(self) -> int:
        """How many there are."""
        return 1 if self.channel is None else self.lengths[self.channel]

    @property
    def others(self) -> list[int]:
        """All channels but that of the focus."""
        return [channel for channel in range(self.channels) if channel != self.focus]

    @property
    def apart(self) -> tuple[int, ...]:
        """Lengths of the axes before Z, 1 for that of the channels, which are done together."""
        return tuple(1 if i == self.channel else n for i, n in enumerate(self.lengths))

    @property
    def places(self) -> list[tuple[int, ...]]:
        """Where there is a stack: an index for each axis before Z, 0 for the channel."""
        return list(np.ndindex(self.apart))

    def at(self, place: tuple[int, ...], channel: int | None = None) -> tuple[int, ...]:
        """`place` in a channel; in that of the focus if None."""
        wanted = self.focus if channel is None else channel
        return tuple(wanted if i == self.channel else n for i, n in enumerate(place))

    def stack(self, place: tuple[int, ...], channel: int | None = None) -> FocalStack:
        """The focal stack of a channel at a place, unread; of the focus channel if None."""
        where = self.at(place, channel)
        planes, positions = part_of(self.planes, where), at_index(self.positions, where, 1)
        return FocalStack(planes, positions, self.pixel_size, self.unit)

    def nearest(self, place: tuple[int, ...]) -> tuple[int, ...]:
        """The place of a stack, of any index along the axes before Z."""
        return tuple(0 if i == self.channel else n for i, n in enumerate(place))

    def in_turn(self, progress: Progress) -> Iterator[tuple[tuple[int, ...], Progress]]:
        """Every place, with a progress that says which it is."""
        for place in self.places:
            yield place, with_location(progress, self.words(place))

    def words(self, place: tuple[int, ...]) -> str:
        """How a place is called: "time 3 of 20, position 1 of 2"; empty where there is only one."""
        return describe_index(self.names, place, self.apart)

    def joined(self, parts: Sequence[Any]) -> Any:
        """What was found at every place, in one array with the axes of the layer before its own.

        The axis of the channels has length 1.
        """
        return np.stack(parts).reshape(*self.apart, *parts[0].shape) if self.names else parts[0]

    def joined_channels(self, parts: Sequence[Sequence[Any]]) -> Any:
        """Likewise what was found of every channel at every place."""
        if not self.names:
            return parts[0][0]
        own = tuple(parts[0][0].shape)
        together = np.stack([np.stack(part) for part in parts])
        if self.channel is None:
            return together.reshape(*self.lengths, *own)
        others = [n for i, n in enumerate(self.lengths) if i != self.channel]
        laid = together.reshape(*others, self.channels, *own)
        return np.moveaxis(laid, len(others), self.channel)


def series_of(layer: Image | None, focus: int | None = None) -> Series:
    """The focal stacks in an Image layer; ValueError with a sentence when it holds none.

    Also where nobody has named its axes, or there are several channels and none is chosen.
    """
    layer = require_stack(layer)
    names = leading_axis_names(layer)
    axis = channel_axis(names)
    count = 1 if axis is None else leading_shape(layer)[axis]
    if count == 1:
        focus = 0
    if focus is None:
        raise ValueError(
            f"choose the focus channel of {layer.name!r}: the one of its {count} channels whose "
            "focus tells the depth"
        )
    if not 0 <= focus < count:
        raise ValueError(f"focus channel must be 0 to {count - 1}, got {focus}")
    where = positions_of(layer), pixel_size_of(layer), unit_of(layer)
    return Series(planes_of(layer), names, *where, focus)


def stack_in_view(viewer: Viewer, layer: Image, *, focus: bool = True) -> FocalStack:
    """The stack of a layer at which the sliders stand.

    Of its focus channel if that is known, or always of the channel in view if not `focus`.
    """
    seen, names = index_in_view(viewer, require_stack(layer)), leading_axis_names(layer)
    axis = channel_axis(names)
    shown = None if axis is None else seen[axis]
    series = series_of(
        layer, plugin_metadata(layer).get("focus_channel", shown) if focus else shown
    )
    return series.stack(series.nearest(seen))


def part_of(planes: Any, place: tuple[int, ...]) -> Any:
    """The stack at a place, unread where `planes` are."""
    return unread(planes, len(place))[place] if place else planes


def unread(planes: Any, before: int) -> Any:
    """An array that can be indexed without being read, as zarr's own can't; `before` are axes."""
    if isinstance(planes, np.ndarray) or hasattr(planes, "dask"):
        return planes
    import dask.array as da  # 0.3 s, needed only here

    chunks = getattr(planes, "chunks", None) or (*(1,) * before, *planes.shape[before:])
    return da.from_array(planes, chunks=chunks, name=False)  # type: ignore[no-untyped-call]


class AlignedPlanes:
    """Aligned planes of a series: in memory where they fit there, else moved when they are read.

    Attributes
    ----------
    held : bool
        Whether they are in memory.
    """

    def __init__(self, series: Series) -> None:
        shape, dtype = tuple(series.planes.shape), np.dtype(series.planes.dtype)
        needed = np.prod(shape, dtype=float) * dtype.itemsize
        self.held = bool(needed <= HELD * psutil.virtual_memory().available)
        self._series = series
        self._out = np.empty(shape, dtype) if self.held and series.names else None
        self._parts: list[list[Any]] = [[None] * series.channels for _ in series.places]

    def put(
        self,
        place: tuple[int, ...],
        channel: int,
        moved: LazyAlignedStack,
        planes: np.ndarray | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Take the planes of one channel at a place; `planes` are what they are, where known."""
        if not self.held:
            self._parts[self._series.places.index(place)][channel] = _when_read(moved)
            return
        if planes is None:
            planes, _ = load_aligned(moved, progress)
        if self._out is None:
            self._parts[0][0] = planes
        else:
            self._out[self._series.at(place, channel)] = planes

    def together(self) -> Any:
        """All of them, with the axes of the layer."""
        return self._series.joined_channels(self._parts) if self._out is None else self._out


def _when_read(moved: LazyAlignedStack) -> Any:
    """Dask array of planes that are moved when one is read."""
    import dask.array as da  # 0.3 s, needed only here

    empty = np.empty((0,) * moved.ndim, moved.dtype)
    chunks = (1, *moved.shape[1:])
    return da.from_array(moved, chunks=chunks, name=False, meta=empty)  # type: ignore[no-untyped-call]


def valid_in(moved: LazyAlignedStack) -> np.ndarray:
    """Where every plane has data: (Y, X) bool."""
    return moved.valid(full_window((moved.shape[1], moved.shape[2])))
