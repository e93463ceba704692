"""Result of all steps."""

from dataclasses import dataclass

import numpy as np

from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import Recipe
from napari_dff.model.stack import FocalStack


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The result of `depth_from_focus`.

    Parameters
    ----------
    stack : FocalStack
        Aligned. If they do not fit into memory, its planes are resampled when they are read.
    transforms : (Z, 3, 3) float64
        (y, x, 1) of a plane as given → (y, x, 1) of the reference plane.
    valid : (Y, X) bool
        Where at least half of the planes, and 3, have data after alignment.
    estimate, refined : DepthMap
        Before and after refinement; the uncertainty is inf outside `valid`.
    all_in_focus : (Y, X[, 3]), dtype of the planes
    recipe : Recipe
    """

    stack: FocalStack
    transforms: np.ndarray
    valid: np.ndarray
    estimate: DepthMap
    refined: DepthMap
    all_in_focus: np.ndarray
    recipe: Recipe
