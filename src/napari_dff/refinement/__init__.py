"""Refinement: use neighbours and a guide image where the focus curve alone is ambiguous."""

from napari_dff.refinement.coherence import combine_with_previous
from napari_dff.refinement.context import (
    BACKGROUND,
    NO_HINT,
    HintField,
    PreviousResult,
    SharedStatistics,
)
from napari_dff.refinement.plane_statistics import guide_range, sample_windows, typical_slope
from napari_dff.refinement.sequence import REFINEMENTS, refine, refine_volume
from napari_dff.runtime.deprecation import deprecated_names

__all__ = [
    "BACKGROUND",
    "NO_HINT",
    "REFINEMENTS",
    "HintField",
    "PreviousResult",
    "SharedStatistics",
    "combine_with_previous",
    "guide_range",
    "refine",
    "refine_volume",
    "sample_windows",
    "typical_slope",
]

__getattr__ = deprecated_names(globals(), __name__)
