"""Metadata of an image file, and the protocol of a file that is written window by window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from napari_dff.model.stack import FocalStack
from napari_dff.runtime.windows import Window, full_window


@dataclass(frozen=True)
class ImageMetadata:
    """Axes, type and calibration of the array in an image file.

    Parameters
    ----------
    axes : str
        Letters of OME in this order: T, C and Z if present, Y, X, and S for colour.
    shape : tuple of int
        Along `axes`.
    dtype : numpy dtype
        Converted to the byte order of the machine.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length as napari spells it, or "pixel".
    positions : tuple of float
        Focus position of each plane along Z, in `unit`.
    channels : tuple of str
        Names of the channels along C.
    record : mapping, optional
        Provenance of the image, as JSON.
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
    def from_image(
        cls, image: Any, stack: FocalStack, record: Mapping[str, Any] | None = None
    ) -> ImageMetadata:
        """Return the metadata of a (Y, X[, 3]) image with the pixel size of `stack`."""
        axes = "YXS" if image.ndim == 3 else "YX"
        calibration = stack.pixel_size, stack.unit
        return cls(axes, tuple(image.shape), image.dtype, *calibration, record=record)

    @classmethod
    def from_stack(
        cls, stack: FocalStack, record: Mapping[str, Any] | None = None
    ) -> ImageMetadata:
        """Return the metadata of the planes of `stack`."""
        axes, planes = "ZYXS" if len(stack.planes.shape) == 4 else "ZYX", stack.planes
        calibration = stack.pixel_size, stack.unit, tuple(map(float, stack.positions))
        return cls(axes, tuple(planes.shape), planes.dtype, *calibration, record=record)

    @property
    def is_colour(self) -> bool:
        """Whether a pixel has three values."""
        return self.axes.endswith("S")

    @property
    def leading_shape(self) -> tuple[int, ...]:
        """Lengths of the axes before Y."""
        return self.shape[: self.axes.index("Y")]

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        y = self.axes.index("Y")
        return self.shape[y], self.shape[y + 1]

    @property
    def nbytes(self) -> int:
        """Size of the uncompressed array in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def plane_distance(self) -> float:
        """Mean distance of neighbouring planes in `unit`."""
        return abs(float(np.diff(self.positions).mean()))


class WindowWriter(Protocol):
    """An image file that is written window by window; none of it is kept in memory.

    `index` is the index of a plane along the axes before Y.
    """

    def write(self, values: np.ndarray, window: Window, index: tuple[int, ...]) -> None:
        """Write a window of a plane."""

    def read(self, window: Window, index: tuple[int, ...]) -> np.ndarray:
        """Read a window of a plane."""

    def set_display_ranges(self, ranges: list[tuple[float, float]]) -> None:
        """Store the lowest and highest value to display of each channel."""


def write_planes(file: WindowWriter, data: Any, metadata: ImageMetadata) -> None:
    """Write all planes of an array that `metadata` describes, one at a time."""
    for index in np.ndindex(metadata.leading_shape):
        plane = np.asarray(data[index]).astype(metadata.dtype, copy=False)
        file.write(plane, full_window(metadata.plane_shape), index)
