"""Focus measure: how sharp each pixel is in each plane."""

from dataclasses import asdict
from typing import Any

import numpy as np
from napari.layers import Image

from napari_dff.pipeline import measured_by
from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.widgets.layers import put
from napari_dff.widgets.step import StepWidget


class FocusWidget(StepWidget):
    """The focus volume as an image stack."""

    title = "Focus measure"
    settings = ("operator", "sigma", "window", "aggregation")

    def compute(
        self, stack: FocalStack, recipe: Recipe, extra: Any, progress: Progress
    ) -> np.ndarray:
        """Measure the focus."""
        return measured_by(recipe, stack, progress)

    def emit(self, source: Image, recipe: Recipe, result: np.ndarray) -> None:
        """Put the focus volume."""
        limits = (0.0, float(np.percentile(result[:, ::4, ::4], 99.5)) or float(result.max()))
        put(
            self._viewer,
            "focus",
            source,
            result,
            remember={"recipe": asdict(recipe)},
            colormap="inferno",
            contrast_limits=limits,
        )
