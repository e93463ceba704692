"""Weighted median of the depth: neighbours that look alike and are sure of themselves vote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_dff.compiled import inline_kernel, kernel
from napari_dff.progress import Progress
from napari_dff.stack import fractional_plane_index
from napari_dff.threads import run_parallel
from napari_dff.windows import Window, plan_windows

if TYPE_CHECKING:
    from napari_dff.depth import DepthMap
    from napari_dff.refinement.hints import Said
    from napari_dff.refinement.sequence import Scene

RADIUS = 3  # pixels
LIKENESS = 0.1  # of the guide's range: a neighbour this different has 1/e of the weight
LEVELS = 64  # of the guide that are told apart
STEPS = 256  # of the depth, within a window
VOTES = 1000  # of the surest pixel
MAPS = 8  # float32 maps of a window that are held at a time


def weighted_median(
    estimate: DepthMap, scene: Scene, smoothness: float, progress: Progress
) -> DepthMap:
    """Median of the depths around, each weighted by likeness in the guide and by confidence.

    Confidence is 1 / (uncertainty² + a fifth of a plane²), 0 where never in focus; a pixel without
    any confident neighbour keeps its depth. `smoothness` widens the window: 7 × 7 pixels at 1. See
    `napari_dff.refine` for the other arguments and the reference.
    """
    spacing = np.abs(np.diff(scene.positions)).mean()
    doubt = estimate.uncertainty / np.float32(0.2 * spacing)
    votes = np.rint(VOTES / (doubt**2 + 1)).astype(np.int32)
    if scene.said is not None:
        votes = heeding(votes, estimate, scene.said)
    looks = np.rint((LEVELS - 1) * scene.guide).astype(np.int32)
    radius = int(np.clip(np.rint(RADIUS * np.sqrt(smoothness)), 1, 25))
    depth, shape = np.empty_like(estimate.depth), estimate.depth.shape

    def fill(wanted: Window) -> None:
        around = wanted.expand(radius, shape)
        depths, mine, look = (
            np.ascontiguousarray(part[around.slices]) for part in (estimate.depth, votes, looks)
        )
        found = medians(depths, mine, look, radius)
        depth[wanted.slices] = found[wanted.slices_in(around)]

    run_parallel(fill, plan_windows(shape, MAPS, radius), progress, desc="Weighted median")
    nearest = np.rint(fractional_plane_index(depth, scene.positions)).astype(np.uint16)
    return type(estimate)(nearest, depth, estimate.uncertainty)


def heeding(votes: np.ndarray, estimate: DepthMap, said: Said) -> np.ndarray:
    """Fewer votes where hints are heard; but some where, never in focus, it is as they say."""
    near = said.influence < 1
    follows = near & np.isinf(estimate.uncertainty) & (estimate.depth == said.depth)
    share = np.where(near, 1 - said.influence, 1)
    return np.rint(np.where(follows, VOTES * said.influence, votes * share)).astype(np.int32)


def medians(
    depth: np.ndarray,  # (Y, X) float32
    votes: np.ndarray,  # (Y, X) int32, at least 0
    looks: np.ndarray,  # (Y, X) int32, 0 … LEVELS - 1
    radius: int,
) -> np.ndarray:  # (Y, X) float32
    """Weighted medians of (Y, X) `depth` over squares that reach `radius` pixels far.

    A pixel has as many votes as it is sure, times exp(-|difference of looks| / `LIKENESS`). Depth
    is sorted into `STEPS` between the least and the greatest; the median is the mean of what lies
    in the middle one. The time hardly depends on `radius`.

    References
    ----------
    Zhang, Xu & Jia 2014, doi:10.1109/CVPR.2014.361 (joint histogram, median tracking).
    """
    low, high = float(depth.min()), float(depth.max())
    step = np.rint((depth - low) * ((STEPS - 1) / max(high - low, 1e-12))).astype(np.int32)
    level = np.arange(LEVELS)
    alike = np.exp(-np.abs(level[:, None] - level) / (LIKENESS * (LEVELS - 1)))
    out = depth.copy()
    _track(depth, step, votes, looks, alike.astype(np.float32), radius, out)
    return out


@kernel
def _track(depth, step, votes, looks, alike, radius, out):  # type: ignore[no-untyped-def]
    """Slide the square along each row; the middle moves little from pixel to pixel."""
    height, width = depth.shape
    cast = np.zeros((STEPS, LEVELS), np.int32)  # votes by depth and looks
    all_votes, votes_up_to = np.zeros(LEVELS, np.int32), np.zeros(LEVELS, np.int32)
    for y in range(height):
        cast[:], all_votes[:], votes_up_to[:] = 0, 0, 0
        sums, counts = np.zeros(STEPS), np.zeros(STEPS, np.int64)  # of depth, by step
        rows = range(max(y - radius, 0), min(y + radius + 1, height))
        middle = step[y, 0]
        for x in range(-radius, width):
            for column, sign in ((x + radius, 1), (x - radius - 1, -1)):
                if not 0 <= column < width:
                    continue
                for v in rows:
                    number = votes[v, column]
                    if number == 0:
                        continue
                    k, look = step[v, column], looks[v, column]
                    cast[k, look] += sign * number
                    all_votes[look] += sign * number
                    if k <= middle:
                        votes_up_to[look] += sign * number
                    counts[k] += sign * number
                    sums[k] += sign * number * np.float64(depth[v, column])
            if x < 0:
                continue
            weight = alike[looks[y, x]]
            half = _weighed(weight, all_votes) / 2
            if half == 0:
                continue
            while middle < STEPS - 1 and _weighed(weight, votes_up_to) < half:
                middle += 1
                if counts[middle] > 0:
                    votes_up_to += cast[middle]
            while middle > 0:
                if counts[middle] > 0:
                    below = _weighed(weight, votes_up_to) - _weighed(weight, cast[middle])
                    if below < half:
                        break
                    votes_up_to -= cast[middle]
                middle -= 1
            out[y, x] = sums[middle] / max(counts[middle], 1)


@inline_kernel
def _weighed(weight, votes):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for look in range(LEVELS):
        total += weight[look] * votes[look]
    return total
