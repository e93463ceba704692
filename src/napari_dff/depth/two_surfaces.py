"""Two surfaces in each focus curve: the top of a transparent film, and the ground below it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from napari_dff.curve.volume import FocusVolume, as_focus_volume
from napari_dff.depth.estimation import add_errors
from napari_dff.depth.peaks import DEFAULT_SCALE, LocatedPeaks, at_pixels, locate_peaks
from napari_dff.model import checks
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import SIGMA, WINDOW, FocusScale, Peak, Prefer
from napari_dff.model.stack import validate_positions
from napari_dff.runtime.progress import Progress, no_progress

REFRACTIVE_INDEX = checks.Range(1.0, 5.0, 0.01)
# Single pixels have two peaks by chance, and narrow bands along edges, where the window contains
# near and far texture. On five light fields without films they are 4 to 9 % of the pixels, and
# below 0.5 % with these limits, which lose 0.5 % of a rendered film.
SUPPORT_PX = 21  # side of the square in which other pixels must have the same two surfaces
MIN_SUPPORT = 0.5  # of the pixels in the square
MAX_DISTANCE_PLANES = 2.0  # from the mean of the surface in the square


class TwoSurfaces(NamedTuple):
    """First and last surface along Z, and the thickness between them.

    Attributes
    ----------
    first, last : DepthMap
        Where only one surface is found, both are that one.
    thickness : (Y, X) float32
        Refractive index times the distance, in the unit of the positions; NaN where only one
        surface is found.
    uncertainty : (Y, X) float32
        Standard uncertainty of `thickness`; inf where it is unknown.
    """

    first: DepthMap
    last: DepthMap
    thickness: np.ndarray
    uncertainty: np.ndarray


def two_surfaces(
    focus: np.ndarray,  # (Z, Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    refractive_index: float = 1.0,
    peak: Peak = "curve",
    plane_mask: np.ndarray | None = None,  # (Z, Y, X)
    sigma: float = DEFAULT_SCALE.sigma,
    window: int = DEFAULT_SCALE.window,
    progress: Progress = no_progress,
) -> TwoSurfaces:
    """Return the first and the last surface of a transparent sample, and its thickness.

    They are the outermost peaks of the focus curve that exceed the detection threshold and a
    twentieth of the highest peak, with a dip of three times the noise between them. In a square of
    21 × 21 pixels around, half of the pixels must have two surfaces, of which the mean is within 2
    planes of those of the pixel. Light from below is refracted at the top of a film, so that the
    ground appears nearer: the thickness is the distance in focus times the refractive index, for
    rays near the axis.

    Parameters
    ----------
    focus : (Z, Y, X) float array
        At least 0, as from `focus_measure`.
    positions : (Z,) array, optional
        Focus position of each plane, strictly increasing or decreasing; default 0 … Z-1.
    refractive_index : float
        Of the film, relative to that of the medium above it, 1 to 5.
    peak : {"curve", "lorentzian", "gaussian", "parabola", "argmax"}
        Depth between planes, as in `depth_map`.
    plane_mask : (Z, Y, X) bool array, optional
        Where each aligned plane has data, as in `depth_map`; everywhere if None.
    sigma, window : float, int
        With which focus was measured, for the uncertainty; as in `depth_map`.
    progress : Progress
        Wraps the loops over windows; may raise to cancel.

    Returns
    -------
    TwoSurfaces
        The uncertainty of the thickness combines those of both surfaces, as independent errors. It
        does not contain that of the refractive index.

    Raises
    ------
    ValueError
        For an invalid argument.
    """
    scale = FocusScale(SIGMA.check("sigma", sigma), WINDOW.check("window", window))
    volume = as_focus_volume(focus, plane_mask)
    planes = validate_positions(positions, volume.shape[0])
    index = REFRACTIVE_INDEX.check("refractive_index", refractive_index)
    return find_two_surfaces(volume, planes, index, peak, scale, progress)


def find_two_surfaces(
    volume: FocusVolume,
    positions: np.ndarray,
    refractive_index: float,
    peak: Peak,
    scale: FocusScale,
    progress: Progress,
) -> TwoSurfaces:
    """Return both surfaces of a focus volume that may be lazy; see `two_surfaces`."""
    preferences: tuple[Prefer, ...] = ("sharpest", "first", "last")
    single, *pair = locate_peaks(volume, positions, peak, preferences, progress, scale)
    step, (height, width) = single.step, volume.shape[1:]
    spacing = float(np.abs(np.diff(positions)).mean())
    has_two = _has_support(pair[0].peaks, pair[1].peaks, spacing, step)
    alone = add_errors(single, positions, progress, scale)
    first, last = (
        at_pixels(
            _choose(has_two, _with_errors(each, has_two, positions, progress, scale), alone),
            volume,
            positions,
            peak,
        )
        for each in pair
    )
    has_two = np.repeat(np.repeat(has_two, step, axis=0), step, axis=1)[:height, :width]
    index = np.float32(refractive_index)
    distance = index * np.abs(last.depth - first.depth)
    error = index * np.hypot(first.uncertainty, last.uncertainty)
    thickness = np.where(has_two, distance, np.float32(np.nan))
    return TwoSurfaces(first, last, thickness, np.where(has_two, error, np.float32(np.inf)))


def _has_support(first: DepthMap, last: DepthMap, spacing: float, step: int) -> np.ndarray:
    """Return in which blocks two surfaces are found, and half of those around have the same."""
    two = (first.index != last.index) & np.isfinite(first.uncertainty + last.uncertainty)
    weight, size = two.astype(np.float32), (-(-SUPPORT_PX // step) | 1,) * 2
    share = cv2.blur(weight, size)
    result = two & (share >= MIN_SUPPORT)
    for surface in (first, last):
        mean = cv2.blur(weight * surface.depth, size) / np.maximum(share, np.float32(1e-6))
        result &= np.abs(surface.depth - mean) <= MAX_DISTANCE_PLANES * spacing
    return result


def _with_errors(
    located: LocatedPeaks,
    has_two: np.ndarray,
    positions: np.ndarray,
    progress: Progress,
    scale: FocusScale,
) -> DepthMap:
    """Return one of two surfaces with its uncertainty: the other one is no other candidate."""
    index, depth, uncertainty = located.peaks
    masked = DepthMap(index, depth, np.where(has_two, uncertainty, np.float32(np.inf)))
    alone = located._replace(peaks=masked, ambiguity=np.zeros_like(located.ambiguity))
    return add_errors(alone, positions, progress, scale)


def _choose(has_two: np.ndarray, surface: DepthMap, single: DepthMap) -> DepthMap:
    pairs = zip(surface, single, strict=True)
    return DepthMap(*(np.where(has_two, one, other) for one, other in pairs))
