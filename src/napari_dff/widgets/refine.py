"""Refine: make neighbours agree."""

from typing import Any

import numpy as np
from napari.layers import Image

from napari_dff.depth import DepthMap
from napari_dff.pipeline import fused_by, refined_by
from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.widgets.layers import needed, put_depth_map
from napari_dff.widgets.step import StepWidget


class RefineWidget(StepWidget):
    """Refined depth, uncertainty, plane index and all-in-focus image beside the estimate."""

    title = "Refine"
    settings = ("refinement", "smoothness", "fusion")

    def gather(self, source: Image) -> tuple[DepthMap, np.ndarray, np.ndarray]:
        """Collect the estimate, its focus volume and the guide."""
        step = "Depth and all-in-focus"
        labels, depth, uncertainty, guide = (
            needed(self._viewer, role, source, step)
            for role in ("plane index", "depth", "uncertainty", "all in focus")
        )
        index = np.where(labels > 0, labels.astype(np.int64) - 1, 0).astype(np.uint16)
        focus = needed(self._viewer, "focus", source, "Focus measure")
        unknown = labels == 0  # the labels don't tell the sharpest plane where none is in focus
        index[unknown] = focus.argmax(axis=0)[unknown]
        return DepthMap(index, depth, uncertainty), focus, guide

    def compute(
        self, stack: FocalStack, recipe: Recipe, extra: Any, progress: Progress
    ) -> tuple[DepthMap, np.ndarray]:
        """Refine, then fuse again."""
        estimate, focus, guide = extra
        refined = refined_by(recipe, stack, estimate, focus, guide, progress)
        return refined, fused_by(recipe, stack, refined.depth, progress)

    def emit(self, source: Image, recipe: Recipe, result: tuple[DepthMap, np.ndarray]) -> None:
        """Put the four layers."""
        put_depth_map(self._viewer, source, *result, prefix="refined ")
