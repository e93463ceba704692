"""A focal stack: planes of one field, taken at many focus positions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dff.model.checks import MAX_MAGNITUDE, as_numbers, check_finite
from napari_dff.model.units import validate_unit
from napari_dff.runtime.lazy import as_indexable
from napari_dff.runtime.words import shorten

MIN_PLANES = 3
MIN_SIDE_PX = 8
MIN_CONTRAST = 1e-12  # grey levels: an image with less is flat
NO_CONTRAST_MESSAGE = (
    f"planes have no contrast anywhere, none above {MIN_CONTRAST:g}: there is nothing to focus on"
)


def validate_planes(planes: Any) -> Any:
    """Return `planes`, a list as an array; ValueError by shape and dtype if they are no stack.

    Alpha of (Z, Y, X, 4) is dropped.
    """
    if not (hasattr(planes, "shape") and hasattr(planes, "dtype")):
        planes = as_numbers("planes", planes)
    planes = drop_alpha(planes, 4)
    shape, dtype = tuple(planes.shape), np.dtype(planes.dtype)
    if len(shape) not in (3, 4) or shape[3:] not in ((), (3,)):
        axes = "(Z, Y, X), or (Z, Y, X, 3) for colour"
        raise ValueError(f"planes must have axes {axes}, got shape {shape}")
    count, height, width = shape[:3]
    if count < MIN_PLANES:
        raise ValueError(f"planes must be at least {MIN_PLANES} along Z, got {count}")
    if min(height, width) < MIN_SIDE_PX:
        least = f"{MIN_SIDE_PX} × {MIN_SIDE_PX}"
        raise ValueError(f"planes must be at least {least} pixels, got {height} × {width}")
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        raise ValueError(f"planes must be integers or floats (uint8, uint16, float32), got {dtype}")
    if np.ma.is_masked(planes):
        count = np.ma.getmaskarray(planes).sum()
        raise ValueError(f"planes must be known everywhere, got {count} masked values")
    if isinstance(planes, np.ndarray) and not dtype.isnative:  # OpenCV and numba cannot read it
        planes = planes.astype(dtype.newbyteorder("="))
    return planes


def drop_alpha(planes: Any, dimensions: int) -> Any:
    """Return the colours of RGBA, (…, 4) of this number of dimensions; other arrays unchanged."""
    if len(planes.shape) != dimensions or planes.shape[-1] != 4:
        return planes
    return as_indexable(planes, 1)[..., :3]


def validate_positions(positions: npt.ArrayLike | None, count: int) -> np.ndarray:
    """Return `positions` as (Z,) float64, 0 … Z-1 if None; ValueError if not monotonic."""
    if positions is None:
        return np.arange(count, dtype=np.float64)
    values = as_numbers("positions", positions).astype(np.float64)
    if values.shape != (count,):
        expected = f"one number a plane, ({count},)"
        raise ValueError(f"positions must hold {expected}, got shape {values.shape}")
    check_finite("positions", values)
    steps = np.diff(values.astype(np.float32))  # the dtype of depth maps
    monotonic = steps * np.sign(steps[0]) > 0
    if not monotonic.all():
        first, then = values[np.argmin(monotonic) :][:2]
        rule = "rise (or fall) from plane to plane, in float32"
        raise ValueError(f"positions must {rule}, got {first:g} and then {then:g}")
    return values


def validate_pixel_size(pixel_size: Any) -> tuple[float, float]:
    """Return height and width of a pixel; ValueError unless they are positive lengths."""
    size = as_numbers("pixel_size", pixel_size)
    low, high = 1 / MAX_MAGNITUDE, MAX_MAGNITUDE
    if size.shape != (2,) or not ((size >= low) & (size <= high)).all():
        lengths = f"two positive lengths, {low:g} to {high:g}"
        raise ValueError(f"pixel_size must be {lengths}, got {shorten(pixel_size)}")
    return float(size[0]), float(size[1])


def fractional_plane_index(depth: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Convert depth to fractional plane indices, (Y, X) float32, 0 … Z-1."""
    steps = np.diff(positions)
    if np.allclose(steps, steps[0], rtol=1e-6):  # faster than interpolation
        index = (depth - np.float32(positions[0])) / np.float32(steps.mean())
        index = index.astype(np.float32, copy=False)
        return np.clip(index, 0, len(steps), out=index)
    order = np.argsort(positions)
    return np.interp(depth, positions[order], order.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class FocalStack:
    """Planes of one field, with their focus positions and pixel size.

    Parameters
    ----------
    planes : (Z, Y, X), (Z, Y, X, 3) or (Z, Y, X, 4) array
        Grey, RGB or RGBA, of which alpha is dropped;
        uint8, uint16, float32 or another integer or float type, -1e12 to 1e12; numpy, memory map,
        zarr or dask. Lazy arrays are read plane by plane, or a window of a plane. At least 3
        planes of 8 × 8 pixels.
    positions : (Z,) array, optional
        Focus position of each plane in `unit`, strictly rising or falling; 0 … Z-1 if None.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length, as in napari's ``layer.units`` ("micrometer") or in files ("µm"); or
        "pixel".

    Raises
    ------
    ValueError
        If any of these is invalid.
    """

    planes: Any
    positions: Any = None
    pixel_size: tuple[float, float] = (1.0, 1.0)
    unit: str = "pixel"

    def __post_init__(self) -> None:
        object.__setattr__(self, "planes", validate_planes(self.planes))
        positions = validate_positions(self.positions, self.planes.shape[0])
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "pixel_size", validate_pixel_size(self.pixel_size))
        object.__setattr__(self, "unit", validate_unit(self.unit))
