"""Refinement: apply the steps of a recipe to a depth map, one after the other."""

import warnings
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from napari_dff.curve.volume import FocusVolume, as_focus_volume
from napari_dff.model import checks
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import SMOOTHNESS, Refinement
from napari_dff.model.stack import validate_positions
from napari_dff.refinement.context import (
    NO_HINT,
    HintField,
    PreviousResult,
    RefinementContext,
    RefinementStep,
    SharedStatistics,
    crop_depth_map,
)
from napari_dff.refinement.graph_cut import graph_cut
from napari_dff.refinement.hints import (
    RANGE_PX,
    apply_hard_constraints,
    apply_hints,
    checked_hints,
    checked_plane,
    windows_around,
)
from napari_dff.refinement.least_squares import least_squares
from napari_dff.refinement.message_passing import MESSAGE_MARGIN_PX, message_passing
from napari_dff.refinement.plane_statistics import normalized_guide, sample_typical_slope
from napari_dff.refinement.weighted_median import weighted_median
from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.windows import Window
from napari_dff.runtime.words import shorten

MOVEMENT_SIGMA_PX = 2.0  # standard deviation of the Gaussian that averages the movement of depths
MOVEMENT_SHARE = 0.5  # of this average that is error
LEAST_SQUARES_MARGIN_PX = 96  # around the pixels that message passing changes, smoothed again
REFINEMENTS: dict[str, RefinementStep] = {
    "message_passing": message_passing,
    "graph_cut": graph_cut,
    "least_squares": least_squares,
    "weighted_median": weighted_median,
}


def refine(
    estimate: DepthMap,
    focus: np.ndarray,  # (Z, Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    refinement: Refinement = "message_passing+least_squares",
    smoothness: float = 1.0,
    guide: np.ndarray | None = None,  # (Y, X[, 3])
    hints: np.ndarray | None = None,  # (Y, X)
    previous: PreviousResult | None = None,
    progress: Progress = no_progress,
    plane_mask: np.ndarray | None = None,  # (Z, Y, X)
    before: PreviousResult | None = None,
) -> DepthMap:
    """Refine a depth map: make neighbours consistent, except across edges of a guide image.

    Parameters
    ----------
    estimate : DepthMap
        As from `depth_map`.
    focus : (Z, Y, X) float array
        The focus volume that `estimate` was computed from.
    positions : (Z,) array, optional
        Focus position of each plane, strictly rising or falling; 0 … Z-1 when None.
    refinement : str
        ``none``, or names of `REFINEMENTS` in the order in which they are applied, joined by "+".
    smoothness : float
        Weight of the neighbours against the pixel's own focus curve, 0 to 100; 0 changes nothing.
    guide : (Y, X) or (Y, X, 3) array, optional
        A sharp image, usually the all-in-focus image: depth may jump at its edges. None: an image
        without edges.
    hints : (Y, X) integer array, optional
        Known planes: the plane index, `NO_HINT` (-1), or `BACKGROUND` (-2) where it is never in
        focus. A hint is a hard constraint at its pixel. For up to 24 pixels around, if no edge of
        the guide lies between, it is a soft constraint on pixels whose depth is badly known.
    previous : PreviousResult, optional
        The result of a call that differed in its hints only. Then only the windows that the
        changed hints can influence are computed again.
    progress : Progress
        Called with the windows, labels or cycles of each step; may raise to cancel.
    plane_mask : (Z, Y, X) bool array, optional
        Where each aligned plane has data, as in `depth_map`; everywhere if None.
    before : PreviousResult, optional
        Deprecated name of `previous`.

    Returns
    -------
    DepthMap
        With depth between planes. The uncertainty contains how far depths around were moved. Where
        `estimate` is never in focus the uncertainty stays inf, and depth is filled in from
        neighbours. At a hint, index and depth are its plane, and the uncertainty is the distance of
        planes / √12; inf at a background hint.

    Raises
    ------
    ValueError
        For a wrong argument.
    napari_dff.refinement.graph_cut.GraphCutMissing
        For refinement ``graph_cut`` when gco-wrapper is not installed.

    References
    ----------
    Kolmogorov 2006, doi:10.1109/TPAMI.2006.200 (message passing).
    Boykov, Veksler & Zabih 2001, doi:10.1109/34.969114 (alpha-expansion).
    Farbman et al. 2008, doi:10.1145/1360612.1360666 (weighted least squares).
    Zhang, Xu & Jia 2014, doi:10.1109/CVPR.2014.361 (weighted median).
    Criminisi, Sharp & Blake 2008, doi:10.1007/978-3-540-88682-2_9 (geodesic distance to hints).
    """
    if before is not None:
        message = "refine(before=) is deprecated, use refine(previous=)"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        previous = before
    volume = as_focus_volume(focus, plane_mask)
    checked = validate_positions(positions, volume.shape[0])
    estimate = _checked_depth_map("estimate", estimate, volume.shape)
    if previous is not None:
        checks.check_type("previous", previous, PreviousResult)
        result = _checked_depth_map("previous.result", previous.result, volume.shape)
        previous = previous._replace(result=result)
    settings = refinement, smoothness, guide, progress
    return refine_volume(estimate, volume, checked, *settings, hints=hints, previous=previous)


