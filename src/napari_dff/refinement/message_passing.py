"""Sequential tree-reweighted message passing: the graph cut's energy, minimised without it.

Each neighbour pair keeps one message, a cost for every plane. A sweep visits the pixels row by row
from the top left corner, and then back. After every pair of sweeps a lower bound of the energy is
known: it tells how far from the optimum the labels can be at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from napari_dff.compiled import inline_kernel, kernel
from napari_dff.progress import Progress
from napari_dff.refinement.energy import JUMP, data_term, edge_weights, relocated, sway
from napari_dff.threads import run_parallel
from napari_dff.windows import Window, plan_windows

if TYPE_CHECKING:
    from napari_dff.depth import DepthMap
    from napari_dff.refinement.sequence import Scene

SWEEPS = 2  # pairs; more change the energy, but not the depth
ROUNDS = 2  # of rows and columns, each solved as a whole
AROUND = 8  # pixels around a contested one that are solved with it
CLOSE_ENOUGH = 1e-3  # of the energy, between it and its lower bound
REACH = 24  # pixels around a window that are solved with it
VOLUMES = 2  # float32 volumes of a window that are counted as held at a time
MARGIN = 16  # planes on either side of the planes there are, so that loops need no ends
HIGH = np.float32(1e30)


class Solution(NamedTuple):
    """Labels, their energy, and a bound that no labels' energy is below."""

    labels: np.ndarray  # (Y, X) int32
    energy: int
    bound: float


def message_passing(
    estimate: DepthMap, scene: Scene, smoothness: float, progress: Progress
) -> DepthMap:
    """Tree-reweighted message passing over the planes, then depth between planes again.

    Only where it is contested: around pixels that are never in focus, or whose plane is more than
    one from a neighbour's, or where hints are heard; elsewhere neighbours agree already. Solved in
    windows that overlap.

    Kolmogorov 2006, doi:10.1109/TPAMI.2006.200.
    """
    count, shape = scene.volume.shape[0], scene.volume.shape[1:]
    found = type(estimate)(*(part.copy() for part in estimate))

    def fill(wanted: Window) -> None:
        around = wanted.expand(REACH, shape)
        here = around.slices
        before = type(estimate)(*(np.ascontiguousarray(part[here]) for part in estimate))
        open_ = contested(before)
        if scene.said is not None:
            heard = scene.said.influence[here]
            open_ = (open_ | (heard > 0)) & (heard < 1)  # what is said itself is settled
        if not open_[wanted.slices_in(around)].any():
            return
        curves, noise = scene.volume.read(around)
        unary = data_term(before, curves, noise, open_)
        if scene.said is not None:
            said = type(scene.said)(*(np.ascontiguousarray(part[here]) for part in scene.said))
            sway(unary, said, smoothness)
        right, down = edge_weights(scene.guide[here], smoothness)
        labels = solve(unary, right, down, SWEEPS, open_, before.index).labels
        after = relocated(before, curves, noise, scene.positions, labels)
        for part, new in zip(found, after, strict=True):
            part[wanted.slices] = new[wanted.slices_in(around)]

    run_parallel(
        fill, plan_windows(shape, VOLUMES * count, REACH), progress, desc="Message passing"
    )
    return found


def contested(estimate: DepthMap) -> np.ndarray:
    """Where neighbours may have to be made to agree: (Y, X) bool."""
    around = np.ones((2 * AROUND + 1,) * 2, np.uint8)
    return cv2.dilate(disputed(estimate).astype(np.uint8), around).astype(bool)


def disputed(estimate: DepthMap) -> np.ndarray:
    """Where it is never in focus, or the plane is more than one from a neighbour's: (Y, X) bool."""
    planes = estimate.index.astype(np.int32)
    doubtful = np.isinf(estimate.uncertainty)
    far = np.abs(np.diff(planes, axis=1)) > 1
    doubtful[:, 1:] |= far
    doubtful[:, :-1] |= far
    far = np.abs(np.diff(planes, axis=0)) > 1
    doubtful[1:] |= far
    doubtful[:-1] |= far
    return doubtful


