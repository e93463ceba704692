"""Automatic choice of `sigma` and `window` from the focus curves in a sample of a stack."""

from __future__ import annotations

from math import sqrt
from typing import Any, Literal, NamedTuple

import numpy as np

from napari_dff.curve.noise import TINY, compute_noise, detection_z_score
from napari_dff.curve.peak import CURVE_PEAK
from napari_dff.curve.search import HIGHEST_PEAK, find_peaks, peak_width
from napari_dff.focus.aggregation import balanced_radius, balanced_windows
from napari_dff.focus.operators import operator_radius
from napari_dff.focus.sampling import CONTRAST_RADIUS_PX, SampledOperator
from napari_dff.model.checks import AUTO
from napari_dff.model.recipe import FocusScale, Operator
from napari_dff.runtime.lazy import read_windows
from napari_dff.runtime.windows import GRID_PX, Window

SIGMAS = (0.5, 0.7, 1.0)  # pixels, from which one is chosen
WINDOWS = (5, 7, 9)  # pixels
LARGEST = FocusScale(SIGMAS[-1], WINDOWS[-1])  # also where there is too little to choose from
TRIAL_WINDOW = 7  # of the trials
MIN_WIDTH_PLANES = 4.5  # mean width of the peaks: sharper ones have too few planes to locate them
MAX_NOISE_RATIO = 1.5  # of the error from noise, to that at the largest sigma
WINDOW_FACTOR = 28.0  # pixels: width of the window where noise and mixing are equal
SAMPLE_ROWS, SAMPLE_SIDE_PX = 3, 64  # 3 × 3 windows are sampled
MAX_RADIUS_PX = 40  # around a window, that is read with it
MIN_SAMPLES = 500  # detected peaks, to choose from

Sample = tuple[np.ndarray, Window]  # (Z, h, w[, 3]) values, and the window in them that counts

# Choice
# ------
# A smaller `sigma` uses finer texture, whose contrast falls within a smaller defocus: peaks are
# narrower, and windows mix less of the depths around. But peaks need several planes to be located,
# and fine texture may drown in noise. The smallest is taken whose peaks are `MIN_WIDTH_PLANES`
# wide, and whose error from noise is not much larger. That error falls with the window's width, and
# that from mixed depths, in proportion to the breadth of the peak, grows with it: the width is
# `WINDOW_FACTOR` · √(noise / breadth).


class _Trial(NamedTuple):
    """Medians over the peaks that one setting detects in the samples, and their number."""

    peaks: int
    width: float  # planes, mean
    noise: float  # planes
    breadth: float  # width · √(F₀ / F), planes

    @property
    def has_wide_peaks(self) -> bool:
        """Whether there are peaks to choose from, wide enough to be located."""
        return self.peaks >= MIN_SAMPLES and self.width >= MIN_WIDTH_PLANES


def choose_scale(
    planes: Any,  # (Z, Y, X[, 3]), may be lazy
    operator: Operator,
    sigma: float | Literal["auto"] = AUTO,
    window: int | Literal["auto"] = AUTO,
    used: np.ndarray | slice = slice(None),  # indices of the planes that count
    in_file: bool = False,  # the sample is in a temporary file
) -> FocusScale:
    """Return `sigma` and `window`, chosen from a sample of the planes where they are "auto"."""
    if sigma != AUTO and window != AUTO:
        return FocusScale(sigma, window)
    largest = LARGEST.sigma if sigma == AUTO else sigma
    samples = _read_samples(planes, used, operator, largest, in_file)
    if sigma == AUTO:
        sigma, trial = _choose_sigma(samples, operator)
    else:
        trial = _try_sigma(samples, operator, sigma)
    return FocusScale(sigma, _choose_window(trial) if window == AUTO else window)


def largest_scale(sigma: float | Literal["auto"], window: int | Literal["auto"]) -> FocusScale:
    """Return the largest `sigma` and `window` that `choose_scale` returns for these."""
    return FocusScale(
        LARGEST.sigma if sigma == AUTO else sigma, LARGEST.window if window == AUTO else window
    )


