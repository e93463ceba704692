"""First and last surface of aligned planes, one tile at a time."""

from napari_dff.depth.two_surfaces import TwoSurfaces, find_two_surfaces
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import Recipe
from napari_dff.pipeline import tile
from napari_dff.pipeline.plane_checks import to_all_planes
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window


def two_surfaces_in_tile(
    stack: tile.AlignedStack,
    recipe: Recipe,
    window: Window,
    refractive_index: float,
    progress: Progress,
) -> TwoSurfaces:
    """Return `two_surfaces` of a window, computed with a margin; the recipe has its scale."""
    outer = window.expand(tile.NOISE_MARGIN_PX, stack.shape)
    source = outer.expand(tile.focus_margin(recipe), stack.shape)
    planes, positions = stack.read(stack.planes, source), stack.positions[stack.used]
    volume = tile.focus_volume(planes, recipe, outer, source, stack.used_mask)
    settings = refractive_index, recipe.peak, recipe.scale, progress
    result, inner = find_two_surfaces(volume, positions, *settings), window.slices_in(outer)
    first, last = (
        to_all_planes(DepthMap(*(each[inner] for each in surface)), stack.used)
        for surface in (result.first, result.last)
    )
    return TwoSurfaces(first, last, result.thickness[inner], result.uncertainty[inner])
