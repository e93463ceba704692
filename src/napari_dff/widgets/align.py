"""Align: bring every plane onto the middle one."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from napari.layers import Image
from napari.viewer import Viewer

from napari_dff.pipeline import aligned_by
from napari_dff.progress import Progress
from napari_dff.quality import Motion, alignment_advice, fallen_back, motion_of
from napari_dff.recipe import Recipe
from napari_dff.registration import Alignment, PlaneReport
from napari_dff.stack import FocalStack
from napari_dff.widgets.canvas import COLOURS, Canvas
from napari_dff.widgets.form import table
from napari_dff.widgets.runs import Run
from napari_dff.widgets.step import StepWidget

ALIGNING = ("registration", "motion", "exposure")
COLUMNS = ("plane", "down (px)", "right (px)", "magnification", "residual (px)")
NAMES = ("shift (px)", "growth (%)", "residual (px)")
DETAILS = ("inliers", "matches", "keypoints", "model", "fallback")


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
        self.report = table((*COLUMNS, *DETAILS))
        self.report.native.setMaximumHeight(180)
        self.plot = Canvas(viewer, rows=3, height=260)
        self.append(self.report)
        self.native.layout().addWidget(self.plot)

    def compute(
        self, stack: FocalStack, recipe: Recipe, given: dict[str, np.ndarray], progress: Progress
    ) -> Alignment:
        """Align the planes."""
        return aligned_by(recipe, stack, progress)

    def emit(self, run: Run, recipe: Recipe, result: Alignment) -> Iterator[None]:
        """Put the aligned planes and the matches, fill the table and the plot."""
        yield from put_alignment(run, result.planes, result.transforms, result.valid, result.report)
        motion = motion_of(result.transforms, result.planes.shape[1:3])
        self.tell(alignment_advice(result.report, motion))
        self.report.value = _table(result.report, motion)
        self.report.native.resizeColumnsToContents()
        self._draw(result.report, motion)

    def _draw(self, report: tuple[PlaneReport, ...], motion: Motion) -> None:
        self.plot.clear()
        shift, size, residual = self.plot.axes
        planes = np.arange(len(motion.shift))
        for k, name in enumerate(("down", "right")):
            shift.plot(planes, motion.shift[:, k], ".-", color=COLOURS[k], label=name)
        shift.legend(ncols=2, loc="upper right")
        size.plot(planes, 100 * (motion.magnification - 1), ".-", color=COLOURS[2])
        residual.plot(planes, [plane.residual for plane in report], ".-", color=COLOURS[3])
        fell = fallen_back(report)
        for axes, name in zip(self.plot.axes, NAMES, strict=True):
            axes.set_title(name, loc="left")
            for plane in fell:
                axes.axvline(plane, color=COLOURS[4], linestyle=":")
        residual.set_xlabel("plane (dotted: fell back)" if fell else "plane")
        self.plot.follow_theme()


def put_alignment(
    run: Run,
    planes: np.ndarray,
    transforms: np.ndarray,
    valid: np.ndarray,
    report: tuple[PlaneReport, ...] = (),
) -> Iterator[None]:
    """Put a layer of aligned planes and, where there is a report, one of the matches."""
    source: Image = run.source
    if any(len(plane.points) for plane in report):
        run.put("matches", vectors(report), "vectors", edge_width=0.6, visible=False)
        yield
    look: dict[str, Any] = {"rgb": planes.ndim == 4, "colormap": source.colormap}
    if planes.ndim == 3:
        look["contrast_limits"] = tuple(source.contrast_limits)
    remember = {
        "transforms": transforms,
        "valid": valid,
        "settings": {name: run.settings[name] for name in ALIGNING if name in run.settings},
    }
    run.put("aligned", planes, remember=remember, **look)
    yield


def vectors(report: tuple[PlaneReport, ...]) -> np.ndarray:
    """Inlier displacements as napari's vectors: (N, 2, 3), start and step in (z, y, x)."""
    parts = []
    for plane in report:
        part = np.zeros((len(plane.points), 2, 3))
        part[:, 0, 0] = plane.plane
        part[:, 0, 1:] = plane.points
        part[:, 1, 1:] = plane.displacements
        parts.append(part)
    return np.concatenate(parts)


def _table(report: tuple[PlaneReport, ...], motion: Motion) -> dict[str, list[Any]]:
    residuals = [f"{plane.residual:.2f}" if np.isfinite(plane.residual) else "" for plane in report]
    columns: tuple[list[Any], ...] = (
        [plane.plane for plane in report],
        *([f"{v:+.2f}" for v in column] for column in motion.shift.T),
        [f"{v:.4f}" for v in motion.magnification],
        residuals,
    )
    details = {name: [getattr(plane, name) for plane in report] for name in DETAILS}
    return dict(zip(COLUMNS, columns, strict=True)) | details
