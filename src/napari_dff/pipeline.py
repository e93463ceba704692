"""All steps in their order: the only file that knows it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_dff.curve import FocusVolume, Kept
from napari_dff.depth import DepthMap, estimated
from napari_dff.focus import focus_measure, measured
from napari_dff.fusion import all_in_focus
from napari_dff.progress import Progress, silent
from napari_dff.recipe import Recipe
from napari_dff.refinement import Before, refine, refined
from napari_dff.registration import Alignment, align, equalised, resample
from napari_dff.stack import FocalStack, in_memory


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a run gives: everything a viewer or a file wants.

    Parameters
    ----------
    stack : FocalStack
        Aligned.
    transforms : (Z, 3, 3) float64
        (y, x, 1) of a plane as given → of the reference plane.
    valid : (Y, X) bool
        Where every plane has data.
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


def depth_from_focus(
    stack: FocalStack,
    recipe: Recipe | None = None,
    *,
    transforms: np.ndarray | None = None,
    progress: Progress = silent,
) -> Reconstruction:
    """Depth map and all-in-focus image of a focal stack, all steps.

    Parameters
    ----------
    stack : FocalStack
    recipe : Recipe, optional
        The settings; the defaults when None.
    transforms : (Z, 3, 3) array, optional
        Motion that is known already, as of another stack of the same field; nothing is aligned.
    progress : Progress
        Told of every step; may raise to cancel.

    Returns
    -------
    Reconstruction

    Raises
    ------
    ValueError
        When the planes can't be used, with one sentence that says why.
    """
    recipe = recipe or Recipe()
    aligned, valid = dataclasses.replace(stack, planes=in_memory(stack.planes, progress)), None
    if transforms is not None:
        planes, valid = resample(aligned.planes, transforms, progress=progress)
        if recipe.exposure == "equal" and valid.any():
            planes = equalised(planes, valid, len(planes) // 2, progress)
        aligned = dataclasses.replace(stack, planes=planes)
    elif recipe.registration != "none" or recipe.exposure != "keep":
        alignment = aligned_by(recipe, aligned, progress)
        aligned = dataclasses.replace(stack, planes=alignment.planes)
        transforms, valid = alignment.transforms, alignment.valid
    else:
        transforms = np.tile(np.eye(3), (len(stack.positions), 1, 1))
    volume: FocusVolume = measured(aligned.planes, **of_the_measure(recipe))
    refining = recipe.refinement != "none" and recipe.smoothness > 0
    if refining:
        volume = Kept(volume)
    estimate = estimated(volume, stack.positions, recipe.peak, recipe.prefer, progress)
    if valid is None:
        valid = np.ones(estimate.depth.shape, dtype=bool)
    else:
        estimate.uncertainty[~valid] = np.inf
    sharp = fused_by(recipe, aligned, estimate.depth, progress)
    found = estimate
    if refining:
        settings = recipe.refinement, recipe.smoothness, sharp
        found = refined(estimate, volume, stack.positions, *settings, progress)
        sharp = fused_by(recipe, aligned, found.depth, progress)
    return Reconstruction(aligned, transforms, valid, estimate, found, sharp, recipe)


def aligned_by(recipe: Recipe, stack: FocalStack, progress: Progress) -> Alignment:
    """The planes of `stack` aligned as `recipe` says."""
    return align(
        stack.planes,
        registration=recipe.registration,
        motion=recipe.motion,
        exposure=recipe.exposure,
        progress=progress,
    )


def measured_by(recipe: Recipe, stack: FocalStack, progress: Progress) -> np.ndarray:
    """The focus volume of `stack`, measured as `recipe` says."""
    return focus_measure(stack.planes, **of_the_measure(recipe), progress=progress)


def of_the_measure(recipe: Recipe) -> dict[str, Any]:
    """The settings of the focus measure."""
    names = ("operator", "sigma", "window", "aggregation")
    return {name: getattr(recipe, name) for name in names}


def refined_by(
    recipe: Recipe,
    stack: FocalStack,
    estimate: DepthMap,
    focus: np.ndarray,
    guide: np.ndarray,
    progress: Progress,
    hints: np.ndarray | None = None,
    before: Before | None = None,
) -> DepthMap:
    """`estimate` refined as `recipe` says; see `refine` for hints."""
    return refine(
        estimate,
        focus,
        stack.positions,
        refinement=recipe.refinement,
        smoothness=recipe.smoothness,
        guide=guide,
        hints=hints,
        before=before,
        progress=progress,
    )


def fused_by(
    recipe: Recipe, stack: FocalStack, depth: np.ndarray, progress: Progress
) -> np.ndarray:
    """The all-in-focus image of `stack` at `depth`, fused as `recipe` says."""
    return all_in_focus(
        stack.planes, depth, stack.positions, fusion=recipe.fusion, progress=progress
    )
