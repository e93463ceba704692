"""The driver: align every stack of an acquisition, compute its tiles, write them to a sink.

Only `run` and `tile.compute_tile` define the order of the steps.
"""

import contextlib
import dataclasses
import functools
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from napari_dff.model import checks
from napari_dff.model.acquisition import Acquisition, Index
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import Recipe
from napari_dff.model.result import FocusOffset, ImageQuality, Reconstruction
from napari_dff.model.stack import MIN_CONTRAST, NO_CONTRAST_MESSAGE, FocalStack
from napari_dff.pipeline import tile
from napari_dff.pipeline.channel_offsets import channel_offsets, check_offset
from napari_dff.pipeline.image_quality import merge_comparisons
from napari_dff.pipeline.plane_checks import check_planes
from napari_dff.pipeline.planning import Plan, make_plan
from napari_dff.pipeline.sinks import ArraySink, Sink
from napari_dff.registration import LazyAlignedStack, align_lazily, common_window, load_aligned
from napari_dff.runtime.lazy import as_plane_file, load_planes
from napari_dff.runtime.memory import with_trimming
from napari_dff.runtime.progress import Progress, iterate, no_progress
from napari_dff.runtime.windows import Window, full_window


def depth_from_focus(
    stack: FocalStack,
    recipe: Recipe | None = None,
    *,
    transforms: np.ndarray | None = None,
    megabytes: float | None = None,
    progress: Progress = no_progress,
) -> Reconstruction:
    """Compute depth map and all-in-focus image of a focal stack, with all steps.

    Parameters
    ----------
    stack : FocalStack
    recipe : Recipe, optional
        The settings; the defaults if None.
    transforms : (Z, 3, 3) array, optional
        Known transforms, as of another stack of the same field. Nothing is aligned then.
    megabytes : float, optional
        Memory that the process may use, without these results. A stack that needs more is computed
        in tiles. If None, it is nearly all free memory, and planes in memory are never tiled.
    progress : Progress
        Called at every step; may raise to cancel.

    Returns
    -------
    Reconstruction

    Raises
    ------
    ValueError
        If the planes cannot be used.
    """
    recipe = Recipe() if recipe is None else recipe
    checks.check_type("stack", stack, FocalStack)
    checks.check_type("recipe", recipe, Recipe)
    acquisition = Acquisition(stack.planes, stack.positions, stack.pixel_size, stack.unit, axes=())
    sink = _SingleStackSink(acquisition, keep_estimate=True)
    plan = make_plan(stack.planes, recipe, megabytes=megabytes)
    run(acquisition, recipe, sink, transforms=transforms, plan=plan, progress=progress)
    aligned, refined = dataclasses.replace(stack, planes=sink.planes), sink.refined
    maps = sink.valid, sink.estimate or refined, refined, sink.images
    details = sink.qualities[0], sink.gains, sink.window, sink.scale
    return Reconstruction(aligned, sink.transforms, *maps, recipe, *details)


class _SingleStackSink(ArraySink):
    planes: Any = None  # aligned
    gains: np.ndarray | None = None

    def finish_stack(
        self,
        index: Index,
        stack: tile.AlignedStack,
        quality: ImageQuality | None,
        progress: Progress,
    ) -> None:
        super().finish_stack(index, stack, quality, progress)
        lazy = stack.alignment  # without a temporary file
        is_loaded = isinstance(stack.planes, np.ndarray) and not isinstance(stack.planes, np.memmap)
        self.planes = stack.planes if is_loaded or lazy is None else _as_given(lazy)
        self.gains = None if stack.alignment is None else stack.alignment.gains


def _as_given(lazy: LazyAlignedStack) -> Any:
    return lazy.planes if lazy.is_identity else lazy


