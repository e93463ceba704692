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
from napari_dff.widgets.align import ALIGNMENT_SETTINGS, add_alignment
from napari_dff.widgets.layers import find_layer, plugin_metadata, settings_of
from napari_dff.widgets.maps import Filling, Maps
from napari_dff.widgets.maps_step import MapsStep, depth_preview
from napari_dff.widgets.preview import PreviewImage
from napari_dff.widgets.runs import RunLayers
from napari_dff.widgets.series import AlignedPlanes, Series
from napari_dff.widgets.step import RunInput, StackInput
from napari_dff.windows import Window, full_window


class ReconstructionResult(NamedTuple):
    """What a run gives: the maps; aligned planes unless all stayed; motions, and where all are."""

    maps: Maps
    planes: Any
    transforms: np.ndarray
    valid: np.ndarray


class ReconstructWidget(MapsStep):
    """Aligned planes, refined depth, uncertainty, plane index and all-in-focus image."""

    title = "Depth from focus"
    main_settings = ("registration", "sigma", "window", "refinement", "smoothness")
    more_settings = ("motion", "exposure", "operator", "aggregation", "peak", "prefer", "fusion")
    prefers_aligned = False
    skipped_fields = ()

    def compute(self, inputs: RunInput, progress: Progress) -> ReconstructionResult:
        """Run the whole recipe on every stack: as `depth_from_focus`, with all channels."""
        series, recipe = inputs.series, inputs.recipe
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
        return ReconstructionResult(
            maps.finish(), planes, series.joined(transforms), series.joined(valid)
        )

    def compute_preview(
        self, inputs: StackInput, window: Window, progress: Progress
    ) -> Sequence[PreviewImage]:
        """Return the depth of a window, from the planes as they are in the layer."""
        stack, recipe, arrays = inputs
        region = reconstruct_region(
            stack, recipe, window, valid=arrays["valid"], fuse=False, progress=progress
        )
        return [depth_preview(stack, region.depth.depth)]

    def preview_source(self, source: Image) -> Image:
        """Return the planes that a run has aligned with the present settings, else the stack."""
        return self._aligned_layer() or source

    def preview_note(self) -> str:
        """Return whether a run transforms the planes or their brightness before."""
        settings = self.form.value()
        unchanged = settings["registration"] == "none" and settings["exposure"] == "keep"
        if unchanged or self._aligned_layer() is not None:
            return ""
        return ", of the planes as they are: Run aligns them first"

    def _aligned_layer(self) -> Layer | None:
        """Return the planes that a run has aligned with the present settings, if any."""
        aligned, settings = find_layer(self._viewer, "aligned", self.stack.value), self.form.value()
        if aligned is None:
            return None
        used, channel = settings_of(aligned), plugin_metadata(aligned).get("focus_channel")
        same = all(used.get(name) == settings[name] for name in ALIGNMENT_SETTINGS)
        return aligned if same and channel in (None, self.axes.focus.value) else None

    def add_layers(self, run: RunLayers, result: ReconstructionResult) -> Iterator[None]:
        """Add the aligned planes and the four layers of the refined depth map."""
        if result.planes is not None:
            yield from add_alignment(run, result.planes, result.transforms, result.valid)
        transforms = result.transforms
        yield from self.add_maps(run, result.maps, prefix="refined ", transforms=transforms)


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
