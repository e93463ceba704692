"""From aligned planes to depth map and all-in-focus image, one tile at a time.

A tile is a window that is computed with a margin; only this part of the planes is read. A stack in
memory is one tile, a preview is a small tile, and a stack larger than memory is many tiles.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from napari_dff.curve.plane_mask import PlaneMaskReader, has_enough_planes
from napari_dff.curve.volume import FocusVolume, FocusVolumeView, QuantizedFocusVolume
from napari_dff.depth.estimation import estimate_surfaces
from napari_dff.depth.peaks import locate_surfaces
from napari_dff.focus import choose_scale, focus_radius, largest_scale, lazy_focus_volume
from napari_dff.fusion.fuse import all_in_focus, fuse_window, source_window
from napari_dff.imaging.images import luminance
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import FocusScale, Fusion, Recipe
from napari_dff.model.result import FocusOffset
from napari_dff.pipeline import image_quality
from napari_dff.pipeline.image_quality import ImageComparison
from napari_dff.pipeline.plane_checks import to_all_planes, to_used_planes
from napari_dff.pipeline.thin_objects import separate_thin_objects
from napari_dff.refinement import (
    HintField,
    SharedStatistics,
    combine_with_previous,
    guide_range,
    refine_volume,
    sample_windows,
    typical_slope,
)
from napari_dff.refinement.hints import apply_hard_constraints
from napari_dff.refinement.message_passing import message_windows
from napari_dff.registration import LazyAlignedStack
from napari_dff.runtime.lazy import read_window
from napari_dff.runtime.memory import with_trimming
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window, window_grid

# Margin around a tile that influences
MARGIN_PX = 64  # its depth before refinement and its image
NOISE_MARGIN_PX = 64  # its uncertainty
REFINEMENT_MARGIN_PX = 96  # its refined depth, so that tiles join without seams
MIN_FOCUS_FRACTION = 0.01  # of the sample pixels must be in focus to estimate a slope
SLOPE_DISTANCE_PX = 8  # between the pixels from which a slope is computed
GUIDE_FUSION: Fusion = "noise_aware"  # of the guide image of the refinement
DepthReader = Callable[[Window], DepthMap]


class TileResult(NamedTuple):
    """The results in a window of the planes."""

    window: Window
    estimate: DepthMap  # before refinement
    refined: DepthMap  # the same object without refinement
    images: tuple[np.ndarray, ...]  # (h, w[, 3]), all in focus: focus channel, other channels
    valid: np.ndarray  # (h, w) bool: where at least half of the planes, and 3, have data
    comparison: ImageComparison = ImageComparison()  # of the first image with its planes


class AlignedStack(NamedTuple):
    """Aligned planes of one stack, with all channels."""

    planes: Any  # (Z, Y, X[, 3]) array of the focus channel, in memory or lazy
    positions: np.ndarray  # (Z,) float64
    other_channels: tuple[Any, ...] = ()  # aligned arrays that get images at the same depth
    plane_mask: PlaneMaskReader = lambda window: None  # of all planes
    known_depth: DepthReader | None = None  # if there is one, only images are computed
    alignment: LazyAlignedStack | None = None  # planes before alignment, transforms and gains
    used: np.ndarray | slice = slice(None)  # indices of the planes that are not left out
    notes: tuple[str, ...] = ()  # sentences on planes that are left out, and on their order
    scale: FocusScale | None = None  # that focus is measured with; None if it is not
    offsets: tuple[FocusOffset, ...] = ()  # of planes and other channels; 0 for all if empty
    in_file: bool = False  # planes of a tile, and its curves, are in temporary files

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return tuple(self.planes.shape[1:3])

    def used_mask(self, window: Window) -> np.ndarray | None:
        """Return where the used planes have data in `window`, (Z, h, w); None: everywhere."""
        mask = self.plane_mask(window)
        return None if mask is None else mask[self.used]

    def valid(self, window: Window) -> np.ndarray:
        """Return where enough planes have data for a depth, (h, w) bool."""
        mask = self.used_mask(window)
        return np.ones(window.shape, bool) if mask is None else has_enough_planes(mask)

    def read(self, planes: Any, window: Window) -> np.ndarray:
        """Return `window` of the used ones of `planes`, of any channel; see `read_window`."""
        return read_window(planes, window, self.used, in_file=self.in_file)


def has_refinement(recipe: Recipe) -> bool:
    """Return whether the recipe refines the depth map."""
    return recipe.refinement != "none" and recipe.smoothness > 0


def settings_of(recipe: Recipe, *names: str) -> dict[str, Any]:
    """Return settings of a recipe as keyword arguments."""
    return {name: getattr(recipe, name) for name in names}


def focus_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of `focus_measure`."""
    return settings_of(recipe, "operator", "sigma", "window", "aggregation")