def run(
    acquisition: Acquisition,
    recipe: Recipe,
    sink: Sink,
    *,
    transforms: np.ndarray | None = None,  # (Z, 3, 3), or with all leading axes but the channel
    depth: Callable[[Index], tile.DepthReader] | None = None,
    plan: Plan | None = None,  # of each stack; from the free memory if None
    focus_offset: float | str = 0.0,  # of other channels; "auto": estimated from the first stack
    progress: Progress = no_progress,
) -> None:
    """Reconstruct every stack of an acquisition and write the results to `sink`.

    Nothing is aligned if `transforms` are known. Only images are computed if the depth is known:
    `depth` returns a reader of the depth map at an index.
    """
    check_offset(focus_offset, acquisition, depth)
    offsets: tuple[FocusOffset, ...] = ()
    if transforms is not None:
        transforms = checks.as_numbers("transforms", transforms)
    cropped: dict[Index, LazyAlignedStack] = {}
    if recipe.crop == "common":
        with contextlib.nullcontext() if plan is None else plan.limits():
            cropped, window = align_and_crop(acquisition, recipe, transforms, progress, plan=plan)
        sink.set_window(window)
    for index, located in acquisition.iterate(progress):
        stack = acquisition.focus_stack(index)
        others = [acquisition.channel_stack(index, c).planes for c in acquisition.other_channels]
        tiling = plan or make_plan(stack.planes, recipe, other_channels=len(others))
        with tiling.limits():
            alignment = cropped.get(index, _transforms_at(acquisition, transforms, index))
            aligned = align_stack(stack, others, recipe, alignment, tiling, located)
            if depth is not None:
                aligned = aligned._replace(known_depth=depth(index))
            if cropped:
                aligned, tiling = _crop_depth_and_tiles(aligned, recipe, tiling, window)
            if depth is None:
                recipe = tile.with_chosen_scale(recipe, aligned)  # of the first stack, for all
                aligned = aligned._replace(scale=recipe.scale)
            offsets = offsets or channel_offsets(
                aligned, recipe, focus_offset, acquisition, located
            )
            aligned = aligned._replace(offsets=offsets)
            previous = acquisition.previous_time(index) if recipe.coherence == "previous" else None
            settings = index, acquisition.focus_channel, located
            quality = write_tiles(aligned, recipe, tiling, sink, *settings, previous=previous)
            sink.finish_stack(index, aligned, quality, located)
        del aligned  # or its planes stay in memory beside those of the next stack


def _transforms_at(
    acquisition: Acquisition, transforms: np.ndarray | None, index: Index
) -> np.ndarray | None:
    """Return the known transforms (Z, 3, 3) of one stack; None if they are not known."""
    if transforms is None or transforms.ndim == 3:
        return transforms
    return np.asarray(transforms[acquisition.drop_channel(index)])


def align_and_crop(
    acquisition: Acquisition,
    recipe: Recipe,
    transforms: np.ndarray | None,
    progress: Progress,
    *,
    plan: Plan | None = None,
) -> tuple[dict[Index, LazyAlignedStack], Window]:
    """Align the focus channel of all stacks, and crop them to one window if the recipe crops."""
    aligned = {}
    for index, located in acquisition.iterate(progress):
        matrices = _transforms_at(acquisition, transforms, index)
        planes = acquisition.focus_stack(index).planes
        readable = as_plane_file(planes, located)
        on_disk = plan is not None and not plan.fits_in_memory
        settings: dict[str, Any] = {"on_disk": on_disk, "progress": located}
        lazy = align_lazily(readable, recipe, transforms=matrices, **settings)
        aligned[index] = dataclasses.replace(lazy, planes=planes)
    size = planes.shape[1], planes.shape[2]
    window = common_window(list(aligned.values())) if recipe.crop == "common" else full_window(size)
    return {i: dataclasses.replace(each, window=window) for i, each in aligned.items()}, window


def _crop_depth_and_tiles(
    stack: tile.AlignedStack, recipe: Recipe, plan: Plan, window: Window
) -> tuple[tile.AlignedStack, Plan]:
    """Return a stack whose known depth, and a plan whose tiles, are of a window of the planes."""
    side = max(max(part.shape) for part in plan.windows)
    parts = [full_window(window.shape)]
    if not plan.fits_in_memory:
        parts = tile.tile_grid(window.shape, len(stack.positions), recipe, side)
    read = stack.known_depth
    if read is None:
        return stack, plan._replace(windows=parts)

    def read_shifted(part: Window) -> DepthMap:
        return read(part.shift(window.top, window.left))

    return stack._replace(known_depth=read_shifted), plan._replace(windows=parts)


