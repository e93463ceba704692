"""Metadata of an image file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.runtime.words import printable


@dataclass(frozen=True)
class ImageMetadata:
    """Axes, type and calibration of the array in an image file."""

    axes: str  # letters of OME in this order: T, C and Z if present, Y, X, and S for colour
    shape: tuple[int, ...]  # along `axes`
    dtype: np.dtype[Any]  # converted to the byte order of the machine
    pixel_size: tuple[float, float]  # height and width, in `unit`
    unit: str  # of length, as napari spells it, or "pixel"
    positions: np.ndarray | None = None  # of focus, in `unit`: (Z,), or of all axes before Y
    channels: tuple[str, ...] = ()  # names along C
    record: Mapping[str, Any] | None = None  # provenance, as JSON
    has_pixel_size: bool = True  # else `pixel_size` is not written
    exif: Mapping[str, Any] = field(default_factory=dict)  # of the camera, by the names of EXIF
    icc_profile: bytes = b""  # of the colours
    time_increment: float | None = None  # seconds from one time to the next
    value_name: str = ""  # what the values are, with their unit: "depth (µm)"
    has_means: bool = True  # False for labels and plane numbers: the mean of two is another thing
    origin: tuple[float, float] = (0.0, 0.0)  # y and x of the first pixel, in `unit`

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype).newbyteorder("="))
        object.__setattr__(self, "channels", tuple(map(printable, self.channels)))

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names along C; without them, what the values are."""
        return self.channels if any(self.channels) else (self.value_name,)

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
    def first_positions(self) -> list[float]:
        """Focus position of each plane of the first stack; empty without an axis Z."""
        if self.positions is None:
            return []
        return list(self.positions[(0,) * (self.positions.ndim - 1)].tolist())

    @property
    def plane_distance(self) -> float:
        """Mean distance of neighbouring planes of the first stack in `unit`."""
        return abs(float(np.diff(self.first_positions).mean()))


def image_name(path: Path) -> str:
    """Return the name of an image: that of its file without suffixes."""
    return printable(path.name.removesuffix(path.suffix).removesuffix(".ome"))
