"""Compile kernels before the workers of pytest start, which would compile each of them twice.

Two processes run this with a part each; they share the cache, and need about as long.
"""

import sys
import warnings
from collections.abc import Callable

import numpy as np

from napari_dff import (
    Recipe,
    align,
    all_in_focus,
    depth_from_focus,
    depth_map,
    focus_measure,
    project_slab,
    refine,
    synthetic,
)
from napari_dff.model.stack import FocalStack

TYPES = np.uint8, np.uint16, np.float32


def _compile_measuring(grey: np.ndarray) -> None:
    """Compile the kernels of alignment, focus measure, depth and refinement."""
    for dtype in TYPES:
        planes = align(grey.astype(dtype)).planes
    focus = focus_measure(planes)
    refine(depth_map(focus), focus)


def _compile_fusion(grey: np.ndarray) -> None:
    """Compile the kernels of the all-in-focus image, of projections, and of a whole run."""
    depth = np.full(grey.shape[1:], 2.5, np.float32)
    for dtype in TYPES:
        planes = grey.astype(dtype)
        all_in_focus(planes, depth)
        all_in_focus(np.repeat(planes[..., None], 3, axis=3), depth)
    project_slab(grey, depth)
    # By now, the other process has compiled the focus measure.
    depth_from_focus(FocalStack(grey), Recipe(registration="none", refinement="weighted_median"))


PARTS: tuple[Callable[[np.ndarray], None], ...] = (_compile_measuring, _compile_fusion)

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # about the results
    planes = synthetic.bare_patch(size=96, planes=8).stack.planes
    PARTS[int(sys.argv[1])](np.stack([np.roll(each, k, 0) for k, each in enumerate(planes)]))
