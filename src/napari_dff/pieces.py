"""From aligned planes to depth and picture, one piece of the plane at a time.

A piece is computed with some pixels around it, and of the planes only what lies near is read. So a
whole run is one piece, a preview is a small one, and a stack larger than memory is many of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from napari_dff.curve import FocusVolume, FocusVolumeView, LazyFocusVolume, QuantizedFocusVolume
from napari_dff.depth import DepthMap, estimate_depth, locate_depth
from napari_dff.focus import focus_radius, lazy_focus_volume
from napari_dff.fusion import all_in_focus
from napari_dff.images import luminance
from napari_dff.lazy import read_window
from napari_dff.memory import trim_malloc
from napari_dff.progress import Progress, with_location
from napari_dff.recipe import Recipe
from napari_dff.refinement import (
    HintField,
    SharedStatistics,
    guide_range,
    refine_volume,
    typical_slope,
)
from napari_dff.windows import GRID_PX, Window

MARGIN_PX = 40  # pixels around a piece that its picture, or its depth before refinement, depends on
SCATTER = 64  # pixels around it that its uncertainty depends on
REFINING = 96  # pixels around it that are refined with it, of several that make a whole
SAMPLES, SIDE = 9, 192  # pieces, and their side in pixels, that tell what all pieces share
ENOUGH = 0.01  # share of their pixels that must be in focus to tell a slope
BESIDE = 8  # pixels between which a slope is read
T = TypeVar("T")


class TileResult(NamedTuple):
    """What a window of the planes gives.

    Attributes
    ----------
    window : Window
    estimate, refined : DepthMap
        Before and after refinement; the same where there is none.
    pictures : tuple of (Y, X[, 3]) arrays
        All-in-focus images: of the planes, and of each channel beside.
    valid : (Y, X) bool
        Where every plane has data.
    """

    window: Window
    estimate: DepthMap
    refined: DepthMap
    pictures: tuple[np.ndarray, ...]
    valid: np.ndarray


class AlignedStack(NamedTuple):
    """Aligned planes and what goes with them.

    Attributes
    ----------
    planes : (Z, Y, X[, 3]) array
        Perhaps lazy.
    positions : (Z,) float64
    beside : tuple of (Z, Y, X[, 3]) arrays
        Other channels, aligned too, that get their picture at the same depth.
    valid : callable
        From a window to where in it every plane has data, (Y, X) bool.
    given : callable or None
        From a window to a depth map that is known already: then only pictures are made.
    """

    planes: Any
    positions: np.ndarray
    beside: tuple[Any, ...] = ()
    valid: Callable[[Window], np.ndarray] = lambda window: np.ones(window.shape, bool)
    given: Callable[[Window], DepthMap] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Of a plane."""
        return tuple(self.planes.shape[1:3])


Known = Callable[[Window], DepthMap]  # what earlier pieces have found


def has_refinement(recipe: Recipe) -> bool:
    """Whether the recipe refines at all."""
    return recipe.refinement != "none" and recipe.smoothness > 0


