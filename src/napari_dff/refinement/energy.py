"""The energy of planes (labels) that graph cut and message passing minimise, and depth from labels.

    E(l) = Σ_p D_p(l_p) + Σ_{p~q} w_pq · min(|l_p - l_q|, K)

over pixels p and pairs p~q of neighbours in a row or a column, where l_p is the plane of pixel p, D
the data term, w_pq = smoothness · g_pq, g the similarity in the guide, and K = `MAX_STEP_PLANES`.
docs/methods.md, "Energy of planes", derives D.

Costs are integers, in 1 / `COST_SCALE` of -ln(likelihood), because the graph cut library needs
them. In the kernels, `focus` is (Z, Y, X) float32, `cost` is (Y, X, Z), `right` and `down` are w of
each pixel and its right and its lower neighbour, (Y, X).
"""

from collections.abc import Callable

import cv2
import numpy as np

from napari_dff.curve.peak import CURVE_PEAK, locate_peak
from napari_dff.model.depth_map import DepthMap
from napari_dff.refinement.context import RefinementContext
from napari_dff.runtime.jit import kernel
from napari_dff.runtime.windows import full_window

PLANES_PER_EROSION = 64  # OpenCV limits the number of channels
COST_SCALE = 100  # integer cost of 1 unit of -ln(likelihood)
MAX_DATA_COST = 6.0  # units of -ln(likelihood)
MODEL_ERROR_LN = 0.1  # standard deviation of ln(focus measure) between planes, without noise
MAX_STEP_PLANES = 4  # a larger step between neighbours costs no more; `trws` is written for 4
EDGE_CONTRAST = 0.05  # share of the guide's range: a step of this size lets depth jump
MIN_SIMILARITY = 0.1  # of neighbours across the strongest edge of the guide
NEIGHBOUR_RADIUS_PX = 5  # of the square in which the planes of other pixels are likely, too
NEIGHBOUR_COST = 0.5  # units of -ln(likelihood): of a plane that only another pixel supports
THIN_OBJECT_COST = 2.0  # the same, on a thin object; 1 to 2 do on hairs, bars and light fields
RIDGE_RADIUS_PX, RIDGE_SHARE = 2, 0.9  # square, and share of the greatest measure in it
THIN_WINDOW_PX = 21  # less than half of this window shows a thin object
HARD_CONSTRAINT_COST = 1_000_000  # more than the data term and all neighbours together
MAX_CURVES_BYTES = 64 << 20  # larger curves are not kept while labels are chosen, but read again
Solver = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # cost, right, down → labels


def choose_planes(
    estimate: DepthMap, context: RefinementContext, solve: Solver, active: np.ndarray | bool = True
) -> DepthMap:
    """Return the depth at the planes that `solve` chooses; the data term is 0 if not `active`.

    `solve` may overwrite the cost.
    """
    curves, noise = context.volume.read(full_window(estimate.depth.shape))
    in_focus = np.isfinite(estimate.uncertainty) & active
    cost = data_term(curves, estimate.index, in_focus, *noise)
    measure = np.take_along_axis(curves, estimate.index[None].astype(np.int64), axis=0)[0]
    thin = _is_thin_object(estimate.index, len(curves), measure * in_focus)
    limit_by_neighbours(cost, in_focus, np.where(thin, THIN_OBJECT_COST, NEIGHBOUR_COST))
    if context.hint_field is not None:
        target, influence = context.hint_field
        weight = np.float32(COST_SCALE * context.smoothness)
        _add_hint_costs(cost, target.index, influence, weight)
    is_large = curves.nbytes > MAX_CURVES_BYTES
    if is_large:
        del curves
    labels = solve(cost, *pair_weights(context.guide, context.smoothness))
    del cost
    if is_large:
        curves, noise = context.volume.read(full_window(estimate.depth.shape))
    return DepthMap(*_depth_from_labels(curves, context.positions, *noise, labels, *estimate))


