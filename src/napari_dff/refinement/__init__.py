"""Making neighbours agree where the focus curve alone doesn't tell."""

from napari_dff.refinement.hints import BACKGROUND, NO_HINT, Before
from napari_dff.refinement.least_squares import usual_slope
from napari_dff.refinement.sequence import (
    NOTHING_SHARED,
    REFINEMENTS,
    Shared,
    ends_of,
    refine,
    refined,
)

__all__ = [
    "BACKGROUND",
    "NOTHING_SHARED",
    "NO_HINT",
    "REFINEMENTS",
    "Before",
    "Shared",
    "ends_of",
    "refine",
    "refined",
    "usual_slope",
]
