"""Depth and all-in-focus image from the focus volume."""

from collections.abc import Iterator

import numpy as np
from napari.layers import Image, Layer

from napari_dff.depth import DepthMap, depth_map
from napari_dff.pipeline import fused_by
from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.widgets.layers import require_layer
from napari_dff.widgets.maps import Maps
from napari_dff.widgets.maps_step import MapsStep
from napari_dff.widgets.runs import Run
from napari_dff.widgets.step import Given


class DepthWidget(MapsStep):
    """Depth, its uncertainty, the plane index as labels, and the all-in-focus image."""

    title = "Depth and all-in-focus"
    settings = ("peak", "prefer", "fusion")
    asks_focus = False

    def gather(self, source: Image) -> dict[str, Layer]:
        """The focus volume."""
        return {"focus": require_layer(self._viewer, "focus", source, "Focus measure")}

    def compute(
        self, stack: FocalStack, recipe: Recipe, given: Given, progress: Progress
    ) -> tuple[DepthMap, np.ndarray]:
        """Find the peaks, then fuse."""
        found = depth_map(
            given["focus"],
            stack.positions,
            peak=recipe.peak,
            prefer=recipe.prefer,
            progress=progress,
        )
        found.uncertainty[~given["valid"]] = np.inf
        return found, fused_by(recipe, stack, found.depth, progress)

    def emit(self, run: Run, recipe: Recipe, result: Maps) -> Iterator[None]:
        """Put the four layers."""
        yield from self.put(run, result)
