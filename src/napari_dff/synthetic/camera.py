"""Camera model: noise, quantization, and motion between planes."""

from __future__ import annotations

import numpy as np

from napari_dff.imaging.warp import warp


def photograph(
    planes: np.ndarray,
    *,
    photons: float,
    read_noise: float = 2.0,
    dtype: type[np.uint8] | type[np.uint16] = np.uint16,
    seed: int = 0,
) -> np.ndarray:
    """Add shot noise and read noise to `planes` (0 … 1), and quantize them.

    Parameters
    ----------
    planes : float array, any shape
        Intensities; 1 is the full range of the camera.
    photons : float
        Electrons in a pixel of value 1.
    read_noise : float
        Standard deviation in electrons.
    dtype : uint8 or uint16
        Type of the result.
    seed : int
        Seed of the noise.
    """
    rng = np.random.default_rng(seed)
    # Rounding makes the random numbers independent of the rounding errors of the blur.
    electrons = np.round(np.clip(planes, 0, None) * photons, 6)
    counts = rng.poisson(electrons) + rng.normal(0, read_noise, planes.shape)
    top = np.iinfo(dtype).max
    return np.clip(np.round(counts / photons * 0.9 * top), 0, top).astype(dtype)


def record_without_noise(
    picture: np.ndarray, dtype: type[np.uint8] | type[np.uint16]
) -> np.ndarray:
    """Quantize `picture` (0 … 1) as `photograph` does, without noise."""
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
    """Return transforms of drift, jitter and focus breathing, relative to the middle plane.

    Parameters
    ----------
    count : int
        Number of planes.
    shape : (int, int)
        Height and width, in pixels.
    shift : float
        Drift from the first plane to the last, in pixels. The jitter is a tenth of it.
    magnification : float
        Relative growth from the first plane to the last (0.03 is 3 %).
    rotation : float
        Degrees from the first plane to the last.
    seed : int
        Seed of direction and jitter.

    Returns
    -------
    (Z, 3, 3) float64
        (y, x, 1) of a plane → (y, x, 1) of the middle plane.
    """
    rng = np.random.default_rng(seed)
    travel = np.linspace(-0.5, 0.5, count)
    angle = rng.uniform(0, 2 * np.pi)
    offsets = shift * travel[:, None] * [np.sin(angle), np.cos(angle)]
    offsets += rng.normal(0, 0.1 * shift / np.sqrt(count), (count, 2)).cumsum(axis=0)
    centre = (np.array(shape) - 1) / 2
    matrices = np.empty((count, 3, 3))
    for matrix, part, offset in zip(matrices, travel, offsets, strict=True):
        turn, scale = np.deg2rad(rotation * part), 1 + magnification * part
        linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        matrix[:] = np.eye(3)
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
    return np.stack(
        [
            warp(plane, np.linalg.inv(inset @ matrix), shape)
            for plane, matrix in zip(planes, transforms, strict=True)
        ]
    )
