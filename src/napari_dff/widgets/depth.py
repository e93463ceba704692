"""Depth and all-in-focus image from the focus volume."""

from typing import Any

import numpy as np
from napari.layers import Image

from napari_dff.depth import DepthMap, depth_map
from napari_dff.pipeline import fused_by
from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.widgets.layers import needed, put_depth_map
from napari_dff.widgets.step import StepWidget


class DepthWidget(StepWidget):
    """Depth, its uncertainty, the plane index as labels, and the all-in-focus image."""

    title = "Depth and all-in-focus"
    settings = ("peak", "prefer", "fusion")

    def gather(self, source: Image) -> np.ndarray:
        """Collect the focus volume."""
        return needed(self._viewer, "focus", source, "Focus measure")

    def compute(
        self, stack: FocalStack, recipe: Recipe, extra: Any, progress: Progress
    ) -> tuple[DepthMap, np.ndarray]:
        """Find the peaks, then fuse."""
        found = depth_map(extra, stack.positions, peak=recipe.peak, prefer=recipe.prefer)
        return found, fused_by(recipe, stack, found.depth, progress)

    def emit(self, source: Image, recipe: Recipe, result: tuple[DepthMap, np.ndarray]) -> None:
        """Put the four layers."""
        put_depth_map(self._viewer, source, *result)
