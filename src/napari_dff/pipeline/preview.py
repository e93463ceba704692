"""Preview: the result of a run in a small window, and the focus curve of one pixel.

Only pixels around the window are read, so that it is fast on stacks of any size.
"""

import warnings
from typing import NamedTuple

import numpy as np

from napari_dff.curve.noise import Noise, detection_threshold, detection_z_score
from napari_dff.curve.peak import PEAK_MODELS, evaluate_fitted_peak
from napari_dff.curve.plane_mask import PlaneMaskReader, has_enough_planes, is_peak_complete
from napari_dff.curve.search import PREFERENCES, find_peaks, find_strongest_peaks
from napari_dff.model.checks import Range, as_mask, check_type
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import Recipe
from napari_dff.model.stack import FocalStack
from napari_dff.pipeline import tile
from napari_dff.pipeline.plane_checks import find_used_planes
from napari_dff.runtime.lazy import read_window
from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.windows import Window, full_window
from napari_dff.runtime.words import shorten

MAX_OTHER_PEAKS = 3
FIT_SAMPLES_PER_PLANE = 20  # at which the fitted peak is evaluated
FIT_RADIUS_PLANES = 4  # around the peak


class Region(NamedTuple):
    """The result of a run in one window of the planes.

    Attributes
    ----------
    window : Window
    depth : DepthMap
        Refined if the recipe has a refinement. Without `fuse` its uncertainty is from noise alone.
    all_in_focus : (Y, X[, 3]), dtype of the planes
    """

    window: Window
    depth: DepthMap
    all_in_focus: np.ndarray


