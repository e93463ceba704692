"""A focus operator applied to windows of a stack, at several scales, sampled at a step."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from napari_dff.focus.operators import OPERATORS, operator_radius
from napari_dff.imaging.images import block_means, luminance, read_plane
from napari_dff.model.recipe import Operator
from napari_dff.runtime.windows import GRID_PX, Window

MIN_SAMPLE_VARIANCE = 1.6  # samples², least variance of an averaging window when it is sampled
SPLINE_VARIANCE = 1 / 3  # samples², of the cubic B-spline that upsamples

# Scales and steps
# ----------------
# At scale s the operator is applied to planes averaged over s × s pixels. Its `sigma` is then s
# times as wide on the planes, its window ((s (window - 1) + 1)² - 1) / 12 = V in pixels² of the
# planes (the variance of a box).
# A measure averaged over a wide window is smooth: it is computed at every `step`-th pixel only, and
# upsampled by cubic B-splines. `step` is the largest power of 2, up to `GRID_PX`, for which the
# window has a variance of at least `MIN_SAMPLE_VARIANCE` samples².
# What averaging and splines add to the filters is subtracted from them: the box of s × s pixels
# adds (1 - 1 / s²) / 12 to sigma², in averaged pixels², the spline adds `SPLINE_VARIANCE` samples².


@dataclass(frozen=True)
class SampledOperator:
    """A focus operator on the planes of a stack; call it with a window to measure.

    Parameters
    ----------
    planes : (Z, Y, X[, 3]) array
        May be lazy.
    operator : str
        A key of `OPERATORS`.
    sigma : float
        Standard deviation of the Gaussian before the operator, in pixels.
    window : float
        Width in pixels over which the measure is averaged.
    """

    planes: Any
    operator: Operator
    sigma: float
    window: float

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return tuple(self.planes.shape[1:3])

    def with_window(self, window: float) -> SampledOperator:
        """Return the same operator with another averaging window."""
        return dataclasses.replace(self, window=window)

    def step(self, scale: int = 1) -> int:
        """Return the distance between samples in pixels: a power of 2, up to `GRID_PX`."""
        variance, step = self._pixel_variance(scale), scale
        while 2 * step <= GRID_PX and variance / (2 * step) ** 2 >= MIN_SAMPLE_VARIANCE:
            step *= 2
        return step

    def variance(self, scale: int = 1) -> float:
        """Return the variance of the averaging window in samples², without that of the spline."""
        step = self.step(scale)
        return max(self._pixel_variance(scale) / step**2 - SPLINE_VARIANCE * (step > 1), 0.0)

    def _pixel_variance(self, scale: int) -> float:
        return ((scale * (self.window - 1) + 1) ** 2 - 1) / 12

    def __call__(self, window: Window, scale: int = 1) -> np.ndarray:
        """Return the measure in `window`: (Z, Y / step, X / step) float32, at least 0."""
        compute, step = OPERATORS[self.operator], self.step(scale)
        sigma = sqrt(max(self.sigma**2 - (1 - scale**-2) / 12, 0.0))
        width = sqrt(12 * self.variance(scale) * (step / scale) ** 2 + 1)
        outer = window.expand(scale * operator_radius(self.operator, sigma, width), self.shape)
        rows, columns = (
            slice(part.start // step, -(-part.stop // step)) for part in window.slices_in(outer)
        )
        out = np.empty(
            (self.planes.shape[0], rows.stop - rows.start, columns.stop - columns.start), np.float32
        )
        for k in range(len(out)):
            plane = block_means(luminance(read_plane(self.planes, k, outer.slices)), scale)
            samples = compute(plane, sigma, width, step // scale)
            np.maximum(samples[rows, columns], 0, out=out[k])
        return out
