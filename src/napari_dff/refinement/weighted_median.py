"""Weighted median of the depth of neighbours that look alike and whose depth is well known.

A neighbour q of pixel p votes for its depth with the weight exp(-|g_q - g_p| / `GUIDE_SCALE`) n_q,
n_q = `MAX_VOTES` / (1 + (σ_q / `CONFIDENT_PLANES`)²), where g is the guide and σ the uncertainty in
planes. The votes n are counted in a histogram of depth and guide. The first factor, which depends
on p, is applied to the sums over guide bins when they are compared.

The square slides along a row: a column of votes is added on the right, one removed on the left. The
bin of the median is tracked up or down from that of the last pixel. The time per pixel grows with
the side of the square, not with its area (Zhang, Xu & Jia 2014, doi:10.1109/CVPR.2014.361).
"""

import numpy as np

from napari_dff.model.depth_map import DepthMap
from napari_dff.model.stack import fractional_plane_index
from napari_dff.refinement.context import RefinementContext
from napari_dff.runtime.jit import inline_kernel, kernel
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.windows import Window, plan_windows

RADIUS_PX = 3  # of the square at smoothness 1
MAX_RADIUS_PX = 25
GUIDE_SCALE = 0.1  # of the guide's range: a neighbour that differs by this has 1/e of the weight
GUIDE_BINS = 64
DEPTH_BINS = 256  # between the lowest and the highest depth of a window
MAX_VOTES = 1000  # of one pixel
CONFIDENT_PLANES = 0.2  # uncertainty that halves the votes
MAPS_PER_WINDOW = 8  # float32 (Y, X) arrays of a window in memory at a time


def weighted_median(estimate: DepthMap, context: RefinementContext, progress: Progress) -> DepthMap:
    """Replace each depth by the weighted median of a square around it, if any pixel there votes.

    The square is 7 × 7 pixels at smoothness 1, and its area grows in proportion to smoothness.
    """
    spacing = np.abs(np.diff(context.positions)).mean()
    deviation = estimate.uncertainty / np.float32(CONFIDENT_PLANES * spacing)
    votes = np.rint(MAX_VOTES / (deviation**2 + 1)).astype(np.int32)
    if context.hint_field is not None:
        # A soft constraint of influence a leaves a pixel the share 1 - a of its votes. A pixel that
        # is never in focus and was filled with the depth of the hint has a · MAX_VOTES.
        target, a = context.hint_field
        filled = (a < 1) & np.isinf(estimate.uncertainty) & (estimate.depth == target.depth)
        own_votes = votes * np.where(a < 1, 1 - a, 1)
        votes = np.rint(np.where(filled, MAX_VOTES * a, own_votes)).astype(np.int32)
    guide_bins = np.rint((GUIDE_BINS - 1) * context.guide).astype(np.int32)
    radius = int(np.clip(np.rint(RADIUS_PX * np.sqrt(context.smoothness)), 1, MAX_RADIUS_PX))
    depth, shape = np.empty_like(estimate.depth), estimate.depth.shape

    def fill(window: Window) -> None:
        outer = window.expand(radius, shape)
        d, n, g = (part[outer.slices].copy() for part in (estimate.depth, votes, guide_bins))
        depth[window.slices] = weighted_medians(d, n, g, radius)[window.slices_in(outer)]

    parts = plan_windows(shape, MAPS_PER_WINDOW, radius)
    run_parallel(fill, parts, progress, desc="Weighted median")
    index = np.rint(fractional_plane_index(depth, context.positions)).astype(np.uint16)
    return DepthMap(index, depth, estimate.uncertainty)


def weighted_medians(
    depth: np.ndarray, votes: np.ndarray, guide_bins: np.ndarray, radius: int
) -> np.ndarray:
    """Return the mean of the votes in the bin of each weighted median, (Y, X) float32.

    `depth` is (Y, X) float32, `votes` and `guide_bins` are (Y, X) int32.
    """
    low, high = float(depth.min()), float(depth.max())
    scale = (DEPTH_BINS - 1) / max(high - low, 1e-12)
    depth_bins = np.rint((depth - low) * scale).astype(np.int32)
    level = np.arange(GUIDE_BINS)
    similarity = np.exp(-np.abs(level[:, None] - level) / (GUIDE_SCALE * (GUIDE_BINS - 1)))
    out = depth.copy()
    _track_medians(depth, depth_bins, votes, guide_bins, similarity.astype(np.float32), radius, out)
    return out


@kernel
def _track_medians(depth, depth_bins, votes, guide_bins, similarity, radius, out):  # type: ignore[no-untyped-def]
    """Slide the square along each row and track the bin of the median."""
    height, width = depth.shape
    histogram = np.zeros((DEPTH_BINS, GUIDE_BINS), np.int32)
    all_votes, votes_up_to = np.zeros(GUIDE_BINS, np.int32), np.zeros(GUIDE_BINS, np.int32)
    for y in range(height):
        histogram[:], all_votes[:], votes_up_to[:] = 0, 0, 0
        sums, counts = np.zeros(DEPTH_BINS), np.zeros(DEPTH_BINS, np.int64)  # of depth, of votes
        rows = range(max(y - radius, 0), min(y + radius + 1, height))
        median = depth_bins[y, 0]
        for x in range(-radius, width):
            for column, sign in ((x + radius, 1), (x - radius - 1, -1)):
                if not 0 <= column < width:
                    continue
                for v in rows:
                    number = votes[v, column]
                    if number == 0:
                        continue
                    k, g = depth_bins[v, column], guide_bins[v, column]
                    histogram[k, g] += sign * number
                    all_votes[g] += sign * number
                    if k <= median:
                        votes_up_to[g] += sign * number
                    counts[k] += sign * number
                    sums[k] += sign * number * np.float64(depth[v, column])
            if x < 0:
                continue
            weight = similarity[guide_bins[y, x]]
            half = _weighted_sum(weight, all_votes) / 2
            if half == 0:
                continue
            while median < DEPTH_BINS - 1 and _weighted_sum(weight, votes_up_to) < half:
                median += 1
                if counts[median] > 0:
                    votes_up_to += histogram[median]
            while median > 0:
                if counts[median] > 0:
                    below = _weighted_sum(weight, votes_up_to)
                    below -= _weighted_sum(weight, histogram[median])
                    if below < half:
                        break
                    votes_up_to -= histogram[median]
                median -= 1
            out[y, x] = sums[median] / max(counts[median], 1)


@inline_kernel
def _weighted_sum(weight, votes):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for g in range(GUIDE_BINS):
        total += weight[g] * votes[g]
    return total