@kernel
def data_term(focus, index, in_focus, floor, fluctuation):  # type: ignore[no-untyped-def]
    """Return the data term, (Y, X, Z) int32, for the sharpest planes `index`, 0 if not in focus."""
    count, height, width = focus.shape
    cost = np.zeros((height, width, count), np.int32)
    for y in range(height):
        for x in range(width):
            if not in_focus[y, x]:
                continue
            noise, best = floor[y, x], focus[index[y, x], y, x]
            ratio = max(best / noise, 1.0)
            peak_variance = fluctuation[y, x] ** 2 * (2 * ratio - 1) / ratio**2
            for k in range(count):
                value = min(focus[k, y, x], best)
                ratio = max(value / noise, 1.0)
                variance = fluctuation[y, x] ** 2 * (2 * ratio - 1) / ratio**2
                drop = np.log(max(best, 1e-30) / max(value, 1e-30))
                surprise = drop**2 / 2 / (peak_variance + variance + MODEL_ERROR_LN**2)
                cost[y, x, k] = np.int32(COST_SCALE * min(surprise, MAX_DATA_COST))
    return cost


# Beside an object, the measure falls with the distance from its outline: its own pixels are those
# where the measure is greatest. A wide object keeps its inside anyway, a thin one has nothing else.
def _is_thin_object(index: np.ndarray, count: int, measure: np.ndarray) -> np.ndarray:
    """Return the ridge of objects that are thinner than half of `THIN_WINDOW_PX`, (Y, X) bool.

    `index` are the sharpest of `count` planes, `measure` the focus measure there, 0 if unknown.
    """
    square = np.ones((2 * RIDGE_RADIUS_PX + 1,) * 2, np.uint8)
    ridge = measure >= RIDGE_SHARE * cv2.dilate(measure, square)
    levels = (index * min(1.0, 255 / (count - 1))).astype(np.uint8)
    around = cv2.medianBlur(levels, THIN_WINDOW_PX)
    return np.asarray(ridge & (cv2.absdiff(levels, around) > 1))


def limit_by_neighbours(cost: np.ndarray, in_focus: np.ndarray, neighbour_cost: np.ndarray) -> None:
    """Limit the data term to the least one of the pixels nearby plus `neighbour_cost`, in place.

    A window beside the outline of a near object measures the object. So a pixel may as well have
    the plane of a pixel nearby, and edges of the guide decide where depth jumps.
    """
    square = np.ones((2 * NEIGHBOUR_RADIUS_PX + 1,) * 2, np.uint8)
    highest = round(COST_SCALE * MAX_DATA_COST)
    more = np.rint(COST_SCALE * neighbour_cost).astype(np.int16)[..., None]
    for first in range(0, cost.shape[2], PLANES_PER_EROSION):
        part = cost[..., first : first + PLANES_PER_EROSION]
        supported = np.where(in_focus[..., None], part, highest).astype(np.int16)
        np.minimum(part, np.atleast_3d(cv2.erode(supported, square)) + more, out=part)


# With influence a and hinted plane h, the cost of plane k becomes
#     (1 - a) D(k) + a · smoothness · min(|k - h|, K),
# as if the hint were a neighbour. A hard constraint (a = 1) excludes all other planes.
@kernel
def _add_hint_costs(cost, planes, influence, weight):  # type: ignore[no-untyped-def]
    height, width, count = cost.shape
    for y in range(height):
        for x in range(width):
            share, plane = influence[y, x], np.int64(planes[y, x])
            if share == 0:
                continue
            for k in range(count):
                if share == 1:
                    cost[y, x, k] = 0 if k == plane else HARD_CONSTRAINT_COST
                else:
                    hint_cost = weight * min(abs(k - plane), MAX_STEP_PLANES)
                    cost[y, x, k] = np.int32((1 - share) * cost[y, x, k] + share * hint_cost)


