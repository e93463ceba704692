"""The energy that graph cut and message passing both minimise, and depth from its labels.

A label is a plane. The energy is the sum over pixels of how surely the pixel is less sharp in that
plane than in its sharpest, and over neighbours of the distance of their labels, truncated, and
weighted down across edges of the guide. All in integers, `SCALE` in one unit of -ln(likelihood).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_dff.compiled import kernel
from napari_dff.curve import CURVE_PEAK, Noise, locate_peak

if TYPE_CHECKING:
    from napari_dff.depth import DepthMap
    from napari_dff.refinement.hints import Said

SCALE = 100
CEILING = 6.0  # a plane costs no more than this, however unsharp: some curves are simply wrong
MODEL_ERROR = 0.1  # of ln(measure): curves differ from each other by this even without noise
JUMP = 4  # planes; a larger step between neighbours costs no more
EDGE = 0.05  # of the guide's range: a step of this size lets depth jump
ACROSS = 0.1  # share of the weight that remains across the strongest edge
PINNED = 1_000_000  # cost of another plane than that of a hint: more than all neighbours ask for


def data_term(
    estimate: DepthMap, curves: np.ndarray, noise: Noise, where: np.ndarray | None = None
) -> np.ndarray:
    """Cost of each plane, (Y, X, Z) int32; 0 for all planes where never in focus or not `where`.

    Half the squared difference of ln(measure) to the pixel's maximum, in standard deviations of
    that difference (see `napari_dff.curve`), held below `CEILING`; times `SCALE`. Where an outer
    peak was preferred to the highest, the maximum is that peak.
    """
    known = np.isfinite(estimate.uncertainty)
    if where is not None:
        known &= where
    cost: np.ndarray = _data_term(curves, estimate.index, known, *noise)
    return cost


@kernel
def _data_term(focus, index, known, floor, fluctuation):  # type: ignore[no-untyped-def]
    count, height, width = focus.shape
    cost = np.zeros((height, width, count), np.int32)
    for y in range(height):
        for x in range(width):
            if not known[y, x]:
                continue
            noise = floor[y, x]
            best = focus[index[y, x], y, x]
            above = max(best / noise, 1.0)
            peak_variance = fluctuation[y, x] ** 2 * (2 * above - 1) / above**2
            for k in range(count):
                value = min(focus[k, y, x], best)
                above = max(value / noise, 1.0)
                variance = fluctuation[y, x] ** 2 * (2 * above - 1) / above**2
                drop = np.log(max(best, 1e-30) / max(value, 1e-30))
                surprise = drop**2 / 2 / (peak_variance + variance + MODEL_ERROR**2)
                cost[y, x, k] = np.int32(SCALE * min(surprise, CEILING))
    return cost


def sway(unary: np.ndarray, said: Said, smoothness: float) -> None:
    """Change the cost of each plane, (Y, X, Z) int32, in place, by what hints say.

    The more a hint is heard, the less the pixel's own curve counts, and the more planes cost by
    their distance to that of the hint, as if it were a neighbour's. At the hint itself no other
    plane will do.
    """
    _sway(unary, said.index, said.influence, np.float32(SCALE * smoothness))


@kernel
def _sway(cost, planes, influence, weight):  # type: ignore[no-untyped-def]
    height, width, count = cost.shape
    for y in range(height):
        for x in range(width):
            share, plane = influence[y, x], np.int64(planes[y, x])
            if share == 0:
                continue
            for k in range(count):
                if share == 1:
                    cost[y, x, k] = 0 if k == plane else PINNED
                else:
                    lean = weight * min(abs(k - plane), JUMP)
                    cost[y, x, k] = np.int32((1 - share) * cost[y, x, k] + share * lean)


def edge_weights(guide: np.ndarray, smoothness: float) -> tuple[np.ndarray, np.ndarray]:
    """Cost of a step of one plane to the right and the lower neighbour, (Y, X) int32 each."""
    right, down = likeness(guide)
    return (
        np.rint(SCALE * smoothness * right).astype(np.int32),
        np.rint(SCALE * smoothness * down).astype(np.int32),
    )


def likeness(guide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much a pixel is one with its right and its lower neighbour: (Y, X) each, 0 … 1."""
    right = np.diff(guide, axis=1, append=guide[:, -1:])
    down = np.diff(guide, axis=0, append=guide[-1:])
    return (
        ACROSS + (1 - ACROSS) * np.exp(-np.abs(right) / EDGE),
        ACROSS + (1 - ACROSS) * np.exp(-np.abs(down) / EDGE),
    )


def energy(unary: np.ndarray, right: np.ndarray, down: np.ndarray, labels: np.ndarray) -> int:
    """Energy of (Y, X) `labels`."""
    y, x = np.indices(labels.shape)
    across = np.minimum(np.abs(np.diff(labels.astype(np.int64), axis=1)), JUMP)
    below = np.minimum(np.abs(np.diff(labels.astype(np.int64), axis=0)), JUMP)
    pairs = (right[:, :-1] * across).sum() + (down[:-1] * below).sum()
    return int(unary[y, x, labels].sum(dtype=np.int64) + pairs)


def relocated(
    estimate: DepthMap,
    curves: np.ndarray,
    noise: Noise,
    positions: np.ndarray,
    labels: np.ndarray,
) -> DepthMap:
    """Depth between planes at the peak nearest to each label.

    Where the label is a neighbour of the estimate's plane, the estimate's depth stands. Where the
    curve has no peak within a plane, the label's own position is all that is known.
    """
    return type(estimate)(*_relocate(curves, positions, *noise, labels, *estimate))


@kernel
def _relocate(  # type: ignore[no-untyped-def]
    focus, positions, floor, fluctuation, labels, old_index, old_depth, old_uncertainty
):
    count, height, width = focus.shape
    index = np.empty((height, width), np.uint16)
    depth = np.empty((height, width), np.float32)
    uncertainty = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            curve, label = focus[:, y, x], labels[y, x]
            known = old_uncertainty[y, x] < np.inf
            if known and abs(label - np.int64(old_index[y, x])) <= 1:
                index[y, x] = old_index[y, x]
                depth[y, x] = old_depth[y, x]
                uncertainty[y, x] = old_uncertainty[y, x]
                continue
            best = -1
            if known:
                for k in range(max(label - 1, 1), min(label + 2, count - 1)):
                    top = curve[k] >= curve[k - 1] and curve[k] >= curve[k + 1]
                    if top and (best < 0 or curve[k] > curve[best]):
                        best = k
            index[y, x] = label if best < 0 else best
            depth[y, x] = positions[label]
            spread = abs(positions[min(label + 1, count - 1)] - positions[max(label - 1, 0)])
            if best >= 0:
                depth[y, x], doubt = locate_peak(
                    curve, best, positions, CURVE_PEAK, floor[y, x], fluctuation[y, x]
                )
                spread = max(doubt, spread / 4)  # it is not the peak the curve itself prefers
            uncertainty[y, x] = spread if known else np.inf
    return index, depth, uncertainty
