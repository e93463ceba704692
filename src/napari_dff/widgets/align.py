"""Align: bring every plane onto the middle one."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Image
from napari.viewer import Viewer

from napari_dff.pipeline import registered
from napari_dff.progress import Progress
from napari_dff.quality import Motion, decompose_transforms, failed_planes, summarize_alignment
from napari_dff.recipe import Recipe
from napari_dff.registration import (
    LazyAlignedStack,
    PlaneReport,
    estimate_gains,
    estimate_transforms,
    load_aligned,
)
from napari_dff.stack import FocalStack
from napari_dff.widgets.canvas import COLOURS, Canvas
from napari_dff.widgets.controls import read_only_table
from napari_dff.widgets.geometry import index_in_view
from napari_dff.widgets.runs import Run
from napari_dff.widgets.series import AlignedPlanes, Series, valid_in
from napari_dff.widgets.step import Given, StepWidget

ALIGNING = ("registration", "motion", "exposure")
COLUMNS = ("plane", "down (px)", "right (px)", "magnification", "residual (px)")
NAMES = ("shift (px)", "growth (%)", "residual (px)")
DETAILS = ("inliers", "matches", "keypoints", "model", "fallback")
Report = tuple[PlaneReport, ...]  # of the planes of one stack


class Found(NamedTuple):
    """Aligned planes of all stacks, how each got there, and where every plane has data."""

    series: Series
    planes: Any
    transforms: np.ndarray
    valid: np.ndarray
    reports: dict[tuple[int, ...], Report]


class AlignWidget(StepWidget):
    """Aligned planes, the matched features as vectors, and how each plane fared."""

    title = "Align"
    settings = ("registration", "motion")
    folded = ("exposure",)
    follows_alignment = False
    skips = ("refinement",)
    previews = False  # every plane holds every other: a part can't be aligned by itself

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._reports: dict[tuple[int, ...], tuple[str, Report, Motion]] = {}
        self._reported: Image | None = None  # the stack that these are of
        self._channel: int | None = None  # its axis of channels
        self._shown: tuple[int, ...] | None = None  # the place whose report is shown
        self.report = read_only_table((*COLUMNS, *DETAILS))
        self.report.native.setMaximumHeight(180)
        self.plot = Canvas(viewer, rows=3, height=260)
        self.append(self.report)
        self.native.layout().addWidget(self.plot)

    def work(
        self,
        series: Series,
        recipe: Recipe,
        given: dict[tuple[int, ...], Given],
        progress: Progress,
    ) -> Found:
        """Align the planes of every stack; other channels move as that of the focus does."""
        aligned, reports = AlignedPlanes(series), {}
        transforms, valid = [], []
        known = replace(recipe, registration="none")
        for place, within in series.in_turn(progress):
            moved, reports[place] = _moved(series.stack(place), recipe, within)
            here = None
            if aligned.held:
                here, covered = load_aligned(moved, within)
            else:
                covered = valid_in(moved)
            aligned.put(place, series.focus, moved, here, within)
            for channel in series.others:
                planes = series.stack(place, channel).planes
                beside = registered(planes, known, moved.transforms, within)
                aligned.put(place, channel, beside, progress=within)
            transforms.append(moved.transforms)
            valid.append(covered)
        motions, everywhere = series.joined(transforms), series.joined(valid)
        return Found(series, aligned.together(), motions, everywhere, reports)

    def emit(self, run: Run, recipe: Recipe, result: Found) -> Iterator[None]:
        """Put the aligned planes and the matches, fill the table and the plot."""
        arrows = vectors(result.reports, result.series)
        yield from put_alignment(run, result.planes, result.transforms, result.valid, arrows)
        series, shape = result.series, result.planes.shape[run.source.ndim - 2 : run.source.ndim]
        self._reports, self._reported, self._shown = {}, run.source, None
        self._channel = series.channel
        for place, report in result.reports.items():
            motions = result.transforms[place] if series.names else result.transforms
            self._reports[place] = series.words(place), report, decompose_transforms(motions, shape)
        self._slid()

    def _slid(self, _: Any = None) -> None:
        """Show the report of the stack that is in view."""
        super()._slid(_)
        source = self._reported
        if source is None or source not in self._viewer.layers:
            self._reports, self._reported = {}, None
            return
        seen = index_in_view(self._viewer, source)
        place = tuple(0 if i == self._channel else n for i, n in enumerate(seen))
        if place == self._shown or place not in self._reports:
            return
        self._shown, (where, report, motion) = place, self._reports[place]
        told = summarize_alignment(report, motion)
        self.tell([f"{where.capitalize()}:", *told] if where and told else told)
        self.report.value = _table(report, motion)
        self.report.native.resizeColumnsToContents()
        self._draw(report, motion)

    def _draw(self, report: Report, motion: Motion) -> None:
        self.plot.clear()
        shift, size, residual = self.plot.axes
        planes = np.arange(len(motion.shift))
        for k, name in enumerate(("down", "right")):
            shift.plot(planes, motion.shift[:, k], ".-", color=COLOURS[k], label=name)
        shift.legend(ncols=2, loc="upper right")
        size.plot(planes, 100 * (motion.magnification - 1), ".-", color=COLOURS[2])
        residual.plot(planes, [plane.residual for plane in report], ".-", color=COLOURS[3])
        fell = failed_planes(report)
        for axes, name in zip(self.plot.axes, NAMES, strict=True):
            axes.set_title(name, loc="left")
            for plane in fell:
                axes.axvline(plane, color=COLOURS[4], linestyle=":")
        residual.set_xlabel("plane (dotted: fell back)" if fell else "plane")
        self.plot.follow_theme()


def _moved(
    stack: FocalStack, recipe: Recipe, progress: Progress
) -> tuple[LazyAlignedStack, Report]:
    """How the planes of a stack are moved, and how each fared: as `align`, moving none yet."""
    settings: dict[str, Any] = {"registration": recipe.registration, "motion": recipe.motion}
    transforms, report = estimate_transforms(stack.planes, **settings, progress=progress)
    gains = None
    if recipe.exposure == "equal":
        gains = estimate_gains(stack.planes, transforms, progress=progress)
    return LazyAlignedStack(stack.planes, transforms, gains), report


def put_alignment(
    run: Run,
    planes: Any,
    transforms: np.ndarray,
    valid: np.ndarray,
    arrows: np.ndarray | None = None,
) -> Iterator[None]:
    """Put a layer of aligned planes and, where there are any, one of the matches."""
    source: Image = run.source
    if arrows is not None and len(arrows):
        run.put("matches", arrows, "vectors", edge_width=0.6, visible=False)
        yield
    look: dict[str, Any] = {"rgb": source.rgb, "colormap": source.colormap}
    if not source.rgb:
        look["contrast_limits"] = tuple(source.contrast_limits)
    remember = {
        "transforms": transforms,
        "valid": valid,
        "settings": {name: run.settings[name] for name in ALIGNING if name in run.settings},
    }
    run.put("aligned", planes, remember=remember, **look)
    yield


def vectors(reports: dict[tuple[int, ...], Report], series: Series) -> np.ndarray:
    """Inlier displacements as napari's vectors: (N, 2, D), start and step in (…, z, y, x)."""
    count = len(series.names)
    parts = [np.zeros((0, 2, count + 3))]
    for place, report in reports.items():
        for plane in report:
            part = np.zeros((len(plane.points), 2, count + 3))
            part[:, 0, :count] = series.at(place)
            part[:, 0, count] = plane.plane
            part[:, 0, count + 1 :] = plane.points
            part[:, 1, count + 1 :] = plane.displacements
            parts.append(part)
    return np.concatenate(parts)


def _table(report: Report, motion: Motion) -> dict[str, list[Any]]:
    residuals = [f"{plane.residual:.2f}" if np.isfinite(plane.residual) else "" for plane in report]
    columns: tuple[list[Any], ...] = (
        [plane.plane for plane in report],
        *([f"{v:+.2f}" for v in column] for column in motion.shift.T),
        [f"{v:.4f}" for v in motion.magnification],
        residuals,
    )
    details = {name: [getattr(plane, name) for plane in report] for name in DETAILS}
    return dict(zip(COLUMNS, columns, strict=True)) | details
