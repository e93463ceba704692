"""Focus measure: how sharp each pixel is in each plane."""

from collections.abc import Iterator, Sequence

import numpy as np
import psutil

from napari_dff.pipeline import measured_by
from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.region import measure_region
from napari_dff.stack import FocalStack
from napari_dff.widgets.layer_data import subsample
from napari_dff.widgets.preview import Picture
from napari_dff.widgets.runs import Run
from napari_dff.widgets.series import Series
from napari_dff.widgets.step import Given, StepWidget
from napari_dff.windows import Window


class FocusWidget(StepWidget):
    """The focus volume as an image stack."""

    title = "Focus measure"
    settings = ("operator", "sigma", "window")
    folded = ("aggregation",)

    def work(
        self,
        series: Series,
        recipe: Recipe,
        given: dict[tuple[int, ...], Given],
        progress: Progress,
    ) -> tuple[np.ndarray, tuple[float, float]]:
        """Measure the focus of every stack; also between which values it is shown."""
        _check_room(series)
        out: np.ndarray | None = None
        for place, within in series.in_turn(progress):
            volume = measured_by(recipe, series.stack(place), within)
            if not series.names:
                return volume, _limits(volume)
            if out is None:
                out = np.empty((*series.apart, *volume.shape), volume.dtype)
            out[place] = volume
        assert out is not None  # there is a place
        return out, _limits(out)

    def look(
        self, stack: FocalStack, recipe: Recipe, given: Given, wanted: Window, progress: Progress
    ) -> Sequence[Picture]:
        """The focus volume of a window."""
        focus = measure_region(stack, recipe, wanted)
        look = {"colormap": "inferno", "contrast_limits": _limits(focus)}
        return [Picture("preview focus", focus, look)]

    def emit(
        self, run: Run, recipe: Recipe, result: tuple[np.ndarray, tuple[float, float]]
    ) -> Iterator[None]:
        """Put the focus volume."""
        volume, limits = result
        run.put("focus", volume, colormap="inferno", contrast_limits=limits)
        yield


def _check_room(series: Series) -> None:
    """ValueError with a sentence where memory doesn't hold the focus volume."""
    shape = series.stack(series.places[0]).planes.shape[:3]
    needed = 4.0 * np.prod(series.apart) * np.prod(shape, dtype=float)
    free = psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"the focus volume needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are "
            "free: 'Depth from focus, all steps' does without it"
        )


def _limits(focus: np.ndarray) -> tuple[float, float]:
    return 0.0, float(np.percentile(subsample(focus), 99.5)) or float(focus.max())
