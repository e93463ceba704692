"""Planes cut into windows that all cores work on, so that nothing as large as a stack is held.

A step computes the pixels of one window for all planes. Where it needs pixels around the window, it
grows the window and asks the step before it for that much; nothing else knows about borders.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from napari_dff.progress import Progress

T = TypeVar("T")
GRID = 8  # pixels: windows begin and end on multiples of it, so that they can be shrunk alike
LARGEST, SMALLEST = 512, 96  # pixels, side of a window
PLANES_HELD = 4  # float32 planes that a window under way may fill
LEAST_HELD = 1 << 23  # float32 values (32 MB) that it may fill however small a plane is


class Window(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right` (exclusive) of a plane."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window in a plane."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, by: int, shape: tuple[int, int]) -> Window:
        """`by` pixels more on every side, then out to `GRID`, within a plane of `shape`."""
        top, left = (max(0, (start - by) // GRID * GRID) for start in (self.top, self.left))
        bottom, right = (
            min(size, -(-(stop + by) // GRID) * GRID)
            for stop, size in zip((self.bottom, self.right), shape, strict=True)
        )
        return Window(top, bottom, left, right)

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Index of this window in an array that covers `outer`."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )


def whole(shape: tuple[int, int]) -> Window:
    """The window that is the whole plane."""
    return Window(0, shape[0], 0, shape[1])


class Limits(NamedTuple):
    """What a person allows: threads at a time, and megabytes that windows under way may fill."""

    threads: int | None = None
    megabytes: float | None = None


_limits = Limits()


def limit(limits: Limits) -> None:
    """Keep to these limits from now on; None leaves a limit to the machine."""
    global _limits
    _limits = limits
    if limits.threads is not None or "cv2" in sys.modules:
        import cv2  # whose own threads count too

        cv2.setNumThreads(-1 if limits.threads is None else limits.threads)


def cores() -> int:
    """How many cores this process may use, or as many threads as a person allows."""
    if _limits.threads is not None:
        return _limits.threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def windows(shape: tuple[int, int], planes: int, reach: int = 0) -> list[Window]:
    """Windows that cover a plane of `shape`, of such a size that `planes` of all under way fit.

    `reach` is by how many pixels they will be grown; the larger it is, the larger they are. Unless
    memory is limited they are the same for any number of threads, and so is, bit for bit, what is
    computed in them.
    """
    height, width = shape
    held = float(max(PLANES_HELD * height * width, LEAST_HELD))
    if _limits.megabytes is not None:
        held = _limits.megabytes * 1e6 / 4 / cores()
    held /= max(planes, 1)
    side = int(np.clip(np.sqrt(held) - 2 * reach, SMALLEST, LARGEST)) // GRID * GRID
    return grid(shape, side)


def grid(shape: tuple[int, int], side: int) -> list[Window]:
    """Windows of about `side` pixels a side that cover a plane of `shape`, row by row."""
    counts = [max(1, round(size / side)) for size in shape]
    rows, columns = (
        [min(size, -(-size * i // count // GRID) * GRID) for i in range(count)] + [size]
        for size, count in zip(shape, counts, strict=True)
    )
    return [
        Window(top, bottom, left, right)
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]


def on_all_cores(
    work: Callable[[T], object], items: Sequence[T], progress: Progress, *, desc: str
) -> None:
    """Call `work` with every item, as many at a time as there are cores.

    `work` puts its result where it belongs. The first error, or whatever `progress` raises, ends it
    when the items under way are done.
    """
    if len(items) == 1:
        for item in progress(items, desc=desc):
            work(item)
        return
    with ThreadPoolExecutor(cores()) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in progress(futures, desc=desc):
                future.result()
        finally:
            for future in futures:
                future.cancel()
