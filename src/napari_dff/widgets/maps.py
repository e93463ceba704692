"""Depth maps and pictures of all stacks of a layer, in arrays with its axes."""

from typing import Any

import numpy as np

from napari_dff.depth import DepthMap
from napari_dff.pieces import TileResult
from napari_dff.quality import Coverage, coverage
from napari_dff.widgets.series import Series
from napari_dff.windows import Window, full_window

ENOUGH = 1 << 20  # pixels that tell how something is shown


class Maps:
    """Depth maps and all-in-focus images of a series, filled in place by place, piece by piece.

    Attributes
    ----------
    index, depth, uncertainty : (…, 1, Y, X) arrays
        As in `DepthMap`, with the axes of the layer before Y, 1 of channel and Z; (Y, X) of a layer
        with axes Z, Y, X.
    pictures : (…, 1, Y, X[, 3]) array
        One for each channel.
    labels : (…, 1, Y, X) uint16
        Label k + 1 is plane k, and 0 is never in focus.
    covered : Coverage
    doubt : float
        The uncertainty of nearly all pixels is below it.
    look : dict
        How the pictures are shown.
    """

    def __init__(self, series: Series) -> None:
        self._series = series
        stack = series.stack(series.places[0])
        self._planes, *shape = stack.planes.shape
        height, width, *colour = shape
        before = (*series.apart, 1) if series.names else ()
        every = (*series.lengths, 1) if series.names else ()
        kinds = {"index": np.uint16, "depth": np.float32, "uncertainty": np.float32}
        made = {name: np.zeros((*before, height, width), kind) for name, kind in kinds.items()}
        self.index, self.depth, self.uncertainty = made.values()
        self.pictures = np.zeros((*every, height, width, *colour), stack.planes.dtype)
        self._colour = bool(colour)

    def put(
        self,
        place: tuple[int, ...],
        found: DepthMap,
        pictures: dict[int, np.ndarray],
        window: Window | None = None,
    ) -> None:
        """Take the depth map of a place, or of a window there, and pictures by their channel."""
        window = window or full_window((self.depth.shape[-2], self.depth.shape[-1]))
        flat = (0,) if self._series.names else ()
        for mine, new in zip((self.index, self.depth, self.uncertainty), found, strict=True):
            mine[(*place, *flat, *window.slices)] = new
        for channel, picture in pictures.items():
            where = (*self._series.at(place, channel), *flat, *window.slices)
            self.pictures[where] = picture

    def of(self, place: tuple[int, ...]) -> DepthMap:
        """The depth map of a place."""
        where = (*place, 0) if self._series.names else ()
        return DepthMap(self.index[where], self.depth[where], self.uncertainty[where])

    def finish(self) -> "Maps":
        """All are there: find out how they are shown."""
        known = np.isfinite(self.uncertainty)
        self.labels = np.where(known, self.index + np.uint16(1), np.uint16(0))
        together = DepthMap(self.index, self.depth, self.uncertainty)
        self.covered: Coverage = coverage(together, self._planes)
        doubts = sample(self.uncertainty)
        doubts = doubts[np.isfinite(doubts)]
        self.doubt = max(float(np.percentile(doubts, 99)), 1e-6) if doubts.size else 1.0
        self.look = look_of(self.pictures, self._colour)
        return self


class Filling:
    """Where the pieces of one place are put."""

    def __init__(self, maps: Maps, place: tuple[int, ...], channels: list[int]) -> None:
        self._maps, self._place, self._channels = maps, place, channels

    def put(self, piece: TileResult) -> None:
        """Take a piece, its pictures in the order of the channels that were given."""
        pictures = dict(zip(self._channels, piece.pictures, strict=True))
        self._maps.put(self._place, piece.refined, pictures, piece.window)

    def known(self, window: Window) -> DepthMap:
        """What was put in a window."""
        return DepthMap(*(part[window.slices] for part in self._maps.of(self._place)))


def look_of(pictures: np.ndarray, colour: bool) -> dict[str, Any]:
    """How all-in-focus images are shown: (…, Y, X), or (…, Y, X, 3) if in colour."""
    if colour:
        return {"rgb": True}
    low, high = (float(v) for v in np.percentile(sample(pictures), (0.1, 99.9)))
    return {"contrast_limits": (low, max(high, low + 1e-6))}


def sample(values: np.ndarray) -> np.ndarray:
    """Some of the pixels of (…, Y, X), enough for a look."""
    every = max(1, round((values.size / ENOUGH) ** 0.5))
    return values[..., ::every, ::every]
