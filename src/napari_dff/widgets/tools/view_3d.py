"""The view of a surface in 3-D: the camera above it, and axes with numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from napari.utils.theme import get_theme
from napari.viewer import Viewer

ELEVATION_DEG, AZIMUTH_DEG = 45.0, 30.0  # of the camera over the surface
TICKS = 5  # at most on the longest axis
MARGIN = 0.03  # between the surface and the ticks, of the longest axis


def look_from_above(viewer: Viewer) -> None:
    """Turn the camera so that heights point up and pictures are not mirrored.

    Axes may point up or left in the view of the user: left and right are as in 2-D.
    """
    camera = viewer.scene.camera
    _, vertical, horizontal = camera.orientation
    # With Z away from the viewer, a picture seen from above would be mirrored.
    camera.orientation = ("towards", vertical, horizontal)
    elevation, azimuth = np.deg2rad((ELEVATION_DEG, AZIMUTH_DEG))
    away = -1 if str(vertical) == "down" else 1  # from the lower to the upper edge of the picture
    right = 1 if str(horizontal) == "right" else -1
    level = np.cos(elevation)
    direction = -np.sin(elevation), away * level * np.cos(azimuth), right * level * np.sin(azimuth)
    camera.set_view_direction(direction, up_direction=(1, 0, 0))


def is_mirrored(viewer: Viewer) -> bool:
    """Return whether the user lets one of the axes Y and X of pictures run backwards."""
    _, vertical, horizontal = viewer.scene.camera.orientation
    return (str(vertical) == "up") != (str(horizontal) == "left")


def axis_ticks(
    low: Sequence[float], high: Sequence[float], units: tuple[str, str, str]
) -> tuple[Any, list[str]]:
    """Return points, (N, 3), on three edges of a box, and the text at each: lengths and unit.

    `low` and `high` are Z, Y, X of its corners, with the symbols of their units.
    Z are heights; Y and X count from the corner.
    """
    z, y, x = (np.array(ends, float) for ends in zip(low, high, strict=True))
    longest = max(np.ptp(z), np.ptp(y), np.ptp(x))
    margin = MARGIN * longest
    front = np.array([z[0], y[1] + margin, x[0] - margin])  # the lower left corner of the picture
    back = np.array([z[0], y[0] - margin, x[0] - 3 * margin])  # the upper left one
    points, texts = [], []
    for axis, (first, last), zero in ((0, z, 0.0), (1, y, y[0]), (2, x, x[0])):
        count = max(1, round(TICKS * (last - first) / longest))
        ticks = MaxNLocator(count).tick_values(first - zero, last - zero)
        ticks = ticks[(ticks >= first - zero) & (ticks <= last - zero)]
        for tick in ticks:
            point = back.copy() if axis == 0 else front.copy()
            point[axis] = tick + zero
            points.append(point)
            texts.append(f"{tick:.6g}")
        if len(ticks):
            texts[-1] += f" {units[axis]}"
    return np.array(points).reshape(-1, 3), texts


def text_colour(viewer: Viewer) -> str:
    """Return the colour of text on the canvas."""
    return str(get_theme(viewer.theme).text.as_hex())
