"""Single steps with the settings of a recipe, as the forms of the steps run them."""

from typing import Any

import numpy as np

from napari_dff.focus import focus_measure
from napari_dff.fusion.fuse import all_in_focus
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import Recipe
from napari_dff.model.stack import FocalStack
from napari_dff.pipeline import tile
from napari_dff.refinement import refine
from napari_dff.runtime.progress import Progress


def measure_by_recipe(recipe: Recipe, stack: FocalStack, progress: Progress) -> np.ndarray:
    """Call `focus_measure` with the settings of a recipe."""
    return focus_measure(stack.planes, **tile.focus_settings(recipe), progress=progress)


def refine_by_recipe(
    recipe: Recipe,
    stack: FocalStack,
    estimate: DepthMap,
    focus: np.ndarray,
    guide: np.ndarray,
    progress: Progress,
    **others: Any,  # `hints`, `previous` and `plane_mask`
) -> DepthMap:
    """Call `refine` with the settings of a recipe."""
    settings = {**tile.settings_of(recipe, "refinement", "smoothness"), **others}
    return refine(estimate, focus, stack.positions, guide=guide, progress=progress, **settings)


def fuse_by_recipe(
    recipe: Recipe,
    stack: FocalStack,
    depth: DepthMap,
    plane_mask: np.ndarray | None,
    progress: Progress,
) -> np.ndarray:
    """Call `all_in_focus` with the settings of a recipe."""
    settings: dict[str, Any] = {"fusion": recipe.fusion, "uncertainty": depth.uncertainty}
    settings["plane_mask"] = plane_mask
    return all_in_focus(stack.planes, depth.depth, stack.positions, **settings, progress=progress)
