"""Making neighbours agree where the focus curve alone doesn't tell."""

from napari_dff.refinement.sequence import REFINEMENTS, SMOOTHNESS, Refinement, refine

__all__ = ["REFINEMENTS", "SMOOTHNESS", "Refinement", "refine"]
