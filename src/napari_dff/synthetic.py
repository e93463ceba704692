"""Focal stacks rendered from a known depth, the ground truth for tests and benchmarks.

First the optics (defocus, occlusion), then the camera (noise, motion between planes), then scenes.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import cv2
import numpy as np

from napari_dff.imaging.warp import warp
from napari_dff.model.stack import FocalStack

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


class GroundTruth(NamedTuple):
    """A rendered focal stack with its ground truth."""

    stack: FocalStack
    depth: np.ndarray  # (Y, X) float32, in the unit of the stack
    sharp: np.ndarray  # (Y, X[, 3]) of the dtype of the planes, without defocus and noise
    textured: np.ndarray  # (Y, X) bool, where there is texture, so that depth can be measured
    transforms: np.ndarray  # (Z, 3, 3) float64, (y, x, 1) of a plane → of the middle plane


def noise_texture(shape: tuple[int, int], *, slope: float = 0.8, seed: int = 0) -> np.ndarray:
    """Return a texture with the amplitude spectrum 1/f^slope: (Y, X) float64, 0 … 1."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    frequency[0, 0] = 1 / max(shape)
    spectrum = np.fft.rfft2(rng.normal(size=shape)) / frequency**slope
    picture = np.fft.irfft2(spectrum, s=shape)
    picture = (picture - picture.mean()) / picture.std()
    return np.clip(0.45 + 0.16 * picture, 0.02, 1.0)


def relief(shape: tuple[int, int], *, smoothness: float = 40.0, seed: int = 0) -> np.ndarray:
    """Return smooth random heights, (Y, X) float64, 0 … 1: Gaussian noise, σ = `smoothness` px."""
    rng = np.random.default_rng(seed)
    margin = int(3 * smoothness)
    noise = rng.normal(size=(shape[0] + 2 * margin, shape[1] + 2 * margin))
    heights = blur(noise, smoothness)[margin:-margin, margin:-margin]
    return (heights - heights.min()) / np.ptp(heights)


def rough_surface(size: int = 256, planes: int = 20, seed: int = 0) -> GroundTruth:
    """Render a rough opaque surface in reflected light: 16 bit, 1,500 photons, µm."""
    positions = 2.0 * np.arange(planes)
    depth = positions[-1] * (0.08 + 0.84 * relief((size, size), smoothness=size / 8, seed=seed))
    sharp = noise_texture((size, size), seed=seed + 1)
    clean = render_opaque(sharp, depth, positions, defocus=0.8)
    shot = photograph(clean, photons=1500, seed=seed)
    return _truth(FocalStack(shot, positions, (0.5, 0.5), "micrometer"), depth, sharp)


def cell_sheet(size: int = 224, planes: int = 20, seed: int = 0) -> GroundTruth:
    """Render a fluorescent sheet of cells with haze: 16 bit, 800 photons, µm."""
    rng = np.random.default_rng(seed)
    positions = 0.5 * np.arange(planes)
    depth = positions[-1] * (0.15 + 0.7 * relief((size, size), smoothness=size / 5, seed=seed))
    count = max(2, size * size // 1200)
    seeds = rng.uniform(0, size, (count, 2))
    y, x = np.mgrid[:size, :size]
    distances = np.sort(np.hypot(y[..., None] - seeds[:, 0], x[..., None] - seeds[:, 1]), axis=2)
    outlines = np.exp(-((distances[..., 1] - distances[..., 0]) ** 2) / 4)
    grains = np.zeros((size, size))
    rows, columns = rng.integers(0, size, (2, size * size // 60))
    grains[rows, columns] = rng.uniform(0.3, 1, len(rows))
    emission = 0.5 * outlines + 1.6 * blur(grains, 0.8) + 0.04
    emission = np.clip(emission / emission.max(), 0, 1)
    clean = render_fluorescent(emission, depth, positions, defocus=0.9, haze=0.5)
    sharp = emission + 0.5 * blur(emission, 12.0)
    scale = 0.95 / max(sharp.max(), clean.max())
    shot = photograph(scale * clean, photons=800, seed=seed)
    return _truth(FocalStack(shot, positions, (0.2, 0.2), "micrometer"), depth, scale * sharp)


def machined_part(size: int = 256, planes: int = 16, seed: int = 0) -> GroundTruth:
    """Render steps, a ramp and a dome, with drift and focus breathing: RGB, 8 bit, mm."""
    margin = size // 16
    positions = 0.1 * np.arange(planes)
    y, x = np.mgrid[-margin : size + margin, -margin : size + margin] / size
    depth = np.where(x < 0.5, np.floor(4 * np.clip(y, 0, 0.99)) / 4 * 0.7 + 0.1, 0.1 + 0.6 * y)
    radius = np.hypot(y - 0.4, x - 0.6) / 0.2
    depth = np.where(radius < 1, 0.55 + 0.35 * np.sqrt(np.clip(1 - radius**2, 0, None)), depth)
    depth *= positions[-1]
    tint = np.stack([0.9 + 0.1 * x, 0.75 + 0.2 * y, 0.6 + 0.3 * (x < 0.5)], axis=-1)
    sharp = noise_texture(depth.shape, slope=0.6, seed=seed + 2)[..., None] * tint
    transforms = drift(planes, (size, size), shift=6, magnification=0.02, rotation=0.3, seed=seed)
    clean = render_opaque(sharp, depth, positions, defocus=0.9)
    clean = apply_motion(clean, transforms, margin=margin)
    shot = photograph(clean, photons=4000, dtype=np.uint8, seed=seed)
    stack = FocalStack(shot, positions, (0.02, 0.02), "millimeter")
    inner = (slice(margin, -margin),) * 2
    return _truth(stack, depth[inner], sharp[inner], transforms=transforms)


def bare_patch(size: int = 224, planes: int = 20, seed: int = 0) -> GroundTruth:
    """Render a rough ramp with a disc without texture: 8 bit, µm."""
    positions = 1.0 * np.arange(planes)
    y, x = np.mgrid[:size, :size] / size
    depth = positions[-1] * (0.1 + 0.5 * y + 0.3 * relief((size, size), smoothness=30, seed=seed))
    bare = np.hypot(y - 0.5, x - 0.55) < 0.22
    sharp = np.where(bare, 0.4, noise_texture((size, size), slope=0.7, seed=seed + 3))
    clean = render_opaque(sharp, depth, positions, defocus=0.8)
    shot = photograph(clean, photons=2500, dtype=np.uint8, seed=seed)
    stack = FocalStack(shot, positions, (0.4, 0.4), "micrometer")
    return _truth(stack, depth, sharp, textured=~bare)


def _truth(
    stack: FocalStack,
    depth: np.ndarray,
    sharp: np.ndarray,
    *,
    textured: np.ndarray | None = None,  # everywhere when None
    transforms: np.ndarray | None = None,  # identities when None
) -> GroundTruth:
    if textured is None:
        textured = np.ones(depth.shape, dtype=bool)
    if transforms is None:
        transforms = np.tile(np.eye(3), (len(stack.planes), 1, 1))
    picture = record_without_noise(sharp, stack.planes.dtype.type)
    return GroundTruth(stack, depth.astype(np.float32), picture, textured, transforms)


SCENES: dict[str, Callable[[], GroundTruth]] = {
    scene.__name__: scene for scene in (rough_surface, cell_sheet, machined_part, bare_patch)
}
