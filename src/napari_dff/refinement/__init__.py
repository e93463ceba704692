"""Making neighbours agree where the focus curve alone doesn't tell."""

from napari_dff.refinement.hints import BACKGROUND, NO_HINT, Before
from napari_dff.refinement.sequence import REFINEMENTS, refine, refined

__all__ = ["BACKGROUND", "NO_HINT", "REFINEMENTS", "Before", "refine", "refined"]
