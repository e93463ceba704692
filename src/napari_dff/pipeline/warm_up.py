"""Warm-up: compile all kernels before the first run, by runs on small stacks."""

import warnings

import numpy as np

from napari_dff.fusion.slab import project_slab
from napari_dff.model.recipe import Recipe
from napari_dff.model.stack import FocalStack
from napari_dff.pipeline.driver import depth_from_focus
from napari_dff.refinement import multigrid, trws
from napari_dff.runtime.jit import is_compiled
from napari_dff.runtime.progress import Progress, iterate, no_progress
from napari_dff.synthetic import bare_patch

SIZE_PX, PLANES = 96, 8  # of the stacks
GREY_TYPES = np.uint8, np.uint16, np.float32
COLOUR_TYPES = np.uint8, np.uint16


def is_warm() -> bool:
    """Return whether the kernels that take longest are compiled, as after a first run."""
    return all(map(is_compiled, (trws._sweep, trws._optimize_rows, multigrid._move_blocks)))


def warm_up(progress: Progress = no_progress) -> None:
    """Compile the kernels of the default recipe, of weighted median and of projections."""
    grey = bare_patch(size=SIZE_PX, planes=PLANES).stack.planes
    grey = np.stack([np.roll(plane, k, axis=0) for k, plane in enumerate(grey)])  # to resample
    colour = np.repeat(grey[..., None], 3, axis=3)
    median = Recipe(refinement="weighted_median", registration="none")
    runs: list[tuple[np.ndarray, Recipe]] = [(grey.astype(dtype), Recipe()) for dtype in GREY_TYPES]
    runs += [(colour.astype(dtype), Recipe()) for dtype in COLOUR_TYPES]
    for planes, recipe in iterate(progress, [*runs, (grey, median)], desc="Compiling"):
        stack = FocalStack(planes, np.arange(PLANES, dtype=float))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the result
            depth_from_focus(stack, recipe)
    project_slab(grey, np.full(grey.shape[1:], 1.0))
