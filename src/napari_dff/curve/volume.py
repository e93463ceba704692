"""Focus volumes (Z, Y, X), read window by window, so that a volume need not be in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from napari_dff.curve.blocks import crop_in_place, upsample_curves, upsample_noise
from napari_dff.curve.noise import NOISE_RADIUS_PX, NOISE_SIGMA_PX, TINY, Noise, compute_noise
from napari_dff.curve.plane_mask import PlaneMaskReader, check_plane_mask, without_gaps
from napari_dff.model.checks import as_numbers
from napari_dff.model.stack import MIN_PLANES
from napari_dff.runtime.jit import kernel
from napari_dff.runtime.lazy import release_mapped_pages, temporary_array
from napari_dff.runtime.windows import MAX_WINDOW_PX, Window, full_window, plan_windows

VOLUMES_PER_WINDOW = 2.2  # float32 volumes of a window in memory while its focus is measured
WINDOW_MARGIN_PX = 20  # typical margin of a window whose focus is measured
MAX_BLOCK_WINDOW_PX = 1024  # width of a window whose curves are those of blocks
CODES_PER_E_FOLD = 20.0  # quantization of ln(measure): steps of 5 %, rounded to within 2.5 %


class FocusVolume(Protocol):
    """Focus curves of a stack, computed at the centres of blocks of `step` × `step` pixels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Z, Y, X."""

    @property
    def step(self) -> int:
        """Side of the blocks in pixels."""

    def read_blocks(self, window: Window) -> tuple[np.ndarray, Noise]:
        """Return the curves of the blocks of `window`, (Z, Y / step, X / step), and their noise."""

    def read(self, window: Window) -> tuple[np.ndarray, Noise]:
        """Return the curves at the pixels in `window`, (Z, Y, X) float32, and their noise."""

    def plane_mask(self, window: Window) -> np.ndarray | None:
        """Return which planes have data in `window`, (Z, Y, X) bool; None if all have."""


@dataclass(frozen=True)
class LazyFocusVolume:
    """Curves that are computed, or sliced from an array, at every read.

    Where a plane has no data in the window that is averaged, the curve has the value of its floor.
    """

    shape: tuple[int, int, int]  # Z, Y, X
    measure: Callable[[Window], np.ndarray]  # from a window to the curves of its blocks, float32
    step: int = 1
    mask: PlaneMaskReader = lambda window: None  # where each plane has data
    averaging_px: int = 9  # width of the window that is averaged

    def read_blocks(self, window: Window) -> tuple[np.ndarray, Noise]:
        """Return the curves of the blocks of `window` and their noise."""
        outer, step = window.expand(NOISE_RADIUS_PX, self.shape[1:]), self.step
        curves, inner = self.measure(outer), window.blocks(step).slices_in(outer.blocks(step))
        mask, samples = self.plane_mask(outer), curves
        if mask is not None:
            mask = mask[:, ::step, ::step]
            samples = without_gaps(curves, mask)
        noise = compute_noise(samples, NOISE_SIGMA_PX / step)
        if mask is not None:
            np.copyto(curves, noise.floor, where=~mask)
        return crop_in_place(curves, inner), noise.part(inner)

    def read(self, window: Window) -> tuple[np.ndarray, Noise]:
        """Return the curves at the pixels in `window` and their noise."""
        return _read_pixels(self, window)

    def plane_mask(self, window: Window) -> np.ndarray | None:
        """Return which planes have data all around a pixel of `window`; None if all have."""
        radius = self.averaging_px // 2
        outer = window.expand(radius, self.shape[1:])
        mask, size = self.mask(outer), (2 * radius + 1,) * 2
        if mask is None:
            return None
        eroded = [cv2.erode(plane, np.ones(size, np.uint8)) for plane in mask.view(np.uint8)]
        return np.stack(eroded).view(bool)[(..., *window.slices_in(outer))]


class QuantizedFocusVolume:
    """Curves that are computed at the first read, and kept for later ones in one byte a value.

    The first read returns the exact curves, later ones those of `_encode`. If `in_file`, they are
    in a `temporary_array`.
    """

    def __init__(self, source: FocusVolume, *, in_file: bool = False) -> None:
        self._source, self.shape, self.step = source, source.shape, source.step
        blocks = full_window(source.shape[1:]).blocks(source.step).shape
        allocate = temporary_array if in_file else np.empty
        self._codes: np.ndarray = allocate((source.shape[0], *blocks), np.uint8)
        maps = np.full((3, *blocks), np.nan, np.float32)
        self._maximum, self._floor, self._fluctuation = maps

    def read_blocks(self, window: Window) -> tuple[np.ndarray, Noise]:
        """Return the curves of the blocks of `window` and their noise."""
        here = window.blocks(self.step).slices
        codes = np.asarray(self._codes[(..., *here)])
        if np.isnan(self._maximum[here]).any():
            curves, noise = self._source.read_blocks(window)
            _encode(curves, codes, self._maximum[here])
            self._floor[here], self._fluctuation[here] = noise
        else:
            curves = _decode(codes, self._maximum[here])
            noise = Noise(self._floor, self._fluctuation).part(here)
        release_mapped_pages(self._codes)
        return curves, noise

    def read(self, window: Window) -> tuple[np.ndarray, Noise]:
        """Return the curves at the pixels in `window` and their noise."""
        return _read_pixels(self, window)

    def plane_mask(self, window: Window) -> np.ndarray | None:
        """Return which planes have data in `window`."""
        return self._source.plane_mask(window)


@dataclass(frozen=True)
class FocusVolumeView:
    """The part of a focus volume in one window, with the noise of the full volume."""

    source: FocusVolume
    window: Window

    @property
    def shape(self) -> tuple[int, int, int]:
        """Z, Y, X."""
        return (self.source.shape[0], *self.window.shape)

    @property
    def step(self) -> int:
        """Side of the blocks in pixels."""
        return self.source.step

    def read_blocks(self, window: Window) -> tuple[np.ndarray, Noise]:
        """Return the curves of the blocks of `window`, relative to the corner of the view."""
        return self.source.read_blocks(window.shift(self.window.top, self.window.left))

    def read(self, window: Window) -> tuple[np.ndarray, Noise]:
        """Return the curves at the pixels in `window`, and their noise."""
        return self.source.read(window.shift(self.window.top, self.window.left))

    def plane_mask(self, window: Window) -> np.ndarray | None:
        """Return which planes have data in `window`."""
        return self.source.plane_mask(window.shift(self.window.top, self.window.left))


def focus_windows(shape: tuple[int, int, int], step: int) -> list[Window]:
    """Return the windows in which the curves of a volume are read one after the other.

    Curves of blocks need less memory, so that windows may be larger: what is computed around them,
    half as much again, becomes less. Small planes keep several windows, for the threads.
    """
    count, height, width = shape
    values = VOLUMES_PER_WINDOW * count / step**2
    has_wide = step > 1 and width >= 2 * MAX_BLOCK_WINDOW_PX
    limit = MAX_BLOCK_WINDOW_PX if has_wide else MAX_WINDOW_PX
    return plan_windows((height, width), values, WINDOW_MARGIN_PX, limit)


def as_focus_volume(focus: np.ndarray, plane_mask: np.ndarray | None = None) -> FocusVolume:
    """Return an array as a focus volume; ValueError unless (Z, Y, X), finite and at least 0."""
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        values = np.ascontiguousarray(as_numbers("focus", focus), dtype=np.float32)
    if values.ndim != 3 or len(values) < MIN_PLANES or values.size == 0:
        axes = f"(Z, Y, X) with at least {MIN_PLANES} planes"
        raise ValueError(f"focus must have axes {axes}, got shape {values.shape}")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and np.isfinite(high)):
        raise ValueError(f"focus must be finite and at least 0, got values from {low} to {high}")
    if high == 0:
        raise ValueError("focus must be above 0 somewhere, got 0 everywhere: nothing is sharp")
    if plane_mask is None:
        return LazyFocusVolume(values.shape, lambda window: values[(..., *window.slices)])
    mask = check_plane_mask(plane_mask, values.shape)
    return LazyFocusVolume(
        values.shape,
        lambda window: values[(..., *window.slices)].copy(),  # gaps in it are filled
        mask=lambda window: mask[(..., *window.slices)],
    )


def _read_pixels(volume: FocusVolume, window: Window) -> tuple[np.ndarray, Noise]:
    """Return the curves at the pixels in `window`, interpolated between blocks, and their noise."""
    if volume.step == 1:
        return volume.read_blocks(window)
    outer = window.expand(volume.step - 1, volume.shape[1:])
    curves, noise = volume.read_blocks(outer)
    noise, inner = upsample_noise(noise, curves, volume.step), window.slices_in(outer)
    curves = crop_in_place(upsample_curves(curves, volume.step), inner)
    return curves, noise.part(inner)


@kernel
def _encode(curves, codes, maximum):  # type: ignore[no-untyped-def]
    """Quantize (Z, Y, X) float32 curves: write (Z, Y, X) uint8 codes, and (Y, X) float32 maxima.

    A code is ln(maximum / value) in steps of 1 / `CODES_PER_E_FOLD`. Values below exp(-12.75) of
    the maximum are raised to that.
    """
    count, rows, columns = curves.shape
    steps = np.float32(CODES_PER_E_FOLD)
    for y in range(rows):
        top = np.full(columns, TINY, np.float32)
        for k in range(count):
            row = curves[k, y]
            for x in range(columns):
                top[x] = max(top[x], row[x])
        for k in range(count):
            row, code = curves[k, y], codes[k, y]
            for x in range(columns):
                below = np.log(top[x] / max(row[x], TINY)) * steps
                code[x] = np.uint8(min(below, np.float32(255)) + np.float32(0.5))
        maximum[y] = top


@kernel
def _decode(codes, maximum):  # type: ignore[no-untyped-def]
    """Return the (Z, Y, X) float32 curves that `_encode` has quantized."""
    count, rows, columns = codes.shape
    shares = np.exp(-np.arange(256) / CODES_PER_E_FOLD).astype(np.float32)
    curves = np.empty((count, rows, columns), np.float32)
    for k in range(count):
        for y in range(rows):
            for x in range(columns):
                curves[k, y, x] = shares[codes[k, y, x]] * maximum[y, x]
    return curves
