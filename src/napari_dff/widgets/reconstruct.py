"""All steps with one click."""

from dataclasses import fields
from typing import Any

from napari.layers import Image

from napari_dff.pipeline import Reconstruction, depth_from_focus
from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.widgets.align import put_alignment
from napari_dff.widgets.layers import put_depth_map
from napari_dff.widgets.step import StepWidget


class ReconstructWidget(StepWidget):
    """Aligned planes, refined depth, uncertainty, plane index and all-in-focus image."""

    title = "Depth from focus"
    settings = tuple(field.name for field in fields(Recipe))
    follows_alignment = False

    def compute(
        self, stack: FocalStack, recipe: Recipe, extra: Any, progress: Progress
    ) -> Reconstruction:
        """Run the whole recipe."""
        return depth_from_focus(stack, recipe, progress=progress)

    def emit(self, source: Image, recipe: Recipe, result: Reconstruction) -> None:
        """Put the aligned planes and the four layers of the refined depth map."""
        if recipe.registration != "none" or recipe.exposure != "keep":
            put_alignment(self._viewer, source, recipe, result.stack.planes, result.transforms)
        put_depth_map(self._viewer, source, result.refined, result.all_in_focus, prefix="refined ")
