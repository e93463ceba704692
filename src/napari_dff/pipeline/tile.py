"""From aligned planes to depth map and all-in-focus image, one tile at a time.

A tile is a window that is computed with a margin; of the planes only this part is read. A run in
memory is one tile, a preview is a small one, and a stack larger than memory is many of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from napari_dff.curve.volume import (
    FocusVolume,
    FocusVolumeView,
    LazyFocusVolume,
    QuantizedFocusVolume,
)
from napari_dff.depth.estimation import estimate_depth, locate_depth
from napari_dff.focus import focus_radius, lazy_focus_volume
from napari_dff.fusion.fuse import all_in_focus
from napari_dff.imaging.images import luminance
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import Recipe
from napari_dff.refinement import (
    HintField,
    SharedStatistics,
    guide_range,
    refine_volume,
    typical_slope,
)
from napari_dff.registration import LazyAlignedStack
from napari_dff.runtime.lazy import read_window
from napari_dff.runtime.memory import trim_malloc
from napari_dff.runtime.progress import Progress, with_location
from napari_dff.runtime.windows import GRID_PX, Window

# Margins: pixels around a tile that influence
MARGIN_PX = 40  # its depth before refinement and its image
NOISE_MARGIN_PX = 64  # its uncertainty
REFINEMENT_MARGIN_PX = 96  # its refined depth, so that tiles join without seams
SAMPLE_COUNT, SAMPLE_SIDE_PX = 9, 192  # small tiles from which `SharedStatistics` are estimated
MIN_FOCUS_FRACTION = 0.01  # of the sample pixels must be in focus to estimate a slope
SLOPE_DISTANCE_PX = 8  # between the pixels from which a slope is computed
T = TypeVar("T")
DepthReader = Callable[[Window], DepthMap]


class TileResult(NamedTuple):
    """The results in a window of the planes.

    Attributes
    ----------
    window : Window
    estimate, refined : DepthMap
        Before and after refinement; the same object without refinement.
    images : tuple of (h, w[, 3]) arrays
        All-in-focus images: of the planes, then of the other channels.
    valid : (h, w) bool
        Where every plane has data.
    """

    window: Window
    estimate: DepthMap
    refined: DepthMap
    images: tuple[np.ndarray, ...]
    valid: np.ndarray


class AlignedStack(NamedTuple):
    """Aligned planes of one stack, with all channels.

    Attributes
    ----------
    planes : (Z, Y, X[, 3]) array
        Of the focus channel, in memory or lazy.
    positions : (Z,) float64
    other_channels : tuple of (Z, Y, X[, 3]) arrays
        Aligned too; they get an all-in-focus image at the same depth.
    valid : callable
        Returns where in a window every plane has data, (h, w) bool.
    known_depth : callable, optional
        Returns the known depth map of a window; then only images are computed.
    alignment : LazyAlignedStack, optional
        The planes as they were given, with transforms and gains.
    """

    planes: Any
    positions: np.ndarray
    other_channels: tuple[Any, ...] = ()
    valid: Callable[[Window], np.ndarray] = lambda window: np.ones(window.shape, bool)
    known_depth: DepthReader | None = None
    alignment: LazyAlignedStack | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return tuple(self.planes.shape[1:3])


def has_refinement(recipe: Recipe) -> bool:
    """Return whether the recipe refines the depth map."""
    return recipe.refinement != "none" and recipe.smoothness > 0


def focus_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of `focus_measure`."""
    names = ("operator", "sigma", "window", "aggregation")
    return {name: getattr(recipe, name) for name in names}


def focus_margin(recipe: Recipe) -> int:
    """Return how many pixels around a pixel influence its focus curve."""
    return focus_radius(**focus_settings(recipe))


def tile_margin(recipe: Recipe) -> int:
    """Return how many pixels around a tile are computed with it."""
    return REFINEMENT_MARGIN_PX if has_refinement(recipe) else NOISE_MARGIN_PX


def compute_tiles(
    stack: AlignedStack,
    recipe: Recipe,
    windows: Sequence[Window],
    read_depth: DepthReader,
    progress: Progress,
) -> Iterator[TileResult]:
    """Yield the tiles in `windows`, which cover the plane row by row.

    `read_depth` returns the refined depth of earlier tiles. It is a boundary condition of the next
    tiles, so that there are no seams.
    """
    margin = tile_margin(recipe)
    if len(windows) == 1:
        yield compute_tile(stack, recipe, windows[0], margin=margin, progress=progress)
        return
    trim_malloc()
    shared = None
    if has_refinement(recipe) and stack.known_depth is None:
        shared = estimate_shared(stack, recipe, _trimming(progress, "looking around"))
    for i, window in enumerate(windows):
        yield compute_tile(
            stack,
            recipe,
            window,
            margin=margin,
            progress=_trimming(progress, f"tile {i + 1} of {len(windows)}"),
            shared=shared,
            read_depth=read_depth if i else None,
        )
        trim_malloc()


