"""Noise-free planes from a sharp image and its depth, with defocus and occlusion."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

Aperture = Literal["gaussian", "disc"]
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


def render_opaque(
    sharp: np.ndarray,
    depth: np.ndarray,
    positions: np.ndarray,
    *,
    defocus: float,
    aperture: Aperture = "gaussian",
) -> np.ndarray:
    """Render an opaque surface, in which near parts occlude far parts.

    The surface is divided into depth slices of a third of the distance of two planes. The light of
    each slice is blurred in proportion to its distance from the focal plane, and attenuated by the
    slices that are at least two planes nearer. Nearer slices of the same slope do not occlude it.
    Positions increase towards the camera.

    Parameters
    ----------
    sharp : (Y, X) or (Y, X, 3) float array
        The surface in focus.
    depth : (Y, X) array
        Position of each pixel, in the unit of `positions`.
    positions : (Z,) array
        Focus position of each plane.
    defocus : float
        Standard deviation of the blur at a distance of one plane from the focus, in pixels.
    aperture : {"gaussian", "disc"}
        Shape of the point spread function.

    Returns
    -------
    (Z, Y, X[, 3]) float64

    References
    ----------
    Potmesil & Chakravarty 1981, doi:10.1145/800224.806818 (circle of confusion).
    """
    sharp = np.asarray(sharp, dtype=np.float64)
    colours = sharp if sharp.ndim == 3 else sharp[..., None]
    spacing = abs(float(np.mean(np.diff(positions))))
    slices = np.round(SLICES_PER_PLANE * np.asarray(depth, dtype=np.float64) / spacing).astype(int)
    out = np.empty((len(positions), *sharp.shape))
    for i, position in enumerate(positions):
        light = np.zeros((*depth.shape, colours.shape[2] + 1))
        occluded = np.zeros(depth.shape)
        nearer: list[tuple[int, slice, slice, np.ndarray]] = []
        for level in np.unique(slices)[::-1]:  # from the nearest to the farthest
            while nearer and nearer[0][0] >= level + SLICES_PER_PLANE * OCCLUSION_PLANES:
                _, rows, columns, cover = nearer.pop(0)
                occluded[rows, columns] += cover
            mask = (slices == level).astype(np.float64)
            layer = np.dstack([colours * mask[..., None], mask])
            height = float(depth[mask > 0].mean())
            radius = defocus * abs(height - position) / spacing
            rows, columns = _bounds(mask, margin=int(np.ceil(5 * radius)) + 2)
            part = blur(layer[rows, columns], radius, aperture)
            visible = np.clip(1 - occluded[rows, columns], 0, 1)
            light[rows, columns] += part * visible[..., None]
            nearer.append((level, rows, columns, part[..., -1]))
        picture = light[..., :-1] / np.maximum(light[..., -1:], 1e-9)
        out[i] = picture if sharp.ndim == 3 else picture[..., 0]
    return out


def render_fluorescent(
    emission: np.ndarray,
    depth: np.ndarray,
    positions: np.ndarray,
    *,
    defocus: float,
    haze: float = 0.0,
) -> np.ndarray:
    """Render a thin fluorescent sheet: light is additive, without occlusion.

    The parameters are those of `render_opaque`. `haze` is the out-of-focus light from above and
    below, as a fraction of the local mean emission. Returns (Z, Y, X) float64.
    """
    emission = np.asarray(emission, dtype=np.float64)
    spacing = abs(float(np.mean(np.diff(positions))))
    slices = np.round(SLICES_PER_PLANE * np.asarray(depth, dtype=np.float64) / spacing).astype(int)
    glow = haze * blur(emission, 12.0)
    out = np.empty((len(positions), *emission.shape))
    for i, position in enumerate(positions):
        out[i] = glow
        for level in np.unique(slices):
            mask = slices == level
            radius = defocus * abs(float(depth[mask].mean()) - position) / spacing
            rows, columns = _bounds(mask, margin=int(np.ceil(5 * radius)) + 2)
            out[i][rows, columns] += blur((emission * mask)[rows, columns], radius)
    return out


def _bounds(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Return the rows and columns of the bounding box of `mask`, with a margin."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )
