"""A focal stack: one scene photographed at many focus positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dff.units import validate_unit
from napari_dff.validation import MAX_MAGNITUDE, as_numbers, check_finite

MIN_PLANES = 3
MIN_CONTRAST = 1e-12  # grey levels: what differs by less is flat
NO_CONTRAST_MESSAGE = (
    f"planes have no contrast anywhere, none above {MIN_CONTRAST:g}: there is nothing to focus on"
)


def validate_planes(planes: Any) -> Any:
    """`planes`, or an array of them if they are a list; ValueError when they are no focal stack.

    Looks at shape and dtype only, so that a lazy array stays unread.
    """
    if not hasattr(planes, "shape"):
        planes = as_numbers("planes", planes)
    shape, dtype = tuple(planes.shape), np.dtype(planes.dtype)
    if not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)):
        raise ValueError(
            f"planes must have axes (Z, Y, X), or (Z, Y, X, 3) for colour, got shape {shape}"
        )
    if shape[0] < MIN_PLANES:
        raise ValueError(f"planes must be at least {MIN_PLANES} along Z, got {shape[0]}")
    if min(shape[1:3]) < 8:
        raise ValueError(f"planes must be at least 8 × 8 pixels, got {shape[1]} × {shape[2]}")
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        raise ValueError(f"planes must be integers or floats (uint8, uint16, float32), got {dtype}")
    if np.ma.is_masked(planes):
        hidden = np.ma.getmaskarray(planes).sum()
        raise ValueError(f"planes must be known everywhere, got {hidden} masked values")
    if isinstance(planes, np.ndarray) and not dtype.isnative:  # which neither OpenCV nor numba read
        planes = planes.astype(dtype.newbyteorder("="))
    return planes


def validate_positions(positions: npt.ArrayLike | None, count: int) -> np.ndarray:
    """Return `positions` as (Z,) float64, plane numbers when None; ValueError if not monotonic."""
    if positions is None:
        return np.arange(count, dtype=np.float64)
    values = as_numbers("positions", positions).astype(np.float64)
    if values.shape != (count,):
        raise ValueError(
            f"positions must hold one number a plane, ({count},), got shape {values.shape}"
        )
    check_finite("positions", values)
    steps = np.diff(values.astype(np.float32))  # as depth has them
    right = steps * np.sign(steps[0]) > 0
    if not right.all():
        k = int(np.argmin(right))
        raise ValueError(
            "positions must rise (or fall) from plane to plane, in float32, "
            f"got {values[k]:g} and then {values[k + 1]:g}"
        )
    return values


def validate_pixel_size(pixel_size: Any) -> tuple[float, float]:
    """Height and width of a pixel as floats; ValueError unless two positive lengths."""
    size = as_numbers("pixel_size", pixel_size)
    if size.shape != (2,) or not ((size >= 1 / MAX_MAGNITUDE) & (size <= MAX_MAGNITUDE)).all():
        raise ValueError(
            f"pixel_size must be two positive lengths, {1 / MAX_MAGNITUDE:g} to {MAX_MAGNITUDE:g}, "
            f"got {pixel_size}"
        )
    return float(size[0]), float(size[1])


def fractional_plane_index(depth: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Depth → plane number with fraction, (Y, X) float32, 0 … Z-1."""
    steps = np.diff(positions)
    if np.allclose(steps, steps[0], rtol=1e-6):  # much quicker
        as_numbers = (depth - np.float32(positions[0])) / np.float32(steps.mean())
        as_numbers = as_numbers.astype(np.float32, copy=False)
        return np.clip(as_numbers, 0, len(steps), out=as_numbers)
    order = np.argsort(positions)
    return np.interp(depth, positions[order], order.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class FocalStack:
    """Planes of one scene with what is known about where they were taken.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        uint8, uint16 or float32 (other integers and floats are taken too), -1e12 to 1e12; numpy,
        memory map, zarr or dask; read plane by plane, or a window of a plane. At least 3 planes
        of 8 × 8 pixels.
    positions : (Z,) array, optional
        Focus position of each plane in `unit`, strictly rising or falling; 0 … Z-1 when None.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length, as napari's ``layer.units`` spells it ("micrometer") or as files do ("µm"),
        or "pixel".

    Raises
    ------
    ValueError
        When any of these doesn't fit, with one sentence that says which and why.
    """

    planes: Any
    positions: Any = None
    pixel_size: tuple[float, float] = (1.0, 1.0)
    unit: str = "pixel"

    def __post_init__(self) -> None:
        planes = validate_planes(self.planes)
        fitting = {
            "planes": planes,
            "positions": validate_positions(self.positions, planes.shape[0]),
            "pixel_size": validate_pixel_size(self.pixel_size),
            "unit": validate_unit(self.unit),
        }
        for name, value in fitting.items():
            object.__setattr__(self, name, value)
