"""The form that runs all steps."""

from collections.abc import Iterator
from typing import Any

from napari.layers import Image

from napari_dff.pipeline.driver import run
from napari_dff.pipeline.preview import reconstruct_region
from napari_dff.pipeline.sinks import AlignedPlanes, ArraySink
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window
from napari_dff.widgets.app.labels import SETTINGS
from napari_dff.widgets.app.layer_data import Maps, maps_of
from napari_dff.widgets.app.layers import find_layer, plugin_metadata, settings_of
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.steps.align import ALIGNMENT_SETTINGS, AlignmentResult, add_alignment
from napari_dff.widgets.steps.depth import MapsStep, depth_preview
from napari_dff.widgets.steps.step import Previews, RunInput, StackInput


class ReconstructWidget(MapsStep):
    """Aligned planes, refined depth, uncertainty, plane index and all-in-focus image."""

    title = "Depth from focus"
    sliders = ("detail", "smoothing")
    main_settings = ()
    more_settings = tuple(SETTINGS)
    has_presets = True
    prefers_aligned = False
    skipped_fields = ()
    prefix = "refined "

    def compute(self, inputs: RunInput, progress: Progress) -> tuple[Maps, AlignmentResult]:
        """Run the whole recipe on every stack: as `depth_from_focus`, with all channels."""
        acquisition, recipe = inputs.acquisition, inputs.recipe
        unchanged = recipe.registration == "none" and recipe.exposure == "keep"
        planes = None if unchanged else AlignedPlanes(acquisition)
        sink = ArraySink(acquisition, planes=planes)
        run(acquisition, recipe, sink, progress=progress)
        aligned = None if planes is None or planes.is_identity else planes.join()
        alignment = AlignmentResult(aligned, sink.transforms, sink.window)
        return maps_of(sink, acquisition), alignment

    def compute_preview(self, inputs: StackInput, window: Window, progress: Progress) -> Previews:
        """Return the depth of a window, from the planes as they are in the layer."""
        stack, recipe, _ = inputs
        settings: dict[str, Any] = {"plane_mask": inputs.plane_mask, "fuse": False}
        region = reconstruct_region(stack, recipe, window, **settings, progress=progress)
        return [depth_preview(stack, region.depth)]

    def preview_source(self, source: Image) -> tuple[Image, str]:
        """Return the planes that a run has aligned with the present settings, else the stack."""
        settings, aligned = self.form.value(), find_layer(self._viewer, "aligned", source)
        if aligned is not None and "window" not in plugin_metadata(aligned):
            used, channel = settings_of(aligned), plugin_metadata(aligned).get("focus_channel")
            same = all(used.get(name) == settings[name] for name in ALIGNMENT_SETTINGS)
            if same and channel in (None, self.axes.focus.value):
                return aligned, ""
        unchanged = settings["registration"] == "none" and settings["exposure"] != "equal"
        return source, "" if unchanged else ", of the planes as they are: Run aligns them first"

    def add_layers(self, run: RunLayers, result: Any, **metadata: Any) -> Iterator[None]:
        """Add the aligned planes and the four layers of the refined depth map."""
        maps, alignment = result
        run.window = alignment.window
        if alignment.planes is not None:
            yield from add_alignment(run, alignment)
        yield from super().add_layers(run, maps, transforms=alignment.transforms)
