"""Noise-free planes from a sharp image and its depth, with defocus and occlusion."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

Aperture = Literal["gaussian", "disc"]
Box = tuple[slice, slice]  # rows and columns
SLICES_PER_PLANE = 3  # depth slices in the distance of two planes
OCCLUSION_PLANES = 2  # a slice occludes those that lie at least this number of planes behind


def blur(picture: np.ndarray, radius: float, aperture: Aperture = "gaussian") -> np.ndarray:
    """Convolve `picture` with a point spread function of standard deviation `radius` pixels.

    ``gaussian`` models a lens with diffraction, ``disc`` a circular aperture without it.
    """
    if radius < 0.05:
        return picture
    if aperture == "gaussian":
        return cv2.GaussianBlur(picture, (0, 0), radius, borderType=cv2.BORDER_REPLICATE)
    # A disc of radius 2 σ has the standard deviation σ along each axis; its edge is anti-aliased.
    half = int(np.ceil(2 * radius)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    disc = np.clip(2 * radius + 0.5 - np.hypot(y, x), 0, 1)
    return cv2.filter2D(picture, -1, disc / disc.sum(), borderType=cv2.BORDER_REPLICATE)


# The surface is divided into depth slices of a third of the distance of two planes. The light of
# each slice is blurred in proportion to its distance from the focal plane (circle of confusion,
# Potmesil & Chakravarty 1981, doi:10.1145/800224.806818), and attenuated by the slices that are at
# least two planes nearer. Nearer slices of the same slope do not occlude it.
def render_opaque(
    sharp: np.ndarray,  # (Y, X[, 3]) float, the surface in focus
    depth: np.ndarray,  # (Y, X), in the unit of `positions`
    positions: np.ndarray,  # (Z,), increasing towards the camera
    *,
    defocus: float,
    aperture: Aperture = "gaussian",
) -> np.ndarray:
    """Render an opaque surface, in which near parts occlude far parts: (Z, Y, X[, 3]) float64.

    `defocus` is the standard deviation of the blur one plane from the focus, in pixels.
    """
    sharp = np.asarray(sharp, dtype=np.float64)
    colours = sharp if sharp.ndim == 3 else sharp[..., None]
    spacing = abs(float(np.mean(np.diff(positions))))
    slices = _depth_slices(depth, spacing)
    out = np.empty((len(positions), *sharp.shape))
    for i, position in enumerate(positions):
        light = np.zeros((*depth.shape, colours.shape[2] + 1))
        occluded = np.zeros(depth.shape)
        nearer: list[tuple[int, Box, np.ndarray]] = []
        for level, height, mask in reversed(slices):
            while nearer and nearer[0][0] >= level + SLICES_PER_PLANE * OCCLUSION_PLANES:
                _, box, cover = nearer.pop(0)
                occluded[box] += cover
            radius = defocus * abs(height - position) / spacing
            box = _bounding_box(mask, radius)
            layer = np.dstack([colours[box] * mask[box][..., None], mask[box]])
            part = blur(layer, radius, aperture)
            light[box] += part * np.clip(1 - occluded[box], 0, 1)[..., None]
            nearer.append((level, box, part[..., -1]))
        picture = light[..., :-1] / np.maximum(light[..., -1:], 1e-9)
        out[i] = picture.reshape(sharp.shape)
    return out


def render_fluorescent(
    emission: np.ndarray,
    depth: np.ndarray,
    positions: np.ndarray,
    *,
    defocus: float,
    haze: float = 0.0,
) -> np.ndarray:
    """Render a thin fluorescent sheet, as `render_opaque` but additive, without occlusion.

    `haze` is the out-of-focus light from above and below, relative to the local mean emission.
    """
    emission = np.asarray(emission, dtype=np.float64)
    spacing = abs(float(np.mean(np.diff(positions))))
    slices = _depth_slices(depth, spacing)
    out = np.tile(haze * blur(emission, 12.0), (len(positions), 1, 1))
    for plane, position in zip(out, positions, strict=True):
        for _, height, mask in slices:
            radius = defocus * abs(height - position) / spacing
            box = _bounding_box(mask, radius)
            plane[box] += blur((emission * mask)[box], radius)
    return out


def _depth_slices(depth: np.ndarray, spacing: float) -> list[tuple[int, float, np.ndarray]]:
    """Return number, mean depth and (Y, X) mask of each slice, from the farthest to the nearest."""
    slices = np.round(SLICES_PER_PLANE * np.asarray(depth, dtype=np.float64) / spacing).astype(int)
    masks = [(level, slices == level) for level in np.unique(slices)]
    return [(level, float(depth[mask].mean()), mask) for level, mask in masks]


def _bounding_box(mask: np.ndarray, radius: float) -> Box:
    """Return the rows and columns of `mask`, with a margin for the blur."""
    margin = int(np.ceil(5 * radius)) + 2
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    return slice(top, rows[-1] + margin + 1), slice(left, columns[-1] + margin + 1)
