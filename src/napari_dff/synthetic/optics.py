"""Optics (defocus, occlusion), then the camera (noise, motion between planes)."""

from typing import Literal

import cv2
import numpy as np

from napari_dff.imaging.warp import warp

Aperture = Literal["gaussian", "disc"]  # of a lens with diffraction, without diffraction
Box = tuple[slice, slice]  # rows and columns
PixelType = type[np.uint8] | type[np.uint16]
SLICES_PER_PLANE = 3  # depth slices in the distance of two planes
OCCLUSION_PLANES = 2  # a slice occludes those that lie at least this number of planes behind


def blur(picture: np.ndarray, radius: float, aperture: Aperture = "gaussian") -> np.ndarray:
    """Convolve `picture` with a point spread function of standard deviation `radius` pixels."""
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
    defocus: float,  # standard deviation of the blur one plane from the focus, in pixels
    aperture: Aperture = "gaussian",
) -> np.ndarray:
    """Render an opaque surface, in which near parts occlude far parts: (Z, Y, X[, 3]) float64."""
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
    haze: float = 0.0,  # light from above and below, relative to the local mean emission
) -> np.ndarray:
    """Render a thin fluorescent sheet, as `render_opaque` but additive, without occlusion."""
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


def render_in_front(
    planes: np.ndarray,  # (Z, Y, X) float, of what lies behind, without the object
    mask: np.ndarray,  # (Y, X) bool, where the object is
    brightness: float,
    depth: float,  # of the object, in the unit of `positions`
    positions: np.ndarray,
    *,
    defocus: float,
    aperture: Aperture = "gaussian",
) -> np.ndarray:
    """Render an opaque object, such as a hair, in front of rendered planes: (Z, Y, X) float64.

    Where it is out of focus, what lies behind it shines through. `render_opaque` draws nothing
    behind near parts, so that a thin one would be sharp in the plane of what is behind it, too.
    """
    spacing = abs(float(np.mean(np.diff(positions))))
    radii = defocus * np.abs(np.asarray(positions) - depth) / spacing
    cover = np.stack([blur(mask.astype(np.float64), radius, aperture) for radius in radii])
    return planes + cover * (brightness - planes)


def _depth_slices(depth: np.ndarray, spacing: float) -> list[tuple[int, float, np.ndarray]]:
    """Return number, mean depth and (Y, X) mask of each slice, from the farthest to the nearest."""
    slices = np.round(SLICES_PER_PLANE * np.asarray(depth, dtype=np.float64) / spacing).astype(int)
    masks = [(level, slices == level) for level in np.unique(slices)]
    return [(level, float(depth[mask].mean()), mask) for level, mask in masks]


def _bounding_box(mask: np.ndarray, radius: float) -> Box:
    margin = int(np.ceil(5 * radius)) + 2
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    return slice(top, rows[-1] + margin + 1), slice(left, columns[-1] + margin + 1)


def photograph(
    planes: np.ndarray,  # float, any shape
    *,
    photons: float,  # collected by a pixel of value 1, as electrons
    read_noise: float = 2.0,  # standard deviation in electrons
    dtype: PixelType = np.uint16,
    seed: int = 0,
) -> np.ndarray:
    """Add shot noise and read noise to `planes` (0 … 1), and quantize them."""
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
    shift: float,  # pixels, in a random direction, from the first plane to the last
    magnification: float,  # relative growth, from the first plane to the last
    rotation: float = 0.0,  # degrees, likewise
    seed: int = 0,
) -> np.ndarray:
    """Return (Z, 3, 3) transforms of drift, jitter and focus breathing to the middle plane."""
    rng = np.random.default_rng(seed)
    travel = np.linspace(-0.5, 0.5, count)
    angle = rng.uniform(0, 2 * np.pi)
    offsets = shift * travel[:, None] * [np.sin(angle), np.cos(angle)]
    # The jitter is a tenth of the shift.
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
    """Resample float `planes` as a camera that moves records them, without their margin."""
    inset = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1]])
    shape = (planes.shape[1] - 2 * margin, planes.shape[2] - 2 * margin)
    pairs = zip(planes, transforms, strict=True)
    return np.stack([warp(plane, np.linalg.inv(inset @ matrix), shape) for plane, matrix in pairs])
