"""Align: register every plane of a stack to its middle plane."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Image
from napari.viewer import Viewer

from napari_dff.model.acquisition import Acquisition, Index
from napari_dff.model.recipe import Recipe
from napari_dff.pipeline import quality
from napari_dff.pipeline.driver import align_and_crop
from napari_dff.pipeline.plane_checks import check_planes
from napari_dff.pipeline.sinks import AlignedPlanes
from napari_dff.registration import PlaneReport, align_lazily, load_aligned
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window
from napari_dff.widgets.app.canvas import COLOURS, Canvas
from napari_dff.widgets.app.controls import read_only_table
from napari_dff.widgets.app.geometry import index_in_view
from napari_dff.widgets.app.layers import stack_look
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.steps.step import RunInput, StepWidget

ALIGNMENT_SETTINGS = ("registration", "motion", "exposure", "crop")
COLUMNS = ("plane", "down (px)", "right (px)", "magnification", "residual (px)")
DETAILS = ("inliers", "matches", "keypoints", "model", "fallback")  # columns from PlaneReport
PLOT_TITLES = ("shift (px)", "magnification - 1 (%)", "residual (px)")


class StackReport(NamedTuple):
    """How well the planes of one stack were aligned."""

    stack_in_words: str
    planes: tuple[PlaneReport, ...]
    motion: quality.Motion
    notes: tuple[str, ...]  # sentences on planes that are left out, their order and their light


class AlignmentResult(NamedTuple):
    """The aligned planes of all stacks."""

    planes: Any  # (…, Z, Y, X[, 3]) array; None if no plane was changed
    transforms: np.ndarray  # (…, Z, 3, 3) float64
    window: Window | None = None  # of the planes that all results cover; None: all
    rim_share: float = 0.0  # of the picture, 0 … 1, that one of the planes does not cover


class AlignWidget(StepWidget):
    """Aligns the planes, shows the matched features as vectors and the quality of each plane."""

    title = "Align"
    main_settings = ("registration", "motion")
    more_settings = ("exposure", "crop")
    prefers_aligned = False
    skipped_fields = ("refinement",)
    has_preview = False  # a transform is computed from whole planes

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._reports: dict[Index, StackReport] = {}  # by index along the leading axes
        self._reported_layer: Image | None = None  # whose stacks have these reports
        self._visible_report: StackReport | None = None
        self.report = read_only_table((*COLUMNS, *DETAILS))
        self.report.native.setMaximumHeight(180)
        self.plot = Canvas(viewer, rows=3, height=260)
        self.append(self.report)
        self.add_plot(self.plot)
        self.report.visible = False
        self.plot.hide()

    def compute(self, inputs: RunInput, progress: Progress) -> Any:
        """Return the aligned planes, the matches as vectors, and the reports by index."""
        acquisition, recipe = inputs.acquisition, inputs.recipe
        aligned, transforms = AlignedPlanes(acquisition), []
        reports: dict[Index, StackReport] = {}
        stacks, window = align_and_crop(acquisition, recipe, None, progress)
        aligned.set_window(window)
        for index, located in acquisition.iterate(progress):
            lazy = stacks[index]
            loaded = load_aligned(lazy, located)[0] if aligned.in_memory else None
            aligned.write(index, acquisition.focus_channel, lazy, loaded, located)
            for channel in acquisition.other_channels:  # take the transforms of the focus channel
                planes = acquisition.channel_stack(index, channel).planes
                other = align_lazily(planes, recipe, transforms=lazy.transforms, progress=located)
                other = dataclasses.replace(other, window=window)
                aligned.write(index, channel, other, progress=located)
            motion = quality.decompose_transforms(lazy.transforms, lazy.planes.shape[1:3])
            notes = (*check_planes(lazy.planes).sentences, *lazy.notes)
            report = StackReport(acquisition.describe(index), lazy.report, motion, notes)
            channels = range(len(acquisition.channels))
            reports |= {acquisition.with_channel(index, c): report for c in channels}
            transforms.append(lazy.transforms)
        cropped = window if recipe.crop == "common" else None
        result = AlignmentResult(aligned.join(), acquisition.join(transforms), cropped)
        return result, match_vectors(reports, acquisition), reports

    def needed_megabytes(self, acquisition: Acquisition, recipe: Recipe) -> float:
        """Return the memory of the aligned planes, which stay lazy where they do not fit."""
        return float(acquisition.data.nbytes) / 1e6 if AlignedPlanes(acquisition).in_memory else 0.0

    def add_layers(self, run: RunLayers, result: Any) -> Iterator[None]:
        """Add the aligned planes and the matches, and fill the table and the plot."""
        alignment, matches, reports = result
        if len(matches):
            run.show("matches", matches, "vectors", edge_width=0.6, visible=False)
            yield
        run.window = alignment.window
        yield from add_alignment(run, alignment)
        self._reports, self._reported_layer = reports, run.source
        self._on_slider()

    def _on_slider(self, _: Any = None) -> None:
        super()._on_slider()
        if self._reported_layer not in self._viewer.layers:
            self._reports, self._reported_layer = {}, None
            return
        report = self._reports.get(index_in_view(self._viewer, self._reported_layer))
        if report is None or report is self._visible_report:
            return
        self._visible_report = report
        advice = [*report.notes, *quality.summarize_alignment(report.planes, report.motion)]
        if report.stack_in_words and advice:
            advice = [f"{report.stack_in_words.capitalize()}:", *advice]
        self.show_advice(advice)
        self.report.value = _report_table(report)
        self.report.visible = True
        self.plot.show()
        self.report.native.resizeColumnsToContents()
        self._draw(report)

    def _draw(self, report: StackReport) -> None:
        self.plot.clear()
        shift, magnification, residual = self.plot.axes
        motion, failed = report.motion, quality.failed_planes(report.planes)
        for colour, name, values in zip(COLOURS, ("down", "right"), motion.shift.T, strict=False):
            shift.plot(values, ".-", color=colour, label=name)
        self.plot.add_legend(shift, columns=2)
        magnification.plot(100 * (motion.magnification - 1), ".-", color=COLOURS[2])
        residual.plot([plane.residual for plane in report.planes], ".-", color=COLOURS[3])
        for axes, title in zip(self.plot.axes, PLOT_TITLES, strict=True):
            axes.set_title(title, loc="left")
            for plane in failed:
                axes.axvline(plane, color=COLOURS[4], linestyle=":")
        residual.set_xlabel("plane (dotted: see fallback)" if failed else "plane")
        self.plot.follow_theme()


def add_alignment(run: RunLayers, result: AlignmentResult) -> Iterator[None]:
    """Add a layer of aligned planes."""
    settings = {key: value for key, value in run.settings.items() if key in ALIGNMENT_SETTINGS}
    metadata = {"transforms": result.transforms, "settings": settings}
    run.show("aligned", result.planes, metadata=metadata, **stack_look(run.source))
    yield


def match_vectors(reports: dict[Index, StackReport], acquisition: Acquisition) -> np.ndarray:
    """Return the inliers as napari vectors, (N, 2, D) in pixels: positions and displacements."""
    parts = [np.zeros((0, 2, len(acquisition.axes) + 3))]
    for index in map(acquisition.focus_index, acquisition.indices):
        for plane in reports[index].planes:
            part = np.zeros((len(plane.points), *parts[0].shape[1:]))
            part[:, 0, :-2] = *index, plane.plane
            part[:, 0, -2:], part[:, 1, -2:] = plane.points, plane.displacements
            parts.append(part)
    return np.concatenate(parts)


def _report_table(report: StackReport) -> dict[str, list[Any]]:
    planes, (down, right) = report.planes, report.motion.shift.T
    columns: tuple[list[Any], ...] = (
        [plane.plane for plane in planes],
        [f"{v:+.2f}" for v in down],
        [f"{v:+.2f}" for v in right],
        [f"{v:.4f}" for v in report.motion.magnification],
        [f"{plane.residual:.2f}" if np.isfinite(plane.residual) else "" for plane in planes],
    )
    details = {name: [getattr(plane, name) for plane in planes] for name in DETAILS}
    return dict(zip(COLUMNS, columns, strict=True)) | details