def solve(
    unary: np.ndarray,  # (Y, X, Z) int32
    right: np.ndarray,  # (Y, X) int32
    down: np.ndarray,  # (Y, X) int32
    sweeps: int = 8,
    active: np.ndarray | None = None,  # (Y, X) bool
    start: np.ndarray | None = None,  # (Y, X)
) -> Solution:
    """Best labels found in `sweeps` pairs of sweeps, fewer if the bound is close enough.

    Never worse than `start`, each pixel's best plane when None. Pixels that aren't `active` keep
    their label of `start`; energy and bound are those of the others, with what separates them from
    these.
    """
    cost = unary.astype(np.float32)
    across, below = right.astype(np.float32), down.astype(np.float32)
    if active is None:
        active = np.ones(right.shape, bool)
    if start is None:
        start = unary.argmin(axis=2)
    active, start = np.ascontiguousarray(active), start.astype(np.int32)
    _pin(cost, across, below, active, start)
    terms = cost, across, below, np.zeros_like(cost), np.zeros_like(cost), active
    best = Solution(start, round(_energy(*terms[:3], active, start)), -np.inf)
    for _ in range(sweeps):
        _forward(*terms)
        bound = float(_backward(*terms))
        labels = _decode(*terms, start)
        found = Solution(labels, round(_energy(*terms[:3], active, labels)), bound)
        best = min(found, best, key=lambda each: each.energy)._replace(
            bound=max(found.bound, best.bound)
        )
        if best.energy - best.bound <= CLOSE_ENOUGH * best.energy:
            return best
    labels = best.labels.copy()
    for columns in ROUNDS * (False, True):
        _settle(cost, across, below, active, labels, columns)
    return best._replace(labels=labels, energy=round(_energy(*terms[:3], active, labels)))


@kernel
def _pin(cost, across, below, active, start):  # type: ignore[no-untyped-def]
    """Let active pixels pay for their distance to the others once and for all; cut them off."""
    height, width, count = cost.shape
    for y in range(height):
        for x in range(width):
            for v, u, weights in ((y, x + 1, across), (y + 1, x, below)):
                if v == height or u == width or active[y, x] == active[v, u]:
                    continue
                weight = weights[y, x]
                j, i, label = (y, x, start[v, u]) if active[y, x] else (v, u, start[y, x])
                for k in range(count):
                    cost[j, i, k] += weight * np.float32(min(abs(k - label), JUMP))
                weights[y, x] = 0


@inline_kernel
def _send(belief, message, weight, near, far):  # type: ignore[no-untyped-def]
    """Replace `message` (from the other end) by ours to it; give back what was subtracted.

    The least over all planes of belief plus `weight` a plane of distance, three planes at most,
    and never more than `JUMP` above the least of all. `near` and `far` have `MARGIN`s of `HIGH`.
    """
    count = len(belief)
    least = HIGH
    for k in range(count):
        own = belief[k] * np.float32(0.5) - message[k]
        near[MARGIN + k] = own
        least = min(least, own)
    for k in range(count):
        beside = min(near[MARGIN - 1 + k], near[MARGIN + 1 + k])
        far[MARGIN + k] = min(near[MARGIN + k], beside + weight)
    twice, top = weight + weight, np.float32(JUMP) * weight
    for k in range(count):
        reached = min(far[MARGIN + k], min(far[MARGIN - 2 + k], far[MARGIN + 2 + k]) + twice)
        message[k] = min(reached - least, top)
    return least


@kernel
def _forward(cost, across, below, to_side, to_below, active):  # type: ignore[no-untyped-def]
    """One sweep from the top left: every pixel tells its right and its lower neighbour."""
    height, width, count = cost.shape
    nothing, belief = np.zeros(count, np.float32), np.empty(count, np.float32)
    near, far = (np.full(count + 2 * MARGIN, HIGH), np.full(count + 2 * MARGIN, HIGH))
    for y in range(height):
        for x in range(width):
            if not active[y, x]:
                continue
            own, side, under = cost[y, x], to_side[y, x], to_below[y, x]
            left = to_side[y, x - 1] if x > 0 else nothing
            upper = to_below[y - 1, x] if y > 0 else nothing
            for k in range(count):
                belief[k] = own[k] + left[k] + upper[k] + side[k] + under[k]
            if x < width - 1:
                _send(belief, side, across[y, x], near, far)
            if y < height - 1:
                _send(belief, under, below[y, x], near, far)


