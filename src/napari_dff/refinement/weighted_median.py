"""Weighted median of the depth: neighbours that look alike and are sure of themselves vote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_dff.compiled import kernel
from napari_dff.progress import Progress
from napari_dff.stack import plane_numbers

if TYPE_CHECKING:
    from napari_dff.depth import DepthMap
    from napari_dff.refinement.sequence import Scene

RADIUS = 3  # pixels
LIKENESS = 0.1  # of the guide's range: a neighbour this different has 1/e of the weight
BLOCKS = 16


def weighted_median(
    estimate: DepthMap, scene: Scene, smoothness: float, progress: Progress
) -> DepthMap:
    """Median of the depths around, each weighted by likeness in the guide and by confidence.

    Confidence is 1 / (uncertainty² + a fifth of a plane²), 0 where never in focus; a pixel without
    any confident neighbour keeps its depth. `smoothness` widens the window: 7 × 7 pixels at 1. See
    `napari_dff.refine` for the other arguments and the reference.
    """
    spacing = np.abs(np.diff(scene.positions)).mean()
    confidence = (1 / (estimate.uncertainty.astype(np.float64) ** 2 + (0.2 * spacing) ** 2)).astype(
        np.float32
    )
    radius = int(np.clip(np.rint(RADIUS * np.sqrt(smoothness)), 1, 25))
    depth = np.empty_like(estimate.depth)
    edges = np.linspace(0, len(depth), BLOCKS + 1).astype(int)
    for block in progress(range(BLOCKS), desc="Weighted median"):
        _median(
            estimate.depth, confidence, scene.guide, radius, edges[block], edges[block + 1], depth
        )
    nearest = np.rint(plane_numbers(depth, scene.positions)).astype(np.uint16)
    return type(estimate)(nearest, depth, estimate.uncertainty)


@kernel
def _median(depth, confidence, guide, radius, start, stop, out):  # type: ignore[no-untyped-def]
    height, width = depth.shape
    for y in range(start, stop):
        values = np.empty((2 * radius + 1) ** 2, np.float32)
        weights = np.empty((2 * radius + 1) ** 2, np.float32)
        for x in range(width):
            count, total = 0, np.float32(0)
            for v in range(max(y - radius, 0), min(y + radius + 1, height)):
                for u in range(max(x - radius, 0), min(x + radius + 1, width)):
                    if confidence[v, u] > 0:
                        unlike = abs(guide[v, u] - guide[y, x])
                        weight = confidence[v, u] * np.exp(-unlike / np.float32(LIKENESS))
                        values[count] = depth[v, u]
                        weights[count] = weight
                        total += weight
                        count += 1
            if count == 0:
                out[y, x] = depth[y, x]
                continue
            order = np.argsort(values[:count])
            sum_below, k = np.float32(0), 0
            while k < count - 1 and sum_below + weights[order[k]] < total / 2:
                sum_below += weights[order[k]]
                k += 1
            out[y, x] = values[order[k]]
