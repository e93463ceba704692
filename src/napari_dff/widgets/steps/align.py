"""Align: register every plane of a stack to its middle plane."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Image
from napari.viewer import Viewer

from napari_dff.model.acquisition import Acquisition
from napari_dff.pipeline.driver import align_by_recipe
from napari_dff.pipeline.quality import (
    Motion,
    decompose_transforms,
    failed_planes,
    summarize_alignment,
)
from napari_dff.pipeline.sinks import AlignedPlanes
from napari_dff.registration import PlaneReport, load_aligned
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import full_window
from napari_dff.widgets.app.canvas import COLOURS, Canvas
from napari_dff.widgets.app.controls import read_only_table
from napari_dff.widgets.app.geometry import index_in_view
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.steps.step import Index, RunInput, StepWidget

ALIGNMENT_SETTINGS = ("registration", "motion", "exposure")
COLUMNS = ("plane", "down (px)", "right (px)", "magnification", "residual (px)")
DETAILS = ("inliers", "matches", "keypoints", "model", "fallback")  # columns from PlaneReport
PLOT_TITLES = ("shift (px)", "growth (%)", "residual (px)")
Report = tuple[PlaneReport, ...]  # of the planes of one stack


class AlignmentResult(NamedTuple):
    """The aligned planes of all stacks."""

    acquisition: Acquisition
    planes: Any  # (…, Z, Y, X) or (…, Z, Y, X, 3) array
    transforms: np.ndarray  # (…, Z, 3, 3) float64
    valid: np.ndarray  # (…, Y, X) bool: where every plane has data
    reports: dict[Index, Report]  # of each stack


class AlignWidget(StepWidget):
    """Aligns the planes, shows the matched features as vectors and the quality of each plane."""

    title = "Align"
    main_settings = ("registration", "motion")
    more_settings = ("exposure",)
    prefers_aligned = False
    skipped_fields = ("refinement",)
    has_preview = False  # a transform needs the whole plane

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._reports: dict[Index, tuple[str, Report, Motion]] = {}  # with the stack in words
        self._reported_stack: Image | None = None
        self._channel_axis: int | None = None  # of the reported stack
        self._reported_index: Index | None = None  # the stack whose report is visible
        self.report = read_only_table((*COLUMNS, *DETAILS))
        self.report.native.setMaximumHeight(180)
        self.plot = Canvas(viewer, rows=3, height=260)
        self.append(self.report)
        self.native.layout().addWidget(self.plot)

    def compute(self, inputs: RunInput, progress: Progress) -> AlignmentResult:
        """Return the aligned planes; other channels get the transforms of the focus channel."""
        acquisition, recipe = inputs.acquisition, inputs.recipe
        aligned, reports = AlignedPlanes(acquisition), {}
        transforms, valid = [], []
        for index, located in acquisition.iterate(progress):
            planes = acquisition.focus_stack(index).planes
            lazy = align_by_recipe(planes, recipe, None, located)
            loaded = None
            if aligned.in_memory:
                loaded, valid_pixels = load_aligned(lazy, located)
            else:
                valid_pixels = lazy.valid(full_window((lazy.shape[1], lazy.shape[2])))
            aligned.write(index, acquisition.focus_channel, lazy, loaded, located)
            for channel in acquisition.other_channels:
                planes = acquisition.channel_stack(index, channel).planes
                other = align_by_recipe(planes, recipe, lazy.transforms, located)
                aligned.write(index, channel, other, progress=located)
            reports[index] = lazy.report
            transforms.append(lazy.transforms)
            valid.append(valid_pixels)
        return AlignmentResult(
            acquisition,
            aligned.join(),
            acquisition.join(transforms),
            acquisition.join(valid),
            reports,
        )

    def add_layers(self, run: RunLayers, result: AlignmentResult) -> Iterator[None]:
        """Add the aligned planes and the matches, and fill the table and the plot."""
        matches = match_vectors(result.reports, result.acquisition)
        yield from add_alignment(run, result.planes, result.transforms, result.valid, matches)
        self._reports, self._reported_stack, self._reported_index = {}, run.source, None
        self._channel_axis = result.acquisition.channel_axis
        shape = result.planes.shape[run.source.ndim - 2 : run.source.ndim]
        for index, report in result.reports.items():
            motion = decompose_transforms(result.transforms[index], shape)
            self._reports[index] = result.acquisition.describe(index), report, motion
        self._on_slider()

    def _on_slider(self, _: Any = None) -> None:
        """Show the report of the stack in view."""
        super()._on_slider()
        source = self._reported_stack
        if source is None or source not in self._viewer.layers:
            self._reports, self._reported_stack = {}, None
            return
        index = tuple(
            0 if axis == self._channel_axis else i
            for axis, i in enumerate(index_in_view(self._viewer, source))
        )
        if index == self._reported_index or index not in self._reports:
            return
        self._reported_index = index
        stack_in_words, report, motion = self._reports[index]
        advice = summarize_alignment(report, motion)
        if stack_in_words and advice:
            advice = [f"{stack_in_words.capitalize()}:", *advice]
        self.show_advice(advice)
        self.report.value = _report_table(report, motion)
        self.report.native.resizeColumnsToContents()
        self._draw(report, motion)

    def _draw(self, report: Report, motion: Motion) -> None:
        self.plot.clear()
        shift, growth, residual = self.plot.axes
        planes = np.arange(len(motion.shift))
        for k, name in enumerate(("down", "right")):
            shift.plot(planes, motion.shift[:, k], ".-", color=COLOURS[k], label=name)
        shift.legend(ncols=2, loc="upper right")
        growth.plot(planes, 100 * (motion.magnification - 1), ".-", color=COLOURS[2])
        residual.plot(planes, [plane.residual for plane in report], ".-", color=COLOURS[3])
        failed = failed_planes(report)
        for axes, title in zip(self.plot.axes, PLOT_TITLES, strict=True):
            axes.set_title(title, loc="left")
            for plane in failed:
                axes.axvline(plane, color=COLOURS[4], linestyle=":")
        residual.set_xlabel("plane (dotted: fell back)" if failed else "plane")
        self.plot.follow_theme()


def add_alignment(
    run: RunLayers,
    planes: Any,
    transforms: np.ndarray,
    valid: np.ndarray,
    matches: np.ndarray | None = None,
) -> Iterator[None]:
    """Add a layer of aligned planes and, if there are any, one of the matches."""
    source: Image = run.source
    if matches is not None and len(matches):
        run.show("matches", matches, "vectors", edge_width=0.6, visible=False)
        yield
    look: dict[str, Any] = {"rgb": source.rgb, "colormap": source.colormap}
    if not source.rgb:
        look["contrast_limits"] = tuple(source.contrast_limits)
    settings = {key: value for key, value in run.settings.items() if key in ALIGNMENT_SETTINGS}
    metadata = {"transforms": transforms, "valid": valid, "settings": settings}
    run.show("aligned", planes, metadata=metadata, **look)
    yield


def match_vectors(reports: dict[Index, Report], acquisition: Acquisition) -> np.ndarray:
    """Return the displacements of the inliers as napari's vectors, (N, 2, D) float64.

    They are starts and displacements along the D axes (…, Z, Y, X) of the layer, in pixels.
    """
    count = len(acquisition.axes)
    parts = [np.zeros((0, 2, count + 3))]
    for index, report in reports.items():
        for plane in report:
            part = np.zeros((len(plane.points), 2, count + 3))
            part[:, 0, :count] = acquisition.focus_index(index)
            part[:, 0, count] = plane.plane
            part[:, 0, count + 1 :] = plane.points
            part[:, 1, count + 1 :] = plane.displacements
            parts.append(part)
    return np.concatenate(parts)


def _report_table(report: Report, motion: Motion) -> dict[str, list[Any]]:
    residuals = [f"{plane.residual:.2f}" if np.isfinite(plane.residual) else "" for plane in report]
    columns: tuple[list[Any], ...] = (
        [plane.plane for plane in report],
        *([f"{v:+.2f}" for v in column] for column in motion.shift.T),
        [f"{v:.4f}" for v in motion.magnification],
        residuals,
    )
    details = {name: [getattr(plane, name) for plane in report] for name in DETAILS}
    return dict(zip(COLUMNS, columns, strict=True)) | details
