"""What is kept at every second, fourth … pixel, at every pixel again: cubic B-splines."""

from __future__ import annotations

import numpy as np

from napari_dff.compiled import kernel
from napari_dff.windows import Window

REACH = 2  # shrunk pixels around a pixel that its splines depend on


def enlarged(volume: np.ndarray, step: int, wanted: Window, around: Window) -> np.ndarray:
    """(Z, Y / step, X / step) `volume` of `around` at every pixel of `wanted`."""
    out = np.empty((len(volume), *wanted.shape), np.float32)
    mix_in(out, np.ones(wanted.shape, np.float32), volume, step, wanted, around, afresh=True)
    return out


def mix_in(
    out: np.ndarray,
    weight: np.ndarray,
    volume: np.ndarray,
    step: int,
    wanted: Window,
    around: Window,
    *,
    afresh: bool,
) -> None:
    """Add `weight` times the enlarged `volume` to (Z, Y, X) `out`, or begin with it `afresh`.

    Cubic B-splines over the shrunk pixels: smooth, and never below 0.
    """
    if not afresh and not weight.any():
        return
    rows, columns = wanted.slices_in(around)
    if step == 1:
        part = weight * volume[:, rows, columns]
        np.copyto(out, part) if afresh else np.add(out, part, out=out)
        return
    t = (np.arange(step) + 0.5) / step - 0.5
    t -= np.floor(t)
    taps = np.stack([(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 0 * t, t**3]) / 6
    taps[2] = 1 - taps.sum(axis=0)
    start = rows.start // step, columns.start // step
    _mix_splines(out, weight, volume, taps.astype(np.float32), *start, afresh)


@kernel
def _mix_splines(out, weight, volume, taps, top, left, afresh):  # type: ignore[no-untyped-def]
    """`mix_in` from shrunk row `top` and column `left` on; `taps` are (4, step), a column a phase.

    A pixel in the first half of a shrunk pixel lies between that and the one before, in the second
    half between that and the next: four around it begin two, or one, before.
    """
    count, height, width = out.shape
    _, rows, columns = volume.shape
    step = taps.shape[1]
    high, broad = -(-height // step), -(-width // step)
    lines = np.empty((high + 4, broad * step), np.float32)  # of shrunk rows, enlarged across
    padded, part = np.empty(broad + 4, np.float32), np.empty(broad, np.float32)
    for k in range(count):
        for i in range(high + 4):
            shrunk, line = volume[k, min(max(top + i - 2, 0), rows - 1)], lines[i]
            for j in range(broad + 4):
                padded[j] = shrunk[min(max(left + j - 2, 0), columns - 1)]
            for phase in range(step):
                four = padded[(2 * phase + 1) // step :]
                a, b, c, d = taps[0, phase], taps[1, phase], taps[2, phase], taps[3, phase]
                for j in range(broad):
                    part[j] = a * four[j] + b * four[j + 1] + c * four[j + 2] + d * four[j + 3]
                for j in range(broad):
                    line[j * step + phase] = part[j]
        for y in range(height):
            phase = y % step
            first = y // step + (2 * phase + 1) // step
            a, b, c, d = taps[0, phase], taps[1, phase], taps[2, phase], taps[3, phase]
            one, two = lines[first], lines[first + 1]
            three, four = lines[first + 2], lines[first + 3]
            mine, whose = out[k, y], weight[y]
            if afresh:
                for x in range(width):
                    mine[x] = whose[x] * (a * one[x] + b * two[x] + c * three[x] + d * four[x])
            else:
                for x in range(width):
                    mine[x] += whose[x] * (a * one[x] + b * two[x] + c * three[x] + d * four[x])
