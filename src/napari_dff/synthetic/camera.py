"""Camera model: noise, quantization, and motion between planes."""

from __future__ import annotations

import numpy as np

from napari_dff.imaging.warp import warp

PixelType = type[np.uint8] | type[np.uint16]


def photograph(
    planes: np.ndarray,  # float, any shape
    *,
    photons: float,
    read_noise: float = 2.0,
    dtype: PixelType = np.uint16,
    seed: int = 0,
) -> np.ndarray:
    """Add shot noise and read noise to `planes` (0 … 1), and quantize them.

    A pixel of value 1 collects `photons` electrons; `read_noise` is their standard deviation.
    """
    rng = np.random.default_rng(seed)
    # Rounding makes the random numbers independent of the rounding errors of the blur.
    electrons = np.round(np.clip(planes, 0, None) * photons, 6)
    counts = rng.poisson(electrons) + rng.normal(0, read_noise, planes.shape)
    return record_without_noise(counts / photons, dtype)


def record_without_noise(picture: np.ndarray, dtype: PixelType) -> np.ndarray:
    """Quantize `picture` (0 … 1); 1 is 90 % of the range of `dtype`."""
    top = np.iinfo(dtype).max
    return np.clip(np.round(picture * 0.9 * top), 0, top).astype(dtype)


def drift(
    count: int,
    shape: tuple[int, int],
    *,
    shift: float,
    magnification: float,
    rotation: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """Return (Z, 3, 3) transforms of drift, jitter and focus breathing to the middle plane.

    From the first of `count` planes to the last they amount to `shift` pixels in a random
    direction, relative growth by `magnification` and `rotation` degrees. The jitter is a tenth of
    the shift.
    """
    rng = np.random.default_rng(seed)
    travel = np.linspace(-0.5, 0.5, count)
    angle = rng.uniform(0, 2 * np.pi)
    offsets = shift * travel[:, None] * [np.sin(angle), np.cos(angle)]
    offsets += rng.normal(0, 0.1 * shift / np.sqrt(count), (count, 2)).cumsum(axis=0)
    centre = (np.array(shape) - 1) / 2
    matrices = np.tile(np.eye(3), (count, 1, 1))
    for matrix, part, offset in zip(matrices, travel, offsets, strict=True):
        turn, scale = np.deg2rad(rotation * part), 1 + magnification * part
        linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        matrix[:2, :2] = linear
        matrix[:2, 2] = centre - linear @ centre + offset
    return np.linalg.inv(matrices[count // 2]) @ matrices


def apply_motion(planes: np.ndarray, transforms: np.ndarray, *, margin: int) -> np.ndarray:
    """Resample aligned `planes` (float) as a camera that moves by `transforms` records them.

    `planes` are larger than the result by `margin` pixels on every side, so that its border
    contains no extrapolated pixels.
    """
    inset = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1]])
    shape = (planes.shape[1] - 2 * margin, planes.shape[2] - 2 * margin)
    pairs = zip(planes, transforms, strict=True)
    return np.stack([warp(plane, np.linalg.inv(inset @ matrix), shape) for plane, matrix in pairs])