def align_stack(
    stack: FocalStack,
    other_channels: list[Any],
    recipe: Recipe,
    alignment: LazyAlignedStack | np.ndarray | None,  # or transforms, if they are known
    plan: Plan,
    progress: Progress,
) -> tile.AlignedStack:
    """Align a stack, in memory if the plan has a single tile; other channels move with it."""
    read = load_planes if plan.fits_in_memory else as_plane_file
    planes = read(stack.planes, progress)
    if isinstance(alignment, LazyAlignedStack):
        lazy = dataclasses.replace(alignment, planes=planes)
    else:
        settings: dict[str, Any] = {"on_disk": not plan.fits_in_memory, "progress": progress}
        lazy = align_lazily(planes, recipe, transforms=alignment, **settings)
    options: dict[str, Any] = {"transforms": lazy.transforms, "progress": progress}
    common: dict[str, Any] = {"window": lazy.window, "field": lazy.field}
    others = tuple(
        dataclasses.replace(align_lazily(each, recipe, **options), **common)
        for each in (as_plane_file(channel, progress) for channel in other_channels)
    )
    unloaded = dataclasses.replace(lazy, planes=stack.planes)
    checked = check_planes(planes)
    every_note = [*checked.sentences, *itertools.chain(*(each.notes for each in (lazy, *others)))]
    notes = tuple(dict.fromkeys(every_note))
    for note in notes:
        warnings.warn(note, stacklevel=2)
    used = checked.used_planes(len(stack.positions))
    arrays = planes, stack.positions, others
    details: dict[str, Any] = {"used": used, "notes": notes, "in_file": plan.in_file}
    aligned = tile.AlignedStack(*arrays, alignment=unloaded, **details)
    has_copies = isinstance(planes, np.ndarray) and not (plan.fits_in_memory or plan.in_file)
    if lazy.is_identity and not has_copies:
        return aligned
    if not plan.fits_in_memory:  # reads copies of the windows, so that a memory map can be released
        return aligned._replace(planes=lazy, plane_mask=lazy.plane_mask)
    planes, _ = load_aligned(lazy, progress)
    return aligned._replace(planes=planes, plane_mask=lazy.plane_mask)


def write_tiles(
    stack: tile.AlignedStack,
    recipe: Recipe,
    plan: Plan,
    sink: Sink,
    index: Index,
    focus_channel: int,
    progress: Progress,
    *,
    previous: Index | None = None,
) -> ImageQuality | None:
    """Compute and write the tiles of one stack, with images in the order of the channels.

    Depth is combined with that at the index `previous`, the time before, if there is one. Returns
    the quality of the image of the focus channel.
    """
    count, margin, shared, flat = len(plan.windows), tile.tile_margin(recipe), None, True
    former = None if previous is None else functools.partial(sink.depth_map, previous)
    comparisons = []
    if count > 1 and tile.has_refinement(recipe) and stack.known_depth is None:
        shared = tile.estimate_shared(stack, recipe, progress)
    windows = iterate(progress, plan.windows, desc="Computing tiles") if count > 1 else plan.windows
    for i, window in enumerate(windows):
        where = f"tile {i + 1} of {count}"
        located = with_trimming(progress, where) if count > 1 else progress
        cuts = i > 0 and "graph_cut" in recipe.refinement
        earlier = functools.partial(sink.depth_map, index) if cuts else None  # boundary condition
        readers: dict[str, Any] = {"earlier": earlier, "previous": former}
        result = tile.compute_tile(
            stack, recipe, window, margin=margin, progress=located, shared=shared, **readers
        )
        focus, *others = result.images
        flat = flat and _is_flat(focus)
        comparisons.append(result.comparison)
        images = (*others[:focus_channel], focus, *others[focus_channel:])
        sink.write_tile(index, result._replace(images=images))
        del result, focus, others, images  # or they stay in memory while the next tile is computed
    if flat and all(_is_flat(np.asarray(stack.planes[i])) for i in range(len(stack.positions))):
        raise ValueError(NO_CONTRAST_MESSAGE)
    return merge_comparisons(comparisons).quality


def _is_flat(image: np.ndarray) -> bool:
    return float(image.max()) - float(image.min()) < MIN_CONTRAST
