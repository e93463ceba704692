"""Focus offset of each channel: its depth minus that of the focus channel."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_dff.depth.estimation import estimate_depth
from napari_dff.depth.offset import (
    FocusOffsetError,
    block_medians,
    block_side,
    combine_blocks,
)
from napari_dff.focus import focus_radius, largest_scale
from napari_dff.model import checks
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import Recipe
from napari_dff.model.result import FocusOffset
from napari_dff.model.units import depth_unit_symbol
from napari_dff.pipeline import tile
from napari_dff.runtime.progress import Progress, iterate
from napari_dff.runtime.windows import Window

OFFSET = checks.Range(-checks.MAX_MAGNITUDE, checks.MAX_MAGNITUDE, 0.1, has_auto=True)
MAX_SCATTER = 1.0  # of the offset from place to place, in distances of planes
MAX_TILT = 0.5  # in distances of planes
SAMPLE_ROWS, SAMPLE_SIDE_PX = 3, 256  # at most 3 × 3 windows of the plane are compared
MAX_BLOCK_PX = 64
NO_CHANNELS = (
    "focus_offset needs a stack of several channels, or the depth of another channel (depth_from)"
)


def check_offset(offset: float | str, acquisition: Acquisition, depth: Any) -> float | str:
    """Return a focus offset; ValueError unless it is one, and the depth is of another channel."""
    value: float | str = OFFSET.check("focus_offset", offset)
    if value != 0 and depth is None and not acquisition.other_channels:
        raise ValueError(NO_CHANNELS)
    return value


def channel_offsets(
    stack: tile.AlignedStack,
    recipe: Recipe,
    offset: float | str,
    acquisition: Acquisition,
    progress: Progress,
) -> tuple[FocusOffset, ...]:
    """Return the offset of the planes of a stack, then of each of its other channels.

    The planes have offset 0 unless the depth is known: it may be that of another channel. `offset`
    is a number for all channels, or "auto" to estimate that of each one. Where an offset cannot be
    estimated, it is 0, with a warning.
    """
    value, own = check_offset(offset, acquisition, stack.known_depth), stack.known_depth is None
    channels = stack.other_channels if own else (stack.planes, *stack.other_channels)
    if isinstance(value, str):
        recipe, names = tile.with_chosen_scale(recipe, stack), _names(acquisition)[-len(channels) :]
        offsets = _estimate(stack, recipe, channels, names, progress)
    else:
        offsets = [FocusOffset(value)] * len(channels)
    return (FocusOffset(0.0), *offsets) if own else tuple(offsets)


def _estimate(
    stack: tile.AlignedStack,
    recipe: Recipe,
    channels: Sequence[Any],
    names: Sequence[str],
    progress: Progress,
) -> list[FocusOffset]:
    """Return the offset of each channel from windows spread over the planes, with warnings."""
    spacing = float(np.abs(np.diff(stack.positions)).mean())
    parts: list[list[Any]] = [[] for _ in channels]
    side = min(block_side(stack.shape), MAX_BLOCK_PX)
    for window in iterate(progress, _sample_windows(stack.shape), desc="Finding focus offset"):
        if stack.known_depth is None:
            reference = _window_depth(stack, stack.planes, recipe, window, progress)
        else:
            reference = stack.known_depth(window)
        for part, planes in zip(parts, channels, strict=True):
            other = _window_depth(stack, planes, recipe, window, progress)
            medians = block_medians(reference, other, spacing, side)
            place = {"row": medians.row + window.top, "column": medians.column + window.left}
            part.append(medians._replace(**place))
    offsets = []
    for name, part in zip(names, parts, strict=True):
        try:
            offsets.append(combine_blocks(part, spacing))
        except FocusOffsetError as error:
            message = f"no focus offset of channel {name}: {error}"
            warnings.warn(f"{message}; the depth is used as it is", stacklevel=2)
            offsets.append(FocusOffset(0.0))
    return offsets


def _sample_windows(shape: tuple[int, int]) -> list[Window]:
    """Return windows, evenly spaced over a plane, that do not overlap."""
    spans = []
    for size in shape:
        side = min(size, SAMPLE_SIDE_PX)
        count = min(size // side, SAMPLE_ROWS)
        starts = np.linspace(0, size - side, count) if count > 1 else [(size - side) / 2]
        spans.append([(int(start), int(start) + side) for start in starts])
    return [Window(*rows, *columns) for rows, columns in itertools.product(*spans)]


def _window_depth(
    stack: tile.AlignedStack, planes: Any, recipe: Recipe, window: Window, progress: Progress
) -> DepthMap:
    """Return the depth map of a window of any channel, before refinement."""
    radius = focus_radius(recipe.operator, *largest_scale(*recipe.scale), recipe.aggregation)
    source = window.expand(radius, stack.shape)
    part = stack.read(planes, source)
    volume = tile.focus_volume(part, recipe, window, source, stack.used_mask)
    method = recipe.peak, recipe.prefer, progress
    return estimate_depth(volume, stack.positions[stack.used], *method, recipe.scale)


def _names(acquisition: Acquisition) -> list[str]:
    """Return number and name of each channel, that of the focus channel first."""
    order = [acquisition.focus_channel, *acquisition.other_channels]
    return [f"{c} {acquisition.channels[c]}".strip() for c in order]


def describe_offsets(offsets: Sequence[FocusOffset], acquisition: Acquisition) -> list[str]:
    """Return the focus offsets of channels as sentences, with what is doubtful about them."""
    spacing = float(np.abs(np.diff(acquisition.positions)).mean())
    pairs = zip(_names(acquisition), offsets, strict=False)  # no offsets of a run without channels
    return [
        describe_offset(f"Focus offset of channel {name}", offset, spacing, acquisition.unit)
        for name, offset in pairs
        if offset.value or offset.uncertainty
    ]


def describe_offset(words: str, offset: FocusOffset, spacing: float, unit: str) -> str:
    """Return a focus offset in a sentence that begins with `words`, and what is doubtful."""
    value, error, scatter, tilt = offset
    symbol, number = depth_unit_symbol(unit), f"{value:+.3g}"
    if error:
        digits = max(0, 1 - int(np.floor(np.log10(error))))
        number = f"{value:+.{digits}f} ± {error:.{digits}f}"
    sentence = f"{words}: {number} {symbol}."
    if scatter > MAX_SCATTER * spacing:
        sentence += (
            f" It scatters by {scatter:.2g} {symbol} from place to place: the channels may show "
            "different structures. Give the offset of a test sample as a number."
        )
    elif tilt > MAX_TILT * spacing:
        sentence += (
            f" It changes by {tilt:.2g} {symbol} across the field: one offset for all of it is "
            "wrong at the rim."
        )
    return sentence
