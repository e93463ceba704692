"""Multi-label graph cut: one plane a pixel, chosen for all pixels together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from napari_dff.curve import peak_at
from napari_dff.progress import Progress

if TYPE_CHECKING:
    from napari_dff.depth import DepthMap
    from napari_dff.refinement.sequence import Scene

SCALE = 100  # integer energy units in one unit of -ln(likelihood)
CEILING = 6.0  # a plane costs no more than this, however unsharp: some curves are simply wrong
MODEL_ERROR = 0.1  # of ln(measure): curves differ from each other by this even without noise
JUMP = 4  # planes; a larger step between neighbours costs no more
EDGE = 0.05  # of the guide's range: a step of this size lets depth jump
MAXIMUM_PASSES = 4


class GraphCutMissing(ImportError):
    """gco-wrapper is not installed."""


def graph_cut(estimate: DepthMap, scene: Scene, smoothness: float, progress: Progress) -> DepthMap:
    """Alpha-expansion over the planes, then depth between planes again.

    See `napari_dff.refine` for the arguments and the reference.
    """
    unary = data_term(scene)
    right, down = edge_weights(scene.guide, smoothness)
    labels = expand(unary, right, down, progress)
    index, depth, uncertainty = _relocate(
        scene.focus,
        scene.positions,
        scene.noise.floor,
        scene.noise.fluctuation,
        labels,
        estimate.index,
        estimate.depth,
        estimate.uncertainty,
    )
    return type(estimate)(index, depth, uncertainty)


def data_term(scene: Scene) -> np.ndarray:
    """Cost of each plane, (Y, X, Z) int32: how surely it is less sharp than the sharpest.

    Half the squared difference of ln(measure) to the pixel's maximum, in standard deviations of
    that difference (see `napari_dff.curve`), held below `CEILING`; times `SCALE`.
    """
    return _data_term(scene.focus, scene.noise.floor, scene.noise.fluctuation)


@numba.njit(parallel=True, cache=True)
def _data_term(focus, floor, fluctuation):  # type: ignore[no-untyped-def]
    count, height, width = focus.shape
    cost = np.empty((height, width, count), np.int32)
    for y in numba.prange(height):
        best = np.zeros(width, np.float32)
        for k in range(count):
            for x in range(width):
                best[x] = max(best[x], focus[k, y, x])
        for x in range(width):
            noise = np.exp(floor[y, x])
            above = max(best[x] / noise, 1.0)
            peak_variance = fluctuation[y, x] ** 2 * (2 * above - 1) / above**2
            for k in range(count):
                above = max(focus[k, y, x] / noise, 1.0)
                variance = fluctuation[y, x] ** 2 * (2 * above - 1) / above**2
                drop = np.log(max(best[x], 1e-30) / max(focus[k, y, x], 1e-30))
                surprise = drop**2 / 2 / (peak_variance + variance + MODEL_ERROR**2)
                cost[y, x, k] = np.int32(SCALE * min(surprise, CEILING))
    return cost


def edge_weights(guide: np.ndarray, smoothness: float) -> tuple[np.ndarray, np.ndarray]:
    """Cost of a step of one plane to the right and the lower neighbour, (Y, X) int32 each."""
    right = np.diff(guide, axis=1, append=guide[:, -1:])
    down = np.diff(guide, axis=0, append=guide[-1:])
    return tuple(  # type: ignore[return-value]
        np.rint(SCALE * smoothness * (0.1 + 0.9 * np.exp(-np.abs(step) / EDGE))).astype(np.int32)
        for step in (right, down)
    )


def expand(
    unary: np.ndarray,  # (Y, X, Z) int32
    right: np.ndarray,  # (Y, X) int32
    down: np.ndarray,  # (Y, X) int32
    progress: Progress,
) -> np.ndarray:  # (Y, X) int32
    """Labels that no expansion of a single label improves, or after `MAXIMUM_PASSES`.

    The energy is the sum of `unary` at the labels and, over neighbours, of the weight times the
    distance of their labels, truncated at `JUMP`.
    """
    height, width, count = unary.shape
    site = np.arange(height * width, dtype=np.int32).reshape(height, width)
    graph = _gco().GCO()
    graph.create_general_graph(height * width, count)
    try:
        # gco reads memory, not strides.
        graph.set_data_cost(np.ascontiguousarray(unary.reshape(-1, count)))
        graph.set_all_neighbors(
            np.concatenate([site[:, :-1].ravel(), site[:-1].ravel()]),
            np.concatenate([site[:, 1:].ravel(), site[1:].ravel()]),
            np.concatenate([right[:, :-1].ravel(), down[:-1].ravel()]),
        )
        plane = np.arange(count)
        graph.set_smooth_cost(np.minimum(np.abs(plane[:, None] - plane), JUMP).astype(np.int32))
        for sweep in range(MAXIMUM_PASSES):
            better = False
            for label in progress(range(count), desc=f"Graph cut, pass {sweep + 1}"):
                better |= bool(graph.expansion_on_alpha(label))
            if not better:
                break
        return np.asarray(graph.get_labels(), dtype=np.int32).reshape(height, width)
    finally:
        graph.destroy_graph()


def _gco() -> Any:
    try:
        import gco
    except ImportError as error:
        raise GraphCutMissing(
            "refinement 'graph_cut' needs gco-wrapper, which has no ready-made package for this "
            "Python and machine: install a C++ compiler and run 'pip install gco-wrapper', "
            "or choose refinement 'weighted_median' or 'none'"
        ) from error
    return gco


@numba.njit(parallel=True, cache=True)
def _relocate(  # type: ignore[no-untyped-def]
    focus, positions, floor, fluctuation, labels, old_index, old_depth, old_uncertainty
):
    """Depth between planes at the peak nearest to each label.

    Where the label is a neighbour of the estimate's plane, the estimate's depth stands. Where the
    curve has no peak within a plane, the label's own position is all that is known.
    """
    count, height, width = focus.shape
    index = np.empty((height, width), np.uint16)
    depth = np.empty((height, width), np.float32)
    uncertainty = np.empty((height, width), np.float32)
    for y in numba.prange(height):
        curve = np.empty(count, np.float32)
        for x in range(width):
            label = labels[y, x]
            if abs(label - np.int64(old_index[y, x])) <= 1:
                index[y, x] = old_index[y, x]
                depth[y, x] = old_depth[y, x]
                uncertainty[y, x] = old_uncertainty[y, x]
                continue
            for k in range(count):
                curve[k] = focus[k, y, x]
            best = -1
            for k in range(max(label - 1, 1), min(label + 2, count - 1)):
                top = curve[k] >= curve[k - 1] and curve[k] >= curve[k + 1]
                if top and (best < 0 or curve[k] > curve[best]):
                    best = k
            if best < 0:
                index[y, x] = label
                depth[y, x] = positions[label]
                spread = abs(positions[min(label + 1, count - 1)] - positions[max(label - 1, 0)])
            else:
                index[y, x] = best
                depth[y, x], spread = peak_at(
                    curve, best, positions, 2, floor[y, x], fluctuation[y, x]
                )
            known = np.isfinite(old_uncertainty[y, x])
            uncertainty[y, x] = spread if known else np.inf
    return index, depth, uncertainty
