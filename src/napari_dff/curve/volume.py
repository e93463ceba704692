"""Focus volumes that are never held: curves and their noise, given window by window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from napari_dff.compiled import kernel
from napari_dff.curve.noise import NOISE_RADIUS_PX, NOISE_SIGMA_PX, Noise, compute_noise
from napari_dff.stack import MIN_PLANES
from napari_dff.validation import as_numbers
from napari_dff.windows import Window, plan_windows

VOLUMES_PER_WINDOW = (
    2.2  # float32 volumes of a window that are held at a time while its curves are measured
)
WINDOW_MARGIN_PX = 20  # pixels, by about how much windows are grown for it
STEPS = 20.0  # codes in one unit of ln(measure): curves are kept to 2.5 %


class FocusVolume(Protocol):
    """Focus curves of a stack."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Z, Y, X."""
        ...

    def read(self, wanted: Window) -> tuple[np.ndarray, Noise]:
        """Curves, (Z, Y, X) float32, and their noise, of the pixels in `wanted`."""
        ...


@dataclass(frozen=True)
class LazyFocusVolume:
    """Curves that are computed, or cut out of an array, whenever they are asked for.

    Where curves of neighbours are alike over `alike` pixels, their noise is read off every so many.
    """

    shape: tuple[int, int, int]
    curves: Callable[[Window], np.ndarray]
    alike: int = 1

    def read(self, wanted: Window) -> tuple[np.ndarray, Noise]:
        """Curves and noise of the pixels in `wanted`."""
        around = wanted.expand(NOISE_RADIUS_PX, self.shape[1:])
        curves, inner, every = self.curves(around), wanted.slices_in(around), self.alike
        noise = compute_noise(curves[:, ::every, ::every], NOISE_SIGMA_PX / every)
        if every > 1:
            size = tuple(every * n for n in noise.floor.shape[::-1])
            noise = Noise(*(cv2.resize(part, size) for part in noise))
        floor, fluctuation = (part[inner] for part in noise)
        return _cut(curves, inner), Noise(floor, fluctuation)


class QuantizedFocusVolume:
    """Curves that are computed once and kept for a second look, one byte a plane.

    What is kept is how far each value lies below the highest of its curve, as a logarithm in steps
    of 1 / `STEPS`; what is more than 12.7 units below it counts as 12.7.
    """

    def __init__(self, source: FocusVolume) -> None:
        self._source = source
        self._codes = np.empty(source.shape, np.uint8)
        self._height, self._floor, self._fluctuation = (
            np.full(source.shape[1:], np.nan, np.float32) for _ in range(3)
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Z, Y, X."""
        return self._source.shape

    def read(self, wanted: Window) -> tuple[np.ndarray, Noise]:
        """Curves and noise of the pixels in `wanted`: as kept, computed where they aren't yet."""
        here = wanted.slices
        if np.isnan(self._height[here]).any():
            curves, noise = self._source.read(wanted)
            _encode(curves, self._codes[(..., *here)], self._height[here])
            self._floor[here], self._fluctuation[here] = noise
            return curves, noise
        curves = _decode(self._codes[(..., *here)], self._height[here])
        return curves, Noise(self._floor[here], self._fluctuation[here])


@dataclass(frozen=True)
class FocusVolumeView:
    """The curves of one window of a volume, noise and all as in the whole."""

    source: FocusVolume
    window: Window

    @property
    def shape(self) -> tuple[int, int, int]:
        """Z, Y, X."""
        return (self.source.shape[0], *self.window.shape)

    def read(self, wanted: Window) -> tuple[np.ndarray, Noise]:
        """Curves and noise of the pixels in `wanted`, counted from the corner of the window."""
        down, right = self.window.top, self.window.left
        rows = wanted.top + down, wanted.bottom + down
        return self.source.read(Window(*rows, wanted.left + right, wanted.right + right))


def focus_windows(volume: FocusVolume) -> list[Window]:
    """Windows for which the curves of `volume` are read one after the other."""
    count, height, width = volume.shape
    return plan_windows((height, width), round(VOLUMES_PER_WINDOW * count), WINDOW_MARGIN_PX)


def as_focus_volume(focus: np.ndarray) -> FocusVolume:
    """A focus volume that is held; ValueError unless (Z, Y, X), finite and at least 0."""
    values = checked_focus(focus)
    return LazyFocusVolume(values.shape, lambda wanted: values[(..., *wanted.slices)])


def checked_focus(focus: np.ndarray) -> np.ndarray:
    """`focus` as contiguous float32; ValueError unless (Z, Y, X), finite and at least 0."""
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        values = np.ascontiguousarray(as_numbers("focus", focus), dtype=np.float32)
    if values.ndim != 3 or len(values) < MIN_PLANES or values.size == 0:
        raise ValueError(
            f"focus must have axes (Z, Y, X) with at least {MIN_PLANES} planes, "
            f"got shape {values.shape}"
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and np.isfinite(high)):
        raise ValueError(f"focus must be finite and at least 0, got values from {low} to {high}")
    if high == 0:
        raise ValueError("focus must be above 0 somewhere, got 0 everywhere: nothing is sharp")
    return values


def _cut(curves: np.ndarray, inner: tuple[slice, slice]) -> np.ndarray:
    """The `inner` part of `curves`, contiguous; in the same memory where nobody else has it."""
    if not (curves.flags.owndata and curves.flags.c_contiguous):
        return np.ascontiguousarray(curves[(..., *inner)])
    height, width = (part.stop - part.start for part in inner)
    _move_together(curves, inner[0].start, inner[1].start, height, width)
    return curves.reshape(-1)[: len(curves) * height * width].reshape(-1, height, width)


@kernel
def _move_together(curves, top, left, height, width):  # type: ignore[no-untyped-def]
    """Move a part of `curves` to the front of their memory, where nothing is read any more."""
    flat, at = curves.reshape(-1), 0
    for k in range(len(curves)):
        for y in range(top, top + height):
            row = curves[k, y]
            for x in range(left, left + width):
                flat[at] = row[x]
                at += 1


@kernel
def _encode(curves, codes, height):  # type: ignore[no-untyped-def]
    count, rows, columns = curves.shape
    steps, tiny = np.float32(STEPS), np.float32(1e-30)
    for y in range(rows):
        top = np.full(columns, tiny, np.float32)
        for k in range(count):
            row = curves[k, y]
            for x in range(columns):
                top[x] = max(top[x], row[x])
        for k in range(count):
            row, code = curves[k, y], codes[k, y]
            for x in range(columns):
                below = np.log(top[x] / max(row[x], tiny)) * steps
                code[x] = np.uint8(min(below, np.float32(255)) + np.float32(0.5))
        height[y] = top


@kernel
def _decode(codes, height):  # type: ignore[no-untyped-def]
    count, rows, columns = codes.shape
    shares = np.exp(-np.arange(256) / STEPS).astype(np.float32)
    curves = np.empty((count, rows, columns), np.float32)
    for k in range(count):
        for y in range(rows):
            for x in range(columns):
                curves[k, y, x] = shares[codes[k, y, x]] * height[y, x]
    return curves