def refine_volume(
    estimate: DepthMap,
    volume: FocusVolume,
    positions: np.ndarray,
    refinement: Refinement,
    smoothness: float,
    guide: np.ndarray | None,
    progress: Progress,
    *,
    hints: np.ndarray | None = None,
    previous: PreviousResult | None = None,
    shared: SharedStatistics | None = None,
    fixed: HintField | None = None,
    windows: Sequence[Window] | None = None,
) -> DepthMap:
    """Refine with a focus volume that need not be in memory; see `refine`.

    For one tile of a plane, `shared` are statistics of the whole plane, `fixed` are constraints
    that keep the result of finished tiles, so that the neighbouring pixels continue it, and
    `windows` are the parts of the `message_windows` of the plane that lie in the tile.
    """
    steps = _steps_of(refinement, smoothness)
    slope, guide_range = shared or (None, None)
    image = normalized_guide(guide, volume.shape[1:], guide_range)
    context = RefinementContext(volume, positions, image, smoothness, None, slope, windows)
    hints = checked_hints("hints", hints, volume.shape)
    if previous is None:
        return _run_steps(estimate, context, steps, hints, fixed, progress)
    changed = hints != checked_hints("previous.hints", previous.hints, volume.shape)
    parts = windows_around(changed, RANGE_PX + MESSAGE_MARGIN_PX + LEAST_SQUARES_MARGIN_PX)
    if parts and least_squares in steps:
        context = context._replace(slope=sample_typical_slope(estimate, volume, positions))
    result = DepthMap(*(part.copy() for part in previous.result))
    for window in parts:
        rim = HintField(crop_depth_map(result, window), _rim(window, changed.shape))
        cropped = crop_depth_map(estimate, window), context.crop(window)
        refined = _run_steps(*cropped, steps, hints[window.slices], rim, progress)
        for part, values in zip(result, refined, strict=True):
            part[window.slices] = values
    return result


def _steps_of(refinement: str, smoothness: float) -> list[RefinementStep]:
    text = refinement if isinstance(refinement, str) else shorten(refinement)
    names = [] if text == "none" else text.split("+")
    if not all(name in REFINEMENTS for name in names):
        raise ValueError(
            f"refinement must be none, or {' or '.join(REFINEMENTS)}, or several joined by +, "
            f"got {shorten(refinement)}"
        )
    SMOOTHNESS.check("smoothness", smoothness)
    return [REFINEMENTS[name] for name in names] if smoothness > 0 else []


def _run_steps(
    estimate: DepthMap,
    context: RefinementContext,
    steps: Sequence[RefinementStep],
    hints: np.ndarray,
    fixed: HintField | None,
    progress: Progress,
) -> DepthMap:
    """Apply the steps with `hints` and `fixed` as constraints, which hold after every step."""
    hint_field = fixed
    if (hints != NO_HINT).any():
        estimate, hint_field = apply_hints(estimate, hints, context, fixed)
    context = context._replace(hint_field=hint_field)
    refined = apply_hard_constraints(estimate, hint_field)
    for step in steps:
        refined = apply_hard_constraints(step(refined, context, progress), hint_field)
    movement = np.abs(refined.depth - estimate.depth)
    movement[hints != NO_HINT] = 0
    return apply_hard_constraints(_add_movement(refined, movement), hint_field)


def _add_movement(refined: DepthMap, movement: np.ndarray) -> DepthMap:
    """Add to the uncertainty how far refinement moved the depths around each pixel.

    Where it moved them far, estimates and surface disagree, and either may be wrong.
    """
    mean = cv2.GaussianBlur(movement, (0, 0), MOVEMENT_SIGMA_PX)
    error = np.float32(MOVEMENT_SHARE) * mean
    return refined._replace(uncertainty=np.hypot(refined.uncertainty, error))


def _rim(window: Window, shape: tuple[int, ...]) -> np.ndarray:
    """Return 1 within `RANGE_PX` of the sides of `window` inside the plane, else 0; float32.

    Hints outside the window influence no pixel farther in.
    """
    rim = np.ones(window.shape, np.float32)
    sides = zip(window, (0, shape[0], 0, shape[1]), strict=True)
    top, bottom, left, right = (0 if side == border else RANGE_PX for side, border in sides)
    rim[top : len(rim) - bottom, left : rim.shape[1] - right] = 0
    return rim


def _checked_depth_map(name: str, depth_map: DepthMap, shape: tuple[int, int, int]) -> DepthMap:
    """Return `depth_map` with its dtypes; ValueError unless it fits a focus volume of `shape`."""
    checks.check_type(name, depth_map, DepthMap)
    index, depth, uncertainty = (checked_plane(name, part, shape) for part in depth_map)
    if index.min() < 0 or index.max() >= shape[0]:
        raise ValueError(f"{name}.index must be from 0 to {shape[0] - 1}, got {index.max()}")
    checks.check_finite(f"{name}.depth", depth)
    if not (uncertainty >= 0).all():
        raise ValueError(f"{name}.uncertainty must be at least 0, got {uncertainty.min()}")
    depth, uncertainty = depth.astype(np.float32), uncertainty.astype(np.float32)
    return DepthMap(index.astype(np.uint16), depth, uncertainty)
