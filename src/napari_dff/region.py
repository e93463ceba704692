"""A closer look: a region of what a run would give, and the focus curve of one pixel.

Only the planes around the region are read, so that it is quick on stacks of any size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from napari_dff.curve import (
    PEAK_MODELS,
    FocusVolume,
    detection_z_score,
    evaluate_fitted_peak,
    find_peaks,
    find_strongest_peaks,
)
from napari_dff.depth import PREFERENCES, DepthMap
from napari_dff.lazy import read_window
from napari_dff.pieces import MARGIN_PX, AlignedStack, compute_tile, focus_margin, focus_volume
from napari_dff.progress import Progress, no_progress
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.windows import GRID_PX, Window

RUNNERS_UP = 3


class Region(NamedTuple):
    """What a run gives in a window of the planes.

    Attributes
    ----------
    window : Window
    depth : DepthMap
        Refined if the recipe says so. Without `fuse` its uncertainty is that of the curves alone.
    all_in_focus : (Y, X[, 3]), dtype of the planes
    """

    window: Window
    depth: DepthMap
    all_in_focus: np.ndarray


class FocusCurve(NamedTuple):
    """Why a pixel got its depth.

    Attributes
    ----------
    positions : (Z,) float64
        Of the planes, in the unit of the stack.
    focus : (Z,) float32
        How sharp the pixel is in each.
    floor : float
        What the measure is where nothing is sharp.
    detection_threshold : float
        What a peak must exceed to be no noise.
    plane : int
        The one that is taken.
    depth, uncertainty : float
        Position of the peak and one standard deviation, from this curve alone; inf: never in focus.
    others : (K,) float32
        Positions of other peaks that are no noise, the strongest first.
    fit : (2, N) float64
        Positions and values of the peak as it was fitted.
    """

    positions: np.ndarray
    focus: np.ndarray
    floor: float
    detection_threshold: float
    plane: int
    depth: float
    uncertainty: float
    others: np.ndarray
    fit: np.ndarray


def reconstruct_region(
    stack: FocalStack,
    recipe: Recipe,
    wanted: Window,
    *,
    valid: np.ndarray | None = None,
    fuse: bool = True,
    progress: Progress = no_progress,
) -> Region:
    """Depth and all-in-focus image of the pixels in `wanted`, as `depth_from_focus` gives them.

    The planes are taken as they are: align them first. Depth before refinement and its picture are
    the same as in the whole run; refined depth is so within some thousandths of a plane, since
    everything holds everything there. `valid`, (Y, X) bool, is where every plane has data. Without
    `fuse` the image is that of the depth before refinement, and the uncertainty that of the curves
    alone, which takes less time.

    Raises
    ------
    ValueError
        When the planes can't be used, with one sentence that says why.
    """
    scene = AlignedStack(stack.planes, stack.positions)
    if valid is not None:
        scene = scene._replace(valid=lambda window: valid[window.slices])
    found = compute_tile(
        scene, recipe, wanted, around=MARGIN_PX, hurried=not fuse, progress=progress
    )
    return Region(wanted, found.refined, found.pictures[0])


def measure_region(stack: FocalStack, recipe: Recipe, wanted: Window) -> np.ndarray:  # (Z, Y, X)
    """The focus volume of the pixels in `wanted`, as `focus_measure` gives it."""
    curves, _ = _volume(stack, recipe, wanted).read(Window(0, wanted.shape[0], 0, wanted.shape[1]))
    return curves


def focus_curve(stack: FocalStack, recipe: Recipe, row: int, column: int) -> FocusCurve:
    """The focus curve of one pixel, its peak, and what else it might have been.

    Raises
    ------
    ValueError
        For a pixel outside the planes.
    """
    height, width = stack.planes.shape[1:3]
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"pixel must lie in the {height} × {width} pixels, got ({row}, {column})")
    top, left = row // GRID_PX * GRID_PX, column // GRID_PX * GRID_PX
    cell = Window(top, min(top + GRID_PX, height), left, min(left + GRID_PX, width))
    curves, noise = _volume(stack, recipe, cell).read(Window(0, cell.shape[0], 0, cell.shape[1]))
    here = slice(row - top, row - top + 1), slice(column - left, column - left + 1)
    curves = np.ascontiguousarray(curves[(..., *here)])
    noise = type(noise)(*(np.ascontiguousarray(part[here]) for part in noise))
    threshold, at = detection_z_score(len(curves)), stack.positions
    kind, prefer = PEAK_MODELS[recipe.peak], PREFERENCES[recipe.prefer]
    found = find_peaks(curves, at, kind, prefer, noise, threshold)
    plane, depth, deviation = int(found[0][0, 0]), float(found[1][0, 0]), float(found[2][0, 0])
    others = find_strongest_peaks(curves, at, *noise, threshold, RUNNERS_UP)[0][:, 0, 0]
    spacing = float(np.abs(np.diff(at)).mean())
    others = others[np.abs(others - depth) > spacing / 2]  # NaN, where there are none, is not
    floor, fluctuation = (float(part[0, 0]) for part in noise)
    curve, fine = curves[:, 0, 0], np.linspace(at[0], at[-1], 20 * len(at))
    fit = evaluate_fitted_peak(curve, at, plane, depth, recipe.peak, fine)
    near = (fine - at[max(plane - 4, 0)]) * (fine - at[min(plane + 4, len(at) - 1)]) <= 0
    return FocusCurve(
        at,
        curve,
        floor,
        floor * float(np.exp(threshold * max(fluctuation, 0.02))),
        plane,
        depth,
        deviation,
        others,
        np.stack([fine[near], fit[near]]),
    )


def _volume(stack: FocalStack, recipe: Recipe, wanted: Window) -> FocusVolume:
    """The focus volume of the pixels in `wanted`; what lies too far from them isn't read."""
    seen = wanted.expand(focus_margin(recipe), tuple(stack.planes.shape[1:3]))
    return focus_volume(read_window(stack.planes, seen), recipe, wanted, seen)