def compute_tile(
    stack: AlignedStack,
    recipe: Recipe,
    window: Window,
    *,
    margin: int,
    progress: Progress,
    shared: SharedStatistics | None = None,
    read_depth: DepthReader | None = None,
    fast: bool = False,
) -> TileResult:
    """Compute one tile: focus, depth, refinement and fusion, in this order.

    Parameters
    ----------
    stack : AlignedStack
    recipe : Recipe
    window : Window
    margin : int
        Pixels around the window that are computed with it.
    progress : Progress
    shared : SharedStatistics, optional
        Statistics of the whole plane, for refinement; of the tile if None.
    read_depth : callable, optional
        Returns the refined depth of earlier tiles.
    fast : bool
        Skip what a preview does not need: the uncertainty is that of the curves alone, the image
        that of the depth before refinement.
    """
    outer, positions = window.expand(margin, stack.shape), stack.positions
    inner, valid = window.slices_in(outer), stack.valid(outer)

    def fuse(planes: np.ndarray, depth: DepthMap) -> np.ndarray:
        return all_in_focus(planes, depth.depth, positions, fusion=recipe.fusion, progress=progress)

    if stack.known_depth is not None:
        estimate = refined_depth = stack.known_depth(outer)
        image = fuse(read_window(stack.planes, outer), estimate)
    else:
        source = outer.expand(focus_margin(recipe), stack.shape)
        planes = read_window(stack.planes, source)
        volume = focus_volume(planes, recipe, outer, source)
        if has_refinement(recipe):  # reads the curves several times
            volume = QuantizedFocusVolume(volume)
        find_depth = locate_depth if fast else estimate_depth
        estimate = find_depth(volume, positions, recipe.peak, recipe.prefer, progress)
        estimate.uncertainty[~valid] = np.inf
        planes = planes[(slice(None), *outer.slices_in(source))]
        image, refined_depth = fuse(planes, estimate), estimate
        if has_refinement(recipe):
            settings = recipe.refinement, recipe.smoothness, image, progress
            fixed = None if read_depth is None else _earlier_tiles(read_depth, window, outer)
            refined_depth = refine_volume(
                estimate, volume, positions, *settings, shared=shared, fixed=fixed
            )
            if not fast:
                image = fuse(planes, refined_depth)
    others = (fuse(read_window(each, outer), refined_depth)[inner] for each in stack.other_channels)
    images = (image[inner], *others)
    inner_estimate = DepthMap(*(values[inner] for values in estimate))
    if refined_depth is estimate:
        return TileResult(window, inner_estimate, inner_estimate, images, valid[inner])
    inner_refined = DepthMap(*(values[inner] for values in refined_depth))
    return TileResult(window, inner_estimate, inner_refined, images, valid[inner])


def focus_volume(planes: np.ndarray, recipe: Recipe, window: Window, source: Window) -> FocusVolume:
    """Return the focus volume of `window`, from `planes` that cover the window `source`."""
    volume: LazyFocusVolume = lazy_focus_volume(planes, **focus_settings(recipe))
    if source == window:
        return volume
    rows, columns = window.slices_in(source)
    return FocusVolumeView(volume, Window(rows.start, rows.stop, columns.start, columns.stop))


def estimate_shared(stack: AlignedStack, recipe: Recipe, progress: Progress) -> SharedStatistics:
    """Estimate what all tiles share, from `SAMPLE_COUNT` small tiles all over the plane."""
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
    depth, uncertainty = (np.concatenate(parts, axis=1) for parts in (depths, uncertainties))
    in_focus = np.isfinite(uncertainty).mean()
    slope = typical_slope(depth, uncertainty) if in_focus > MIN_FOCUS_FRACTION else None
    return SharedStatistics(slope, guide_range(np.concatenate(images, axis=1)))


def sample_windows(shape: tuple[int, int]) -> list[Window]:
    """Return small windows of one size, evenly spaced over a plane of `shape`."""
    count = round(SAMPLE_COUNT**0.5)
    height, width = (min(SAMPLE_SIDE_PX, size) for size in shape)
    tops, lefts = (
        [int((size - side) * (k + 0.5) / count) // GRID_PX * GRID_PX for k in range(count)]
        for size, side in zip(shape, (height, width), strict=True)
    )
    return [Window(y, y + height, x, x + width) for y in tops for x in lefts]


def _earlier_tiles(read_depth: DepthReader, window: Window, outer: Window) -> HintField:
    """Return constraints at the pixels of finished tiles, above and to the left of `window`."""
    influence = np.zeros(outer.shape, np.float32)
    rows, columns = window.slices_in(outer)
    influence[: rows.start] = 1
    influence[rows, : columns.start] = 1
    return HintField(read_depth(outer), influence)


def _trimming(progress: Progress, where: str) -> Progress:
    """Return a progress that names the tile, and returns free memory to the system at each step."""
    located = with_location(progress, where)

    def wrap(items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        trim_malloc()
        return located(items, desc=desc)

    return wrap