def pair_weights(guide: np.ndarray, smoothness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return w of each pixel and its right and its lower neighbour, (Y, X) int32 each."""
    right, down = (COST_SCALE * smoothness * g for g in guide_similarity(guide))
    return np.rint(right).astype(np.int32), np.rint(down).astype(np.int32)


def guide_similarity(guide: np.ndarray) -> list[np.ndarray]:
    """Return g of each pixel and its right and its lower neighbour, (Y, X) each."""
    differences = (np.abs(step) / EDGE_CONTRAST for step in neighbour_differences(guide))
    return [MIN_SIMILARITY + (1 - MIN_SIMILARITY) * np.exp(-d) for d in differences]


def neighbour_differences(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the right and the lower neighbour minus each pixel, (Y, X) each; 0 at the border."""
    right = np.diff(values, axis=1, append=values[:, -1:])
    return right, np.diff(values, axis=0, append=values[-1:])


@kernel
def labelling_energy(cost, right, down, labels, active=None):  # type: ignore[no-untyped-def]
    """Return the energy E of `labels`, or only the terms of the `active` pixels."""
    height, width, _ = cost.shape
    total = 0.0
    for y in range(height):
        for x in range(width):
            if active is None or active[y, x]:
                label = labels[y, x]
                total += cost[y, x, label]
                if x < width - 1:
                    total += right[y, x] * min(abs(label - labels[y, x + 1]), MAX_STEP_PLANES)
                if y < height - 1:
                    total += down[y, x] * min(abs(label - labels[y + 1, x]), MAX_STEP_PLANES)
    return total


def inconsistent_pixels(estimate: DepthMap) -> np.ndarray:
    """Return where a pixel is never in focus, or more than one plane from a neighbour: bool."""
    steps = neighbour_differences(estimate.index.astype(np.int32))
    right, down = (np.abs(step) > 1 for step in steps)
    inconsistent = np.isinf(estimate.uncertainty) | right | down
    inconsistent[:, 1:] |= right[:, :-1]
    inconsistent[1:] |= down[:-1]
    return inconsistent


# A pixel keeps the estimate where its label is at most one plane from it. Elsewhere it gets the
# highest local maximum of its curve within one plane of the label, with an uncertainty of at least
# half the distance of planes, because the curve has a higher peak elsewhere. Without such a
# maximum, or where it is never in focus, depth is the position of the label.
@kernel
def _depth_from_labels(  # type: ignore[no-untyped-def]
    focus, positions, floor, fluctuation, labels, old_index, old_depth, old_uncertainty
):
    """Return index, depth and uncertainty of the peak of each focus curve nearest to its label."""
    count, height, width = focus.shape
    index, depth, uncertainty = old_index.copy(), old_depth.copy(), old_uncertainty.copy()
    for y in range(height):
        for x in range(width):
            curve, label = focus[:, y, x], labels[y, x]
            in_focus = old_uncertainty[y, x] < np.inf
            if in_focus and abs(label - np.int64(old_index[y, x])) <= 1:
                continue
            best = -1
            if in_focus:
                for k in range(max(label - 1, 1), min(label + 2, count - 1)):
                    is_maximum = curve[k] >= curve[k - 1] and curve[k] >= curve[k + 1]
                    if is_maximum and (best < 0 or curve[k] > curve[best]):
                        best = k
            index[y, x] = label if best < 0 else best
            depth[y, x] = positions[label]
            two_planes = abs(positions[min(label + 1, count - 1)] - positions[max(label - 1, 0)])
            deviation = two_planes
            if best >= 0:
                depth[y, x], noise_deviation = locate_peak(
                    curve, best, positions, CURVE_PEAK, floor[y, x], fluctuation[y, x]
                )
                deviation = max(noise_deviation, two_planes / 4)
            uncertainty[y, x] = max(deviation, old_uncertainty[y, x])  # inf if not in focus
    return index, depth, uncertainty
