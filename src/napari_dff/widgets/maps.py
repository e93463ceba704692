"""Depth maps and pictures of all stacks of a layer, in arrays with its axes."""

import numpy as np

from napari_dff.depth import DepthMap
from napari_dff.pieces import TileResult
from napari_dff.quality import Coverage, coverage
from napari_dff.widgets.layer_data import RESULT_IMAGES, result_layer
from napari_dff.widgets.series import Series
from napari_dff.windows import Window, full_window


class Maps:
    """Depth maps and all-in-focus images of a series, filled in place by place, piece by piece.

    Attributes
    ----------
    index, depth, uncertainty : (…, 1, Y, X) arrays
        As in `DepthMap`, with the axes of the layer before Y, 1 of channel and Z; (Y, X) of a layer
        with axes Z, Y, X.
    pictures : (…, 1, Y, X[, 3]) array
        One for each channel.
    coverage : Coverage
    layers : list of ResultLayer
        The layers that show them, from the lowest.
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
        """Derive the layers and the coverage from maps that are complete."""
        maps = DepthMap(self.index, self.depth, self.uncertainty)
        self.coverage: Coverage = coverage(maps, self._planes)
        images = {**maps._asdict(), "all_in_focus": self.pictures}
        self.layers = [
            result_layer(
                name,
                images[name],
                self._series.positions,
                uncertainty=self.uncertainty,
                rgb=self._colour,
            )
            for name in RESULT_IMAGES
        ]
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
