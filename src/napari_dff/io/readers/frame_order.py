"""Axes and order of the frames of a folder, from their names and capture times."""

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tifffile import natural_sorted

from napari_dff.io.readers.axes import StackError
from napari_dff.io.readers.frame_names import Column, template, varying_columns
from napari_dff.runtime.words import abbreviate, join_words

AXIS_WORDS = {"P": "position", "T": "time", "C": "channel", "Z": "z"}
MAX_GRID = 10_000_000
MIN_ALIKE_NAMES = 3
MAX_STEP_RATIO = 1.3  # of the largest and the median step of even positions, which names round
WELL_LABELS = ("row", "column")


@dataclass(frozen=True)
class FrameGrid:
    """The frames of a folder along their leading axes."""

    axes: tuple[str, ...]  # letters, or the part of the names that counts; "" is the only axis
    lengths: tuple[int, ...]
    paths: list[Path]  # in C order of the axes
    channels: tuple[str, ...] = ()  # as in the names
    positions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    is_counted: bool = False  # by a counter: capture times may correct the order
    focus_positions: tuple[float, ...] = ()  # in µm, if the names give uneven ones


def arrange_frames(folder: str, paths: Sequence[Path]) -> FrameGrid:
    """Return axes and order of frames by their names; `folder` is for messages.

    StackError if channels, positions or times in the names do not form a complete grid.
    """
    paths = [Path(path) for path in natural_sorted(map(str, paths))]
    columns = varying_columns([path.stem for path in paths])
    if columns is None:
        return _arrange_kinds(folder, paths)
    split = [c for c in columns if c.axis in ("C", "P", "T") and not c.is_unique]
    if split:
        by_axis = {axis: [c for c in split if c.axis == axis] for axis in "PTC"}
        words = [c for c in columns if isinstance(c.values[0], str) and c not in split]
        by_axis |= {column.span: [column] for column in words}
        by_axis = {axis: group for axis, group in by_axis.items() if group}
        return _grid(folder, paths, by_axis, [c for c in columns if c not in split + words])
    if unknown := _unknown_axes(columns):
        names = {column.axis or column.span: [column] for column in unknown}
        return _grid(folder, paths, names, [])
    grid = _single_axis(paths, columns)
    problem = _problem_of_parts(columns)
    if not problem:
        return grid
    parts = join_words(column.span for column in columns)
    message = f"the {len(paths)} frames of {folder} vary in {parts}, {problem}"
    if "one stack" in problem:
        return dataclasses.replace(grid, warnings=(*grid.warnings, message))
    raise StackError(message)


def _problem_of_parts(columns: Sequence[Column]) -> str:
    """Return why names that vary in several parts may be of several stacks; "" if they are not."""
    hint = "put each stack in a folder of its own"
    planes = [column for column in columns if column.axis == "Z"]
    if planes and len(set(_keys(planes))) < len(planes[0].values):
        return f"with several frames of one {planes[0].label}: {hint}"
    if planes or len(columns) < 2 or any(column.is_unique for column in columns):
        return ""
    if any(isinstance(c.values[0], str) or not c.label.startswith("number") for c in columns[1:]):
        return f"and some combinations are missing: {hint}"
    if all(re.fullmatch("[0-5][0-9]", text) for column in columns for text in column.texts):
        return ""  # hours, minutes, seconds
    return f"and are taken as one stack: if they are several, {hint}"


def _single_axis(paths: list[Path], columns: Sequence[Column]) -> FrameGrid:
    """Return frames of one stack in the order of their numbers."""
    is_channels = [c.axis for c in columns] == ["C"] and len(columns[0].label) > 1
    keys = _keys(_position_columns(columns) or columns)
    order = sorted(range(len(paths)), key=keys.__getitem__) if keys else range(len(paths))
    ordered, warnings = [paths[i] for i in order], tuple[str, ...]()
    is_counted = not (_position_columns(columns) or is_channels)
    if is_counted and len(columns) == 1 and isinstance(columns[0].values[0], int):
        ordered, warnings = _after_rollover(ordered, columns[0])
    if is_channels:
        return FrameGrid(("C",), (len(paths),), ordered)
    positions, messages = _uneven_positions(columns, order)
    warnings += messages
    return FrameGrid(("",), (len(paths),), ordered, (), (), warnings, is_counted, positions)