def _choose_sigma(samples: list[Sample], operator: Operator) -> tuple[float, _Trial]:
    largest = _try_sigma(samples, operator, LARGEST.sigma)
    if not largest.has_wide_peaks:
        return LARGEST.sigma, largest
    for sigma in SIGMAS[:-1]:
        trial = _try_sigma(samples, operator, sigma)
        if trial.has_wide_peaks and trial.noise <= MAX_NOISE_RATIO * largest.noise:
            return sigma, trial
    return LARGEST.sigma, largest


def _choose_window(trial: _Trial) -> int:
    if trial.peaks < MIN_SAMPLES:
        return LARGEST.window
    best = WINDOW_FACTOR * sqrt(trial.noise / max(trial.breadth, 1e-6))
    return min(WINDOWS, key=lambda width: abs(width - best))


def _read_samples(
    planes: Any, used: np.ndarray | slice, operator: Operator, sigma: float, in_file: bool
) -> list[Sample]:
    """Return parts of the planes, each with the window in it that is measured."""
    height, width = planes.shape[1:3]
    radius = balanced_radius(SampledOperator(planes, operator, sigma, TRIAL_WINDOW))
    radius += operator_radius(operator, sigma, TRIAL_WINDOW) + CONTRAST_RADIUS_PX
    samples: list[Sample] = []
    for rows in _spread(height):
        windows = [Window(rows.start, rows.stop, each.start, each.stop) for each in _spread(width)]
        outers = [window.expand(radius, (height, width)) for window in windows]
        places = [
            w.shift(-outer.top, -outer.left) for w, outer in zip(windows, outers, strict=True)
        ]
        samples += zip(read_windows(planes, outers, used, in_file=in_file), places, strict=True)
    return samples


def sample_pixels(shape: tuple[int, int]) -> tuple[int, int]:
    """Return how many pixels of each plane one sample has at most, and all of them."""
    height, width = (min(SAMPLE_SIDE_PX + 2 * MAX_RADIUS_PX, size) for size in shape)
    return height * width, SAMPLE_ROWS**2 * height * width


def _spread(size: int) -> list[slice]:
    """Return `SAMPLE_ROWS` slices of `SAMPLE_SIDE_PX` on the grid, evenly spread over `size`."""
    side = min(SAMPLE_SIDE_PX, size)
    starts = {
        int((size - side) * (k + 0.5) / SAMPLE_ROWS) // GRID_PX * GRID_PX
        for k in range(SAMPLE_ROWS)
    }
    return [slice(start, start + side) for start in sorted(starts)]


def _try_sigma(samples: list[Sample], operator: Operator, sigma: float) -> _Trial:
    values = np.hstack([_measure_peaks(*sample, operator, sigma) for sample in samples])
    if values.shape[1] == 0:
        return _Trial(0, 0.0, np.inf, 0.0)
    width, noise, breadth = values
    return _Trial(
        len(width), float(width.mean()), float(np.median(noise)), float(np.median(breadth))
    )


def _measure_peaks(
    part: np.ndarray, window: Window, operator: Operator, sigma: float
) -> np.ndarray:
    """Return width, error from noise and breadth of each detected peak, (3, N), in planes."""
    count, measured = len(part), SampledOperator(part, operator, sigma, TRIAL_WINDOW)
    curves = balanced_windows(measured, window)
    noise = compute_noise(curves, expected_fluctuation=measured.noise_fluctuation())
    settings = np.arange(float(count)), CURVE_PEAK, HIGHEST_PEAK
    index, _, error = find_peaks(curves, *settings, *noise, detection_z_score(count))
    width = peak_width(curves, index)
    floor_share = noise.floor / np.maximum(curves.max(axis=0), TINY)
    detected = np.isfinite(error) & (index > 0) & (index < count - 1)
    return np.stack([width, error, width * np.sqrt(floor_share)])[:, detected]
