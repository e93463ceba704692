"""Hints: pixels whose plane is known, or that are known to be never in focus.

A hint is a hard constraint at its own pixel. Around it, it is a soft constraint of influence u · a:
a = (1 - (d / `RANGE_PX`)²)² falls with the geodesic distance d to the hint, u with the accuracy of
the pixel's own depth. docs/methods.md, "Hints", defines d and u.
"""

from typing import Any

import cv2
import numpy as np

from napari_dff.model.checks import as_numbers
from napari_dff.model.depth_map import DepthMap
from napari_dff.refinement.context import BACKGROUND, NO_HINT, HintField, RefinementContext
from napari_dff.refinement.energy import EDGE_CONTRAST, inconsistent_pixels
from napari_dff.runtime.jit import kernel
from napari_dff.runtime.windows import GRID_PX, Window

RANGE_PX = 24  # geodesic distance at which the influence of a hint is 0
MIN_FILL_INFLUENCE = 0.5  # above it, pixels of unknown depth take the values of the hint


def checked_plane(name: str, values: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """Return an array; ValueError unless it fits the planes of a focus volume of `shape`."""
    array = as_numbers(name, values)
    if array.shape != shape[1:]:
        raise ValueError(
            f"{name} must have the shape (Y, X) of the focus volume, {shape[1:]}, got {array.shape}"
        )
    return array


def checked_hints(name: str, hints: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
    """Return `hints` as (Y, X) int32, all `NO_HINT` when None; ValueError if they are invalid."""
    if hints is None:
        return np.full(shape[1:], NO_HINT, np.int32)
    values = checked_plane(name, hints, shape)
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name} must be plane indices, integers, got {values.dtype}")
    low, high = int(values.min()), int(values.max())
    if low < BACKGROUND or high >= shape[0]:
        raise ValueError(
            f"{name} must be plane indices from 0 to {shape[0] - 1}, {NO_HINT} for no hint or "
            f"{BACKGROUND} for background, got values from {low} to {high}"
        )
    return values.astype(np.int32)


def apply_hints(
    estimate: DepthMap, hints: np.ndarray, context: RefinementContext, fixed: HintField | None
) -> tuple[DepthMap, HintField]:
    """Return a start for the refinement steps, and the constraints, also those of `fixed`.

    In the start, a pixel that is never in focus has the plane of a hint with a large influence, and
    a pixel whose depth is badly known near a background hint is never in focus.
    """
    positions = context.positions
    nearest, influence = geodesic_influence(hints, context.guide)
    plane = np.maximum(nearest, 0)
    spacing = np.abs(np.gradient(positions))
    uncertainty = (spacing / np.sqrt(12)).astype(np.float32)[plane]
    never_in_focus = np.isinf(estimate.uncertainty)
    badly_known = inconsistent_pixels(estimate) | (estimate.uncertainty > spacing.mean())
    background = nearest == BACKGROUND
    near = influence > MIN_FILL_INFLUENCE
    removed = (background & badly_known & near) | (hints == BACKGROUND)
    influence[background] = 0
    variance = np.where(never_in_focus, np.float32(0), estimate.uncertainty) ** 2
    share = np.where(never_in_focus, np.float32(1), variance / (variance + 2 * uncertainty**2))
    influence = np.where(hints == NO_HINT, influence * share, influence)
    target = DepthMap(plane.astype(np.uint16), positions.astype(np.float32)[plane], uncertainty)
    filled = never_in_focus & (influence > MIN_FILL_INFLUENCE)
    start = DepthMap(
        np.where(filled, target.index, estimate.index),
        np.where(filled, target.depth, estimate.depth),
        np.where(removed, np.float32(np.inf), estimate.uncertainty),
    )
    if fixed is not None:
        influence = np.where(fixed.influence == 1, np.float32(1), influence)
    return start, HintField(apply_hard_constraints(target, fixed), influence)


def apply_hard_constraints(depth_map: DepthMap, hint_field: HintField | None) -> DepthMap:
    """Return `depth_map` with the target values where the influence is 1."""
    if hint_field is None:
        return depth_map
    hard = hint_field.influence == 1
    parts = zip(hint_field.target, depth_map, strict=True)
    return DepthMap(*(np.where(hard, target, part) for target, part in parts))


def geodesic_influence(hints: np.ndarray, guide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest hint of every pixel, (Y, X) int32, and its influence a, (Y, X) float32."""
    nearest = hints.copy()
    distance = np.where(hints == NO_HINT, np.float32(RANGE_PX), np.float32(0))
    for window in windows_around(hints != NO_HINT, RANGE_PX):
        _propagate(guide, distance, nearest, *window)
    return nearest, (1 - (distance / RANGE_PX) ** 2) ** 2


@kernel
def _propagate(guide, distance, nearest, top, bottom, left, right):  # type: ignore[no-untyped-def]
    """Compute geodesic distances in a window by raster scans (chamfer algorithm), in place.

    Scans start at the top left and the bottom right in turn, until two in a row change nothing.
    """
    limit = np.float32(RANGE_PX)
    scans_left, sign = 2, -1
    while scans_left > 0:
        scans_left -= 1
        for i in range(top, bottom):
            y = i if sign < 0 else bottom - 1 - (i - top)
            for j in range(left, right):
                x = j if sign < 0 else right - 1 - (j - left)
                for dy, dx in ((0, 1), (1, 1), (1, 0), (1, -1)):
                    v, u = y + sign * dy, x + sign * dx
                    if not (top <= v < bottom and left <= u < right) or distance[v, u] >= limit:
                        continue
                    contrast = abs(guide[v, u] - guide[y, x]) / np.float32(EDGE_CONTRAST)
                    edge = min(contrast, np.float32(1))
                    step = np.float32(np.sqrt(dy * dy + dx * dx)) + limit * edge**4
                    if distance[v, u] + step < distance[y, x]:
                        distance[y, x] = distance[v, u] + step
                        nearest[y, x] = nearest[v, u]
                        scans_left = 2
        sign = -sign


def windows_around(mask: np.ndarray, margin: int) -> list[Window]:
    """Return windows that cover `mask` and `margin` pixels around it, and do not overlap."""
    shape: tuple[int, int] = mask.shape
    padded = np.pad(mask, [(0, -size % GRID_PX) for size in shape])
    rows, columns = (size // GRID_PX for size in padded.shape)
    coarse = padded.reshape(rows, GRID_PX, columns, GRID_PX).any(axis=(1, 3))
    _, _, components, _ = cv2.connectedComponentsWithStats(np.asarray(coarse, np.uint8))
    windows: list[Window] = []
    for left, top, width, height, _ in GRID_PX * components[1:].astype(int):
        window = Window(top, top + height, left, left + width).expand(margin, shape)
        while overlapping := [other for other in windows if _overlap(window, other)]:
            windows = [other for other in windows if other not in overlapping]
            top, bottom, left, right = zip(window, *overlapping, strict=True)
            window = Window(min(top), max(bottom), min(left), max(right))
        windows.append(window)
    return windows


def _overlap(a: Window, b: Window) -> bool:
    return a.top < b.bottom and b.top < a.bottom and a.left < b.right and b.left < a.right
