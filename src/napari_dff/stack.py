"""A focal stack: one scene photographed at many focus positions."""

from __future__ import annotations

import mmap
import sys
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from napari_dff.progress import Progress, silent
from napari_dff.tiles import Window, on_all_cores
from napari_dff.units import checked_unit

MINIMUM_PLANES = 3
LARGEST = 1e12  # grey level, or length: float32 holds the cubes of such
CONTRAST = 1e-12  # grey levels: what differs by less is flat
NO_CONTRAST = (
    f"planes have no contrast anywhere, none above {CONTRAST:g}: there is nothing to focus on"
)


def numbers(name: str, values: Any) -> np.ndarray:
    """`values` as an array of real numbers; ValueError where they are none."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be numbers in rows of one length, got others") from error
    if array.dtype.kind not in "buif":
        got = array.dtype if array.ndim else repr(values)
        raise ValueError(f"{name} must be numbers, got {got}")
    return array


def check_finite(name: str, values: np.ndarray, where: str = "") -> None:
    """Raise a ValueError unless all `values` are finite, and none beyond `LARGEST`."""
    if values.dtype.kind != "f" and values.dtype.itemsize <= 4:
        return
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low >= -LARGEST and high <= LARGEST:
        return
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise ValueError(f"{name} must be finite, got {bad} NaN or infinite values{where}")
    raise ValueError(
        f"{name} must be from {-LARGEST:g} to {LARGEST:g}, got {max(high, low, key=abs):g}{where}"
    )


def checked_planes(planes: Any) -> Any:
    """`planes`, or an array of them if they are a list; ValueError when they are no focal stack.

    Looks at shape and dtype only, so that a lazy array stays unread.
    """
    if not hasattr(planes, "shape"):
        planes = numbers("planes", planes)
    shape, dtype = tuple(planes.shape), np.dtype(planes.dtype)
    if not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)):
        raise ValueError(
            f"planes must have axes (Z, Y, X), or (Z, Y, X, 3) for colour, got shape {shape}"
        )
    if shape[0] < MINIMUM_PLANES:
        raise ValueError(f"planes must be at least {MINIMUM_PLANES} along Z, got {shape[0]}")
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


def checked_positions(positions: npt.ArrayLike | None, count: int) -> np.ndarray:
    """Return `positions` as (Z,) float64, plane numbers when None; ValueError if not monotonic."""
    if positions is None:
        return np.arange(count, dtype=np.float64)
    values = numbers("positions", positions).astype(np.float64)
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


def checked_pixel_size(pixel_size: Any) -> tuple[float, float]:
    """Height and width of a pixel as floats; ValueError unless two positive lengths."""
    size = numbers("pixel_size", pixel_size)
    if size.shape != (2,) or not ((size >= 1 / LARGEST) & (size <= LARGEST)).all():
        raise ValueError(
            f"pixel_size must be two positive lengths, {1 / LARGEST:g} to {LARGEST:g}, "
            f"got {pixel_size}"
        )
    return float(size[0]), float(size[1])


def plane_numbers(depth: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Depth → plane number with fraction, (Y, X) float32, 0 … Z-1."""
    steps = np.diff(positions)
    if np.allclose(steps, steps[0], rtol=1e-6):  # much quicker
        numbers = (depth - np.float32(positions[0])) / np.float32(steps.mean())
        numbers = numbers.astype(np.float32, copy=False)
        return np.clip(numbers, 0, len(steps), out=numbers)
    order = np.argsort(positions)
    return np.interp(depth, positions[order], order.astype(np.float64)).astype(np.float32)


def block_means(plane: np.ndarray, step: int) -> np.ndarray:
    """Means of `step` × `step` pixels of (Y, X), the last ones mirrored where they are too few."""
    if step == 1:
        return plane
    missing = [-size % step for size in plane.shape]
    if any(missing):
        plane = cv2.copyMakeBorder(plane, 0, missing[0], 0, missing[1], cv2.BORDER_REFLECT_101)
    size = (plane.shape[1] // step, plane.shape[0] // step)
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)


def in_memory(planes: Any, progress: Progress = silent) -> np.ndarray:
    """`planes` as an array that windows can be cut from: read once if it is lazy."""
    if isinstance(planes, np.ndarray):
        return planes
    held = np.empty(tuple(planes.shape), planes.dtype)

    def read(i: int) -> None:
        held[i] = planes[i]

    on_all_cores(read, range(len(held)), progress, desc="Reading")
    return held


def cut(planes: Any, window: Window) -> np.ndarray:
    """The part of all `planes` in `window`, in memory: nothing else is read if they are lazy."""
    if isinstance(planes, np.ndarray):
        part: np.ndarray = planes[(slice(None), *window.slices)]
        return part
    part = np.empty((planes.shape[0], *window.shape, *planes.shape[3:]), planes.dtype)
    chunks = getattr(planes, "chunks", ((1,),))[0]
    deep = chunks if isinstance(chunks, int) else max(chunks)  # so that each is decoded once

    def read(first: int) -> None:
        some = slice(first, first + deep)
        part[some] = planes[(some if deep > 1 else first, *window.slices)]
        let_go(planes)

    on_all_cores(read, range(0, len(part), deep), silent, desc="Reading")
    return part


def let_go(planes: Any) -> None:
    """Give back the memory that a memory map takes up: what is needed again is read again."""
    mapped: Any = getattr(getattr(planes, "planes", planes), "_mmap", None)
    if sys.platform != "win32" and mapped is not None and getattr(planes, "mode", "r") != "c":
        mapped.madvise(mmap.MADV_DONTNEED)


def read_plane(
    planes: Any, i: int, where: tuple[slice, slice] = (slice(None), slice(None))
) -> np.ndarray:
    """Plane `i`, or the part `where` of it, in memory; ValueError where it isn't finite."""
    plane = np.asarray(planes[(i, *where)])
    check_finite("planes", plane, f" in plane {i}")
    return plane


def grey(plane: np.ndarray) -> np.ndarray:
    """Luminance of one plane: (Y, X) or (Y, X, 3) of any number type → (Y, X) float32."""
    values = np.asarray(plane, dtype=np.float32)
    return values if values.ndim == 2 else cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)


def as_dtype(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Float `values` as `dtype`, rounded and held within its range."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    highest: float = limits.max
    if dtype.itemsize > 2:  # which float32 can't tell from one more
        values = values.astype(np.float64)
        highest = np.nextafter(limits.max + 1.0, 0) if dtype.itemsize == 8 else highest
    return np.clip(np.rint(values), limits.min, highest).astype(dtype)


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
        planes = checked_planes(self.planes)
        fitting = {
            "planes": planes,
            "positions": checked_positions(self.positions, planes.shape[0]),
            "pixel_size": checked_pixel_size(self.pixel_size),
            "unit": checked_unit(self.unit),
        }
        for name, value in fitting.items():
            object.__setattr__(self, name, value)
