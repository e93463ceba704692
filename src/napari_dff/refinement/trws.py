"""Sequential tree-reweighted message passing (TRW-S): minimise the energy of all labels.

The message from pixel p to its neighbour q is, for every plane k of q,

    M_pq(k) = min_j [ θ_p(j) / 2 - M_qp(j) + w_pq · min(|j - k|, K) ] - δ
    θ_p     = D_p + Σ M_rp over all neighbours r

where δ is the least value of the bracket's first two terms. A forward sweep visits the pixels row
by row from the top left corner and updates the messages to the right and down; a backward sweep
returns and updates those to the left and up. So each pair needs one message at a time, (Z,). A
sweep costs O(pixels · planes). docs/methods.md, "Message passing", derives it.

In the kernels, the terms are those of `energy`, in float32; `right_message` and `down_message` are
the messages between each pixel and its right and its lower neighbour, (Y, X, Z) float32; `active`
is (Y, X) bool and `labels` (Y, X) int32.

References
----------
Kolmogorov 2006, doi:10.1109/TPAMI.2006.200.
"""

from typing import NamedTuple

import numpy as np

from napari_dff.refinement.energy import MAX_STEP_PLANES, labelling_energy
from napari_dff.runtime.jit import inline_kernel, kernel
from napari_dff.runtime.progress import raise_if_cancelled

LINE_ROUNDS = 2  # times that all rows and all columns are optimised at the end
RELATIVE_GAP = 1e-3  # (energy - bound) / energy at which sweeps stop
PADDING_PLANES = 16  # of LARGE_COST on both sides of a message, so that loops need no bounds
LARGE_COST = np.float32(1e30)


class Solution(NamedTuple):
    """Labels with their energy."""

    labels: np.ndarray  # (Y, X) int32
    energy: float
    bound: float  # no labels have a lower energy


def minimize_energy(
    unary: np.ndarray,  # (Y, X, Z) int32, data term; if float32, it is overwritten
    right: np.ndarray,  # (Y, X) int32, pair weights to the right neighbour
    down: np.ndarray,  # (Y, X) int32, pair weights to the lower neighbour
    sweep_pairs: int = 8,
    active: np.ndarray | None = None,  # (Y, X) bool
    start: np.ndarray | None = None,  # (Y, X) integers
) -> Solution:
    """Return the best labels of at most `sweep_pairs` pairs of sweeps, never worse than `start`.

    `start` is the cheapest plane of each pixel when None. Pixels that are not `active` keep it;
    energy and bound are those of the active pixels, with their pairs to the others.
    """
    cost = unary.astype(np.float32, copy=False)
    right, down = right.astype(np.float32), down.astype(np.float32)
    active = np.ones(right.shape, bool) if active is None else active
    start = (unary.argmin(axis=2) if start is None else start).astype(np.int32)
    _move_pairs_to_costs(cost, right, down, active, start)
    messages = np.zeros_like(cost), np.zeros_like(cost)  # to the right, or from there; down
    terms = cost, right, down
    best = Solution(start, labelling_energy(*terms, start, active), -np.inf)
    for _ in range(sweep_pairs):
        raise_if_cancelled()
        _sweep(*terms, *messages, active, False)
        bound = max(best.bound, float(_sweep(*terms, *messages, active, True)))
        labels = _decode(*terms, *messages, active, start)
        energy = labelling_energy(*terms, labels, active)
        if energy <= best.energy:
            best = Solution(labels, energy, bound)
        best = best._replace(bound=bound)
        if best.energy - best.bound <= RELATIVE_GAP * best.energy:
            return best
    labels = best.labels.copy()
    for _ in range(LINE_ROUNDS):
        _optimize_rows(*terms, active, labels)
        _optimize_rows(cost.swapaxes(0, 1), down.T, right.T, active.T, labels.T)  # columns
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
    """Replace the `message` from q to p by that from p to q; return its δ. `theta` is θ_p."""
    # `near` and `far` are work space: costs with steps of 0 and of up to 1 plane.
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
def _sweep(cost, right, down, right_message, down_message, active, backward):  # type: ignore[no-untyped-def]
    """Update the messages of a forward or backward sweep; return the lower bound if backward."""
    height, width, count = cost.shape
    zero, theta = np.zeros(count, np.float32), np.empty(count, np.float32)
    near = np.full(count + 2 * PADDING_PLANES, LARGE_COST)
    far = near.copy()
    bound = 0.0
    for i in range(height):
        y = height - 1 - i if backward else i
        for j in range(width):
            x = width - 1 - j if backward else j
            if not active[y, x]:
                continue
            own, side, under = cost[y, x], right_message[y, x], down_message[y, x]
            left = right_message[y, x - 1] if x > 0 else zero
            upper = down_message[y - 1, x] if y > 0 else zero
            for k in range(count):
                theta[k] = own[k] + left[k] + upper[k] + side[k] + under[k]
            if backward:
                least = theta.min()
                theta -= least
                bound += float(least)
            v, u = (y - 1, x - 1) if backward else (y, x)  # of the messages that are updated
            if 0 <= u < width - 1:
                bound += _update_message(theta, right_message[y, u], right[y, u], near, far)
            if 0 <= v < height - 1:
                bound += _update_message(theta, down_message[v, x], down[v, x], near, far)
    return bound


@kernel
def _decode(cost, right, down, right_message, down_message, active, start):  # type: ignore[no-untyped-def]
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
def _optimize_rows(cost, right, down, active, labels):  # type: ignore[no-untyped-def]
    """Set each row to its best labels while the other rows stay fixed, in place.

    Viterbi: `path[k]` is the least cost of the row up to a pixel with label k. Then the labels are
    traced back from the end of the row.
    """
    height, width, count = cost.shape
    paths, doubled = np.empty((width, count), np.float32), np.empty(count, np.float32)
    near = np.full(count + 2 * PADDING_PLANES, LARGE_COST)
    far = near.copy()
    for y in range(height):
        for x in range(width):
            path, own = paths[x], cost[y, x]
            path[:] = 0
            if not active[y, x]:
                continue
            if x > 0:
                for k in range(count):
                    doubled[k] = 2 * paths[x - 1, k]  # `_update_message` takes half of it
                _update_message(doubled, path, right[y, x - 1], near, far)
            upper_weight = down[y - 1, x] if y > 0 else np.float32(0)
            lower_weight = down[y, x] if y < height - 1 else np.float32(0)
            upper, lower = labels[max(y - 1, 0), x], labels[min(y + 1, height - 1), x]
            for k in range(count):
                pairs = upper_weight * min(abs(k - upper), MAX_STEP_PLANES)
                pairs += lower_weight * min(abs(k - lower), MAX_STEP_PLANES)
                path[k] += own[k] + np.float32(pairs)
        label = 0
        for x in range(width - 1, -1, -1):
            if not active[y, x]:
                label = labels[y, x]
                continue
            path = paths[x]
            if x < width - 1:
                for k in range(count):
                    path[k] += right[y, x] * np.float32(min(abs(k - label), MAX_STEP_PLANES))
            label = int(np.argmin(path))
            labels[y, x] = label
