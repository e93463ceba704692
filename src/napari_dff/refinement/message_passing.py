"""Message passing: choose the plane of every pixel where neighbours do not agree already."""

import functools

import cv2
import numpy as np

from napari_dff.model.depth_map import DepthMap
from napari_dff.refinement.context import RefinementContext, crop_depth_map
from napari_dff.refinement.energy import choose_planes, inconsistent_pixels
from napari_dff.refinement.trws import minimize_energy
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.windows import (
    GRID_PX,
    MAX_WINDOW_PX,
    MIN_WINDOW_PX,
    Window,
    window_grid,
)

SWEEP_PAIRS = 2  # more lower the energy, but do not change the depth
ACTIVE_RADIUS_PX = 8  # of the square around an inconsistent pixel that is solved with it
MESSAGE_MARGIN_PX = 24  # around a window, solved together with it
MAX_VALUES = 1 << 23  # float32 values (34 MB) in memory at a time
MESSAGE_VOLUMES = 2  # float32 (Z, Y, X) arrays of a window in memory at a time


@functools.cache
def message_windows(shape: tuple[int, int], count: int) -> tuple[Window, ...]:
    """Return the windows of a plane, of a stack of `count` planes, that are solved one by one.

    They do not depend on the free memory, as labels far inside a window depend on its borders.
    """
    side = np.sqrt(MAX_VALUES / (MESSAGE_VOLUMES * count)) - 2 * MESSAGE_MARGIN_PX
    side = int(np.clip(side, MIN_WINDOW_PX, MAX_WINDOW_PX))
    return tuple(window_grid(shape, side // GRID_PX * GRID_PX))


def message_passing(estimate: DepthMap, context: RefinementContext, progress: Progress) -> DepthMap:
    """Choose planes by tree-reweighted message passing, then the depth between planes.

    Only near inconsistent pixels and at soft constraints. Overlapping windows are solved
    independently.
    """
    count, shape = context.volume.shape[0], context.volume.shape[1:]
    result = DepthMap(*(part.copy() for part in estimate))
    square = np.ones((2 * ACTIVE_RADIUS_PX + 1,) * 2, np.uint8)

    def solve_window(window: Window) -> None:
        outer = window.expand(MESSAGE_MARGIN_PX, shape)
        initial, local = crop_depth_map(estimate, outer), context.crop(outer)
        active = cv2.dilate(inconsistent_pixels(initial).astype(np.uint8), square).astype(bool)
        if local.hint_field is not None:
            influence = local.hint_field.influence
            active = (active | (influence > 0)) & (influence < 1)  # hard constraints are settled
        if not active[window.slices_in(outer)].any():
            return

        def solve(cost: np.ndarray, right: np.ndarray, down: np.ndarray) -> np.ndarray:
            terms = _to_float32(cost), right, down
            return minimize_energy(*terms, SWEEP_PAIRS, active, initial.index).labels

        solution = choose_planes(initial, local, solve, active)
        for part, values in zip(result, solution, strict=True):
            part[window.slices] = values[window.slices_in(outer)]

    parts = context.windows or message_windows((shape[0], shape[1]), count)
    run_parallel(solve_window, parts, progress, desc="Message passing")
    return result


def _to_float32(values: np.ndarray) -> np.ndarray:
    """Return int32 `values` as float32, in the same memory."""
    converted = values.view(np.float32)
    for row, integers in zip(converted, values, strict=True):
        row[:] = integers
    return converted
