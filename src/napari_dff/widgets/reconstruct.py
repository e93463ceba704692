"""All steps with one click."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from napari.layers import Image, Layer

from napari_dff.pipeline import Reconstruction, depth_from_focus
from napari_dff.progress import Progress
from napari_dff.quality import advice, coverage
from napari_dff.recipe import Recipe
from napari_dff.region import region_of
from napari_dff.stack import FocalStack
from napari_dff.tiles import Window
from napari_dff.widgets.align import ALIGNING, put_alignment
from napari_dff.widgets.layers import find, planes_of, settings_of, valid_of
from napari_dff.widgets.preview import Picture
from napari_dff.widgets.runs import Run
from napari_dff.widgets.step import StepWidget, depth_picture


class ReconstructWidget(StepWidget):
    """Aligned planes, refined depth, uncertainty, plane index and all-in-focus image."""

    title = "Depth from focus"
    settings = ("registration", "sigma", "window", "refinement", "smoothness")
    folded = ("motion", "exposure", "operator", "aggregation", "peak", "prefer", "fusion")
    follows_alignment = False
    skips = ()

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
        given_valid = given["valid"]
        found = region_of(stack, recipe, wanted, valid=given_valid, fuse=False, progress=progress)
        return [depth_picture(stack, found.depth.depth)]

    def previewed_stack(self, stack: FocalStack) -> FocalStack:
        """The stack as a run has aligned it already, if with these settings; else as it is."""
        aligned = self._aligned()
        return stack if aligned is None else replace(stack, planes=planes_of(aligned))

    def given(self, source: Image, layers: dict[str, Layer]) -> dict[str, np.ndarray]:
        """Where the planes that a preview is made from have data."""
        aligned = self._aligned()
        return {"valid": valid_of(source if aligned is None else aligned)}

    def caution(self) -> str:
        """Whether Run will move the planes first, or change their light."""
        asked = self.form.values()
        still = asked["registration"] == "none" and asked["exposure"] == "keep"
        if still or self._aligned() is not None:
            return ""
        return ", of the planes as they are: Run aligns them first"

    def _aligned(self) -> Layer | None:
        """The layer of the stack that a run has aligned with these settings."""
        aligned, asked = find(self._viewer, "aligned", self.stack.value), self.form.values()
        made = {} if aligned is None else settings_of(aligned)
        same = all(made.get(name) == asked[name] for name in ALIGNING)
        return aligned if same else None

    def emit(self, run: Run, recipe: Recipe, result: Reconstruction) -> Iterator[None]:
        """Put the aligned planes and the four layers of the refined depth map."""
        moved = not np.allclose(result.transforms, np.eye(3), rtol=0, atol=1e-9)
        if moved or recipe.exposure != "keep":
            planes, valid = result.stack.planes, result.valid
            yield from put_alignment(run, planes, result.transforms, valid)
        yield from run.put_depth_map(result.refined, result.all_in_focus, prefix="refined ")
        self.tell(advice(coverage(result.refined, len(run.positions))))