def with_chosen_scale(recipe: Recipe, stack: AlignedStack) -> Recipe:
    """Return the recipe with `sigma` and `window` chosen from the stack where they are "auto"."""
    settings = settings_of(recipe, "operator", "sigma", "window")
    scale = choose_scale(stack.planes, **settings, used=stack.used, in_file=stack.in_file)
    return dataclasses.replace(recipe, **scale._asdict())


def focus_margin(recipe: Recipe) -> int:
    """Return how many pixels around a pixel influence its focus curve."""
    scale = largest_scale(recipe.sigma, recipe.window)
    return focus_radius(recipe.operator, *scale, recipe.aggregation)


def tile_grid(shape: tuple[int, int], count: int, recipe: Recipe, side: int) -> list[Window]:
    """Split a plane, of a stack of `count` planes, into tiles of about `side` × `side` pixels.

    With message passing, tiles consist of the windows that are solved one by one, so that the
    labels are those of the plane that is computed as a whole.
    """
    if not (has_refinement(recipe) and "message_passing" in recipe.refinement):
        return window_grid(shape, side)
    windows = message_windows(shape, count)
    rows, columns = (
        sorted({window[i] for window in windows})[:: max(1, round(side / windows[0].shape[i // 2]))]
        for i in (0, 2)
    )
    pairs = zip((rows, columns), shape, strict=True)
    spans = (itertools.pairwise([*starts, size]) for starts, size in pairs)
    return [Window(*vertical, *horizontal) for vertical, horizontal in itertools.product(*spans)]


def tile_margin(recipe: Recipe) -> int:
    """Return how many pixels around a tile are computed with it."""
    return REFINEMENT_MARGIN_PX if has_refinement(recipe) else NOISE_MARGIN_PX


def compute_tile(
    stack: AlignedStack,
    recipe: Recipe,
    window: Window,
    *,
    margin: int,
    progress: Progress,
    shared: SharedStatistics | None = None,  # of the whole plane; of the tile if None
    earlier: DepthReader | None = None,  # the refined depth of earlier tiles, for a graph cut
    previous: DepthReader | None = None,  # the refined depth of the time before
    fast: bool = False,
) -> TileResult:
    """Compute one tile with `margin` pixels around it: focus, depth, refinement and fusion.

    If `fast`, uncertainty is from the curves alone, and the image is that of `guide_image`.
    """
    outer = window.expand(margin, stack.shape)
    inner = window.slices_in(outer)
    positions = stack.positions[stack.used]
    compared = window.expand(image_quality.MARGIN_PX, stack.shape)
    image_source = source_window(compared, stack.shape, recipe.fusion)
    if stack.known_depth is not None:
        estimate = refined = to_used_planes(stack.known_depth(outer), stack.used)
        planes = stack.read(stack.planes, image_source)
    else:
        source = outer.expand(focus_margin(recipe), stack.shape)
        covered = source.union(image_source)
        planes = stack.read(stack.planes, covered)
        part = planes[(slice(None), *source.slices_in(covered))]
        volume = focus_volume(part, recipe, outer, source, stack.used_mask)
        if has_refinement(recipe):  # reads the curves several times
            volume = QuantizedFocusVolume(volume, in_file=stack.in_file)
        method = recipe.peak, recipe.prefer, progress
        if fast:
            estimate, other = locate_surfaces(volume, positions, *method)
        else:
            estimate, other = estimate_surfaces(volume, positions, *method, recipe.scale)
        part = planes[(slice(None), *outer.slices_in(covered))]
        fixed = None
        if recipe.prefer == "sharpest":
            surfaces = estimate, other, volume.step
            estimate, fixed = separate_thin_objects(*surfaces, part, positions, progress)
        refined = estimate
        if has_refinement(recipe) or fast:
            guide = guide_image(part, estimate.depth, positions, stack.used_mask(outer), progress)
        if has_refinement(recipe):
            smoothing = recipe.refinement, recipe.smoothness, guide, progress
            if earlier is not None:
                fixed = _with_earlier_tiles(fixed, earlier, window, outer, stack)
            details: dict[str, Any] = {
                "shared": shared,
                "fixed": fixed,
                "windows": _solved_windows(stack, outer),
            }
            refined = refine_volume(estimate, volume, positions, *smoothing, **details)
        if previous is not None:
            place = stack.positions, stack.valid(outer)
            refined = combine_with_previous(refined, previous(outer), *place)
        planes = planes[(slice(None), *image_source.slices_in(covered))]
    images: tuple[np.ndarray, ...]
    if fast:
        images, comparison = (guide[inner],), ImageComparison()
    else:
        maps = DepthMap(*(_extend(values, outer, image_source) for values in refined))
        images, comparison = _fuse_tile(stack, recipe, window, maps, planes, image_source, progress)
    inner_estimate = inner_refined = _crop(estimate, inner, stack)
    if refined is not estimate:
        inner_refined = _crop(refined, inner, stack)
    return TileResult(
        window, inner_estimate, inner_refined, images, stack.valid(window), comparison
    )


def _fuse_tile(
    stack: AlignedStack,
    recipe: Recipe,
    window: Window,
    depth_map: DepthMap,
    planes: np.ndarray,  # used planes; these and the depth map cover `source`
    source: Window,
    progress: Progress,
) -> tuple[tuple[np.ndarray, ...], ImageComparison]:
    """Return the images of all channels, and the comparison of the first with its planes."""
    positions = stack.positions[stack.used]
    offsets = [each.value for each in stack.offsets] or [0.0] * (1 + len(stack.other_channels))
    compared = window.expand(image_quality.MARGIN_PX, stack.shape)
    part, mask = compared.shift(-source.top, -source.left), stack.used_mask(source)

    def fuse(planes: np.ndarray, offset: float) -> np.ndarray:
        settings = part, recipe.fusion, progress, mask
        depth = depth_map.depth + np.float32(offset)
        return fuse_window(planes, depth, depth_map.uncertainty, positions, *settings)

    image = fuse(planes, offsets[0])
    arrays = image, planes[(slice(None), *part.slices)], stack.used_mask
    comparison = image_quality.compare_with_planes(*arrays, window, compared, progress)
    pairs = zip(stack.other_channels, offsets[1:], strict=True)
    others = (fuse(stack.read(each, source), offset) for each, offset in pairs)
    inner = window.slices_in(compared)
    return tuple(each[inner] for each in (image, *others)), comparison


def _crop(depth_map: DepthMap, inner: tuple[slice, slice], stack: AlignedStack) -> DepthMap:
    """Return a part of a depth map, with indices among all planes instead of the used ones."""
    return to_all_planes(DepthMap(*(values[inner] for values in depth_map)), stack.used)


def guide_image(
    planes: np.ndarray,
    depth: np.ndarray,
    positions: np.ndarray,
    plane_mask: np.ndarray | None,
    progress: Progress,
) -> np.ndarray:
    """Return the guide image of the refinement, blended by depth: it shows the edges of the depth.

    It does not depend on the recipe, so neither does the depth depend on the choice of fusion.
    """
    settings: dict[str, Any] = {"fusion": GUIDE_FUSION, "plane_mask": plane_mask}
    return all_in_focus(planes, depth, positions, **settings, progress=progress)


def _extend(values: np.ndarray, window: Window, outer: Window) -> np.ndarray:
    """Return `values` of `window` in another one; outside, the nearest value."""
    if window == outer:
        return values
    rows = np.clip(np.arange(outer.top, outer.bottom), window.top, window.bottom - 1)
    columns = np.clip(np.arange(outer.left, outer.right), window.left, window.right - 1)
    return values[np.ix_(rows - window.top, columns - window.left)]


def focus_volume(
    planes: np.ndarray,
    recipe: Recipe,
    window: Window,
    source: Window,
    plane_mask: PlaneMaskReader = lambda window: None,
    *,
    at_pixels: bool = False,
) -> FocusVolume:
    """Return the focus volume of `window`, from `planes` that cover the window `source`."""

    def mask(part: Window) -> np.ndarray | None:
        return plane_mask(part.shift(source.top, source.left))

    settings = focus_settings(recipe)
    volume: FocusVolume = lazy_focus_volume(
        planes, **settings, plane_mask=mask, at_pixels=at_pixels
    )
    if source == window:
        return volume
    rows, columns = window.slices_in(source)
    return FocusVolumeView(volume, Window(rows.start, rows.stop, columns.start, columns.stop))


def estimate_shared(stack: AlignedStack, recipe: Recipe, progress: Progress) -> SharedStatistics:
    """Estimate what all tiles share from small tiles, evenly spaced over the plane."""
    progress = with_trimming(progress, "sample of the plane")
    spacing = np.abs(np.diff(stack.positions)).mean()
    unrefined = dataclasses.replace(recipe, refinement="none")
    depths, uncertainties, images = [], [], []
    for window in sample_windows(stack.shape):
        tile = compute_tile(
            stack, unrefined, window, margin=MARGIN_PX, progress=progress, fast=True
        )
        depth, uncertainty = tile.estimate.depth / spacing, tile.estimate.uncertainty / spacing
        # The samples are put side by side: no slope from one to the next.
        uncertainty[-SLOPE_DISTANCE_PX:], uncertainty[:, -SLOPE_DISTANCE_PX:] = np.inf, np.inf
        depths.append(depth)
        uncertainties.append(uncertainty)
        images.append(luminance(tile.images[0]))
    depth, uncertainty = np.hstack(depths), np.hstack(uncertainties)
    in_focus = np.isfinite(uncertainty).mean()
    slope = typical_slope(depth, uncertainty) if in_focus > MIN_FOCUS_FRACTION else None
    return SharedStatistics(slope, guide_range(images))


def _solved_windows(stack: AlignedStack, outer: Window) -> list[Window]:
    """Return the parts in `outer` of the windows of the plane in which messages are passed."""
    parts = (each.intersect(outer) for each in message_windows(stack.shape, len(stack.positions)))
    return [each.shift(-outer.top, -outer.left) for each in parts if 0 not in each.shape]


def _with_earlier_tiles(
    fixed: HintField | None,
    earlier: DepthReader,
    window: Window,
    outer: Window,
    stack: AlignedStack,
) -> HintField:
    """Return hard constraints also at the pixels of finished tiles, above and left of `window`.

    A graph cut, which solves all pixels at once, would not be continuous at the border otherwise.
    """
    influence = np.zeros(outer.shape, np.float32)
    rows, columns = window.slices_in(outer)
    influence[: rows.start] = 1
    influence[rows, : columns.start] = 1
    finished = HintField(to_used_planes(earlier(outer), stack.used), influence)
    if fixed is None:
        return finished
    target = apply_hard_constraints(fixed.target, finished)
    return HintField(target, np.maximum(fixed.influence, influence))
