"""Making neighbours agree where the focus curve alone doesn't tell."""

from napari_dff.refinement.sequence import REFINEMENTS, refine, refined

__all__ = ["REFINEMENTS", "refine", "refined"]
