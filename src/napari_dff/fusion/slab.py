"""Projection of a slab that follows the surface: the values between two offsets from the depth."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_dff.imaging.images import as_dtype
from napari_dff.model.checks import as_numbers, check_finite
from napari_dff.model.slab import SlabMethod, SlabProjection
from napari_dff.model.stack import validate_planes, validate_positions
from napari_dff.runtime.jit import kernel
from napari_dff.runtime.lazy import read_window, release_mapped_pages
from napari_dff.runtime.progress import Progress, no_progress, with_location
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.windows import MIN_WINDOW_PX, Window, plan_windows, window_grid

MAX_TILE_BYTES = 1 << 29  # of the planes and the projections of a tile
MAPS_PER_WINDOW = 8  # float32, besides planes and projections
CLIPPING_TOLERANCE = 1e-3  # of the distance of planes: depth is float32


class SlabStatistics(NamedTuple):
    """Statistics of the values in a slab, (Y, X, C) float32 each."""

    maximum: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray  # standard deviation
    thickness: np.ndarray  # in distances of planes, (Y, X, 1)


METHODS: dict[SlabMethod, Callable[[SlabStatistics], np.ndarray]] = {
    "maximum": lambda values: values.maximum,
    "mean": lambda values: values.mean,
    "sum": lambda values: values.mean * values.thickness,
    "standard_deviation": lambda values: values.deviation,
}


def project_slab(
    planes: Any,  # (Z, Y, X[, 3])
    depth: np.ndarray,  # (Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    slab: tuple[float, float] | None = None,
    offsets: tuple[float, ...] = (),
    method: SlabMethod = "maximum",
    progress: Progress = no_progress,
) -> np.ndarray:  # ([K, ]Y, X[, 3])
    """Return the projection of a stack along a surface, from one offset to another.

    Between planes, values are interpolated linearly, so that offsets need not be multiples of the
    distance of planes. Where a slab leaves the stack, it ends at the first or last plane.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type; also of another channel than the depth. Lazy planes, such as
        `LazyAlignedStack`, are read tile by tile.
    depth : (Y, X) float array
        In the unit of `positions`, finite: where a pixel is never in focus, that of a `DepthMap` is
        interpolated.
    positions : (Z,) array, optional
        Focus position of each plane, strictly increasing or decreasing; default 0 … Z-1.
    slab : (float, float), optional
        Offsets that are added to the depth, where the slab begins and ends, in the unit of
        `positions`; positive ones lie at higher positions. None: one mean distance of planes on
        either side.
    offsets : tuple of K floats
        Offset of each of several parallel slabs, rising: a z-stack that follows the surface. Empty:
        one slab.
    method : {"maximum", "mean", "sum", "standard_deviation"}
        Of all values in the slab. ``sum``: mean times thickness over the mean distance of planes.
        ``sum`` and ``standard_deviation`` need a slab thicker than 0.
    progress : Progress
        Wraps the loops over windows; may raise to cancel.

    Returns
    -------
    (Y, X), (Y, X, 3), (K, Y, X) or (K, Y, X, 3)
        In the dtype of `planes`, rounded; float32 for ``sum`` and ``standard_deviation``.

    Raises
    ------
    ValueError
        For an invalid argument, or a slab that lies in the stack nowhere.

    Warns
    -----
    UserWarning
        If a slab leaves the stack, with the share of the pixels.

    References
    ----------
    Herbert et al. 2021, doi:10.1186/s12915-021-01037-w (projection along a height map).
    """
    planes, depth = validate_planes(planes), as_numbers("depth", depth)
    if depth.shape != tuple(planes.shape[1:3]):
        shape = tuple(planes.shape[1:3])
        raise ValueError(f"depth must have the shape of a plane, {shape}, got {depth.shape}")
    check_finite("depth", depth)
    z, projection = (
        validate_positions(positions, len(planes)),
        SlabProjection(slab, offsets, method),
    )
    images, clipped = project_stack(planes, depth, z, projection, progress)
    if sentence := describe_clipping(clipped, depth.size):
        warnings.warn(sentence, stacklevel=2)
    return images if offsets else images[0]


def project_stack(
    planes: Any,  # (Z, Y, X[, 3])
    depth: np.ndarray,  # (Y, X), finite
    positions: np.ndarray,  # (Z,)
    projection: SlabProjection,
    progress: Progress,
) -> tuple[np.ndarray, int]:
    """Return the projection of each slab, and at how many pixels one leaves the stack."""
    slabs, dtype = len(projection.limits(1.0)), projection_dtype(planes.dtype, projection.method)
    out, clipped = np.empty((slabs, *planes.shape[1:]), dtype), 0
    tiles = iterate_tiles(planes, lambda w: depth[w.slices], positions, projection, progress)
    for window, images, outside in tiles:
        out[(slice(None), *window.slices)] = images
        clipped += outside
    return out, clipped


def projection_dtype(dtype: Any, method: SlabMethod) -> np.dtype[Any]:
    """Return the dtype of a projection of planes of a dtype."""
    return np.dtype(dtype if method in ("maximum", "mean") else np.float32)


def describe_clipping(clipped: int, pixels: int) -> str:
    """Return a sentence on slabs that leave the stack at `clipped` pixels; "" if there are none."""
    if not clipped:
        return ""
    return (
        f"the slab leaves the stack at {clipped / pixels:.2%} of the pixels, and ends at the first "
        "or last plane there: take a slab nearer to the surface, or planes further from it"
    )


def iterate_tiles(
    planes: Any,  # (Z, Y, X[, 3])
    read_depth: Callable[[Window], np.ndarray],  # (h, w)
    positions: np.ndarray,  # (Z,)
    projection: SlabProjection,
    progress: Progress,
) -> Iterator[tuple[Window, np.ndarray, int]]:
    """Yield tiles of at most `MAX_TILE_BYTES`: window, and what `project_tile` returns."""
    shape, slabs = (planes.shape[1], planes.shape[2]), len(projection.limits(1.0))
    values = (len(planes) + slabs) * int(np.prod(planes.shape[3:]))
    side = int(np.sqrt(MAX_TILE_BYTES / (values * max(planes.dtype.itemsize, 4))))
    tiles = window_grid(shape, max(side, MIN_WINDOW_PX))
    for i, window in enumerate(tiles, start=1):
        located = with_location(progress, f"tile {i} of {len(tiles)}" if len(tiles) > 1 else "")
        part, depth = read_window(planes, window), read_depth(window)
        yield window, *project_tile(part, depth, positions, projection, located)


def project_tile(
    planes: Any,  # (Z, h, w[, 3])
    depth: np.ndarray,  # (h, w), finite
    positions: np.ndarray,  # (Z,)
    projection: SlabProjection,
    progress: Progress,
) -> tuple[np.ndarray, int]:
    """Return the projection of each slab, and at how many pixels one leaves the stack."""
    spacing = float(np.abs(np.diff(positions)).mean())
    limits, step = projection.limits(spacing), 1 if positions[-1] > positions[0] else -1
    _check_reach(limits, abs(float(positions[-1] - positions[0])))
    rising, surface = np.ascontiguousarray(positions[::step]), depth.astype(np.float64)
    dtype, colours = projection_dtype(planes.dtype, projection.method), tuple(planes.shape[3:])
    out = np.empty((len(limits), *depth.shape, *colours), dtype)

    def fill(window: Window) -> None:
        values = np.asarray(planes[(slice(None), *window.slices)])
        check_finite("planes", values)
        values = values[::step].reshape(*values.shape[:3], -1).astype(np.float32, order="C")
        for image, (low, high) in zip(out, limits, strict=True):
            start, stop = (
                np.clip(surface[window.slices] + each, rising[0], rising[-1])
                for each in (low, high)
            )
            thickness = ((stop - start) / spacing)[..., None]
            first = np.searchsorted(rising[1:-1], start, side="right")
            maximum, mean, deviation = _measure(values, rising, first, start, stop)
            statistics = SlabStatistics(maximum, mean, deviation, thickness)
            picture = METHODS[projection.method](statistics)
            image[window.slices] = as_dtype(picture.reshape(*window.shape, *colours), dtype)
        release_mapped_pages(planes)

    values_per_pixel = len(planes) * int(np.prod(colours)) + MAPS_PER_WINDOW
    windows = plan_windows((depth.shape[0], depth.shape[1]), values_per_pixel)
    run_parallel(fill, windows, progress, desc="Projecting")
    first, last = min(limits)[0], max(high for _, high in limits)
    margin = CLIPPING_TOLERANCE * spacing
    leaves = (surface + first < rising[0] - margin) | (surface + last > rising[-1] + margin)
    return out, int(np.count_nonzero(leaves))


def _check_reach(limits: list[tuple[float, float]], extent: float) -> None:
    """Raise ValueError for a slab that no depth between first and last plane has in the stack."""
    for low, high in limits:
        if low > extent or high < -extent:
            raise ValueError(
                f"slab must lie in the stack somewhere, got {low:g} to {high:g} from the depth, "
                f"while first and last plane are {extent:g} apart"
            )


# Between planes a value is linear in the position. A slab is divided at the planes within it. Over
# a piece of width w from value a to value b, the integral is w (a + b) / 2, and that of the square
# w (a² + a b + b²) / 3. The extremes are at the ends of pieces. Values are relative to that at the
# start of the slab: the difference of the mean square and the squared mean then keeps its digits.
@kernel
def _measure(planes, positions, first, start, stop):  # type: ignore[no-untyped-def]
    """Return maximum, mean and standard deviation in each slab: three (Y, X, C) float32.

    `planes` are (Z, Y, X, C) float32, `positions` (Z,) float64 rising, `start` and `stop` (Y, X)
    float64 positions within those of the planes, and `first` (Y, X) int64 the plane at or before
    `start`. A slab of thickness 0 has the value at its start.
    """
    _, height, width, channels = planes.shape
    maximum = np.empty((height, width, channels), np.float32)
    mean = np.empty((height, width, channels), np.float32)
    deviation = np.empty((height, width, channels), np.float32)
    for y in range(height):
        for x in range(width):
            low, high = start[y, x], stop[y, x]
            for c in range(channels):
                k, place = first[y, x], low
                t = (low - positions[k]) / (positions[k + 1] - positions[k])
                origin = (1 - t) * planes[k, y, x, c] + t * planes[k + 1, y, x, c]
                top = a = integral = squares = 0.0
                while place < high:
                    end = min(high, positions[k + 1])
                    t = (end - positions[k]) / (positions[k + 1] - positions[k])
                    b = (1 - t) * planes[k, y, x, c] + t * planes[k + 1, y, x, c] - origin
                    top = max(top, b)
                    integral += (end - place) * (a + b) / 2
                    squares += (end - place) * (a * a + a * b + b * b) / 3
                    a, place, k = b, end, k + 1
                thickness = high - low
                share = integral / thickness if thickness > 0 else 0.0
                square = squares / thickness if thickness > 0 else 0.0
                maximum[y, x, c] = origin + top
                mean[y, x, c] = origin + share
                deviation[y, x, c] = np.sqrt(max(square - share * share, 0.0))
    return maximum, mean, deviation
