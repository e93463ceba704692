"""Depth from focus: a focal stack becomes a calibrated depth map and an all-in-focus image.

The public names are imported when they are first used, so that importing the package is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_dff.acquisition import Acquisition
    from napari_dff.depth import DepthMap, FocusPeaks, depth_map, focus_peaks
    from napari_dff.focus import focus_measure
    from napari_dff.fusion import all_in_focus
    from napari_dff.io import (
        StackError,
        read_acquisitions,
        read_recipe,
        read_stack,
        read_transforms,
        save_reconstruction,
    )
    from napari_dff.pipeline import Reconstruction, depth_from_focus
    from napari_dff.progress import Cancelled, Progress
    from napari_dff.recipe import Recipe
    from napari_dff.refinement import refine
    from napari_dff.registration import Alignment, PlaneReport, align, resample
    from napari_dff.stack import FocalStack

__version__ = "0.1.0"

_ROOMS = {
    "Acquisition": "acquisition",
    "Alignment": "registration",
    "Cancelled": "progress",
    "DepthMap": "depth",
    "FocalStack": "stack",
    "FocusPeaks": "depth",
    "PlaneReport": "registration",
    "Progress": "progress",
    "Recipe": "recipe",
    "Reconstruction": "pipeline",
    "StackError": "io",
    "align": "registration",
    "all_in_focus": "fusion",
    "depth_from_focus": "pipeline",
    "depth_map": "depth",
    "focus_measure": "focus",
    "focus_peaks": "depth",
    "read_acquisitions": "io",
    "read_recipe": "io",
    "read_stack": "io",
    "read_transforms": "io",
    "refine": "refinement",
    "resample": "registration",
    "save_reconstruction": "io",
}

__all__ = [
    "Acquisition",
    "Alignment",
    "Cancelled",
    "DepthMap",
    "FocalStack",
    "FocusPeaks",
    "PlaneReport",
    "Progress",
    "Recipe",
    "Reconstruction",
    "StackError",
    "align",
    "all_in_focus",
    "depth_from_focus",
    "depth_map",
    "focus_measure",
    "focus_peaks",
    "read_acquisitions",
    "read_recipe",
    "read_stack",
    "read_transforms",
    "refine",
    "resample",
    "save_reconstruction",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'napari_dff' has no attribute {name!r}")
    return getattr(importlib.import_module(f"napari_dff.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
