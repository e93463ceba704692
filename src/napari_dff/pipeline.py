"""All steps in their order: the only file that knows it."""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from napari_dff import checks
from napari_dff.depth import DepthMap, Peak, Prefer, depth_map
from napari_dff.focus import SIGMA, WINDOW, Aggregation, Operator, focus_measure
from napari_dff.fusion import Fusion, all_in_focus
from napari_dff.progress import Progress, silent
from napari_dff.refinement import SMOOTHNESS, Refinement, refine
from napari_dff.registration import Alignment, Exposure, Motion, Registration, align, resample
from napari_dff.stack import FocalStack


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a person can set, checked when made.

    Parameters
    ----------
    registration : str
        How planes are aligned: by features and then grey levels of all near neighbours (joint), by
        features alone (sift), by grey levels from plane to plane (ecc), or not (none).
    motion : str
        What one plane may do against the next; auto takes the simplest that explains all.
    exposure : str
        Leave the light of each plane (keep), or bring all to that of the middle one (equal).
    operator : str
        What counts as sharp.
    sigma : float
        Gaussian before the operator, in pixels: more for noisy stacks and coarse texture.
    window : int
        Width over which sharpness is averaged, in pixels: more for noise, less for fine relief.
    aggregation : str
        How it is averaged: windows that balance their texture and grow with the noise (adaptive),
        that only balance it (balanced), plain ones (window), or along edges (guided).
    peak : str
        How depth is read off the focus curve: between planes by all of its peak (curve), by the
        three planes around the sharpest, or as that plane (argmax).
    prefer : str
        Which peak where there are several: the sharpest, or that of the first or last plane.
    refinement : str
        What makes neighbours agree; none leaves the estimate as it is.
    smoothness : float
        How much neighbours count against the pixel's own focus curve; 0 is not at all.
    fusion : str
        How planes become the all-in-focus image: two mixed, more where there is only noise
        (noise_aware), always two (linear), one (nearest), or a Laplacian pyramid.

    Raises
    ------
    ValueError
        For a value outside its choices or range, with one sentence.
    """

    registration: Registration = "joint"
    motion: Motion = "auto"
    exposure: Exposure = "keep"
    operator: Operator = "log"
    sigma: Annotated[float, SIGMA] = 1.0
    window: Annotated[int, WINDOW] = 9
    aggregation: Aggregation = "adaptive"
    peak: Peak = "curve"
    prefer: Prefer = "sharpest"
    refinement: Refinement = "message_passing+least_squares"
    smoothness: Annotated[float, SMOOTHNESS] = 1.0
    fusion: Fusion = "noise_aware"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self), include_extras=True).items():
            if get_origin(kind) is Literal:
                checks.one_of(name, getattr(self, name), get_args(kind))
            else:
                get_args(kind)[1].check(name, getattr(self, name))

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Recipe":
        """Recipe from names and values; ValueError for a name that isn't a setting."""
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f" ({', '.join(known)})"
                raise ValueError(f"recipe has no setting {name!r}{hint}")
        return cls(**settings)


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
    aligned, valid = stack, None
    if transforms is not None:
        planes, valid = resample(stack.planes, transforms, progress=progress)
        aligned = dataclasses.replace(stack, planes=planes)
    elif recipe.registration != "none" or recipe.exposure != "keep":
        alignment = aligned_by(recipe, stack, progress)
        aligned = dataclasses.replace(stack, planes=alignment.planes)
        transforms, valid = alignment.transforms, alignment.valid
    else:
        transforms = np.tile(np.eye(3), (len(stack.positions), 1, 1))
    focus = measured_by(recipe, aligned, progress)
    estimate = depth_map(focus, stack.positions, peak=recipe.peak, prefer=recipe.prefer)
    if valid is None:
        valid = np.ones(estimate.depth.shape, dtype=bool)
    estimate = estimate._replace(uncertainty=np.where(valid, estimate.uncertainty, np.inf))
    sharp = fused_by(recipe, aligned, estimate.depth, progress)
    refined = estimate
    if recipe.refinement != "none":
        refined = refined_by(recipe, aligned, estimate, focus, sharp, progress)
        sharp = fused_by(recipe, aligned, refined.depth, progress)
    return Reconstruction(aligned, transforms, valid, estimate, refined, sharp, recipe)


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
    return focus_measure(
        stack.planes,
        operator=recipe.operator,
        sigma=recipe.sigma,
        window=recipe.window,
        aggregation=recipe.aggregation,
        progress=progress,
    )


def refined_by(
    recipe: Recipe,
    stack: FocalStack,
    estimate: DepthMap,
    focus: np.ndarray,
    guide: np.ndarray,
    progress: Progress,
) -> DepthMap:
    """`estimate` refined as `recipe` says."""
    return refine(
        estimate,
        focus,
        stack.positions,
        refinement=recipe.refinement,
        smoothness=recipe.smoothness,
        guide=guide,
        progress=progress,
    )


def fused_by(
    recipe: Recipe, stack: FocalStack, depth: np.ndarray, progress: Progress
) -> np.ndarray:
    """The all-in-focus image of `stack` at `depth`, fused as `recipe` says."""
    return all_in_focus(
        stack.planes, depth, stack.positions, fusion=recipe.fusion, progress=progress
    )
