"""An operator applied to the planes of a stack, one window at a time, at full size or shrunk."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from napari_dff.focus import operators
from napari_dff.images import block_means, luminance
from napari_dff.lazy import read_plane
from napari_dff.windows import GRID_PX, Window

NARROWEST = 1.6  # pixels², least variance of an averaging window in the pixels it is kept at
SPLINE = 1 / 3  # pixels², variance of a cubic B-spline


@dataclass(frozen=True)
class Measurement:
    """What an operator says of the planes.

    At `scale` s the planes are averaged over s × s pixels, and `sigma` and `window` are s times as
    wide on the planes as they were. What is averaged over a wide window is smooth: it is kept at
    every `step`-th pixel only, for cubic B-splines to make it whole again. What the averaging and
    the splines add to `sigma` and `window` is taken off beforehand.
    """

    planes: Any  # (Z, Y, X[, 3])
    operator: str
    sigma: float
    window: float

    @property
    def shape(self) -> tuple[int, int]:
        """Of a plane."""
        return tuple(self.planes.shape[1:3])

    def with_window(self, window: float) -> Measurement:
        """The same with another window."""
        return dataclasses.replace(self, window=window)

    def step(self, scale: int = 1) -> int:
        """Pixels of the planes to a pixel of the measure: a power of 2, up to `GRID`."""
        full, step = self._full(scale), scale
        while 2 * step <= GRID_PX and full / (2 * step) ** 2 >= NARROWEST:
            step *= 2
        return step

    def variance(self, scale: int = 1) -> float:
        """Variance of the averaging window, in pixels² of the measure."""
        step = self.step(scale)
        return max(self._full(scale) / step**2 - SPLINE * (step > 1), 0.0)

    def _full(self, scale: int) -> float:
        """Variance of the window at `scale`, in pixels² of the planes."""
        return ((scale * (self.window - 1) + 1) ** 2 - 1) / 12

    def __call__(self, wanted: Window, scale: int = 1) -> np.ndarray:
        """Focus of the pixels in `wanted`: (Z, Y / step, X / step) float32, at least 0."""
        of_plane, step = operators.OPERATORS[self.operator], self.step(scale)
        sigma = sqrt(max(self.sigma**2 - (1 - scale**-2) / 12, 0.0))
        window = sqrt(12 * self.variance(scale) * (step / scale) ** 2 + 1)
        around = wanted.expand(scale * operators.reach(self.operator, sigma, window), self.shape)
        rows, columns = (
            slice(part.start // step, -(-part.stop // step)) for part in wanted.slices_in(around)
        )
        out = np.empty(
            (self.planes.shape[0], rows.stop - rows.start, columns.stop - columns.start), np.float32
        )
        for k in range(len(out)):
            plane = block_means(luminance(read_plane(self.planes, k, around.slices)), scale)
            measured = of_plane(plane, sigma, window, step // scale)
            np.maximum(measured[rows, columns], 0, out=out[k])
        return out
