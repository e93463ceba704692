"""Sequential tree-reweighted message passing: the graph cut's energy, minimised without it.

Each neighbour pair keeps one message, a cost for every plane. A sweep visits the pixels from the
top left corner and then back; pixels on one anti-diagonal don't depend on each other and run in
parallel. After every pair of sweeps a lower bound of the energy is known: it tells how far from
the optimum the labels can be at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np

from napari_dff.progress import Progress
from napari_dff.refinement.energy import JUMP, data_term, edge_weights, energy, relocated

if TYPE_CHECKING:
    from napari_dff.depth import DepthMap
    from napari_dff.refinement.sequence import Scene

SWEEPS = 8
CLOSE_ENOUGH = 1e-3  # of the energy, between it and its lower bound


class Solution(NamedTuple):
    """Labels, their energy, and a bound that no labels' energy is below."""

    labels: np.ndarray  # (Y, X) int32
    energy: int
    bound: float


def message_passing(
    estimate: DepthMap, scene: Scene, smoothness: float, progress: Progress
) -> DepthMap:
    """Tree-reweighted message passing over the planes, then depth between planes again.

    Kolmogorov 2006, doi:10.1109/TPAMI.2006.200.
    """
    unary = data_term(estimate, scene)
    right, down = edge_weights(scene.guide, smoothness)
    return relocated(estimate, scene, solve(unary, right, down, progress).labels)


def solve(
    unary: np.ndarray,  # (Y, X, Z) int32
    right: np.ndarray,  # (Y, X) int32
    down: np.ndarray,  # (Y, X) int32
    progress: Progress,
) -> Solution:
    """Best labels found in `SWEEPS` pairs of sweeps, fewer if the bound is close enough."""
    cost = unary.astype(np.float32)
    across, below = right.astype(np.float32), down.astype(np.float32)
    to_side, to_below = np.zeros_like(cost), np.zeros_like(cost)
    best = Solution(np.zeros(unary.shape[:2], np.int32), np.iinfo(np.int64).max, -np.inf)
    for _ in progress(range(SWEEPS), desc="Message passing"):
        _sweep(cost, across, below, to_side, to_below, True)
        bound = float(_sweep(cost, across, below, to_side, to_below, False))
        labels = _decode(cost, across, below, to_side, to_below)
        found = Solution(labels, energy(unary, right, down, labels), max(bound, best.bound))
        best = found if found.energy < best.energy else best._replace(bound=found.bound)
        if best.energy - best.bound <= CLOSE_ENOUGH * best.energy:
            break
    return best


@numba.njit(cache=True, fastmath=True, inline="always")
def _send(belief, message, weight):  # type: ignore[no-untyped-def]
    """Replace `message` (from the other end) by ours to it; give back what was subtracted."""
    count = len(belief)
    least = np.float32(np.inf)
    for k in range(count):
        message[k] = belief[k] * np.float32(0.5) - message[k]
        least = min(least, message[k])
    for k in range(1, count):
        message[k] = min(message[k], message[k - 1] + weight)
    top = least + JUMP * weight
    last = message[count - 1]
    message[count - 1] = min(last, top) - least
    for k in range(count - 2, -1, -1):
        last = min(message[k], last + weight)
        message[k] = min(last, top) - least
    return least


@numba.njit(cache=True, fastmath=True, inline="always")
def _gather(belief, cost, to_side, to_below, y, x, before):  # type: ignore[no-untyped-def]
    """Cost of a pixel plus its messages, those from pixels before it only if `before`."""
    height, width, count = cost.shape
    for k in range(count):
        belief[k] = cost[y, x, k]
    if before and x > 0:
        for k in range(count):
            belief[k] += to_side[y, x - 1, k]
    if x < width - 1:
        for k in range(count):
            belief[k] += to_side[y, x, k]
    if before and y > 0:
        for k in range(count):
            belief[k] += to_below[y - 1, x, k]
    if y < height - 1:
        for k in range(count):
            belief[k] += to_below[y, x, k]


@numba.njit(parallel=True, cache=True, fastmath=True)
def _sweep(cost, across, below, to_side, to_below, forward):  # type: ignore[no-untyped-def]
    """One sweep over all pixels, by anti-diagonals; gives back the lower bound (backward only)."""
    height, width, count = cost.shape
    bounds = np.zeros(height)
    beliefs = np.empty((height, count), np.float32)
    for step in range(height + width - 1):
        diagonal = step if forward else height + width - 2 - step
        first, last = max(0, diagonal - width + 1), min(height, diagonal + 1)
        for y in numba.prange(first, last):
            x = diagonal - y
            belief = beliefs[y]
            _gather(belief, cost, to_side, to_below, y, x, True)
            if forward:
                if x < width - 1:
                    _send(belief, to_side[y, x], across[y, x])
                if y < height - 1:
                    _send(belief, to_below[y, x], below[y, x])
            else:
                least = belief.min()
                for k in range(count):
                    belief[k] -= least
                bound = np.float64(least)
                if x > 0:
                    bound += _send(belief, to_side[y, x - 1], across[y, x - 1])
                if y > 0:
                    bound += _send(belief, to_below[y - 1, x], below[y - 1, x])
                bounds[y] += bound
    return bounds.sum()


@numba.njit(parallel=True, cache=True)
def _decode(cost, across, below, to_side, to_below):  # type: ignore[no-untyped-def]
    """Labels one by one: the best given those before and the messages of those after."""
    height, width, count = cost.shape
    labels = np.zeros((height, width), np.int32)
    beliefs = np.empty((height, count), np.float32)
    for diagonal in range(height + width - 1):
        for y in numba.prange(max(0, diagonal - width + 1), min(height, diagonal + 1)):
            x = diagonal - y
            belief = beliefs[y]
            _gather(belief, cost, to_side, to_below, y, x, False)
            for k in range(count):
                if x > 0:
                    belief[k] += across[y, x - 1] * min(abs(k - labels[y, x - 1]), JUMP)
                if y > 0:
                    belief[k] += below[y - 1, x] * min(abs(k - labels[y - 1, x]), JUMP)
            labels[y, x] = np.argmin(belief)
    return labels
