"""Depth map and all-in-focus image from the focus volume, and the base of such steps."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from napari.layers import Image, Layer
from napari.utils.colormaps import ensure_colormap
from napari.viewer import Viewer

from napari_dff.curve.plane_mask import has_enough_planes
from napari_dff.depth.estimation import depth_map
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.stack import FocalStack
from napari_dff.pipeline.image_quality import image_quality
from napari_dff.pipeline.plane_checks import check_planes, find_used_planes, to_all_planes
from napari_dff.pipeline.quality import advice, summarize_image
from napari_dff.pipeline.single_steps import fuse_by_recipe
from napari_dff.pipeline.sinks import ArraySink
from napari_dff.pipeline.tile import MARGIN_PX, AlignedStack, TileResult, compute_tile
from napari_dff.refinement import combine_with_previous
from napari_dff.runtime.lazy import load_planes, read_window
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window, full_window
from napari_dff.widgets.app.controls import ask_choice, push_button
from napari_dff.widgets.app.file_dialogs import ask_new_path
from napari_dff.widgets.app.layer_data import (
    RESULT_IMAGES,
    ResultLayer,
    maps_of,
    picture_look,
    quality_array,
)
from napari_dff.widgets.app.layer_list import REFINED, is_drawing
from napari_dff.widgets.app.layers import (
    find_layer,
    input_stack_of,
    require_layer,
    results_of,
    role_of,
    stack_name_of,
)
from napari_dff.widgets.app.result_files import write_results
from napari_dff.widgets.app.result_view import ResultView
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.app.strokes import SavedStroke, paint_again, saved_strokes
from napari_dff.widgets.app.task_widget import show_errors
from napari_dff.widgets.app.versions import layers_changed
from napari_dff.widgets.steps.step import (
    Previews,
    RunInput,
    StackInput,
    StepWidget,
    select_planes,
)

SAVE_TOOLTIP = (
    "Write depth, uncertainty, plane index, all-in-focus image, recipe and provenance into a "
    "folder, as napari-dff run does."
)
PAINT_AGAIN, DISCARD = "Paint again", "Discard strokes"
NEVER_IN_FOCUS_COLOUR = np.array([0.4, 0.4, 0.4, 1.0], np.float32)


class MapsStep(StepWidget):
    """A step that computes a depth map and an all-in-focus image from other layers."""

    prefix: ClassVar[str] = ""  # of the roles of its layers
    is_coherent: ClassVar[bool] = False  # over time, by the setting `coherence`

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._strokes: list[SavedStroke] = []  # by hand, to paint on the result of the run
        self.view = ResultView(viewer, lambda: self.stack.value, self.select)
        self.save_results = push_button("Save results…", SAVE_TOOLTIP, self._on_save_results)
        self.view.widget.append(self.save_results)
        self.insert(self.index(self.advice) + 1, self.view.widget)
        self.stack.changed.connect(self.view.follow_stack)
        self._connect(layers_changed, self.view.update)
        self._connect(viewer.layers.events.removed, self.view.update)
        self.view.update()

    def _start(self) -> None:
        """Run, after a question if that replaces strokes by hand."""
        self._strokes = saved_strokes(self._results())
        if self._strokes and not self.busy:
            question = (
                f"The results were retouched by hand (strokes: {len(self._strokes)}), and Run "
                "computes them anew. Paint the strokes again on the new results?"
            )
            answer = ask_choice(self.native, self.title, question, (PAINT_AGAIN, DISCARD))
            if not answer:
                self.show_status("not run: the strokes by hand are kept")
                return
            if answer == DISCARD:
                self._strokes = []
        super()._start()

    def _results(self) -> list[Layer]:
        """Return the results of this step for the chosen stack."""
        source = self.stack.value
        every = [] if source is None else results_of(self._viewer, str(source.unique_id))
        roles = {f"{self.prefix}{role}" for role in RESULT_IMAGES.values()}
        return [layer for layer in every if role_of(layer) in roles]

    @show_errors
    def _on_save_results(self) -> None:
        """Write the results of the stack into a new folder, as a run on the command line does."""
        source, saved = self.stack.value, self._results()
        if source is None or not saved:
            raise ValueError("no results to save: press Run first")
        name = f"{stack_name_of(source)} results"
        answer = ask_new_path(self.native, "Save results in a new folder", name)
        if answer is None:
            return
        path = str(answer[0])
        data = [layer.as_layer_data_tuple() for layer in saved]
        every = results_of(self._viewer, str(source.unique_id))
        others = [x.name for x in every if x not in saved]
        others += [x.name for x in self._viewer.layers if is_drawing(x)]
        words = f"saved {', '.join(x.name for x in reversed(saved))} in {path}"
        words += f"; left out: {', '.join(others)}" if others else ""
        self.start_task(lambda _: write_results(path, data), end=words)

    def compute_stack(
        self, inputs: StackInput, plane_mask: np.ndarray | None, progress: Progress
    ) -> DepthMap:
        """Return the depth map of one stack, from the planes with data; in a thread."""
        raise NotImplementedError

    def compute(self, inputs: RunInput, progress: Progress) -> Any:
        """Return the `Maps` of all stacks; the other channels have the depth of the focus one."""
        acquisition, recipe = inputs.acquisition, inputs.recipe
        sink = ArraySink(acquisition)
        for index, located in acquisition.iterate(progress):
            whole_input = StackInput(acquisition.focus_stack(index), recipe, inputs.arrays[index])
            checked = check_planes(whole_input.stack.planes)
            sink.add_notes(index, checked.sentences)
            used = checked.used_planes(len(whole_input.stack.positions))
            stack = whole_input.select(used)
            window = full_window(stack.stack.planes.shape[1:3])
            mask = stack.plane_mask(window)
            depth = self.compute_stack(stack, mask, located)
            depth = DepthMap(*map(np.array, depth))  # copies, as these may be data of a layer
            valid = np.ones(window.shape, bool) if mask is None else has_enough_planes(mask)
            previous = acquisition.previous_time(index)
            if recipe.coherence != "none" and self.is_coherent and previous is not None:
                positions, earlier = whole_input.stack.positions, sink.depth_map(previous, window)
                depth = combine_with_previous(depth, earlier, positions, valid)
            channels = range(len(acquisition.channels))
            stacks = [acquisition.channel_stack(index, channel) for channel in channels]
            selected = [select_planes(each, used) for each in stacks]
            images = tuple(fuse_by_recipe(recipe, each, depth, mask, located) for each in selected)
            depth = to_all_planes(depth, used)
            sink.write_tile(index, TileResult(window, depth, depth, images, valid))
            image, planes = images[acquisition.focus_channel], load_planes(stack.stack.planes)
            quality = image_quality(image, planes, stack.plane_mask, located)
            sink.qualities.append(quality)
        return maps_of(sink, acquisition)

    def compute_preview(self, inputs: StackInput, window: Window, progress: Progress) -> Previews:
        """Return image and depth of a window, from the same window of the layers."""
        stack, recipe, arrays = inputs
        outer = window.expand(MARGIN_PX, stack.planes.shape[1:3])
        maps = {role: array for role, array in arrays.items() if role != "transforms"}
        parts = {role: np.asarray(array[(..., *outer.slices)]) for role, array in maps.items()}
        part = replace(stack, planes=read_window(stack.planes, outer))
        used, mask = find_used_planes(stack.planes), inputs.plane_mask(outer)
        mask = None if mask is None else mask[used]
        depth = self.compute_stack(StackInput(part, recipe, parts).select(used), mask, progress)
        depth = to_all_planes(depth, used)
        aligned = AlignedStack(
            *(stack.planes, stack.positions),
            plane_mask=inputs.plane_mask,
            known_depth=lambda _: depth,
            used=used,
        )
        result = compute_tile(aligned, recipe, window, margin=MARGIN_PX, progress=progress)
        image = result.images[0]
        look = picture_look(image, rgb=image.ndim == 3)
        return [
            ResultLayer("preview all in focus", image, look),
            depth_preview(stack, result.refined),
        ]

    def add_layers(self, run: RunLayers, result: Any, **metadata: Any) -> Iterator[None]:
        """Add the four layers of `Maps`, and show advice from coverage and quality of the image."""
        leading = result.refined.index.shape[:-2]
        if result.scale is not None:
            run.scale = result.scale._asdict()
        metadata["quality"] = quality_array(result.qualities).reshape(*leading, -1)
        for role, data, look, kind, own in result.layers:
            if role == "all in focus" and not look.get("rgb"):
                look["colormap"] = run.source.colormap
            run.show(f"{self.prefix}{role}", data, kind, metadata={**metadata, **own}, **look)
            yield
        for role, *_ in result.layers:  # of another step
            run.lower(role if self.prefix else f"{REFINED}{role}")
            yield
        self.view.show_result()
        self._paint_again(run)
        image = summarize_image(result.qualities, run.settings["fusion"])
        self.show_advice(result.notes + advice(result.coverage) + image)

    def _paint_again(self, run: RunLayers) -> None:
        """Paint the strokes by hand that were on the former result."""
        depth = find_layer(self._viewer, f"{self.prefix}depth", run.source)
        stack = None if depth is None else input_stack_of(self._viewer, depth)
        if depth is not None and stack is not None:
            paint_again(self._viewer, stack, depth, self._strokes)
        self._strokes = []


def depth_preview(stack: FocalStack, depth: DepthMap) -> ResultLayer:
    """Return the preview of a depth map, coloured over the positions; grey where never in focus."""
    limits = float(stack.positions.min()), float(stack.positions.max())
    colormap = ensure_colormap("viridis").model_copy(update={"nan_color": NEVER_IN_FOCUS_COLOUR})
    look = {"colormap": colormap, "contrast_limits": limits}
    measured = np.where(np.isfinite(depth.uncertainty), depth.depth, np.float32(np.nan))
    return ResultLayer("preview depth", measured, look)


class DepthWidget(MapsStep):
    """Computes depth, its uncertainty, the plane index as labels, and the all-in-focus image."""

    title = "Depth and all-in-focus"
    main_settings = ("peak", "prefer", "fusion")
    has_focus_channel = False

    def input_layers(self, source: Image) -> dict[str, Layer]:
        """Return the focus volume."""
        return {"focus": require_layer(self._viewer, "focus", source, "Focus measure")}

    def compute_stack(
        self, inputs: StackInput, plane_mask: np.ndarray | None, progress: Progress
    ) -> DepthMap:
        """Return the depth at the peaks of the focus curves."""
        stack, recipe, arrays = inputs
        settings: dict[str, Any] = {"peak": recipe.peak, "prefer": recipe.prefer}
        settings |= {"plane_mask": plane_mask, **recipe.scale._asdict()}
        return depth_map(arrays["focus"], stack.positions, **settings, progress=progress)
