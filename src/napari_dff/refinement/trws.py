"""Sequential tree-reweighted message passing (TRW-S): minimise the energy of all labels.

The energy (see `napari_dff.refinement.energy`) couples all pixels, but on a single row or column of
pixels it is minimised exactly by dynamic programming. The rows and columns are the trees of TRW-S:
each pixel lies on two of them, and each tree gets half of the pixel's cost θ_p. The sum of the
least energies of the trees is a lower bound of E, and every message moves costs between the trees
so that this bound does not fall.

Message from p to its neighbour q, for every plane k of q:

    M_pq(k) = min_j [ θ_p(j) / 2 - M_qp(j) + w_pq · min(|j - k|, K) ] - δ
    θ_p     = D_p + Σ M_rp over all neighbours r

where δ is the least value of the bracket's first two terms. A forward sweep visits the pixels row
by row from the top left corner and updates the messages to the right and down; a backward sweep
returns and updates those to the left and up. So each pair needs one message at a time, (Z,), which
`_update_message` replaces by that of the opposite direction. The lower bound is the sum, over a
backward sweep, of all min θ_p and all δ.

The minimum over j needs no loop over pairs of planes. With steps truncated at K = 4 it is the
lesser of two: δ + 4 w, and the least cost with steps of up to 3 planes, which is built from steps
of up to 1 plane and then of 2 planes.

After each pair of sweeps labels are read off pixel by pixel. At the end whole rows and then whole
columns get their exact optimum with all others fixed (Viterbi), which never raises the energy.
The cost is O(pixels · planes) for each sweep.

References
----------
Kolmogorov 2006, doi:10.1109/TPAMI.2006.200.
Felzenszwalb & Huttenlocher 2006, doi:10.1007/s11263-006-7899-4 (minimum over j).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from napari_dff.refinement.energy import MAX_STEP_PLANES, labelling_energy
from napari_dff.runtime.jit import inline_kernel, kernel

LINE_ROUNDS = 2  # times that all rows and all columns are optimised at the end
RELATIVE_GAP = 1e-3  # (energy - bound) / energy at which sweeps stop
PADDING_PLANES = 16  # of LARGE_COST on both sides of a message, so that loops need no bounds
LARGE_COST = np.float32(1e30)


class Solution(NamedTuple):
    """Labels with their energy.

    Attributes
    ----------
    labels : (Y, X) int32
    energy : int
    bound : float
        No labels have a lower energy than this.
    """

    labels: np.ndarray
    energy: int
    bound: float


def minimize_energy(
    unary: np.ndarray,  # (Y, X, Z) int32
    right: np.ndarray,  # (Y, X) int32
    down: np.ndarray,  # (Y, X) int32
    sweep_pairs: int = 8,
    active: np.ndarray | None = None,  # (Y, X) bool
    start: np.ndarray | None = None,  # (Y, X)
) -> Solution:
    """Return the best labels of `sweep_pairs` pairs of sweeps, never worse than `start`.

    Stops early when energy and bound differ by less than `RELATIVE_GAP`.

    Parameters
    ----------
    unary : (Y, X, Z) int32 array
        Data term.
    right, down : (Y, X) int32 arrays
        Pair weights to the right and the lower neighbour.
    sweep_pairs : int
    active : (Y, X) bool array, optional
        The pixels to solve, all when None. The others keep their label of `start`; energy and
        bound are those of the active pixels, with their pairs to the others.
    start : (Y, X) integer array, optional
        Labels to start from; the cheapest plane of each pixel when None.
    """
    cost = unary.astype(np.float32)
    right, down = right.astype(np.float32), down.astype(np.float32)
    if active is None:
        active = np.ones(right.shape, bool)
    if start is None:
        start = unary.argmin(axis=2)
    active, start = np.ascontiguousarray(active), start.astype(np.int32)
    _move_pairs_to_costs(cost, right, down, active, start)
    messages = np.zeros_like(cost), np.zeros_like(cost)  # to the right, or from there; down
    terms = cost, right, down
    best = Solution(start, labelling_energy(*terms, start, active), -np.inf)
    for _ in range(sweep_pairs):
        _forward(*terms, *messages, active)
        bound = max(best.bound, float(_backward(*terms, *messages, active)))
        labels = _decode(*terms, *messages, active, start)
        energy = labelling_energy(*terms, labels, active)
        if energy <= best.energy:
            best = Solution(labels, energy, bound)
        best = best._replace(bound=bound)
        if best.energy - best.bound <= RELATIVE_GAP * best.energy:
            return best
    labels = best.labels.copy()
    for columns in LINE_ROUNDS * (False, True):
        _optimize_lines(*terms, active, labels, columns)
    return best._replace(labels=labels, energy=labelling_energy(*terms, labels, active))


@kernel
def _move_pairs_to_costs(cost, right, down, active, start):  # type: ignore[no-untyped-def]
    """Add pairs of an active and an inactive pixel to the cost of the active one, for good."""
    height, width, count = cost.shape
    for y in range(height):
        for x in range(width):
            for v, u, weights in ((y, x + 1, right), (y + 1, x, down)):
                if v == height or u == width or active[y, x] == active[v, u]:
                    continue
                weight = weights[y, x]
                j, i, label = (y, x, start[v, u]) if active[y, x] else (v, u, start[y, x])
                for k in range(count):
                    cost[j, i, k] += weight * np.float32(min(abs(k - label), MAX_STEP_PLANES))
                weights[y, x] = 0


@inline_kernel
def _update_message(theta, message, weight, near, far):  # type: ignore[no-untyped-def]
    """Replace `message` from q to p by the message from p to q; return its δ.

    `theta` is θ_p. `near` and `far` are work space, (Z + 2 `PADDING_PLANES`,) of `LARGE_COST`:
    costs with steps of 0 and of up to 1 plane.
    """
    count = len(theta)
    least = LARGE_COST
    for k in range(count):
        own = theta[k] * np.float32(0.5) - message[k]
        near[PADDING_PLANES + k] = own
        least = min(least, own)
    for k in range(count):
        one_plane = min(near[PADDING_PLANES - 1 + k], near[PADDING_PLANES + 1 + k])
        far[PADDING_PLANES + k] = min(near[PADDING_PLANES + k], one_plane + weight)
    twice, top = weight + weight, np.float32(MAX_STEP_PLANES) * weight
    for k in range(count):
        two_planes = min(far[PADDING_PLANES - 2 + k], far[PADDING_PLANES + 2 + k])
        lowest = min(far[PADDING_PLANES + k], two_planes + twice)
        message[k] = min(lowest - least, top)
    return least


@kernel
def _forward(cost, right, down, right_message, down_message, active):  # type: ignore[no-untyped-def]
    """Update the messages to the right and down, pixel by pixel from the top left."""
    # θ is computed here and in `_backward`: in a function of its own it makes both a third slower.
    height, width, count = cost.shape
    zero, theta = np.zeros(count, np.float32), np.empty(count, np.float32)
    near = np.full(count + 2 * PADDING_PLANES, LARGE_COST)
    far = np.full(count + 2 * PADDING_PLANES, LARGE_COST)
    for y in range(height):
        for x in range(width):
            if not active[y, x]:
                continue
            own, side, under = cost[y, x], right_message[y, x], down_message[y, x]
            left = right_message[y, x - 1] if x > 0 else zero
            upper = down_message[y - 1, x] if y > 0 else zero
            for k in range(count):
                theta[k] = own[k] + left[k] + upper[k] + side[k] + under[k]
            if x < width - 1:
                _update_message(theta, side, right[y, x], near, far)
            if y < height - 1:
                _update_message(theta, under, down[y, x], near, far)


@kernel
def _backward(cost, right, down, right_message, down_message, active):  # type: ignore[no-untyped-def]
    """Update the messages to the left and up, from the bottom right; return the lower bound."""
    height, width, count = cost.shape
    zero, theta = np.zeros(count, np.float32), np.empty(count, np.float32)
    near = np.full(count + 2 * PADDING_PLANES, LARGE_COST)
    far = np.full(count + 2 * PADDING_PLANES, LARGE_COST)
    bound = 0.0
    for y in range(height - 1, -1, -1):
        for x in range(width - 1, -1, -1):
            if not active[y, x]:
                continue
            own, side, under = cost[y, x], right_message[y, x], down_message[y, x]
            left = right_message[y, x - 1] if x > 0 else zero
            upper = down_message[y - 1, x] if y > 0 else zero
            least = LARGE_COST
            for k in range(count):
                theta[k] = own[k] + left[k] + upper[k] + side[k] + under[k]
                least = min(least, theta[k])
            for k in range(count):
                theta[k] -= least
            bound += float(least)
            if x > 0:
                bound += _update_message(theta, left, right[y, x - 1], near, far)
            if y > 0:
                bound += _update_message(theta, upper, down[y - 1, x], near, far)
    return bound


@kernel
def _decode(  # type: ignore[no-untyped-def]
    cost, right, down, right_message, down_message, active, start
):
    """Return labels, pixel by pixel: the best for the labels left and above and the messages."""
    height, width, count = cost.shape
    theta = np.empty(count, np.float32)
    labels = start.copy()
    for y in range(height):
        for x in range(width):
            if not active[y, x]:
                continue
            own, side, under = cost[y, x], right_message[y, x], down_message[y, x]
            left, upper = labels[y, max(x - 1, 0)], labels[max(y - 1, 0), x]
            across = right[y, x - 1] if x > 0 else np.float32(0)
            below = down[y - 1, x] if y > 0 else np.float32(0)
            for k in range(count):
                pairs = across * min(abs(k - left), MAX_STEP_PLANES)
                pairs += below * min(abs(k - upper), MAX_STEP_PLANES)
                theta[k] = own[k] + side[k] + under[k] + np.float32(pairs)
            best = np.argmin(theta)
            labels[y, x] = best
    return labels


@kernel
def _optimize_lines(cost, right, down, active, labels, columns):  # type: ignore[no-untyped-def]
    """Set each row (or column) to its best labels while the other rows (columns) stay fixed.

    Viterbi: `path[k]` is the least cost of the line up to a pixel with label k; then the labels are
    traced back from the end. The energy never rises.
    """
    height, width, count = cost.shape
    lines, length = (width, height) if columns else (height, width)
    along, across = (down, right) if columns else (right, down)  # weights in a line, between lines
    dy, dx = (0, 1) if columns else (1, 0)  # from a line to the next
    paths, doubled = np.empty((length, count), np.float32), np.empty(count, np.float32)
    near = np.full(count + 2 * PADDING_PLANES, LARGE_COST)
    far = np.full(count + 2 * PADDING_PLANES, LARGE_COST)
    for i in range(lines):
        for j in range(length):
            y, x = (j, i) if columns else (i, j)
            path, own = paths[j], cost[y, x]
            path[:] = 0
            if not active[y, x]:
                continue
            if j > 0:
                for k in range(count):
                    doubled[k] = 2 * paths[j - 1, k]  # `_update_message` takes half of it
                _update_message(doubled, path, along[y - dx, x - dy], near, far)
            previous_weight = across[y - dy, x - dx] if i > 0 else np.float32(0)
            next_weight = across[y, x] if i < lines - 1 else np.float32(0)
            previous_label = labels[y - dy, x - dx] if i > 0 else 0
            next_label = labels[y + dy, x + dx] if i < lines - 1 else 0
            for k in range(count):
                pairs = previous_weight * min(abs(k - previous_label), MAX_STEP_PLANES)
                pairs += next_weight * min(abs(k - next_label), MAX_STEP_PLANES)
                path[k] += own[k] + np.float32(pairs)
        label = 0
        for j in range(length - 1, -1, -1):
            y, x = (j, i) if columns else (i, j)
            if not active[y, x]:
                label = labels[y, x]
                continue
            path = paths[j]
            if j < length - 1:
                for k in range(count):
                    path[k] += along[y, x] * np.float32(min(abs(k - label), MAX_STEP_PLANES))
            label = int(np.argmin(path))
            labels[y, x] = label