class FocusCurve(NamedTuple):
    """The focus curve of one pixel, and its peaks.

    Attributes
    ----------
    positions : (Z,) float64
        Focus positions of the planes, in the unit of the stack.
    focus : (Z,) float32
        Focus measure in each plane.
    floor : float
        Noise floor: the measure out of focus.
    detection_threshold : float
        Value that a peak must exceed to be detected.
    plane : int
        Plane of the peak that determines the depth.
    depth, uncertainty : float
        Position of this peak and its standard uncertainty, from this curve alone; inf where no
        peak is detected.
    others : (K,) float32
        Positions of other detected peaks, the strongest first.
    fit : (2, N) float64
        Positions and values of the fitted peak.
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
    window: Window,
    *,
    plane_mask: PlaneMaskReader = lambda window: None,
    fuse: bool = True,
    progress: Progress = no_progress,
    valid: np.ndarray | None = None,
) -> Region:
    """Return depth and all-in-focus image of one window, as `depth_from_focus` computes them.

    The planes are not aligned. Depth before refinement and its image are those of a run of the
    whole stack. Refined depth differs by some thousandths of a plane, because refinement couples
    all pixels.

    Parameters
    ----------
    stack : FocalStack
        Aligned planes.
    recipe : Recipe
    window : Window
    plane_mask : callable, optional
        `LazyAlignedStack.plane_mask` of the aligned planes; without it they have data everywhere.
    fuse : bool
        If False, the image is the guide image of the refinement, and the uncertainty is from noise
        alone, which takes less time.
    progress : Progress
        Wraps the loops over windows; may raise to cancel.
    valid : (Y, X) bool array, optional
        Deprecated: where every plane has data. Use `plane_mask`.

    Raises
    ------
    ValueError
        For planes that cannot be used.
    """
    _check_types(stack, recipe, plane_mask)
    check_type("window", window, Window)
    if full_window(stack.planes.shape[1:3]).intersect(window) != window or 0 in window.shape:
        size = " × ".join(map(str, stack.planes.shape[1:3]))
        raise ValueError(f"window must lie in the {size} pixels, got {tuple(window)}")
    if valid is not None:
        message = "reconstruct_region(valid=) is deprecated, use reconstruct_region(plane_mask=)"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        mask = as_mask("valid", valid, tuple(stack.planes.shape[1:3]))
        mask = np.broadcast_to(mask, stack.planes.shape[:3])
        plane_mask = lambda window: mask[(..., *window.slices)]  # noqa: E731
    used = find_used_planes(stack.planes)
    aligned = tile.AlignedStack(stack.planes, stack.positions, plane_mask=plane_mask, used=used)
    recipe = with_chosen_scale(recipe, stack)
    result = tile.compute_tile(
        aligned, recipe, window, margin=tile.MARGIN_PX, fast=not fuse, progress=progress
    )
    return Region(window, result.refined, result.images[0])


def with_chosen_scale(recipe: Recipe, stack: FocalStack) -> Recipe:
    """Return the recipe with `sigma` and `window` as a run of this aligned stack chooses them."""
    used = find_used_planes(stack.planes)
    aligned = tile.AlignedStack(stack.planes, stack.positions, used=used)
    return tile.with_chosen_scale(recipe, aligned)


def measure_region(stack: FocalStack, recipe: Recipe, window: Window) -> np.ndarray:  # (Z, Y, X)
    """Return the focus volume of one window, as `focus_measure` computes it."""
    return _read_curves(stack, recipe, window, slice(None))[0]


def focus_curve(
    stack: FocalStack,
    recipe: Recipe,
    row: int,
    column: int,
    *,
    plane_mask: PlaneMaskReader = lambda window: None,
) -> FocusCurve:
    """Return the focus curve of one pixel, with its fitted peak and other detected peaks.

    `plane_mask` is that of `LazyAlignedStack`, if the planes are aligned.

    Raises
    ------
    ValueError
        For a pixel outside the planes.
    """
    _check_types(stack, recipe, plane_mask)
    height, width = stack.planes.shape[1:3]
    row = Range(0, height - 1, 1).check("row", row)
    column = Range(0, width - 1, 1).check("column", column)
    pixel = Window(row, row + 1, column, column + 1)
    cell = pixel.expand(0, (height, width))
    used = find_used_planes(stack.planes)
    curves, noise, mask = _read_curves(stack, recipe, cell, used, plane_mask)
    curves = np.ascontiguousarray(curves[(..., *pixel.slices_in(cell))])
    noise = noise.part(pixel.slices_in(cell))
    z_score, positions = detection_z_score(len(curves)), stack.positions[used]
    model, preference = PEAK_MODELS[recipe.peak], PREFERENCES[recipe.prefer]
    peak = find_peaks(curves, positions, model, preference, *noise, z_score)
    plane, depth, uncertainty = (part[0, 0].item() for part in peak)
    if mask is not None:
        mask = np.ascontiguousarray(mask[(..., *pixel.slices_in(cell))])
        complete = is_peak_complete(curves, mask, peak[0], noise.floor)
        uncertainty = uncertainty if (has_enough_planes(mask) & complete).item() else np.inf
    others = find_strongest_peaks(curves, positions, *noise, z_score, MAX_OTHER_PEAKS)[0][:, 0, 0]
    spacing = float(np.abs(np.diff(positions)).mean())
    others = others[np.abs(others - depth) > spacing / 2]  # False for NaN
    floor, fluctuation = (part[0, 0].item() for part in noise)
    threshold, curve = detection_threshold(floor, fluctuation, z_score), curves[:, 0, 0]
    fit_positions = np.linspace(positions[0], positions[-1], FIT_SAMPLES_PER_PLANE * len(positions))
    near_peak = positions[max(plane - FIT_RADIUS_PLANES, 0) : plane + FIT_RADIUS_PLANES + 1]
    first, last = near_peak[0], near_peak[-1]
    fit_positions = fit_positions[(fit_positions - first) * (fit_positions - last) <= 0]
    values = evaluate_fitted_peak(curve, positions, plane, depth, recipe.peak, fit_positions)
    fit = np.stack([fit_positions, values])
    plane = int(np.arange(len(stack.positions))[used][plane])
    return FocusCurve(positions, curve, floor, threshold, plane, depth, uncertainty, others, fit)


def _check_types(stack: FocalStack, recipe: Recipe, plane_mask: PlaneMaskReader) -> None:
    check_type("stack", stack, FocalStack)
    check_type("recipe", recipe, Recipe)
    if not callable(plane_mask):
        raise ValueError(f"plane_mask must be a function of a window, got {shorten(plane_mask)}")


def _read_curves(
    stack: FocalStack,
    recipe: Recipe,
    window: Window,
    used: np.ndarray | slice,
    plane_mask: PlaneMaskReader = lambda window: None,
) -> tuple[np.ndarray, Noise, np.ndarray | None]:
    """Return curves, noise and plane mask of one window in the used planes.

    Only what is around it is read.
    """
    recipe = with_chosen_scale(recipe, stack)
    outer = window.expand(tile.focus_margin(recipe), tuple(stack.planes.shape[1:3]))
    planes = read_window(stack.planes, outer, used)
    aligned = tile.AlignedStack(planes, stack.positions, plane_mask=plane_mask, used=used)
    volume = tile.focus_volume(planes, recipe, window, outer, aligned.used_mask, at_pixels=True)
    inner = full_window(window.shape)
    return *volume.read(inner), volume.plane_mask(inner)
