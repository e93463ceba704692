"""Refine: make neighbours agree."""

from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import numpy as np
from magicgui.widgets import Widget
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.depth import DepthMap
from napari_dff.images import luminance
from napari_dff.pipeline import fused_by, refined_by
from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.refinement import PreviousResult
from napari_dff.stack import FocalStack
from napari_dff.widgets.hints import Hints, hints_of
from napari_dff.widgets.layers import plugin_metadata, require_layer
from napari_dff.widgets.maps import Maps
from napari_dff.widgets.maps_step import MapsStep
from napari_dff.widgets.runs import Run, stamp
from napari_dff.widgets.step import Given


class RefineWidget(MapsStep):
    """Refined depth, uncertainty, plane index and all-in-focus image beside the estimate."""

    title = "Refine"
    skips = ("registration",)
    settings = ("refinement", "smoothness")
    folded = ("fusion",)
    asks_focus = False

    def __init__(self, viewer: Viewer) -> None:
        self.hints = Hints(viewer, lambda: self.stack.value)
        self._previous: tuple[Any, PreviousResult] | None = None
        self._under_way: tuple[Any, np.ndarray | None] = (None, None)
        super().__init__(viewer)

    def _close(self) -> None:
        super()._close()
        self.hints.close()

    def inputs(self) -> list[Widget]:
        """The hints."""
        return self.hints.widgets

    def gather(self, source: Image) -> dict[str, Layer]:
        """The estimate, its focus volume, the guide, and the hints if there are any."""
        step = "Depth and all-in-focus"
        roles = ("plane index", "depth", "uncertainty", "all in focus")
        layers = {role: require_layer(self._viewer, role, source, step) for role in roles}
        layers["focus"] = require_layer(self._viewer, "focus", source, "Focus measure")
        if self.hints.layer.value is not None:
            layers["hints"] = self.hints.layer.value
        return layers

    def unsaid(self) -> str:
        """The hints too."""
        return super().unsaid() or ("the hints" if self.hints.layer.value is not None else "")

    def differs(self, layer: Layer) -> str:
        """Other settings, or other hints."""
        chosen, used = self.hints.layer.value, set(plugin_metadata(layer).get("inputs", {}))
        others = [each for each in self.hints.layer.choices if each is not None]
        wanted = set() if chosen is None else {str(chosen.unique_id)}
        if {str(each.unique_id) for each in others} & used != wanted:
            return "other hints"
        return super().differs(layer)

    def given(self, source: Image, layers: dict[str, Layer], place: tuple[int, ...]) -> Given:
        """What they hold; the guide in grey, the hints painted on a plane."""
        hints = layers.get("hints")
        others = {role: layer for role, layer in layers.items() if role != "hints"}
        held = super().given(source, others, place)
        held["all in focus"] = luminance(held["all in focus"])
        if hints is not None:
            held["hints"] = hints_of(hints, source, place)
        key = (astuple(self.recipe()), *(stamp(layer) for layer in (source, *others.values())))
        self._under_way = key, held.get("hints")
        return held

    def compute(
        self, stack: FocalStack, recipe: Recipe, given: Given, progress: Progress
    ) -> tuple[DepthMap, np.ndarray]:
        """Refine, then fuse again; only what other hints change if all else is as it was."""
        labels, focus, hints = given["plane index"], given["focus"], given.get("hints")
        index = np.where(labels > 0, labels.astype(np.int64) - 1, 0).astype(np.uint16)
        unknown = labels == 0  # the labels don't tell the sharpest plane where none is in focus
        index[unknown] = focus.argmax(axis=0)[unknown]
        estimate = DepthMap(index, given["depth"], given["uncertainty"])
        previous = None
        if self._previous is not None and self._previous[0] == self._under_way[0]:
            previous = self._previous[1]
            if previous.hints.shape != index.shape:  # a preview
                previous = None
        guide = given["all in focus"]
        found = refined_by(
            recipe, stack, estimate, focus, guide, progress, hints=hints, previous=previous
        )
        return found, fused_by(recipe, stack, found.depth, progress)

    def emit(self, run: Run, recipe: Recipe, result: Maps) -> Iterator[None]:
        """Put the four layers, and keep those of a single stack for the next hints."""
        yield from self.put(run, result, prefix="refined ")
        self._previous = None
        if run.source.ndim == 3:
            key, hints = self._under_way
            if hints is None:
                hints = np.full(result.depth.shape, -1, np.int32)
            self._previous = key, PreviousResult(result.of(()), hints)
