"""Peaks of the focus curves: where they are, before their uncertainty is complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from napari_dff.curve.blocks import upsample_peaks
from napari_dff.curve.noise import TINY, Noise, detection_z_score, expected_fluctuation
from napari_dff.curve.peak import PEAK_MODELS
from napari_dff.curve.plane_mask import has_enough_planes, is_peak_complete
from napari_dff.curve.search import (
    PREFERENCES,
    find_other_peaks,
    find_peaks,
    find_strongest_peaks,
    locate_other_peaks,
    peak_width,
)
from napari_dff.curve.volume import FocusVolume, as_focus_volume, focus_windows
from napari_dff.model import checks
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import FocusScale, Peak, Prefer
from napari_dff.model.stack import validate_positions
from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.windows import Window, full_window

DEFAULT_SCALE = FocusScale(1.0, 9)  # of focus volumes of unknown origin


class FocusPeaks(NamedTuple):
    """Several peaks of every focus curve, the strongest first.

    Attributes
    ----------
    depth : (K, Y, X) float32
        Position of each peak, in the unit of `positions`; NaN where there are fewer.
    strength : (K, Y, X) float32
        Value of each peak over the noise floor of its curve; 0 where there are fewer.
    """

    depth: np.ndarray
    strength: np.ndarray


def focus_peaks(
    focus: np.ndarray,  # (Z, Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    count: int = 3,
) -> FocusPeaks:
    """Return the peaks of the focus curves above the noise: surfaces one behind the other.

    Parameters
    ----------
    focus : (Z, Y, X) float array
        At least 0, as from `focus_measure`.
    positions : (Z,) array, optional
        Focus position of each plane, strictly increasing or decreasing; default 0 … Z-1.
    count : int
        Maximum number of peaks, 1 to 16.

    Returns
    -------
    FocusPeaks

    Raises
    ------
    ValueError
        For an invalid argument.
    """
    checks.Range(1, 16, 1).check("count", count)
    volume = as_focus_volume(focus)
    planes = validate_positions(positions, volume.shape[0])
    depth, strength = (np.empty((count, *volume.shape[1:]), np.float32) for _ in range(2))
    z_score = detection_z_score(volume.shape[0])

    def fill(window: Window) -> None:
        curves, noise = volume.read(window)
        here = (..., *window.slices)
        depth[here], strength[here] = find_strongest_peaks(curves, planes, *noise, z_score, count)

    run_parallel(fill, focus_windows(volume.shape, volume.step), no_progress, desc="Finding peaks")
    return FocusPeaks(depth, strength)


def locate_surfaces(
    volume: FocusVolume, positions: np.ndarray, peak: Peak, prefer: Prefer, progress: Progress
) -> tuple[DepthMap, np.ndarray]:
    """Return the depth map and the depth of another surface in each block, NaN if none.

    The uncertainty is from noise alone.
    """
    checks.check_choice("prefer", prefer, PREFERENCES)
    (located,) = locate_peaks(volume, positions, peak, (prefer,), progress)
    return at_pixels(located.peaks, volume, positions, peak), located.other


def at_pixels(peaks: DepthMap, volume: FocusVolume, positions: np.ndarray, peak: Peak) -> DepthMap:
    """Return peaks of the blocks of `volume` at its pixels; interpolated unless at planes."""
    _, height, width = volume.shape
    spacing = 0.0 if peak == "argmax" else float(np.abs(np.diff(positions)).mean())
    return upsample_peaks(peaks, volume.step, (height, width), spacing)


class LocatedPeaks(NamedTuple):
    """One peak of the curve of each block, and what its uncertainty is computed from."""

    peaks: DepthMap  # with the uncertainty from noise alone
    breadth: np.ndarray  # (Y / step, X / step) float16, in planes
    ambiguity: np.ndarray  # the same: standard deviation due to other peaks
    other: np.ndarray  # float32, position of the highest other peak, NaN if there is none
    step: int  # side of the blocks


def locate_peaks(
    volume: FocusVolume,
    positions: np.ndarray,
    peak: Peak,
    preferences: Sequence[Prefer],
    progress: Progress,
    scale: FocusScale = DEFAULT_SCALE,
) -> list[LocatedPeaks]:
    """Return the peak of each curve by each of the preferences; the curves are read once."""
    checks.check_choice("peak", peak, PEAK_MODELS)
    count, step, shape = volume.shape[0], volume.step, volume.shape[1:]
    blocks = full_window(shape).blocks(step).shape
    dtypes = np.uint16, np.float32, np.float32
    results = []
    for _ in preferences:
        peaks = DepthMap(*(np.empty(blocks, dtype) for dtype in dtypes))
        breadth, ambiguity = np.empty((2, *blocks), np.float16)
        other = np.empty(blocks, np.float32)
        results.append(LocatedPeaks(peaks, breadth, ambiguity, other, step))
    spacing = float(np.abs(np.diff(positions)).mean())
    z_score, white_noise = detection_z_score(count), expected_fluctuation(*scale)

    def fill(window: Window) -> None:
        curves, noise = volume.read_blocks(window)
        mask = volume.plane_mask(window)
        if mask is not None:
            mask = np.ascontiguousarray(mask[:, ::step, ::step])
        for prefer, result in zip(preferences, results, strict=True):
            fill_one(window.blocks(step).slices, curves, noise, mask, prefer, result)

    def fill_one(
        here: tuple[slice, slice],
        curves: np.ndarray,
        noise: Noise,
        mask: np.ndarray | None,
        prefer: Prefer,
        result: LocatedPeaks,
    ) -> None:
        model = PEAK_MODELS[peak]
        settings = model, PREFERENCES[prefer], *noise, z_score
        peaks = find_peaks(curves, positions, *settings)
        if mask is not None:
            complete = is_peak_complete(curves, mask, peaks[0], noise.floor)
            peaks[2][~(has_enough_planes(mask) & complete)] = np.inf
        for out, part in zip(result.peaks, peaks, strict=True):
            out[here] = part
        texture_share = np.fmax(1 - (noise.fluctuation / white_noise) ** 2, 0)
        top = np.take_along_axis(curves, peaks[0][None].astype(np.int64), axis=0)[0]
        floor_share = np.where(top > noise.floor, noise.floor / np.maximum(top, TINY), 0)
        width = peak_width(curves, peaks[0])
        result.breadth[here] = texture_share * width * np.sqrt(floor_share)
        result.ambiguity[here], other = find_other_peaks(curves, positions / spacing, peaks[0])
        planes = peaks[0], other
        result.other[here] = locate_other_peaks(curves, positions, model, *planes, *noise, z_score)

    run_parallel(fill, focus_windows(volume.shape, volume.step), progress, desc="Finding depth")
    return results
