"""Focus offset between two channels, from their depth maps of the same field."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from napari_dff.model.checks import as_numbers
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.result import FocusOffset

BLOCKS_PER_AXIS = 10  # about: the scatter of their medians is known to 1 / sqrt(2 · 99) = 7 %
MIN_BLOCK_PX = 24  # depth errors are correlated over 5 to 20 pixels
MIN_KNOWN_SHARE = 0.1  # of the pixels of a block, for which it has a median
MIN_BLOCKS = 5
MAX_DEVIATIONS = 3.5  # from the median of the blocks, in standard deviations
STANDARD_DEVIATION_PER_MAD = 1.4826  # of a normal distribution
MIN_SCATTER = 1e-6  # of the blocks, in distances of planes
ERROR_FLOOR = 0.05  # in distances of planes, of a depth as a weight
SHARED_ERROR = 0.01  # in distances of planes, of the depth between planes; of rendered channels


class FocusOffsetError(ValueError):
    """Depth maps that have too few pixels in common for a focus offset."""


class BlockMedians(NamedTuple):
    """Weighted median of the difference in each block, (N,) float64 each."""

    median: np.ndarray
    pixels: np.ndarray  # number of known pixels
    row: np.ndarray  # of the centre, in pixels
    column: np.ndarray


def focus_offset(reference: DepthMap, other: DepthMap, spacing: float = 1.0) -> FocusOffset:
    """Return how much higher a channel is in focus than another one that shows the same surface.

    The field is divided into about 10 × 10 blocks of at least 24 × 24 pixels. Of each, the
    difference is the median over the pixels that are in focus in both channels, weighted by their
    uncertainties. The offset is the mean of the medians without outliers. Errors that pixels of a
    block share, as texture and haze cause them, are in the scatter of the medians, which gives the
    standard uncertainty. Structures at different heights count as focus offset.

    Parameters
    ----------
    reference, other : DepthMap
        Of the same pixels, in the same unit; as from `depth_map`, before refinement: refined depth
        is correlated over longer distances.
    spacing : float
        Distance of planes, in that unit.

    Returns
    -------
    FocusOffset
        In the unit of the depth.

    Raises
    ------
    FocusOffsetError
        A ValueError, if fewer than five blocks have a tenth of their pixels in focus in both.
    ValueError
        For maps of different shapes, or an invalid spacing.
    """
    if not 0 < spacing < np.inf:
        raise ValueError(f"spacing must be a number above 0, got {spacing}")
    reference, other = (
        DepthMap(
            *(as_numbers(name, each) for name, each in zip(DepthMap._fields, maps, strict=True))
        )
        for maps in (reference, other)
    )
    if reference.depth.shape != other.depth.shape or reference.depth.ndim != 2:
        shapes = f"{reference.depth.shape} and {other.depth.shape}"
        raise ValueError(f"reference and other must have the same shape (Y, X), got {shapes}")
    return combine_blocks([block_medians(reference, other, spacing)], spacing)


def block_medians(
    reference: DepthMap, other: DepthMap, spacing: float, side: int | None = None
) -> BlockMedians:
    """Return the differences of two depth maps, other - reference, in blocks of `side` pixels."""
    shape = reference.depth.shape
    side = block_side(shape) if side is None else side
    difference = other.depth.astype(np.float64) - reference.depth
    variance = reference.uncertainty.astype(np.float64) ** 2 + other.uncertainty**2
    weight = 1 / (variance + (ERROR_FLOOR * spacing) ** 2)  # 0 where never in focus
    rows = []
    for top in range(0, max(shape[0] - side // 2, 1), side):
        for left in range(0, max(shape[1] - side // 2, 1), side):
            block = np.s_[top : top + side, left : left + side]
            mask = weight[block] > 0
            pixels = np.count_nonzero(mask)
            if pixels >= MIN_KNOWN_SHARE * mask.size:
                median = _weighted_median(difference[block][mask], weight[block][mask])
                rows.append((median, pixels, top + side / 2, left + side / 2))
    return BlockMedians(*np.array(rows, np.float64).reshape(-1, 4).T)


def block_side(shape: tuple[int, ...]) -> int:
    """Return the side of the blocks of a field, in pixels."""
    return max(MIN_BLOCK_PX, round(max(shape) / BLOCKS_PER_AXIS))


def combine_blocks(parts: list[BlockMedians], spacing: float) -> FocusOffset:
    """Return the offset from the blocks of one or several windows; FocusOffsetError if too few."""
    blocks = BlockMedians(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    if len(blocks.median) < MIN_BLOCKS:
        raise FocusOffsetError(
            f"too little is in focus in both channels: {len(blocks.median)} of the blocks of the "
            f"field, {MIN_BLOCKS} are needed"
        )
    centre = np.median(blocks.median)
    deviation = np.abs(blocks.median - centre)
    scatter = max(STANDARD_DEVIATION_PER_MAD * float(np.median(deviation)), MIN_SCATTER * spacing)
    inliers = BlockMedians(*(each[deviation <= MAX_DEVIATIONS * scatter] for each in blocks))
    value, uncertainty = _mean(inliers.median, inliers.pixels)
    uncertainty = float(np.hypot(uncertainty, SHARED_ERROR * spacing))
    return FocusOffset(value, uncertainty, scatter, _tilt(inliers))


def _mean(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Return the weighted mean, and its standard uncertainty from the scatter of the values."""
    share = weights / weights.sum()
    mean = float(share @ values)
    variance = float(share**2 @ (values - mean) ** 2) * len(values) / (len(values) - 1)
    return mean, variance**0.5


def _tilt(blocks: BlockMedians) -> float:
    """Return how much the plane through the medians rises across the field, if significantly."""
    extents = np.ptp(blocks.row), np.ptp(blocks.column)
    if min(extents) == 0 or len(blocks.median) <= MIN_BLOCKS:
        return 0.0
    scaled = [
        (part - part.mean()) / extent
        for part, extent in zip((blocks.row, blocks.column), extents, strict=True)
    ]
    terms = np.stack([np.ones(len(blocks.median)), *scaled])
    normal = (terms * blocks.pixels) @ terms.T
    solution = np.linalg.solve(normal, (terms * blocks.pixels) @ blocks.median)
    residual = blocks.median - solution @ terms
    variance = float(blocks.pixels @ residual**2) / (len(residual) - 3)
    errors = np.sqrt(variance * np.diag(np.linalg.inv(normal)))[1:]
    slopes = solution[1:]
    is_significant = (np.abs(slopes) > MAX_DEVIATIONS * errors).any()
    return float(np.hypot(*slopes)) if is_significant else 0.0


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