@kernel
def _backward(cost, across, below, to_side, to_below, active):  # type: ignore[no-untyped-def]
    """One sweep from the bottom right, to the left and upper neighbours; gives the lower bound."""
    height, width, count = cost.shape
    nothing, belief = np.zeros(count, np.float32), np.empty(count, np.float32)
    near, far = (np.full(count + 2 * MARGIN, HIGH), np.full(count + 2 * MARGIN, HIGH))
    bound = 0.0
    for y in range(height - 1, -1, -1):
        for x in range(width - 1, -1, -1):
            if not active[y, x]:
                continue
            own, side, under = cost[y, x], to_side[y, x], to_below[y, x]
            left = to_side[y, x - 1] if x > 0 else nothing
            upper = to_below[y - 1, x] if y > 0 else nothing
            least = HIGH
            for k in range(count):
                belief[k] = own[k] + left[k] + upper[k] + side[k] + under[k]
                least = min(least, belief[k])
            for k in range(count):
                belief[k] -= least
            bound += float(least)
            if x > 0:
                bound += _send(belief, left, across[y, x - 1], near, far)
            if y > 0:
                bound += _send(belief, upper, below[y - 1, x], near, far)
    return bound


@kernel
def _decode(cost, across, below, to_side, to_below, active, start):  # type: ignore[no-untyped-def]
    """Labels one by one: the best given those before and the messages of those after."""
    height, width, count = cost.shape
    belief = np.empty(count, np.float32)
    labels = start.copy()
    for y in range(height):
        for x in range(width):
            if not active[y, x]:
                continue
            own, side, under = cost[y, x], to_side[y, x], to_below[y, x]
            left, upper = labels[y, max(x - 1, 0)], labels[max(y - 1, 0), x]
            step = across[y, x - 1] if x > 0 else np.float32(0)
            fall = below[y - 1, x] if y > 0 else np.float32(0)
            for k in range(count):
                pairs = step * min(abs(k - left), JUMP) + fall * min(abs(k - upper), JUMP)
                belief[k] = own[k] + side[k] + under[k] + np.float32(pairs)
            best = np.argmin(belief)
            labels[y, x] = best
    return labels


@kernel
def _energy(cost, across, below, active, labels):  # type: ignore[no-untyped-def]
    """What active pixels pay."""
    height, width, _ = cost.shape
    total = 0.0
    for y in range(height):
        for x in range(width):
            if active[y, x]:
                label = labels[y, x]
                total += cost[y, x, label]
                if x < width - 1:
                    total += across[y, x] * min(abs(label - labels[y, x + 1]), JUMP)
                if y < height - 1:
                    total += below[y, x] * min(abs(label - labels[y + 1, x]), JUMP)
    return total


@kernel
def _settle(cost, across, below, active, labels, columns):  # type: ignore[no-untyped-def]
    """Give each row (or column) the best labels as a whole, those beside it held: least cost paths.

    The energy never rises (Viterbi).
    """
    height, width, count = cost.shape
    lines, length = (width, height) if columns else (height, width)
    along, beside = (below, across) if columns else (across, below)
    down, right = (0, 1) if columns else (1, 0)  # from a line to the next
    paths, twice = np.empty((length, count), np.float32), np.empty(count, np.float32)
    near, far = (np.full(count + 2 * MARGIN, HIGH), np.full(count + 2 * MARGIN, HIGH))
    for i in range(lines):
        for j in range(length):
            y, x = (j, i) if columns else (i, j)
            path, own = paths[j], cost[y, x]
            path[:] = 0
            if not active[y, x]:
                continue
            if j > 0:
                for k in range(count):
                    twice[k] = 2 * paths[j - 1, k]  # `_send` tells half of what it is told
                _send(twice, path, along[y - right, x - down], near, far)
            before = beside[y - down, x - right] if i > 0 else np.float32(0)
            after = beside[y, x] if i < lines - 1 else np.float32(0)
            one = labels[y - down, x - right] if i > 0 else 0
            two = labels[y + down, x + right] if i < lines - 1 else 0
            for k in range(count):
                held = before * min(abs(k - one), JUMP) + after * min(abs(k - two), JUMP)
                path[k] += own[k] + np.float32(held)
        label = 0
        for j in range(length - 1, -1, -1):
            y, x = (j, i) if columns else (i, j)
            if not active[y, x]:
                label = labels[y, x]
                continue
            path = paths[j]
            if j < length - 1:
                for k in range(count):
                    path[k] += along[y, x] * np.float32(min(abs(k - label), JUMP))
            label = int(np.argmin(path))
            labels[y, x] = label
