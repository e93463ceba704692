"""Windows: rectangles of rows and columns of a plane, in which all steps compute.

A step computes one window of all planes. If it needs pixels around the window, it expands the
window and gets that much from the step before. No other code handles borders.
"""

import itertools
from typing import NamedTuple

import numpy as np

from napari_dff.runtime.threads import thread_count, thread_limits

GRID_PX = 8  # windows begin and end on multiples of it, so that all of them shrink alike
MIN_WINDOW_PX, MAX_WINDOW_PX = 96, 512  # side of a window
SMALL_WINDOW_PX = 32  # least side where nothing else fits: most of it is computed several times
MAX_WINDOW_PLANES = 4  # float32 planes that all windows in progress may fill together
MIN_WINDOW_VALUES = 1 << 25  # float32 values (134 MB) that they may fill, however small a plane is


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

    def shift(self, rows: int, columns: int) -> "Window":
        """Return the window moved down and to the right."""
        top, left = self.top + rows, self.left + columns
        return Window(top, self.bottom + rows, left, self.right + columns)

    def union(self, other: "Window") -> "Window":
        """Return the smallest window that contains both."""
        top, left = min(self.top, other.top), min(self.left, other.left)
        return Window(top, max(self.bottom, other.bottom), left, max(self.right, other.right))

    def intersect(self, other: "Window") -> "Window":
        """Return the part in another window; without pixels if they do not overlap."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return Window(top, max(top, bottom), left, max(left, right))

    def expand(self, margin: int, shape: tuple[int, int], grid: int = GRID_PX) -> "Window":
        """Add `margin` pixels on every side, then round out to multiples of `grid`, in a plane."""
        top, left = (max(0, (i - margin) // grid * grid) for i in (self.top, self.left))
        bottom, right = (
            min(size, -(-(end + margin) // grid) * grid)
            for end, size in zip((self.bottom, self.right), shape, strict=True)
        )
        return Window(top, bottom, left, right)

    def blocks(self, step: int) -> "Window":
        """Return the window of the blocks of `step` × `step` pixels that this one touches."""
        return Window(
            self.top // step, -(-self.bottom // step), self.left // step, -(-self.right // step)
        )

    def slices_in(self, outer: "Window") -> tuple[slice, slice]:
        """Index of this window in an array that covers `outer`."""
        rows = slice(self.top - outer.top, self.bottom - outer.top)
        return rows, slice(self.left - outer.left, self.right - outer.left)


def full_window(shape: tuple[int, int]) -> Window:
    """Return the window that covers a plane of `shape`."""
    return Window(0, shape[0], 0, shape[1])


def plan_windows(
    shape: tuple[int, int], planes: float, margin: int = 0, max_width: int = MAX_WINDOW_PX
) -> list[Window]:
    """Split a plane of `shape` into windows that fit into memory on all threads together.

    A window holds `planes` float32 values per pixel, and will be expanded by `margin` pixels. It is
    a square, or, if memory is left, up to `max_width` wide. Without a memory limit, windows and
    results are the same for any number of threads.
    """
    height, width = shape
    values = float(max(MAX_WINDOW_PLANES * height * width, MIN_WINDOW_VALUES))
    limits = thread_limits()
    if limits.megabytes is not None:
        values = limits.megabytes * 1e6 / 4 / thread_count()
    pixels = values / max(planes, 1)
    least = SMALL_WINDOW_PX if limits.has_small_windows else MIN_WINDOW_PX
    side = int(np.clip(np.sqrt(pixels) - 2 * margin, least, MAX_WINDOW_PX))
    wide = int(np.clip(pixels / (side + 2 * margin) - 2 * margin, side, max(side, max_width)))
    return window_grid(shape, *(size // GRID_PX * GRID_PX for size in (side, wide)))


def window_grid(shape: tuple[int, int], side: int, width: int | None = None) -> list[Window]:
    """Split a plane into windows of about `side` × `width` pixels, row by row.

    `width` is `side` if None.
    """
    sides = side, width or side
    counts = [max(1, round(size / side)) for size, side in zip(shape, sides, strict=True)]
    rows, columns = (
        [min(size, -(-size * i // count // GRID_PX) * GRID_PX) for i in range(count)] + [size]
        for size, count in zip(shape, counts, strict=True)
    )
    spans = itertools.product(itertools.pairwise(rows), itertools.pairwise(columns))
    return [Window(*vertical, *horizontal) for vertical, horizontal in spans]
