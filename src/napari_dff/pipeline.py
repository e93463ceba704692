"""All steps in their order: the only file that knows it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from napari_dff import checks
from napari_dff.depth import DepthMap
from napari_dff.focus import focus_measure
from napari_dff.fusion import all_in_focus
from napari_dff.lazy import load_planes
from napari_dff.pieces import AlignedStack, TileResult, compute_tiles, focus_settings
from napari_dff.plan import Plan, make_plan
from napari_dff.progress import Progress, no_progress
from napari_dff.recipe import Recipe
from napari_dff.refinement import PreviousResult, refine
from napari_dff.registration import (
    Alignment,
    LazyAlignedStack,
    align,
    estimate_gains,
    estimate_transforms,
    load_aligned,
)
from napari_dff.stack import MIN_CONTRAST, NO_CONTRAST_MESSAGE, FocalStack
from napari_dff.windows import Window, full_window


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a run gives: everything a viewer or a file wants.

    Parameters
    ----------
    stack : FocalStack
        Aligned. Where memory doesn't hold them, its planes are moved when they are read.
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


class Results(Protocol):
    """Where pieces are put, in memory or on disk."""

    def put(self, piece: TileResult) -> None:
        """Take a piece."""
        ...

    def known(self, window: Window) -> DepthMap:
        """The refined depth map of a window, as far as pieces were put."""
        ...


def depth_from_focus(
    stack: FocalStack,
    recipe: Recipe | None = None,
    *,
    transforms: np.ndarray | None = None,
    megabytes: float | None = None,
    progress: Progress = no_progress,
) -> Reconstruction:
    """Depth map and all-in-focus image of a focal stack, all steps.

    Parameters
    ----------
    stack : FocalStack
    recipe : Recipe, optional
        The settings; the defaults when None.
    transforms : (Z, 3, 3) array, optional
        Motion that is known already, as of another stack of the same field; nothing is aligned.
    megabytes : float, optional
        What the process may hold, beside these results. A stack that needs more is worked on in
        tiles. Nearly all that is free when None; planes that are in memory are never tiled then.
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
    recipe = Recipe() if recipe is None else recipe
    checks.check_type("stack", stack, FocalStack)
    checks.check_type("recipe", recipe, Recipe)
    plan = make_plan(stack.planes, recipe, megabytes=megabytes)
    given = load_planes(stack.planes, progress) if plan.whole else stack.planes
    moved = registered(given, recipe, transforms, progress)
    scene = scene_of(moved, stack.positions, plan, progress)
    maps = _Maps(scene.shape)
    reconstruct(scene, recipe, plan, maps, progress)
    made = maps.whole
    return Reconstruction(
        dataclasses.replace(stack, planes=scene.planes),
        moved.transforms,
        made.valid,
        made.estimate,
        made.refined,
        made.pictures[0],
        recipe,
    )


def reconstruct(
    scene: AlignedStack, recipe: Recipe, plan: Plan, results: Results, progress: Progress
) -> None:
    """Put the pieces of aligned planes into `results`, one after the other."""
    flat = True
    for piece in compute_tiles(scene, recipe, plan.windows, results.known, progress):
        flat = flat and _is_flat(piece.pictures[0])
        results.put(piece)
        del piece  # or it is held while the next one is made
    if flat and all(_is_flat(np.asarray(scene.planes[i])) for i in range(scene.planes.shape[0])):
        raise ValueError(NO_CONTRAST_MESSAGE)


def _is_flat(picture: np.ndarray) -> bool:
    return float(picture.max()) - float(picture.min()) < MIN_CONTRAST


def registered(
    planes: Any, recipe: Recipe, transforms: np.ndarray | None, progress: Progress
) -> LazyAlignedStack:
    """Planes aligned as `recipe` says, or by `transforms` that are known, when they are read."""
    if transforms is None:
        settings: dict[str, Any] = {"registration": recipe.registration, "motion": recipe.motion}
        transforms, _ = estimate_transforms(planes, **settings, progress=progress)
    gains = None
    if recipe.exposure == "equal":
        gains = estimate_gains(planes, transforms, progress=progress)
    return LazyAlignedStack(planes, transforms, gains)


def scene_of(
    moved: LazyAlignedStack, positions: np.ndarray, plan: Plan, progress: Progress
) -> AlignedStack:
    """Aligned planes, in memory if the plan is to work on all of them at once."""
    if moved.is_identity and (plan.whole or not isinstance(moved.planes, np.ndarray)):
        return AlignedStack(moved.planes, positions)
    if not plan.whole:  # a memory map's windows are copied too, so that it can be let go
        return AlignedStack(moved, positions, valid=moved.valid)
    planes, valid = load_aligned(moved, progress)
    return AlignedStack(planes, positions, valid=lambda window: valid[window.slices])


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
    return focus_measure(stack.planes, **focus_settings(recipe), progress=progress)


def refined_by(
    recipe: Recipe,
    stack: FocalStack,
    estimate: DepthMap,
    focus: np.ndarray,
    guide: np.ndarray,
    progress: Progress,
    hints: np.ndarray | None = None,
    previous: PreviousResult | None = None,
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
        previous=previous,
        progress=progress,
    )


def fused_by(
    recipe: Recipe, stack: FocalStack, depth: np.ndarray, progress: Progress
) -> np.ndarray:
    """The all-in-focus image of `stack` at `depth`, fused as `recipe` says."""
    return all_in_focus(
        stack.planes, depth, stack.positions, fusion=recipe.fusion, progress=progress
    )


class _Maps:
    """Results in memory."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._whole: TileResult | None = None

    def put(self, piece: TileResult) -> None:
        """Take a piece; the whole plane as it is."""
        if piece.window.shape == self._shape:
            self._whole = piece
            return
        if self._whole is None:
            self._whole = _like(piece, self._shape)
        for mine, new in zip(_maps_of(self._whole), _maps_of(piece), strict=True):
            mine[piece.window.slices] = new

    def known(self, window: Window) -> DepthMap:
        """The refined depth map of a window, as far as pieces were put."""
        return DepthMap(*(part[window.slices] for part in self.whole.refined))

    @property
    def whole(self) -> TileResult:
        """All pieces together."""
        if self._whole is None:
            raise RuntimeError("no piece was put")
        return self._whole


def _maps_of(piece: TileResult) -> list[np.ndarray]:
    return [*piece.estimate, *piece.refined, *piece.pictures, piece.valid]


def _like(piece: TileResult, shape: tuple[int, int]) -> TileResult:
    """A piece as large as the plane, still empty."""

    def empty(part: np.ndarray) -> np.ndarray:
        return np.zeros((*shape, *part.shape[2:]), part.dtype)

    estimate = DepthMap(*(empty(part) for part in piece.estimate))
    found = estimate
    if piece.refined is not piece.estimate:
        found = DepthMap(*(empty(part) for part in piece.refined))
    pictures = tuple(empty(part) for part in piece.pictures)
    return TileResult(full_window(shape), estimate, found, pictures, empty(piece.valid))
