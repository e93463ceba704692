"""Multigrid: weighted least squares on a grid of pixels that are coupled to their neighbours.

Q of `least_squares` is least where A v = r:

    (t_p + Σ_q c_pq) v_p - Σ_q c_pq v_q = t_p d_p    for each pixel p with neighbours q

Red-black over-relaxation removes the errors over short distances, equal steps of blocks of 2 × 2
pixels those over long distances; docs/methods.md, "Multigrid". A cycle costs O(pixels).

Arrays are float32 and have a border of one pixel in which all weights are 0, so that loops need no
bounds. In the kernels, `target` is r, `data` t, and `right` and `down` are c of each pixel and its
right and its lower neighbour.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from napari_dff.runtime.jit import inline_kernel, kernel
from napari_dff.runtime.progress import Progress, iterate, no_progress
from napari_dff.runtime.threads import run_parallel

CYCLES = 4
SWEEPS = 2  # of both colours, before and after the coarse step
OVERRELAXATION = 1.7
COARSEST_SIDE_PX = 8  # the grid is halved while a side is longer
BAND_ROWS = 64  # that one thread takes at a time
MIN_PARALLEL_PX = 1 << 18  # on smaller grids, threads take longer to start than to work
GridWeights = list[np.ndarray]  # t, c to the right, c down: (Y + 2, X + 2) float32 each


def solve_least_squares(
    depth: np.ndarray,  # (Y, X) float32, d
    data: np.ndarray,  # (Y, X) float32, t, above 0
    right: np.ndarray,  # (Y, X) float32, 0 in the last column
    down: np.ndarray,  # (Y, X) float32, 0 in the last row
    *,
    cycles: int = CYCLES,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Return the v of least Q, (Y, X) float32, after `cycles` V-cycles that start from `depth`."""
    levels = [[np.pad(part, 1) for part in (data, right, down)]]
    while max(levels[-1][0].shape) > COARSEST_SIDE_PX:
        levels.append(_coarsen(levels[-1]))
    values, target = np.pad(depth, 1, mode="edge"), np.pad(data * depth, 1)
    for _ in iterate(progress, range(cycles), desc="Least squares"):
        _v_cycle(values, target, levels)
    # The minimum lies between the lowest and the highest depth; over-relaxed values may not.
    return np.clip(values[1:-1, 1:-1], depth.min(), depth.max())


def _coarsen(fine: GridWeights) -> GridWeights:
    """Return the weights of Pᵀ A P on the grid of 2 × 2 blocks."""
    shape = [-(-(size - 2) // 2) + 2 for size in fine[0].shape]
    coarse = [np.zeros(shape, np.float32) for _ in fine]
    steps = (1, 1), (1, 2), (2, 1)  # every second column, or row: the pairs across a border
    for values, sums, (row_step, column_step) in zip(fine, coarse, steps, strict=True):
        _add_to_blocks(values, sums, row_step, column_step)
    return coarse


def _v_cycle(values: np.ndarray, target: np.ndarray, levels: list[GridWeights]) -> None:
    """Improve `values` on the first of `levels`, in place."""
    weights, height = levels[0], len(target)
    rows = BAND_ROWS if target.size >= MIN_PARALLEL_PX else height
    bands = [(top, min(top + rows, height - 1)) for top in range(1, height - 1, rows)]

    def run(work: Callable[..., None], *args: Any) -> None:
        def run_band(band: tuple[int, int]) -> None:
            work(values, target, *weights, *band, *args)

        run_parallel(run_band, bands, no_progress, desc="")

    for colour in SWEEPS * (0, 1):
        run(_relax, colour)
    if len(levels) > 1:
        residual = np.zeros_like(target)
        run(_compute_residual, residual)
        coarse_target, steps = (np.zeros_like(levels[1][0]) for _ in range(2))
        _add_to_blocks(residual, coarse_target, 1, 1)
        _v_cycle(steps, coarse_target, levels[1:])
        _move_blocks(values, steps)
        for colour in SWEEPS * (0, 1):
            run(_relax, colour)


@inline_kernel
def _row_residual(values, target, data, right, down, y, residual, diagonal):  # type: ignore[no-untyped-def]
    """Compute r - A v and the diagonal of A in row `y`, (X,) each, in place."""
    for x in range(1, values.shape[1] - 1):
        left, upper = right[y, x - 1], down[y - 1, x]
        diagonal[x] = data[y, x] + left + right[y, x] + upper + down[y, x]
        total = target[y, x] + left * values[y, x - 1] + right[y, x] * values[y, x + 1]
        total += upper * values[y - 1, x] + down[y, x] * values[y + 1, x]
        residual[x] = total - diagonal[x] * values[y, x]


@kernel
def _relax(values, target, data, right, down, start, stop, colour):  # type: ignore[no-untyped-def]
    """Over-relax the pixels of one colour in rows `start` to `stop`."""
    width = values.shape[1]
    residual, diagonal = np.empty(width, np.float32), np.empty(width, np.float32)
    for y in range(start, stop):
        _row_residual(values, target, data, right, down, y, residual, diagonal)
        for x in range(1, width - 1):
            factor = np.float32(OVERRELAXATION) * np.float32((x + y + colour) & 1)
            values[y, x] += factor * residual[x] / diagonal[x]


@kernel
def _compute_residual(values, target, data, right, down, start, stop, residual):  # type: ignore[no-untyped-def]
    diagonal = np.empty(values.shape[1], np.float32)
    for y in range(start, stop):
        _row_residual(values, target, data, right, down, y, residual[y], diagonal)


@kernel
def _add_to_blocks(values, sums, row_step, column_step):  # type: ignore[no-untyped-def]
    """Add every `row_step`-th row and `column_step`-th column of `values` to their blocks."""
    height, width = values.shape
    for y in range(row_step, height - 1, row_step):
        for x in range(column_step, width - 1, column_step):
            sums[(y + 1) // 2, (x + 1) // 2] += values[y, x]


@kernel
def _move_blocks(values, steps):  # type: ignore[no-untyped-def]
    """Add to the pixels of each 2 × 2 block its step."""
    height, width = values.shape
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            values[y, x] += steps[(y + 1) // 2, (x + 1) // 2]