def _uneven_positions(
    columns: Sequence[Column], order: Sequence[int]
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Return the positions in µm, in their order, and a warning, if names give uneven ones.

    Without a unit of length there is only the warning.
    """
    positions = _position_columns(columns)
    if len(positions) != 1 or len(order) < MIN_ALIKE_NAMES:
        return (), ()
    column = positions[0]
    values = np.array([column.values[i] for i in order], dtype=float)
    steps = np.diff(values)
    if not steps.all() or steps.max() <= MAX_STEP_RATIO * np.median(steps):
        return (), ()
    k = int(np.argmax(steps))
    pair = f"{column.texts[order[k]]} and then {column.texts[order[k + 1]]}"
    problem = f"the positions in the names of the frames ({column.label}) are uneven, {pair}"
    if column.micrometers is None:
        hint = "the planes are counted as if they were even; add missing frames, or rename them"
        return (), (f"{problem}: {hint}",)
    hint = "depth is in µm by the names, the pixel size is unknown"
    message = f"{problem}: {hint}; give --spacing if they are even, or the pixel size"
    return tuple((values * column.micrometers).tolist()), (message,)


def _arrange_kinds(folder: str, paths: list[Path]) -> FrameGrid:
    """Return frames whose names are of several kinds, in natural order, with a warning.

    Where most names give focus positions, the other frames come last.
    """
    kinds: dict[str, list[Path]] = {}
    for path in paths:
        kinds.setdefault(template(path.stem), []).append(path)
    largest = max(kinds.values(), key=len)
    majority = set(largest)
    odd = [path for path in paths if path not in majority]
    if len(largest) < MIN_ALIKE_NAMES or len(odd) > len(largest):
        return FrameGrid(("",), (len(paths),), paths, is_counted=True)
    names = abbreviate([path.name for path in odd], 3)
    verb, pronoun = ("is", "it is not a plane") if len(odd) == 1 else ("are", "they are not planes")
    example = f"like the other {len(largest)} frames, such as {largest[0].name}"
    problem = f"{names} {verb} not named {example}"
    grid = arrange_frames(folder, largest)
    if grid.axes != ("",):
        raise StackError(f"{problem}: move what does not belong to the stack to another folder")
    warnings = (f"{problem}: if {pronoun}, move what does not belong here to another folder",)
    ordered = paths if grid.is_counted else grid.paths + odd
    return FrameGrid(("",), (len(paths),), ordered, warnings=warnings, is_counted=grid.is_counted)


def by_capture_time(paths: Sequence[Path], times: Sequence[str]) -> list[Path] | None:
    """Return frames in the order of their capture times; None if names give the same order.

    Frames taken within one second stay in the order of their names.
    """
    if not all(times):
        return None
    order = sorted(range(len(paths)), key=lambda i: (times[i], i))
    return None if order == list(range(len(paths))) else [paths[i] for i in order]


def _position_columns(columns: Sequence[Column]) -> list[Column]:
    """Return the columns that give the focus position, or the plane by its label."""
    return [column for column in columns if column.is_position or column.axis == "Z"]


def _unknown_axes(columns: Sequence[Column]) -> list[Column]:
    """Return two or more columns that form a complete grid without a label that names the axes."""
    if len(columns) < 2 or any(column.is_unique for column in columns):
        return []
    lengths = [len(set(column.values)) for column in columns]
    count = len(columns[0].values)
    combinations = set(zip(*(column.values for column in columns), strict=True))
    return list(columns) if math.prod(lengths) == count == len(combinations) else []


def _grid(
    folder: str,
    paths: Sequence[Path],
    by_axis: dict[str, list[Column]],  # along which the frames are split
    others: Sequence[Column],  # that order the frames within
) -> FrameGrid:
    """Return the frames split along axes; StackError if some are missing."""
    keys = {axis: _keys(columns) for axis, columns in by_axis.items()}
    levels = {axis: sorted(set(values)) for axis, values in keys.items()}
    counts = [len(values) for values in levels.values()]
    if math.prod(counts) > MAX_GRID:
        raise StackError(f"the names of the frames in {folder} vary in too many parts")
    planes = _position_columns(others) or list(others)
    groups: dict[tuple[int, ...], list[int]] = {}
    ranks = {axis: {value: i for i, value in enumerate(v)} for axis, v in levels.items()}
    for i in range(len(paths)):
        groups.setdefault(tuple(ranks[axis][keys[axis][i]] for axis in keys), []).append(i)
    plane_keys = _keys(planes)
    for indices in groups.values() if planes else ():
        indices.sort(key=plane_keys.__getitem__)
    _check_complete(folder, by_axis, levels, groups, planes)
    ordered = [paths[i] for key in np.ndindex(*counts) for i in groups[key]]
    depth = len(paths) // math.prod(counts)
    names = {axis: _level_names(by_axis[axis], keys[axis], levels[axis]) for axis in by_axis}
    axes, lengths = (*by_axis, "Z"), (*counts, depth)
    if not others:  # all axes have a name of their own, and none is known to be Z
        axes, lengths = axes[:-1], lengths[:-1]
    channels, positions = names.get("C", ()), names.get("P", ())
    focus_positions, warnings = _uneven_positions(planes, next(iter(groups.values())))
    return FrameGrid(
        axes, lengths, ordered, channels, positions, warnings, focus_positions=focus_positions
    )


def _check_complete(
    folder: str,
    by_axis: dict[str, list[Column]],
    levels: dict[str, list[tuple[float | str, ...]]],
    groups: dict[tuple[int, ...], list[int]],
    planes: Sequence[Column],
) -> None:
    """Raise StackError unless each combination of the axes has the same planes."""
    count = sum(map(len, groups.values()))
    expected = math.prod(map(len, levels.values()))
    parts = [c.span for columns in by_axis.values() for c in columns] + [c.span for c in planes]
    vary = f"the {count} frames of {folder} vary in {join_words(parts)}"
    hint = "put each stack in a folder of its own"
    sizes = {len(indices) for indices in groups.values()}
    if len(groups) < expected or len(sizes) > 1:
        kinds = " × ".join(f"{len(levels[axis])} {AXIS_WORDS.get(axis, axis)}s" for axis in levels)
        most = max(sizes)
        raise StackError(
            f"{vary}, and some are missing: {kinds} of {most} planes are "
            f"{expected * most} frames; add the missing ones, or {hint}"
        )
    numbered = [column for column in planes if column.axis == "Z" and not column.is_unique]
    if not numbered:
        return
    sets = {tuple(tuple(c.values[i] for c in numbered) for i in each) for each in groups.values()}
    if len(sets) > 1:
        raise StackError(f"{vary}, and {numbered[0].label} differs between the stacks: {hint}")
    if len(set(next(iter(sets)))) < len(next(iter(sets))):
        raise StackError(f"{vary}, with several frames of one {numbered[0].label}: {hint}")


def _keys(columns: Sequence[Column]) -> list[tuple[float | str, ...]]:
    """Return the values of columns for each name."""
    return list(zip(*(column.values for column in columns), strict=True))


def _level_names(
    columns: Sequence[Column],
    keys: Sequence[tuple[float | str, ...]],
    levels: Sequence[tuple[float | str, ...]],
) -> tuple[str, ...]:
    """Return a name for each level, as in the names of the frames: "ch00", "r01 c02 f01"."""
    words = {}
    for i, key in enumerate(keys):
        texts = (
            f"{'' if column.label in WELL_LABELS else column.label}{column.texts[i]}"
            for column in columns
        )
        words[key] = " ".join(texts)
    return tuple(words[level] for level in levels)


def _after_rollover(paths: list[Path], column: Column) -> tuple[list[Path], tuple[str, ...]]:
    """Return frames whose counter began again after 99…9 in the order in which they were taken."""
    numbers = sorted(map(int, column.values))
    gaps = [i for i, (a, b) in enumerate(itertools.pairwise(numbers)) if b - a > 1]
    is_full = numbers[-1] == 10 ** max(map(len, column.texts)) - 1 and numbers[0] in (0, 1)
    if not (is_full and len(gaps) == 1):
        return paths, ()
    split = gaps[0] + 1
    message = (
        f"the counter in the names of the frames begins again after {paths[-1].name}: "
        f"{paths[0].name} is taken as the next plane; rename the frames if it is not"
    )
    return paths[split:] + paths[:split], (message,)
