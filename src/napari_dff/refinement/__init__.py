"""Refinement: use neighbours and a guide image where the focus curve alone is ambiguous."""

import warnings

from napari_dff.refinement.context import (
    BACKGROUND,
    NO_HINT,
    HintField,
    PreviousResult,
    SharedStatistics,
)
from napari_dff.refinement.plane_statistics import guide_range, typical_slope
from napari_dff.refinement.sequence import REFINEMENTS, refine, refine_volume

__all__ = [
    "BACKGROUND",
    "NO_HINT",
    "REFINEMENTS",
    "HintField",
    "PreviousResult",
    "SharedStatistics",
    "guide_range",
    "refine",
    "refine_volume",
    "typical_slope",
]


def __getattr__(name: str) -> type[PreviousResult]:
    if name == "Before":
        message = "napari_dff.refinement.Before is deprecated, use PreviousResult"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return PreviousResult
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