def focus_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings of the focus measure."""
    names = ("operator", "sigma", "window", "aggregation")
    return {name: getattr(recipe, name) for name in names}


def compute_tiles(
    scene: AlignedStack, recipe: Recipe, windows: Sequence[Window], known: Known, progress: Progress
) -> Iterator[TileResult]:
    """The pieces in `windows`, which cover the plane row by row.

    Where a window touches earlier ones, what these have found is `known` and is followed: no seam.
    """
    if len(windows) == 1:
        yield compute_tile(scene, recipe, windows[0], around=tile_margin(recipe), progress=progress)
        return
    trim_malloc()
    shared = None
    if has_refinement(recipe) and scene.given is None:
        shared = shared_by(scene, recipe, _told(progress, "looking around"))
    for i, window in enumerate(windows):
        within = _told(progress, f"tile {i + 1} of {len(windows)}")
        yield compute_tile(
            scene,
            recipe,
            window,
            around=tile_margin(recipe),
            progress=within,
            shared=shared,
            known=known if i else None,
        )
        trim_malloc()


def tile_margin(recipe: Recipe) -> int:
    """How many pixels around a piece are computed with it."""
    return REFINING if has_refinement(recipe) else SCATTER


def compute_tile(
    scene: AlignedStack,
    recipe: Recipe,
    wanted: Window,
    *,
    around: int,
    progress: Progress,
    shared: SharedStatistics | None = None,
    known: Known | None = None,
    hurried: bool = False,
) -> TileResult:
    """The piece in `wanted`, computed with so many pixels `around` it.

    `hurried`: the uncertainty is that of the curves alone, the picture that of the estimate.
    """
    outer = wanted.expand(around, scene.shape)
    inner, valid = wanted.slices_in(outer), scene.valid(outer)
    seen = outer if scene.given is not None else outer.expand(focus_margin(recipe), scene.shape)
    held = read_window(scene.planes, seen)
    near = held[(slice(None), *outer.slices_in(seen))]

    def fused(planes: np.ndarray, depth: np.ndarray) -> np.ndarray:
        at = scene.positions
        return all_in_focus(planes, depth, at, fusion=recipe.fusion, progress=progress)

    if scene.given is not None:
        estimate = found = scene.given(outer)
        picture = fused(near, found.depth)
    else:
        volume = focus_volume(held, recipe, outer, seen)
        if has_refinement(recipe):
            volume = QuantizedFocusVolume(volume)
        find = locate_depth if hurried else estimate_depth
        estimate = found = find(volume, scene.positions, recipe.peak, recipe.prefer, progress)
        estimate.uncertainty[~valid] = np.inf
        picture = fused(near, estimate.depth)
        if has_refinement(recipe):
            settings = recipe.refinement, recipe.smoothness, picture, progress
            fixed = None if known is None else _earlier(known, wanted, outer)
            found = refine_volume(
                estimate, volume, scene.positions, *settings, shared=shared, fixed=fixed
            )
            if not hurried:
                picture = fused(near, found.depth)
    others = (fused(read_window(planes, outer), found.depth)[inner] for planes in scene.beside)
    before = DepthMap(*(part[inner] for part in estimate))
    after = before if found is estimate else DepthMap(*(part[inner] for part in found))
    return TileResult(wanted, before, after, (picture[inner], *others), valid[inner])


def focus_volume(held: np.ndarray, recipe: Recipe, wanted: Window, seen: Window) -> FocusVolume:
    """The focus volume of the pixels in `wanted`, of planes that are `held` in `seen`."""
    volume: LazyFocusVolume = lazy_focus_volume(held, **focus_settings(recipe))
    if seen == wanted:
        return volume
    rows, columns = wanted.slices_in(seen)
    return FocusVolumeView(volume, Window(rows.start, rows.stop, columns.start, columns.stop))


def focus_margin(recipe: Recipe) -> int:
    """How far from a pixel its focus curve depends on the planes."""
    return focus_radius(**focus_settings(recipe))


def shared_by(scene: AlignedStack, recipe: Recipe, progress: Progress) -> SharedStatistics:
    """What all pieces share, from `SAMPLES` small ones that lie all over the plane."""
    spacing = np.abs(np.diff(scene.positions)).mean()
    unrefined = dataclasses.replace(recipe, refinement="none")
    depths, doubts, pictures = [], [], []
    for window in samples(scene.shape):
        piece = compute_tile(
            scene, unrefined, window, around=MARGIN_PX, progress=progress, hurried=True
        )
        depth, doubt = piece.estimate.depth / spacing, piece.estimate.uncertainty / spacing
        doubt[-BESIDE:], doubt[:, -BESIDE:] = np.inf, np.inf  # no slope from one to the next
        depths.append(depth)
        doubts.append(doubt)
        pictures.append(luminance(piece.pictures[0]))
    depth, doubt = (np.concatenate(parts, axis=1) for parts in (depths, doubts))
    slope = typical_slope(depth, doubt) if np.isfinite(doubt).mean() > ENOUGH else None
    return SharedStatistics(slope, guide_range(np.concatenate(pictures, axis=1)))


def samples(shape: tuple[int, int]) -> list[Window]:
    """Small windows of one size, all over a plane of `shape`."""
    across = round(SAMPLES**0.5)
    height, width = (min(SIDE, size) for size in shape)
    down, right = (
        [int((size - own) * (k + 0.5) / across) // GRID_PX * GRID_PX for k in range(across)]
        for size, own in zip(shape, (height, width), strict=True)
    )
    return [Window(y, y + height, x, x + width) for y in down for x in right]


def _earlier(known: Known, wanted: Window, outer: Window) -> HintField:
    """Constraints of the pixels of finished windows, above and to the left of `wanted`."""
    influence = np.zeros(outer.shape, np.float32)
    rows, columns = wanted.slices_in(outer)
    influence[: rows.start] = 1
    influence[rows, : columns.start] = 1
    return HintField(known(outer), influence)


def _told(progress: Progress, where: str) -> Progress:
    """The same, saying where as well; what the step before has freed is given back first."""
    told = with_location(progress, where)

    def within(items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        trim_malloc()
        return told(items, desc=desc)

    return within
