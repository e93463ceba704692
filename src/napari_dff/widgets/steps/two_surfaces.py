"""Two surfaces: top and ground of a transparent film, and the thickness between them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from magicgui.widgets import Widget
from magicgui.widgets.bases import ValueWidget
from napari.layers import Layer
from napari.viewer import Viewer

from napari_dff.depth.two_surfaces import REFRACTIVE_INDEX, TwoSurfaces
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import FocusScale
from napari_dff.pipeline.plane_checks import check_planes
from napari_dff.pipeline.tile import AlignedStack, with_chosen_scale
from napari_dff.pipeline.two_surfaces import two_surfaces_in_tile
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window, full_window
from napari_dff.widgets.app.layer_data import ResultLayer, depth_layer, result_layer
from napari_dff.widgets.app.layers import plugin_metadata
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.app.spin_boxes import spin_box
from napari_dff.widgets.steps.depth import depth_preview
from napari_dff.widgets.steps.step import Previews, RunInput, StackInput, StepWidget

INDEX_TOOLTIP = (
    "Of the film, relative to the medium above it: 1.33 for water in air, 1.5 for glass in air. "
    "The distance in focus is multiplied by it."
)


class Surfaces(NamedTuple):
    """The surfaces of all stacks of a layer."""

    maps: TwoSurfaces  # with the leading axes of the layer, 1 of channels and Z
    positions: np.ndarray
    scale: FocusScale | None  # that focus was measured with
    notes: list[str]


class TwoSurfacesWidget(StepWidget):
    """Computes depth and uncertainty of the first and last surface, and the thickness."""

    title = "Two surfaces"
    measures_focus = True
    sliders = ("detail",)
    main_settings = ()
    more_settings = ("operator", "sigma", "window", "aggregation", "peak")

    def __init__(self, viewer: Viewer) -> None:
        self.refractive_index = spin_box("refractive index", 1.0, REFRACTIVE_INDEX, INDEX_TOOLTIP)
        self._refraction = 1.0  # of the run or preview
        super().__init__(viewer)

    def extra_widgets(self) -> list[Widget]:
        """Return the refractive index."""
        return [self.refractive_index]

    def fields_to_keep(self) -> dict[str, ValueWidget[Any]]:
        """Return the stack, all settings and the refractive index."""
        return {**super().fields_to_keep(), "refractive_index": self.refractive_index}

    def command(self) -> str:
        """Return the command line that computes the same from the file of the stack."""
        words = super().command().replace("napari-dff run", "napari-dff two-surfaces", 1)
        words = words.replace("--out results", "--out surfaces.ome.tif", 1)
        return f"{words} --refractive-index {self.refractive_index.value:g}"

    def setting_changes(self, layer: Layer) -> str:
        """Describe how the form differs from the settings of a result; empty if it does not."""
        used = plugin_metadata(layer).get("refractive_index")
        if used not in (None, self.refractive_index.value):
            return f"another refractive index, {used:g}"
        return super().setting_changes(layer)

    def _collect(self) -> Any:
        self._refraction = self.refractive_index.value
        return super()._collect()

    def compute(self, inputs: RunInput, progress: Progress) -> Surfaces:
        """Return the surfaces of all stacks."""
        acquisition, recipe = inputs.acquisition, inputs.recipe
        results, notes = [], []
        for index, located in acquisition.iterate(progress):
            stack_input = StackInput(acquisition.focus_stack(index), recipe, inputs.arrays[index])
            where = acquisition.describe(index)
            sentences = check_planes(stack_input.stack.planes).sentences
            notes += [f"{where}: {each}" if where else each for each in sentences]
            stack = _aligned(stack_input)
            recipe = with_chosen_scale(recipe, stack)  # of the first stack, for all
            window = full_window(stack.shape)
            results.append(two_surfaces_in_tile(stack, recipe, window, self._refraction, located))
        leading = len(acquisition.axes)

        def join(parts: list[np.ndarray]) -> np.ndarray:
            values = acquisition.join(parts)
            return np.expand_dims(values, leading) if leading else values

        pairs = [[each.first for each in results], [each.last for each in results]]
        first, last = (
            DepthMap(*(join(list(values)) for values in zip(*maps, strict=True))) for maps in pairs
        )
        thickness = join([each.thickness for each in results])
        uncertainty = join([each.uncertainty for each in results])
        maps = TwoSurfaces(first, last, thickness, uncertainty)
        return Surfaces(maps, acquisition.positions, recipe.scale, notes)

    def compute_preview(self, inputs: StackInput, window: Window, progress: Progress) -> Previews:
        """Return the last surface of a window, and the thickness above it."""
        settings = inputs.recipe, window, self._refraction, progress
        result = two_surfaces_in_tile(_aligned(inputs), *settings)
        look = _thickness_look(result.thickness)
        thickness = ResultLayer("preview thickness", result.thickness, look)
        return [depth_preview(inputs.stack, result.last), thickness]

    def add_layers(self, run: RunLayers, result: Surfaces) -> Iterator[None]:
        """Add depth and uncertainty of both surfaces, and the thickness."""
        maps, positions = result.maps, result.positions
        if result.scale is not None:
            run.scale = result.scale._asdict()
        metadata = {"refractive_index": self._refraction}
        layers = [
            result_layer("uncertainty", each.uncertainty, positions)._replace(role=role)
            for role, each in (("first uncertainty", maps.first), ("last uncertainty", maps.last))
        ]
        error = result_layer("uncertainty", maps.uncertainty, positions)
        layers += [
            error._replace(role="thickness uncertainty"),
            depth_layer("first depth", maps.first.depth, positions, maps.first.uncertainty),
            depth_layer("last depth", maps.last.depth, positions, maps.last.uncertainty),
            ResultLayer("thickness", maps.thickness, _thickness_look(maps.thickness)),
        ]
        for role, data, look, kind, own in layers:
            run.show(role, data, kind, metadata={**metadata, **own}, **look)
            yield
        share = np.isfinite(maps.thickness).mean()
        sentence = f"Two surfaces at {share:.1%} of the pixels; elsewhere one, and no thickness."
        self.show_advice([*result.notes, sentence])


def _aligned(inputs: StackInput) -> AlignedStack:
    """Return the planes of a layer, without those that are left out."""
    stack = inputs.stack
    used = check_planes(stack.planes).used_planes(len(stack.positions))
    settings: dict[str, Any] = {"plane_mask": inputs.plane_mask, "used": used}
    return AlignedStack(stack.planes, stack.positions, **settings)


def _thickness_look(thickness: np.ndarray) -> dict[str, Any]:
    values = thickness[np.isfinite(thickness)]
    low, high = np.percentile(values, (0.5, 99.5)) if values.size else (0.0, 1.0)
    return {"colormap": "turbo", "contrast_limits": (float(low), float(max(high, low + 1e-6)))}
