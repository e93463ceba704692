"""Focal stacks that were taken together: all times and channels of one position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_dff.stack import FocalStack


@dataclass(frozen=True, eq=False)
class Acquisition:
    """All times and channels of one position, none of them read yet.

    Parameters
    ----------
    data : (T, C, Z, Y, X) or (T, C, Z, Y, X, 3) array
        numpy, memory map or dask; T and C are 1 where there is only one.
    positions : (T, Z) array
        Focus position of each plane at each time, in `unit`, strictly rising or falling along Z.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length, as napari's ``layer.units`` spells it ("micrometer"), or "pixel".
    channels : tuple of str
        Names of the channels, one each.
    name : str
        Of the position; empty where the file has only one.

    Raises
    ------
    ValueError
        When any of these doesn't fit, with one sentence that says which and why.
    """

    data: Any
    positions: Any
    pixel_size: tuple[float, float] = (1.0, 1.0)
    unit: str = "pixel"
    channels: tuple[str, ...] = ("",)
    name: str = ""

    def __post_init__(self) -> None:
        shape = tuple(self.data.shape)
        if len(shape) not in (5, 6) or 0 in shape:
            raise ValueError(f"data must have axes (T, C, Z, Y, X[, 3]), got shape {shape}")
        positions = np.asarray(self.positions, dtype=np.float64)
        if positions.shape != (shape[0], shape[2]):
            raise ValueError(
                f"positions must hold one number a time and plane, {(shape[0], shape[2])}, "
                f"got shape {positions.shape}"
            )
        object.__setattr__(self, "positions", positions)
        if len(self.channels) != shape[1]:
            raise ValueError(
                f"channels must be one name for each of the {shape[1]}, got {self.channels}"
            )
        self.stack()  # tells what else doesn't fit

    @property
    def times(self) -> int:
        """How many times there are."""
        return int(self.data.shape[0])

    def stack(self, time: int = 0, channel: int = 0) -> FocalStack:
        """One focal stack of it, unread."""
        planes = self.data[time, channel]
        return FocalStack(planes, self.positions[time], self.pixel_size, self.unit)

    def channel(self, wanted: str | int | None) -> int:
        """The number of a channel, 0 … C-1, by its name or number; None where there is one only.

        Raises
        ------
        ValueError
            Where there are several and none is wanted, or none of that name or number.
        """
        if wanted is None and len(self.channels) == 1:
            return 0
        if isinstance(wanted, int) and 0 <= wanted < len(self.channels):
            return wanted
        if isinstance(wanted, str):
            if self.channels.count(wanted) == 1:
                return self.channels.index(wanted)
            if wanted.isdecimal() and int(wanted) < len(self.channels):
                return int(wanted)
        known = ", ".join(f"{i} {name}".strip() for i, name in enumerate(self.channels))
        if wanted is None:
            raise ValueError(f"the focus channel must be chosen, of {known}")
        raise ValueError(f"the focus channel must be one of {known}, got {wanted!r}")
