"""The form that runs all steps."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from magicgui.widgets import CheckBox, Widget
from napari.layers import Image
from napari.viewer import Viewer

from napari_dff.model.acquisition import Acquisition
from napari_dff.model.checks import AUTO
from napari_dff.model.recipe import Recipe
from napari_dff.pipeline.driver import run
from napari_dff.pipeline.planning import RESULT_BYTES_PX, make_plan, resident_megabytes
from napari_dff.pipeline.preview import reconstruct_region
from napari_dff.pipeline.sinks import AlignedPlanes, ArraySink
from napari_dff.registration import LazyAlignedStack, common_window
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window
from napari_dff.widgets.app.controls import push_button
from napari_dff.widgets.app.labels import SETTINGS
from napari_dff.widgets.app.layer_data import Maps, maps_of
from napari_dff.widgets.app.layers import find_layer, plugin_metadata, settings_of
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.app.time_left import Steps, steps_of
from napari_dff.widgets.steps.align import ALIGNMENT_SETTINGS, AlignmentResult, add_alignment
from napari_dff.widgets.steps.depth import MapsStep, depth_preview
from napari_dff.widgets.steps.step import Previews, RunInput, StackInput

OFFSET_TOOLTIP = (
    "Estimate how much higher each other channel is in focus, and add it to the depth of its image."
)
MIN_RIM_SHARE = 0.03  # of the picture that a plane does not cover, from which cropping is offered
RIM_ADVICE = (
    "The planes moved: {share:.0%} of the picture, at the rim, is not in all planes, and less "
    "reliable."
)


class ReconstructWidget(MapsStep):
    """Aligned planes, refined depth, uncertainty, plane index and all-in-focus image."""

    title = "Depth from focus"
    measures_focus = True
    sliders = ("detail", "smoothing")
    main_settings = ()
    more_settings = tuple(SETTINGS)
    has_presets = True
    prefers_aligned = False
    skipped_fields = ()
    prefix = "refined "

    def __init__(self, viewer: Viewer) -> None:
        tooltip = "Crop all results to the area that all planes cover, and run again."
        self.crop = push_button("Crop to the common area", tooltip, self._on_crop)
        self.crop.visible = False
        self.focus_offset = CheckBox(
            label="", text="focus offset of other channels", tooltip=OFFSET_TOOLTIP
        )
        self._offset: float | str = 0.0  # of the run, "auto" to estimate it
        super().__init__(viewer)
        self._on_change()
        self.insert(self.index(self.advice) + 1, self.crop)
        self.crop.visible = False

    def extra_widgets(self) -> list[Widget]:
        """Return the choice whether focus offsets are estimated."""
        return [self.focus_offset]

    def command(self) -> str:
        """Return the command line, with --focus-offset if it is estimated."""
        return super().command() + (" --focus-offset auto" if self._estimates_offset else "")

    @property
    def _estimates_offset(self) -> bool:
        return self.axes.has_channel_choice and bool(self.focus_offset.value)

    def _on_change(self, _: Any = None) -> None:
        self.focus_offset.visible = self.axes.has_channel_choice
        super()._on_change()

    def _start(self) -> None:
        self._offset = AUTO if self._estimates_offset else 0.0
        super()._start()

    def compute(self, inputs: RunInput, progress: Progress) -> tuple[Maps, AlignmentResult]:
        """Run the whole recipe on every stack: as `depth_from_focus`, with all channels."""
        acquisition, recipe = inputs.acquisition, inputs.recipe
        unchanged = recipe.registration == "none" and recipe.exposure == "keep"
        planes = None if unchanged else AlignedPlanes(acquisition)
        sink = ArraySink(acquisition, planes=planes)
        run(acquisition, recipe, sink, focus_offset=self._offset, progress=progress)
        aligned = None if planes is None or planes.is_identity else planes.join()
        alignment = AlignmentResult(aligned, sink.transforms, sink.window)
        if recipe.crop == "none" and aligned is not None:
            share = _rim_share(acquisition, sink.transforms)
            alignment = alignment._replace(rim_share=share)
        return maps_of(sink, acquisition), alignment

    def needed_megabytes(self, acquisition: Acquisition, recipe: Recipe) -> float:
        """Return the memory of a run of one stack, and of the results of the others."""
        planes = acquisition.focus_stack(acquisition.indices[0]).planes
        plan = make_plan(planes, recipe, other_channels=len(acquisition.other_channels))
        results = RESULT_BYTES_PX * np.prod(planes.shape[1:3]) + planes.nbytes
        further = (len(acquisition.indices) - 1) * results / 1e6
        return plan.megabytes - resident_megabytes() + float(further)

    def steps(self, recipe: Recipe, stacks: int) -> Steps:
        """Return the steps of a run."""
        return steps_of(recipe, stacks)

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
        self.crop.visible = has_rim = alignment.rim_share > MIN_RIM_SHARE
        if has_rim:  # `visible` is False in a hidden form
            self.add_advice(RIM_ADVICE.format(share=alignment.rim_share))

    def show_advice(self, sentences: Sequence[str]) -> None:
        """Show advice, and hide the button to crop."""
        super().show_advice(sentences)
        self.crop.visible = False

    def _on_crop(self) -> None:
        self.form.settings["crop"].value = "common"
        self._start()


def _rim_share(acquisition: Acquisition, transforms: np.ndarray) -> float:
    """Return the share of the picture, 0 … 1, that one of the aligned planes does not cover."""
    planes = acquisition.focus_stack(acquisition.indices[0]).planes
    matrices = transforms.reshape(-1, *transforms.shape[-3:])
    try:
        window = common_window([LazyAlignedStack(planes, each) for each in matrices])
    except ValueError:  # hardly anything is common
        return 0.0
    return float(1 - np.prod(window.shape) / np.prod(planes.shape[1:3]))
