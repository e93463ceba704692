"""The common area: a rectangle in which all aligned planes have data."""

from collections.abc import Sequence

import numpy as np

from napari_dff.imaging.warp import BORDER_TOLERANCE_PX
from napari_dff.model.stack import MIN_SIDE_PX
from napari_dff.registration.lazy_stack import LazyAlignedStack
from napari_dff.runtime.windows import Window, full_window

SIDE_POINTS = 65  # at which a side of the rectangle is tested


def common_window(stacks: Sequence[LazyAlignedStack]) -> Window:
    """Return a window in which all planes of all stacks have data, of about the largest area.

    The area where a plane has data is convex. Of the rectangle, the side of which the largest share
    lies outside is moved in by a pixel, until no side does.

    Raises
    ------
    ValueError
        If the planes have too little in common.
    """
    size = height, width = stacks[0].planes.shape[1:3]
    matrices = np.concatenate([stack.transforms for stack in stacks])
    inverses = np.linalg.inv(matrices[np.abs(matrices - np.eye(3)).max(axis=(1, 2)) > 0])
    top, bottom, left, right = full_window((height, width))
    while bottom - top >= MIN_SIDE_PX and right - left >= MIN_SIDE_PX:
        rows = np.linspace(top, bottom - 1, SIDE_POINTS)
        columns = np.linspace(left, right - 1, SIDE_POINTS)
        shares = [
            *(_share_outside(inverses, each, columns, size) for each in (top, bottom - 1)),
            *(_share_outside(inverses, rows, each, size) for each in (left, right - 1)),
        ]
        if max(shares) == 0:
            return Window(top, bottom, left, right)
        worst = int(np.argmax(shares))
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    least = f"{MIN_SIDE_PX} × {MIN_SIDE_PX}"
    raise ValueError(f"crop must be none: fewer than {least} pixels have data in all planes")


def _share_outside(
    inverses: np.ndarray, rows: np.ndarray | int, columns: np.ndarray | int, size: tuple[int, int]
) -> float:
    """Return the share of points that any (N, 3, 3) `inverses` map outside a plane of `size`."""
    y, x = np.broadcast_arrays(rows, columns)
    mapped = inverses @ np.stack([y, x, np.ones(len(y))])
    mapped = mapped[:, :2] / mapped[:, 2:]
    last = np.subtract(size, 1).reshape(2, 1)
    slack = BORDER_TOLERANCE_PX
    inside = ((mapped >= -slack) & (mapped <= last + slack)).all(axis=(0, 1))
    return float(np.mean(~inside))
