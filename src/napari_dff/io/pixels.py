"""An array as its file describes it, whatever the format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from napari_dff.stack import FocalStack
from napari_dff.windows import Window, full_window


@dataclass(frozen=True)
class Pixels:
    """What a file says of the array in it.

    Parameters
    ----------
    axes : str
        Letters of OME, in this order: T, C and Z where it has them, Y, X, and S for colour.
    shape : tuple of int
        Along `axes`.
    dtype : numpy dtype
        In the machine's byte order.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Of length, as napari spells it, or "pixel".
    positions : tuple of float
        Focus position of each plane along Z, in `unit`.
    channels : tuple of str
        Names of the channels along C.
    record : mapping, optional
        What made it, as JSON has it.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel_size: tuple[float, float]
    unit: str
    positions: tuple[float, ...] = ()
    channels: tuple[str, ...] = ()
    record: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype).newbyteorder("="))

    @classmethod
    def of_image(
        cls, image: Any, stack: FocalStack, record: Mapping[str, Any] | None = None
    ) -> Pixels:
        """One (Y, X[, 3]) image with the pixel size of `stack`."""
        axes = "YXS" if image.ndim == 3 else "YX"
        calibration = stack.pixel_size, stack.unit
        return cls(axes, tuple(image.shape), image.dtype, *calibration, record=record)

    @classmethod
    def of_stack(cls, stack: FocalStack, record: Mapping[str, Any] | None = None) -> Pixels:
        """The planes of `stack`."""
        axes, planes = "ZYXS" if len(stack.planes.shape) == 4 else "ZYX", stack.planes
        calibration = stack.pixel_size, stack.unit, tuple(map(float, stack.positions))
        return cls(axes, tuple(planes.shape), planes.dtype, *calibration, record=record)

    @property
    def colour(self) -> bool:
        """Whether a pixel has three values."""
        return self.axes.endswith("S")

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes before Y."""
        return self.shape[: self.axes.index("Y")]

    @property
    def plane(self) -> tuple[int, int]:
        """Height and width."""
        y = self.axes.index("Y")
        return self.shape[y], self.shape[y + 1]

    @property
    def nbytes(self) -> int:
        """Bytes that they take, uncompressed."""
        return math.prod(self.shape) * self.dtype.itemsize


class Growing(Protocol):
    """A file that is filled window by window; nothing of it is held in memory."""

    def put(self, values: np.ndarray, window: Window, where: tuple[int, ...]) -> None:
        """Write a window of the plane that `where` is the index of, along the axes before Y."""

    def get(self, window: Window, where: tuple[int, ...]) -> np.ndarray:
        """Read it back."""

    def shown(self, limits: list[tuple[float, float]]) -> None:
        """Say between which values each channel is best shown."""


def fill(file: Growing, data: Any, pixels: Pixels) -> None:
    """Write all planes of an array of the axes and shape of `pixels`, one at a time."""
    for where in np.ndindex(pixels.leading):
        plane = np.asarray(data[where]).astype(pixels.dtype, copy=False)
        file.put(plane, full_window(pixels.plane), where)
