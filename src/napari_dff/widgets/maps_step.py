"""Steps that give a depth map and an all-in-focus image: what they share."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from napari.layers import Layer

from napari_dff.depth import DepthMap
from napari_dff.lazy import read_window
from napari_dff.pieces import MARGIN_PX
from napari_dff.pipeline import fused_by
from napari_dff.progress import Progress
from napari_dff.quality import advice
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.widgets.layer_data import picture_look
from napari_dff.widgets.layers import plugin_metadata
from napari_dff.widgets.maps import Maps
from napari_dff.widgets.preview import Picture
from napari_dff.widgets.runs import Run
from napari_dff.widgets.series import Series
from napari_dff.widgets.step import Given, StepWidget
from napari_dff.windows import Window


class MapsStep(StepWidget):
    """A step that gives a depth map and an all-in-focus image."""

    def focus_channel(self, layers: dict[str, Layer]) -> int | None:
        """That of the focus volume."""
        return plugin_metadata(layers["focus"]).get("focus_channel") if "focus" in layers else None

    def compute(
        self, stack: FocalStack, recipe: Recipe, given: Given, progress: Progress
    ) -> tuple[DepthMap, np.ndarray]:
        """Compute the depth map and the image of one stack; runs in a thread."""
        raise NotImplementedError

    def work(
        self,
        series: Series,
        recipe: Recipe,
        given: dict[tuple[int, ...], Given],
        progress: Progress,
    ) -> Any:
        """Compute all stacks, as `Maps`; every other channel gets its image at the same depth."""
        maps = Maps(series)
        for place, within in series.in_turn(progress):
            found, picture = self.compute(series.stack(place), recipe, given[place], within)
            pictures = {series.focus: picture}
            for channel in series.others:
                stack = series.stack(place, channel)
                pictures[channel] = fused_by(recipe, stack, found.depth, within)
            maps.put(place, found, pictures)
        return maps.finish()

    def look(
        self, stack: FocalStack, recipe: Recipe, given: Given, wanted: Window, progress: Progress
    ) -> Sequence[Picture]:
        """Depth and image of a window, from the layers."""
        shape = tuple(stack.planes.shape[1:3])
        around = wanted.expand(MARGIN_PX, shape)
        near = replace(stack, planes=read_window(stack.planes, around))
        parts = {role: np.asarray(data[(..., *around.slices)]) for role, data in given.items()}
        found, picture = self.compute(near, recipe, parts, progress)
        inner = wanted.slices_in(around)
        look = picture_look(picture[inner], rgb=picture.ndim == 3)
        image = Picture("preview all in focus", picture[inner], look)
        return [image, depth_picture(stack, found.depth[inner])]

    def put(self, run: Run, maps: Maps, prefix: str = "", **remember: Any) -> Iterator[None]:
        """Put the four layers, and say how much of the scene they cover."""
        yield from run.put_maps(maps, prefix, remember)
        self.tell(advice(maps.coverage))


def depth_picture(stack: FocalStack, depth: np.ndarray) -> Picture:
    """A preview of the depth."""
    ends = float(stack.positions.min()), float(stack.positions.max())
    return Picture("preview depth", depth, {"colormap": "viridis", "contrast_limits": ends})
