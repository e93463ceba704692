"""Upsampling of a focus volume by cubic B-splines."""

from __future__ import annotations

import numpy as np

from napari_dff.runtime.jit import kernel
from napari_dff.runtime.windows import Window

SPLINE_RADIUS = 2  # samples around a pixel that its spline depends on

# Cubic B-splines
# ---------------
# The samples are the coefficients of the spline, without the usual prefilter. Sample i is the mean
# of the pixels i · step … (i + 1) · step - 1. Pixel q of a sample (its phase, 0 … step - 1) is at
# t = frac((q + 1/2) / step - 1/2) between two centres. The four samples around it begin at
# i + (2 q + 1) // step in a row that is padded by two samples. docs/methods.md, "Sampling of the
# focus measure". Along X first, then along Y: 4 + 4 multiplications a pixel instead of 16.


def upsample(
    volume: np.ndarray, step: int, window: Window, outer: Window, grid: int = 1
) -> np.ndarray:
    """Return (Z, Y / step, X / step) samples of `outer` in `window`: (Z, Y / grid, X / grid)."""
    out = np.zeros((len(volume), *window.blocks(grid).shape), np.float32)
    add_upsampled(out, np.ones(out.shape[1:], np.float32), volume, step, window, outer, grid)
    return out


def add_upsampled(
    out: np.ndarray,  # (Z, Y / grid, X / grid) float32, blocks of grid × grid pixels of `window`
    weight: np.ndarray,  # (Y / grid, X / grid) float32
    volume: np.ndarray,  # (Z, Y / step, X / step) float32, samples of `outer`
    step: int,
    window: Window,
    outer: Window,
    grid: int = 1,
) -> None:
    """Add `weight` times the spline at the centres of blocks to `out`; `grid` divides `step`."""
    if not weight.any():
        return
    rows, columns = window.blocks(grid).slices_in(outer.blocks(grid))
    if step == 1:
        for total, plane in zip(out, volume, strict=True):
            total += weight * plane[rows, columns]
        return
    step //= grid
    t = (np.arange(step) + 0.5) / step - 0.5
    t -= np.floor(t)
    taps = np.stack([(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 0 * t, t**3]) / 6
    taps[2] = 1 - taps.sum(axis=0)
    first_sample = rows.start // step, columns.start // step
    _add_splines(out, weight, volume, taps.astype(np.float32), *first_sample)


@kernel
def _add_splines(out, weight, volume, taps, top, left):  # type: ignore[no-untyped-def]
    """Compute `add_upsampled`; samples beyond the border repeat it.

    (4, step) float32 `taps` are the weights of the four samples around a pixel, for each phase;
    `top` and `left` are the first sample row and column of `out` in `volume`.
    """
    count, height, width = out.shape
    _, rows, columns = volume.shape
    step = taps.shape[1]
    sample_rows, sample_columns = -(-height // step), -(-width // step)
    lines = np.empty((sample_rows + 4, sample_columns * step), np.float32)  # upsampled along X
    padded, part = np.empty(sample_columns + 4, np.float32), np.empty(sample_columns, np.float32)
    for k in range(count):
        for i in range(sample_rows + 4):
            samples, line = volume[k, min(max(top + i - 2, 0), rows - 1)], lines[i]
            for j in range(sample_columns + 4):
                padded[j] = samples[min(max(left + j - 2, 0), columns - 1)]
            for phase in range(step):
                four = padded[(2 * phase + 1) // step :]
                a, b, c, d = taps[0, phase], taps[1, phase], taps[2, phase], taps[3, phase]
                for j in range(sample_columns):
                    part[j] = a * four[j] + b * four[j + 1] + c * four[j + 2] + d * four[j + 3]
                for j in range(sample_columns):
                    line[j * step + phase] = part[j]
        for y in range(height):
            phase = y % step
            first = y // step + (2 * phase + 1) // step
            a, b, c, d = taps[0, phase], taps[1, phase], taps[2, phase], taps[3, phase]
            line0, line1 = lines[first], lines[first + 1]
            line2, line3 = lines[first + 2], lines[first + 3]
            row, w = out[k, y], weight[y]
            for x in range(width):
                row[x] += w[x] * (a * line0[x] + b * line1[x] + c * line2[x] + d * line3[x])
