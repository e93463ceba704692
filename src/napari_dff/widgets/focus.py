"""Focus measure: how sharp each pixel is in each plane."""

from collections.abc import Iterator, Sequence

import numpy as np

from napari_dff.pipeline import measured_by
from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.region import focus_of
from napari_dff.stack import FocalStack
from napari_dff.tiles import Window
from napari_dff.widgets.preview import Picture
from napari_dff.widgets.runs import Run
from napari_dff.widgets.step import StepWidget

SAMPLE = 8  # every so many pixels tell how bright the focus volume is shown


class FocusWidget(StepWidget):
    """The focus volume as an image stack."""

    title = "Focus measure"
    settings = ("operator", "sigma", "window")
    folded = ("aggregation",)

    def compute(
        self, stack: FocalStack, recipe: Recipe, given: dict[str, np.ndarray], progress: Progress
    ) -> np.ndarray:
        """Measure the focus."""
        return measured_by(recipe, stack, progress)

    def look(
        self,
        stack: FocalStack,
        recipe: Recipe,
        given: dict[str, np.ndarray],
        wanted: Window,
        progress: Progress,
    ) -> Sequence[Picture]:
        """The focus volume of a window."""
        focus = focus_of(stack, recipe, wanted)
        look = {"colormap": "inferno", "contrast_limits": _limits(focus)}
        return [Picture("preview focus", focus, look)]

    def emit(self, run: Run, recipe: Recipe, result: np.ndarray) -> Iterator[None]:
        """Put the focus volume."""
        run.put("focus", result, colormap="inferno", contrast_limits=_limits(result))
        yield


def _limits(focus: np.ndarray) -> tuple[float, float]:
    sample = focus[:, ::SAMPLE, ::SAMPLE]
    return 0.0, float(np.percentile(sample, 99.5)) or float(focus.max())
