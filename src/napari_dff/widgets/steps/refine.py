"""Refine: smooth the depth map, with hints by hand as constraints."""

from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import numpy as np
from magicgui.widgets import Widget
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.model.acquisition import Index
from napari_dff.model.depth_map import DepthMap
from napari_dff.pipeline.single_steps import refine_by_recipe
from napari_dff.pipeline.tile import guide_image
from napari_dff.refinement import NO_HINT, PreviousResult
from napari_dff.runtime.progress import Progress
from napari_dff.widgets.app.layers import plugin_metadata, require_layer
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.app.versions import version
from napari_dff.widgets.steps.depth import MapsStep
from napari_dff.widgets.steps.hints import HintsForm, hints_of
from napari_dff.widgets.steps.step import Arrays, StackInput


class RefineWidget(MapsStep):
    """Computes the refined depth; only around hints if only these have changed since a run."""

    title = "Refine"
    skipped_fields = ("registration",)
    sliders = ("smoothing",)
    main_settings = ("refinement",)
    more_settings = ("smoothness", "coherence", "fusion")
    has_focus_channel = False
    prefix = "refined "
    is_coherent = True

    def __init__(self, viewer: Viewer) -> None:
        self.hints = HintsForm(viewer, lambda: self.stack.value)
        # A key and the result of the newest run, a key and the hints of the next one. The keys are
        # equal if only the hints have changed.
        self._previous: tuple[Any, PreviousResult | None] = (None, None)
        self._prepared: tuple[Any, np.ndarray | None] = (None, None)
        super().__init__(viewer)

    def extra_widgets(self) -> list[Widget]:
        """Return those for the hints."""
        return self.hints.widgets

    def input_layers(self, source: Image) -> dict[str, Layer]:
        """Return the estimate, its focus volume, and the hints if any."""
        step = "Depth and all-in-focus"
        roles = ("plane index", "depth", "uncertainty")
        layers = {role: require_layer(self._viewer, role, source, step) for role in roles}
        layers["focus"] = require_layer(self._viewer, "focus", source, "Focus measure")
        if self.hints.layer.value is not None:
            layers["hints"] = self.hints.layer.value
        return layers

    def command_caveat(self) -> str:
        """Return what the command line does not contain, such as the hints."""
        hints = "" if self.hints.layer.value is None else "the hints"
        return super().command_caveat() or hints

    def setting_changes(self, layer: Layer) -> str:
        """Describe changes of settings and hints."""
        chosen, used = self.hints.layer.value, set(plugin_metadata(layer).get("inputs", {}))
        all_hints = {str(each.unique_id) for each in self.hints.layer.choices if each is not None}
        if all_hints & used != (set() if chosen is None else {str(chosen.unique_id)}):
            return "other hints"
        return super().setting_changes(layer)

    def input_arrays(self, source: Image, layers: dict[str, Layer], index: Index) -> Arrays:
        """Return the data of the layers; the hints as (Y, X) int32."""
        others = {role: layer for role, layer in layers.items() if role != "hints"}
        arrays = super().input_arrays(source, others, index)
        if "hints" in layers:
            arrays["hints"] = hints_of(layers["hints"], source, index)
        key = (astuple(self.recipe()), *(version(layer) for layer in (source, *others.values())))
        self._prepared = key, arrays.get("hints")
        return arrays

    def compute_stack(
        self, inputs: StackInput, plane_mask: np.ndarray | None, progress: Progress
    ) -> DepthMap:
        """Return the refined depth."""
        stack, recipe, arrays = inputs
        labels, focus = arrays["plane index"], arrays["focus"]
        # Label 0 is "never in focus": the index there is that of the highest focus measure.
        index = np.where(labels > 0, labels.astype(np.int64) - 1, focus.argmax(axis=0))
        estimate = DepthMap(index.astype(np.uint16), arrays["depth"], arrays["uncertainty"])
        key, previous = self._previous
        is_preview = previous is not None and previous.hints.shape != index.shape  # of a window
        if key != self._prepared[0] or is_preview:
            previous = None
        others = {"hints": arrays.get("hints"), "previous": previous, "plane_mask": plane_mask}
        guide = guide_image(stack.planes, estimate.depth, stack.positions, plane_mask, progress)
        return refine_by_recipe(recipe, stack, estimate, focus, guide, progress, **others)

    def add_layers(self, run: RunLayers, result: Any, **metadata: Any) -> Iterator[None]:
        """Add the four layers, and remember the result of a single stack for the next hints."""
        yield from super().add_layers(run, result)
        self._previous = (None, None)
        if run.source.ndim == 3 and not result.notes:  # indices are among all planes
            key, hints = self._prepared
            if hints is None:
                hints = np.full(result.refined.depth.shape, NO_HINT, np.int32)
            self._previous = key, PreviousResult(result.refined, hints)
