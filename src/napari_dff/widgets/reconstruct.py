"""All steps with one click."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Image, Layer

from napari_dff.lazy import load_planes
from napari_dff.pieces import AlignedStack
from napari_dff.pipeline import reconstruct, registered, scene_of
from napari_dff.plan import make_plan
from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.region import reconstruct_region
from napari_dff.registration import LazyAlignedStack
from napari_dff.stack import FocalStack
from napari_dff.widgets.align import ALIGNING, put_alignment
from napari_dff.widgets.layers import find_layer, plugin_metadata, settings_of
from napari_dff.widgets.maps import Filling, Maps
from napari_dff.widgets.maps_step import MapsStep, depth_picture
from napari_dff.widgets.preview import Picture
from napari_dff.widgets.runs import Run
from napari_dff.widgets.series import AlignedPlanes, Series
from napari_dff.widgets.step import Given
from napari_dff.windows import Window, full_window


class Found(NamedTuple):
    """What a run gives: the maps; aligned planes unless all stayed; motions, and where all are."""

    maps: Maps
    planes: Any
    transforms: np.ndarray
    valid: np.ndarray


class ReconstructWidget(MapsStep):
    """Aligned planes, refined depth, uncertainty, plane index and all-in-focus image."""

    title = "Depth from focus"
    settings = ("registration", "sigma", "window", "refinement", "smoothness")
    folded = ("motion", "exposure", "operator", "aggregation", "peak", "prefer", "fusion")
    follows_alignment = False
    skips = ()

    def work(
        self,
        series: Series,
        recipe: Recipe,
        given: dict[tuple[int, ...], Given],
        progress: Progress,
    ) -> Found:
        """Run the whole recipe on every stack: as `depth_from_focus`, with all channels."""
        maps, aligned, still = Maps(series), AlignedPlanes(series), True
        transforms, valid = [], []
        for place, within in series.in_turn(progress):
            scene, moved = _scene(series, place, recipe, maps, within)
            still = still and all(each.is_identity for each in moved.values())
            transforms.append(moved[series.focus].transforms)
            valid.append(scene.valid(full_window(scene.shape)))
            if not (recipe.registration == "none" and recipe.exposure == "keep"):
                for channel, each in moved.items():
                    held = channel == series.focus and isinstance(scene.planes, np.ndarray)
                    here = scene.planes if held else None
                    aligned.put(place, channel, each, here, within)
        planes = None if still else aligned.together()
        return Found(maps.finish(), planes, series.joined(transforms), series.joined(valid))

    def look(
        self, stack: FocalStack, recipe: Recipe, given: Given, wanted: Window, progress: Progress
    ) -> Sequence[Picture]:
        """Depth and picture of a window, of the planes as they lie there."""
        given_valid = given["valid"]
        found = reconstruct_region(
            stack, recipe, wanted, valid=given_valid, fuse=False, progress=progress
        )
        return [depth_picture(stack, found.depth.depth)]

    def previewed(self, source: Image) -> Image:
        """The stack as a run has aligned it already, if with these settings; else as it is."""
        return self._aligned() or source

    def caution(self) -> str:
        """Whether Run will move the planes first, or change their light."""
        asked = self.form.value()
        still = asked["registration"] == "none" and asked["exposure"] == "keep"
        if still or self._aligned() is not None:
            return ""
        return ", of the planes as they are: Run aligns them first"

    def _aligned(self) -> Layer | None:
        """The layer of the stack that a run has aligned with these settings."""
        aligned, asked = find_layer(self._viewer, "aligned", self.stack.value), self.form.value()
        if aligned is None:
            return None
        made, focus = settings_of(aligned), plugin_metadata(aligned).get("focus_channel")
        same = all(made.get(name) == asked[name] for name in ALIGNING)
        return aligned if same and focus in (None, self.axes.focus.value) else None

    def emit(self, run: Run, recipe: Recipe, result: Found) -> Iterator[None]:
        """Put the aligned planes and the four layers of the refined depth map."""
        if result.planes is not None:
            yield from put_alignment(run, result.planes, result.transforms, result.valid)
        motions = result.transforms
        yield from self.put(run, result.maps, prefix="refined ", transforms=motions)


def _scene(
    series: Series, place: tuple[int, ...], recipe: Recipe, maps: Maps, progress: Progress
) -> tuple[AlignedStack, dict[int, LazyAlignedStack]]:
    """Fill in the maps of one place; its aligned planes, and how each channel is moved."""
    stack, others = series.stack(place), [series.stack(place, c).planes for c in series.others]
    plan = make_plan(stack.planes, recipe, beside=len(others))
    planes = load_planes(stack.planes, progress) if plan.whole else stack.planes
    moved = registered(planes, recipe, None, progress)
    known = replace(recipe, registration="none")
    beside = [registered(each, known, moved.transforms, progress) for each in others]
    scene = scene_of(moved, stack.positions, plan, progress)._replace(beside=tuple(beside))
    channels = [series.focus, *series.others]
    reconstruct(scene, recipe, plan, Filling(maps, place, channels), progress)
    unread = LazyAlignedStack(stack.planes, moved.transforms, moved.gains)
    return scene, dict(zip(channels, [unread, *beside], strict=True))
