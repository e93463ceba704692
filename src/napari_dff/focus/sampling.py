"""A focus operator applied to windows of a stack, at several scales, sampled at a step."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from napari_dff.curve.noise import EXPECTED_FLUCTUATION
from napari_dff.focus.operators import OPERATORS, operator_radius
from napari_dff.imaging.images import block_means, luminance, read_plane
from napari_dff.model.recipe import Operator
from napari_dff.runtime.windows import GRID_PX, Window

MIN_SAMPLE_VARIANCE = 1.6  # samples², least variance of an averaging window when it is sampled
SPLINE_VARIANCE = 1 / 3  # samples², of the cubic B-spline that upsamples

# Scales and steps
# ----------------
# At scale s the operator is applied to planes averaged over s × s pixels. A measure averaged over a
# wide window is smooth: it is computed at every `step`-th pixel only, and upsampled by cubic
# B-splines. The variance that this averaging and upsampling add is subtracted from `sigma`² and
# from the variance of the window. docs/methods.md, "Sampling of the focus measure".


@dataclass(frozen=True)
class SampledOperator:
    """A focus operator on the planes of a stack; call it with a window to measure."""

    planes: Any  # (Z, Y, X[, 3]), may be lazy
    operator: Operator
    sigma: float
    window: float

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return tuple(self.planes.shape[1:3])

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

    def noise_fluctuation(self) -> float:
        """Return the approximate standard deviation of ln(measure) under white noise."""
        return min(EXPECTED_FLUCTUATION * (9 / self.window) * max(self.sigma, 1), 1.0)

    def _pixel_variance(self, scale: int) -> float:
        return ((scale * (self.window - 1) + 1) ** 2 - 1) / 12

    def __call__(self, window: Window, scale: int = 1) -> np.ndarray:
        """Return the measure in `window`: (Z, Y / step, X / step) float32, at least 0."""
        compute, step = OPERATORS[self.operator], self.step(scale)
        sigma = sqrt(max(self.sigma**2 - (1 - scale**-2) / 12, 0.0))
        width = sqrt(12 * self.variance(scale) * (step / scale) ** 2 + 1)
        outer = window.expand(scale * operator_radius(self.operator, sigma, width), self.shape)
        inner = tuple(slice(s.start // step, -(-s.stop // step)) for s in window.slices_in(outer))
        shape = (self.planes.shape[0], *(s.stop - s.start for s in inner))
        out = np.empty(shape, np.float32)
        for k, samples in enumerate(out):
            plane = block_means(luminance(read_plane(self.planes, k, outer.slices)), scale)
            np.maximum(compute(plane, sigma, width, step // scale)[inner], 0, out=samples)
        return out
