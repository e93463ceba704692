"""Align: bring every plane onto the middle one."""

from dataclasses import asdict
from typing import Any

import numpy as np
from magicgui.widgets import Table
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.pipeline import aligned_by
from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.registration import Alignment, PlaneReport
from napari_dff.stack import FocalStack
from napari_dff.widgets.layers import put
from napari_dff.widgets.step import StepWidget


class AlignWidget(StepWidget):
    """Aligned planes, the matched features as vectors, and a table of how each plane fared."""

    title = "Align"
    settings = ("registration", "motion", "exposure")
    follows_alignment = False

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.report = Table(value=_rows(()))
        self.report.read_only = True
        self.report.native.verticalHeader().hide()
        self.append(self.report)

    def compute(
        self, stack: FocalStack, recipe: Recipe, extra: Any, progress: Progress
    ) -> Alignment:
        """Align the planes."""
        return aligned_by(recipe, stack, progress)

    def emit(self, source: Image, recipe: Recipe, result: Alignment) -> None:
        """Put the aligned planes and the matches, and fill the table."""
        put_alignment(self._viewer, source, recipe, result.planes, result.transforms, result.report)
        self.report.value = _rows(result.report)
        self.report.native.resizeColumnsToContents()


def put_alignment(
    viewer: Viewer,
    source: Image,
    recipe: Recipe,
    planes: np.ndarray,
    transforms: np.ndarray,
    report: tuple[PlaneReport, ...] = (),
) -> Layer:
    """Put a layer of aligned planes and, where there is a report, one of the matches."""
    if any(len(plane.points) for plane in report):
        put(viewer, "matches", source, vectors(report), "vectors", edge_width=0.6, visible=False)
    remember = {"transforms": transforms, "recipe": asdict(recipe)}
    look: dict[str, Any] = {"rgb": planes.ndim == 4, "colormap": source.colormap}
    if planes.ndim == 3:
        look["contrast_limits"] = tuple(source.contrast_limits)
    return put(viewer, "aligned", source, planes, remember=remember, **look)


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


def _rows(report: tuple[PlaneReport, ...]) -> dict[str, list[Any]]:
    names = ("plane", "keypoints", "matches", "inliers", "residual", "model", "fallback")
    table: dict[str, list[Any]] = {
        name: [getattr(plane, name) for plane in report] for name in names
    }
    table["residual"] = [f"{r:.2f}" if np.isfinite(r) else "" for r in table["residual"]]
    return table
