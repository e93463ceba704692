"""All steps, in their order, for whole stacks, tiles and regions."""

from napari_dff.pipeline.driver import depth_from_focus, run
from napari_dff.pipeline.preview import FocusCurve, Region, focus_curve, reconstruct_region
from napari_dff.pipeline.quality import (
    Coverage,
    Motion,
    advice,
    coverage,
    decompose_transforms,
    summarize_alignment,
)

__all__ = [
    "Coverage",
    "FocusCurve",
    "Motion",
    "Region",
    "advice",
    "coverage",
    "decompose_transforms",
    "depth_from_focus",
    "focus_curve",
    "reconstruct_region",
    "run",
    "summarize_alignment",
]
