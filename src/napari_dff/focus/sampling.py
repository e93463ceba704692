"""A focus operator applied to windows of a stack, at several scales, sampled at a step."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from napari_dff.curve.blocks import crop_in_place
from napari_dff.curve.noise import TINY, expected_fluctuation
from napari_dff.focus.filters import gaussian_blur
from napari_dff.focus.operators import NOT_MEANS, OPERATORS, operator_radius
from napari_dff.imaging.images import block_means, luminance, read_plane
from napari_dff.model.recipe import Operator
from napari_dff.runtime.lazy import release_mapped_pages
from napari_dff.runtime.progress import raise_if_cancelled
from napari_dff.runtime.windows import GRID_PX, Window

MAX_GRID_PX = 2  # between the pixels at which curves are computed
MIN_SAMPLE_VARIANCE = 1.6  # samples², least variance of an averaging window when it is sampled
SPLINE_VARIANCE = 1 / 3  # samples², of the cubic B-spline that upsamples
CONTRAST_WINDOW_PX = 3.0  # width of the window, in pixels of the scale, that contrast is taken from
CONTRAST_RADIUS_PX = 2  # more than the window needs without equalization
EQUALIZATION = 0.7  # power of the contrast that the measure is divided by
NOISE_CONTRAST = 4.0  # mean measures around, added to the contrast, so that noise is not raised

# Scales and steps
# ----------------
# At scale s the operator is applied to planes averaged over s × s pixels. A measure averaged over a
# wide window is smooth: it is computed at every `step`-th pixel only, and upsampled by cubic
# B-splines. The variance that this averaging and upsampling add is subtracted from `sigma`² and
# from the variance of the window. docs/methods.md, "Sampling of the focus measure".
#
# Equalization of contrast
# ------------------------
# A strong outline outweighs weak texture of another depth in the same window. So the measure E in
# a narrow window is averaged with the weight (M + `NOISE_CONTRAST` · B)^-`EQUALIZATION`, where M is
# its maximum over the planes, and B its mean over the planes and the window.
# docs/methods.md, "Equalization of contrast".


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

    @property
    def grid(self) -> int:
        """Distance in pixels of the curves: wide windows make them smooth over two pixels."""
        return min(self.step(), MAX_GRID_PX)

    def variance(self, scale: int = 1) -> float:
        """Return the variance of the averaging window in samples², without that of the spline."""
        step = self.step(scale)
        return max(self._pixel_variance(scale) / step**2 - SPLINE_VARIANCE * (step > 1), 0.0)

    def noise_fluctuation(self) -> float:
        """Return the approximate standard deviation of ln(measure) under white noise."""
        return expected_fluctuation(self.sigma, self.window)

    def _pixel_variance(self, scale: int) -> float:
        return ((scale * (self.window - 1) + 1) ** 2 - 1) / 12

    def __call__(self, window: Window, scale: int = 1) -> np.ndarray:
        """Return the measure in `window`: (Z, Y / step, X / step) float32, at least 0."""
        outer, inner = self._extent(window, scale)
        return self._measure(outer, scale, self._width(scale))[(..., *inner)]

    def equalized(
        self, window: Window, scale: int = 1
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the measure with equalized contrast, and its contrast without, (Z, …), 2 × (…).

        Contrast is the maximum over the planes: its average over the window, and that of the pixel.
        """
        outer, inner = self._extent(window, scale)
        width, step = self._width(scale), self.step(scale) // scale
        narrow = max(CONTRAST_WINDOW_PX, float(step))
        if self.operator in NOT_MEANS or width <= narrow:
            volume = crop_in_place(self._measure(outer, scale, width), inner)
            contrast = volume.max(axis=0)
            return volume, contrast, contrast
        blur = sqrt((width**2 - narrow**2) / 12) / step
        volume = self._measure(outer, scale, narrow)
        contrast = volume.max(axis=0)
        background = gaussian_blur(volume.mean(axis=0), blur)
        weight = (contrast + np.float32(NOISE_CONTRAST) * background + TINY) ** -EQUALIZATION
        for plane in volume:
            plane[:] = gaussian_blur(plane * weight, blur)
        volume = crop_in_place(volume, inner)
        return volume, gaussian_blur(contrast, blur)[inner], contrast[inner]

    def _width(self, scale: int) -> float:
        """Return the width of the window in pixels of the scale, without the spline's part."""
        return sqrt(12 * self.variance(scale) * (self.step(scale) / scale) ** 2 + 1)

    def _sigma(self, scale: int) -> float:
        return sqrt(max(self.sigma**2 - (1 - scale**-2) / 12, 0.0))

    def _extent(self, window: Window, scale: int) -> tuple[Window, tuple[slice, slice]]:
        """Return the window of pixels that `window` depends on, and where its samples lie in it."""
        radius = operator_radius(self.operator, self._sigma(scale), self._width(scale))
        radius += CONTRAST_RADIUS_PX
        outer, step = window.expand(scale * radius, self.shape), self.step(scale)
        return outer, window.blocks(step).slices_in(outer.blocks(step))

    def _measure(self, window: Window, scale: int, width: float) -> np.ndarray:
        """Return the samples of the measure over windows of `width` pixels of the scale."""
        compute, step, sigma = OPERATORS[self.operator], self.step(scale), self._sigma(scale)
        out = np.empty((self.planes.shape[0], *window.blocks(step).shape), np.float32)
        for k, samples in enumerate(out):
            raise_if_cancelled()
            plane = block_means(luminance(read_plane(self.planes, k, window.slices)), scale)
            np.maximum(compute(plane, sigma, width, step // scale), 0, out=samples)
        release_mapped_pages(self.planes)
        return out
