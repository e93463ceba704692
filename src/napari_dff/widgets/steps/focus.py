"""Focus measure: how sharp each pixel is in each plane."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from napari_dff.model.acquisition import Acquisition
from napari_dff.model.recipe import Recipe
from napari_dff.pipeline.plane_checks import check_planes
from napari_dff.pipeline.preview import measure_region, with_chosen_scale
from napari_dff.pipeline.single_steps import measure_by_recipe
from napari_dff.runtime.free_memory import available_bytes
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window
from napari_dff.widgets.app.layer_data import ResultLayer, subsample
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.steps.step import Previews, RunInput, StackInput, StepWidget


class FocusWidget(StepWidget):
    """Computes the focus volume and shows it as an image."""

    title = "Focus measure"
    measures_focus = True
    sliders = ("detail",)
    main_settings = ("operator",)
    more_settings = ("sigma", "window", "aggregation")

    def compute(self, inputs: RunInput, progress: Progress) -> tuple[Any, ...]:
        """Return the focus volumes of all stacks, (…, Z, Y, X) float32, their scale, and notes."""
        acquisition, count = inputs.acquisition, len(inputs.acquisition.indices)
        shape = _volume_shape(acquisition)
        needed = self.needed_megabytes(acquisition, inputs.recipe) / 1e3
        free = available_bytes() / 1e9
        if needed > free:
            raise ValueError(
                f"the focus volume needs {needed:.1f} GB of memory, and {free:.1f} GB are free: "
                "'Depth from focus, all steps' does without it"
            )
        volumes, recipe = np.empty(shape if count > 1 else (), np.float32), inputs.recipe
        notes: list[str] = []
        for index, located in acquisition.iterate(progress):
            stack, where = acquisition.focus_stack(index), acquisition.describe(index)
            sentences = check_planes(stack.planes).sentences
            notes += [f"{where}: {each}" if where else each for each in sentences]
            recipe = with_chosen_scale(recipe, stack)  # of the first stack, for all
            volume = measure_by_recipe(recipe, stack, located)
            if count == 1:  # without a copy
                return volume.reshape(shape), recipe.scale, notes
            volumes[index] = volume
        return volumes, recipe.scale, notes

    def needed_megabytes(self, acquisition: Acquisition, recipe: Recipe) -> float:
        """Return the memory of all focus volumes."""
        return 4 * math.prod(_volume_shape(acquisition)) / 1e6

    def compute_preview(self, inputs: StackInput, window: Window, progress: Progress) -> Previews:
        """Return the focus volume of a window."""
        volume = measure_region(inputs.stack, inputs.recipe, window)
        return [ResultLayer("preview focus", volume, _look(volume))]

    def add_layers(self, run: RunLayers, result: Any) -> Iterator[None]:
        """Add the focus volume."""
        volumes, scale, notes = result
        run.scale = scale._asdict()
        run.show("focus", volumes, **_look(volumes))
        yield
        self.show_advice(notes)


def _volume_shape(acquisition: Acquisition) -> tuple[int, ...]:
    """Return the shape of all focus volumes, (…, Z, Y, X)."""
    return (*acquisition.result_shape, *acquisition.data.shape[len(acquisition.axes) :][:3])


def _look(volume: np.ndarray) -> dict[str, Any]:
    high = float(np.percentile(subsample(volume), 99.5)) or float(volume.max())
    return {"colormap": "inferno", "contrast_limits": (0.0, high)}
