"""All steps with one click."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from napari_dff.pipeline import Reconstruction, depth_from_focus
from napari_dff.progress import Progress
from napari_dff.quality import advice, coverage
from napari_dff.recipe import Recipe
from napari_dff.region import region_of
from napari_dff.stack import FocalStack
from napari_dff.tiles import Window
from napari_dff.widgets.align import put_alignment
from napari_dff.widgets.layers import find, settings_of, stack_of
from napari_dff.widgets.preview import Picture
from napari_dff.widgets.runs import Run
from napari_dff.widgets.step import StepWidget, depth_pictures

ALIGNING = ("registration", "motion", "exposure")


class ReconstructWidget(StepWidget):
    """Aligned planes, refined depth, uncertainty, plane index and all-in-focus image."""

    title = "Depth from focus"
    settings = ("registration", "sigma", "window", "refinement", "smoothness")
    folded = ("motion", "exposure", "operator", "aggregation", "peak", "prefer", "fusion")
    roles = (
        "aligned",
        "refined depth",
        "refined uncertainty",
        "refined plane index",
        "refined all in focus",
    )
    follows_alignment = False

    def compute(
        self, stack: FocalStack, recipe: Recipe, given: dict[str, np.ndarray], progress: Progress
    ) -> Reconstruction:
        """Run the whole recipe."""
        return depth_from_focus(stack, recipe, progress=progress)

    def look(
        self,
        stack: FocalStack,
        recipe: Recipe,
        given: dict[str, np.ndarray],
        wanted: Window,
        progress: Progress,
    ) -> Sequence[Picture]:
        """Depth and picture of a window, of the planes as they lie there."""
        found = region_of(stack, recipe, wanted, progress=progress)
        whole = slice(None), slice(None)
        return depth_pictures(stack, found.depth, found.all_in_focus, whole)

    def previewed_stack(self, stack: FocalStack, recipe: Recipe) -> FocalStack:
        """The stack as a run has aligned it already, if with these settings; else as it is."""
        aligned = find(self._viewer, "aligned", self.stack.value)
        if aligned is None or recipe.registration == "none":
            return stack
        made = settings_of(aligned)
        if any(made.get(name) != getattr(recipe, name) for name in ALIGNING):
            return stack
        return replace(stack, planes=stack_of(aligned).planes)

    def emit(self, run: Run, recipe: Recipe, result: Reconstruction) -> Iterator[None]:
        """Put the aligned planes and the four layers of the refined depth map."""
        if recipe.registration != "none" or recipe.exposure != "keep":
            yield from put_alignment(run, result.stack.planes, result.transforms)
        yield from run.put_depth_map(result.refined, result.all_in_focus, prefix="refined ")
        self.tell(advice(coverage(result.refined, len(run.positions))))
