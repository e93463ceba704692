"""Depth map and all-in-focus image from the focus volume."""

from typing import Any

import numpy as np
from napari.layers import Image, Layer

from napari_dff.depth.estimation import depth_map
from napari_dff.model.depth_map import DepthMap
from napari_dff.runtime.progress import Progress
from napari_dff.widgets.app.layers import require_layer
from napari_dff.widgets.steps.maps_step import MapsStep
from napari_dff.widgets.steps.step import StackInput


class DepthWidget(MapsStep):
    """Computes depth, its uncertainty, the plane index as labels, and the all-in-focus image."""

    title = "Depth and all-in-focus"
    main_settings = ("peak", "prefer", "fusion")
    has_focus_channel = False

    def input_layers(self, source: Image) -> dict[str, Layer]:
        """Return the focus volume."""
        return {"focus": require_layer(self._viewer, "focus", source, "Focus measure")}

    def compute_stack(self, inputs: StackInput, progress: Progress) -> DepthMap:
        """Return the depth at the peaks of the focus curves."""
        stack, recipe, arrays = inputs
        settings: dict[str, Any] = {"peak": recipe.peak, "prefer": recipe.prefer}
        depth = depth_map(arrays["focus"], stack.positions, **settings, progress=progress)
        depth.uncertainty[~arrays["valid"]] = np.inf
        return depth
