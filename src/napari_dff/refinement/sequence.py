"""The public door of refinement: which steps, in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from napari_dff import checks
from napari_dff.curve import FocusVolume, FocusVolumeView, as_focus_volume
from napari_dff.depth import DepthMap
from napari_dff.images import luminance
from napari_dff.progress import Progress, no_progress
from napari_dff.recipe import SMOOTHNESS, Refinement
from napari_dff.refinement.graph_cut import graph_cut
from napari_dff.refinement.hints import (
    NO_HINT,
    RANGE,
    Before,
    Said,
    boxes,
    checked_hints,
    framed,
    hinted,
    pinned,
)
from napari_dff.refinement.least_squares import least_squares, slope_of
from napari_dff.refinement.message_passing import REACH, message_passing
from napari_dff.refinement.weighted_median import weighted_median
from napari_dff.stack import validate_positions
from napari_dff.validation import as_numbers, check_finite

SAMPLE = 1 << 18  # pixels that tell the range of the guide
MARGIN = 96  # pixels around what message passing changes in which least squares may follow


class Shared(NamedTuple):
    """What all tiles of one plane take from the whole: the usual slope, the range of the guide."""

    slope: float | None = None  # planes a pixel
    dark: float | None = None
    bright: float | None = None


NOTHING_SHARED = Shared()


class Scene(NamedTuple):
    """What every refinement step may look at."""

    volume: FocusVolume
    positions: np.ndarray  # (Z,) float64
    guide: np.ndarray  # (Y, X) float32, 0 … 1
    said: Said | None = None  # by hints
    slope: float | None = None  # planes a pixel, the usual one, where it is known already


def refine(
    estimate: DepthMap,
    focus: np.ndarray,  # (Z, Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    refinement: Refinement = "message_passing+least_squares",
    smoothness: float = 1.0,
    guide: np.ndarray | None = None,  # (Y, X[, 3])
    hints: np.ndarray | None = None,  # (Y, X)
    before: Before | None = None,
    progress: Progress = no_progress,
) -> DepthMap:
    """Depth map in which neighbours agree, except across edges of the guide.

    Parameters
    ----------
    estimate : DepthMap
        As from `depth_map`.
    focus : (Z, Y, X) float array
        The focus volume that `estimate` was made from.
    positions : (Z,) array, optional
        Focus position of each plane, strictly rising or falling; 0 … Z-1 when None.
    refinement : str
        ``none``, or names of `REFINEMENTS` in the order in which they are applied, joined by "+".
    smoothness : float
        How much neighbours count against the pixel's own focus curve, 0 to 100; 0 changes nothing.
    guide : (Y, X) or (Y, X, 3) array, optional
        A sharp picture, usually the all-in-focus image: depth may jump where it does. None: the
        same everywhere.
    hints : (Y, X) integer array, optional
        What a person knows: the plane number where it is that plane, `NO_HINT` (-1) elsewhere,
        `BACKGROUND` (-2) where it is never in focus. Obeyed exactly, and heard up to 24 pixels
        around unless an edge of the guide lies between: by pixels that don't know themselves.
    before : Before, optional
        The result of an earlier call that differed only in its hints, and these: then only what
        the hints that differ can reach is done again.
    progress : Progress
        Told of each label and pass; may raise to cancel.

    Returns
    -------
    DepthMap
        Depth is interpolated between planes again. Where `estimate` is never in focus the
        uncertainty stays inf, and depth is what the neighbours suggest. At a hint, index and
        depth are its plane, and the uncertainty is the distance of planes / √12; inf in background.

    Raises
    ------
    ValueError
        For a wrong argument.
    napari_dff.refinement.graph_cut.GraphCutMissing
        When a graph cut is asked for and gco-wrapper is not installed.

    References
    ----------
    Kolmogorov 2006, doi:10.1109/TPAMI.2006.200 (message passing).
    Boykov, Veksler & Zabih 2001, doi:10.1109/34.969114 (alpha-expansion).
    Farbman et al. 2008, doi:10.1145/1360612.1360666 (weighted least squares).
    Zhang, Xu & Jia 2014, doi:10.1109/CVPR.2014.361 (weighted median).
    Criminisi, Sharp & Blake 2008, doi:10.1007/978-3-540-88682-2_9 (how far hints are heard).
    """
    volume = as_focus_volume(focus)
    at = validate_positions(positions, volume.shape[0])
    estimate = _checked_depth_map("estimate", estimate, volume.shape)
    if before is not None:
        checks.check_type("before", before, Before)
        result = _checked_depth_map("before.result", before.result, volume.shape)
        before = before._replace(result=result)
    settings = refinement, smoothness, guide, progress
    return refined(estimate, volume, at, *settings, hints=hints, before=before)


def refined(
    estimate: DepthMap,
    volume: FocusVolume,
    at: np.ndarray,
    refinement: Refinement,
    smoothness: float,
    guide: np.ndarray | None,
    progress: Progress,
    *,
    hints: np.ndarray | None = None,
    before: Before | None = None,
    shared: Shared = NOTHING_SHARED,
    known: tuple[DepthMap, np.ndarray] | None = None,
) -> DepthMap:
    """Refine with a focus volume that need not be held; see `refine`.

    A tile of a plane takes what it is `shared` with the others; where it is `known`, (Y, X) bool,
    from tiles that are done, it stays as it is, and its neighbours follow it.
    """
    steps = [] if refinement == "none" else str(refinement).split("+")
    if not all(step in REFINEMENTS for step in steps):
        raise ValueError(
            f"refinement must be none, or {' or '.join(REFINEMENTS)}, or several joined by +, "
            f"got {refinement!r}"
        )
    SMOOTHNESS.check("smoothness", smoothness)
    if smoothness == 0:
        steps = []
    shape = volume.shape[1:]
    wanted = checked_hints("hints", hints, volume.shape)
    scene = Scene(volume, at, _scaled(guide, shape, shared), slope=shared.slope)

    def take_steps(estimate: DepthMap, scene: Scene) -> DepthMap:
        for step in steps:
            estimate = REFINEMENTS[step](estimate, scene, smoothness, progress)
            if scene.said is not None:
                estimate = pinned(estimate, scene.said)
        return estimate

    if known is not None:
        said = Said(*known[0], known[1].astype(np.float32))
        scene = scene._replace(said=said)
        estimate = pinned(estimate, said)
    if before is None:
        if (wanted != NO_HINT).any():
            estimate, said = hinted(estimate, wanted, scene.guide, at)
            scene = scene._replace(said=said)
        return take_steps(estimate, scene)
    earlier = checked_hints("before.hints", before.hints, volume.shape)
    result = DepthMap(*(part.copy() for part in before.result))
    places = boxes(wanted != earlier, RANGE + REACH + MARGIN)
    slope = slope_of(estimate, volume, at) if places and "least_squares" in steps else None
    for box in places:
        here = box.slices
        own = DepthMap(*(np.ascontiguousarray(part[here]) for part in estimate))
        look = np.ascontiguousarray(scene.guide[here])
        own, said = hinted(own, wanted[here], look, at)
        said = framed(said, DepthMap(*(part[here] for part in result)), box, shape)
        found = take_steps(
            pinned(own, said), Scene(FocusVolumeView(volume, box), at, look, said, slope)
        )
        for part, new in zip(result, found, strict=True):
            part[here] = new
    return result


def _checked_depth_map(name: str, found: DepthMap, shape: tuple[int, int, int]) -> DepthMap:
    """`found` with its dtypes; ValueError unless it can be of a focus volume of that shape."""
    checks.check_type(name, found, DepthMap)
    index, depth, doubt = (as_numbers(name, part) for part in found)
    for part in (index, depth, doubt):
        if part.shape != shape[1:]:
            raise ValueError(
                f"{name} must have the shape of a plane of focus, {shape[1:]}, got {part.shape}"
            )
    if index.min() < 0 or index.max() >= shape[0]:
        raise ValueError(f"{name}.index must be from 0 to {shape[0] - 1}, got {index.max()}")
    check_finite(f"{name}.depth", depth)
    if not (doubt >= 0).all():
        raise ValueError(f"{name}.uncertainty must be at least 0, got {doubt.min()}")
    return DepthMap(index.astype(np.uint16), depth.astype(np.float32), doubt.astype(np.float32))


def _scaled(guide: np.ndarray | None, shape: tuple[int, ...], shared: Shared) -> np.ndarray:
    """Guide as (Y, X) float32, 0 … 1 between its 1st and 99th percentile, or those shared."""
    if guide is None:
        return np.zeros(shape, dtype=np.float32)
    values = as_numbers("guide", guide)
    if values.shape not in (shape, (*shape, 3)):
        raise ValueError(f"guide must have the shape of a plane, {shape}, got {values.shape}")
    check_finite("guide", values)
    picture = luminance(values)
    ends: tuple[float | None, ...] = shared.dark, shared.bright
    if None in ends:
        ends = ends_of(picture)
    low, high = (np.float32(v) for v in ends)
    picture = (picture - low) * np.float32(1 / max(high - low, np.float32(1e-12)))
    return np.clip(picture, 0, 1, out=picture)


def ends_of(picture: np.ndarray) -> tuple[float, float]:
    """The 1st and 99th percentile of a (Y, X) picture, of about `SAMPLE` pixels."""
    every = max(1, int(np.sqrt(picture.size / SAMPLE)))
    dark, bright = np.percentile(picture[::every, ::every], (1, 99))
    return float(dark), float(bright)


Step = Callable[[DepthMap, Scene, float, Progress], DepthMap]
REFINEMENTS: dict[str, Step] = {
    "message_passing": message_passing,
    "graph_cut": graph_cut,
    "least_squares": least_squares,
    "weighted_median": weighted_median,
}
