"""Focal stacks rendered from a known depth: the truth that everything else is measured against.

`render_opaque` and `render_fluorescent` turn a sharp picture and its depth into noise-free planes
with real defocus; `photograph` adds what a camera adds; `SCENES` puts them together into stacks
whose depth, sharp picture and motion are known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import cv2
import numpy as np

from napari_dff.stack import FocalStack
from napari_dff.warp import warp

Aperture = Literal["gaussian", "disc"]
SLICES = 3  # in one plane
HIDES = 2  # planes by which a slice must be nearer to stand in the way


class Truth(NamedTuple):
    """A rendered focal stack and everything that is known about it.

    Attributes
    ----------
    stack : FocalStack
        What a microscope would have recorded.
    depth : (Y, X) float32
        True focus position of each pixel, in ``stack.unit``.
    sharp : (Y, X[, 3]), dtype of the planes
        The picture without defocus and without noise.
    textured : (Y, X) bool
        Where there is anything to focus on.
    transforms : (Z, 3, 3) float64
        True motion, (y, x, 1) of a plane → of the middle plane.
    """

    stack: FocalStack
    depth: np.ndarray
    sharp: np.ndarray
    textured: np.ndarray
    transforms: np.ndarray


def blur(picture: np.ndarray, radius: float, aperture: Aperture = "gaussian") -> np.ndarray:
    """Defocus: `picture` convolved with a point spread of standard deviation `radius` pixels.

    ``gaussian`` is a lens with diffraction, ``disc`` one with a wide-open round aperture.
    """
    if radius < 0.05:
        return picture
    if aperture == "gaussian":
        return cv2.GaussianBlur(picture, (0, 0), radius, borderType=cv2.BORDER_REPLICATE)
    # A disc of radius 2 s has the standard deviation s along each axis; edges are anti-aliased.
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
    """Planes of an opaque surface: what lies nearer hides what lies behind it.

    The surface is cut into slices of a third of a plane. Each point of a slice spreads its light by
    its distance to the focus; slices at least two planes nearer stand in the way of it (the slope
    that a point lies on doesn't). Positions grow towards the camera.

    Parameters
    ----------
    sharp : (Y, X) or (Y, X, 3) float array
        The surface in perfect focus.
    depth : (Y, X) array
        Its position, in the unit of `positions`.
    positions : (Z,) array
        Focus position of each plane.
    defocus : float
        Standard deviation of the blur, in pixels, one plane away from the focus.
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
    slices = np.round(SLICES * np.asarray(depth, dtype=np.float64) / spacing).astype(int)
    out = np.empty((len(positions), *sharp.shape))
    for i, position in enumerate(positions):
        light = np.zeros((*depth.shape, colours.shape[2] + 1))
        hidden = np.zeros(depth.shape)
        nearer: list[tuple[int, slice, slice, np.ndarray]] = []
        for level in np.unique(slices)[::-1]:  # from the nearest to the farthest
            while nearer and nearer[0][0] >= level + SLICES * HIDES:
                _, rows, columns, cover = nearer.pop(0)
                hidden[rows, columns] += cover
            mask = (slices == level).astype(np.float64)
            layer = np.dstack([colours * mask[..., None], mask])
            height = float(depth[mask > 0].mean())
            radius = defocus * abs(height - position) / spacing
            rows, columns = _bounds(mask, margin=int(np.ceil(5 * radius)) + 2)
            part = blur(layer[rows, columns], radius, aperture)
            seen = np.clip(1 - hidden[rows, columns], 0, 1)
            light[rows, columns] += part * seen[..., None]
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
    """Planes of a thin glowing sheet: light adds up, nothing hides anything.

    Parameters are those of `render_opaque`; `haze` is the out-of-focus light from above and below,
    as a share of the mean emission. Returns (Z, Y, X) float64.
    """
    emission = np.asarray(emission, dtype=np.float64)
    spacing = abs(float(np.mean(np.diff(positions))))
    slices = np.round(SLICES * np.asarray(depth, dtype=np.float64) / spacing).astype(int)
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


def photograph(
    planes: np.ndarray,
    *,
    photons: float,
    read_noise: float = 2.0,
    dtype: type[np.uint8] | type[np.uint16] = np.uint16,
    seed: int = 0,
) -> np.ndarray:
    """What a camera records of `planes` (0 … 1): shot noise, read noise, digits.

    Parameters
    ----------
    planes : float array, any shape
        1 is the full range of the camera.
    photons : float
        Electrons in a pixel of value 1.
    read_noise : float
        Standard deviation in electrons.
    dtype : uint8 or uint16
        Of the result.
    seed : int
        Of the noise.
    """
    rng = np.random.default_rng(seed)
    # Rounding before drawing makes the noise the same whichever way a machine adds up a blur.
    electrons = np.round(np.clip(planes, 0, None) * photons, 6)
    counts = rng.poisson(electrons) + rng.normal(0, read_noise, planes.shape)
    top = np.iinfo(dtype).max
    return np.clip(np.round(counts / photons * 0.9 * top), 0, top).astype(dtype)


def recorded(picture: np.ndarray, dtype: type[np.uint8] | type[np.uint16]) -> np.ndarray:
    """`picture` (0 … 1) as `photograph` would record it without any noise."""
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
    """Motion of a stack: a wandering drift with breathing, relative to the middle plane.

    Parameters
    ----------
    count : int
        Planes.
    shape : (int, int)
        Height and width, in pixels.
    shift : float
        Drift from the first plane to the last, in pixels; a tenth of it is hand-held jitter.
    magnification : float
        Relative growth from the first plane to the last (0.03 is 3 %).
    rotation : float
        Degrees from the first plane to the last.
    seed : int
        Of direction and jitter.

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


def moved(planes: np.ndarray, transforms: np.ndarray, *, margin: int) -> np.ndarray:
    """Return `planes` (float, aligned) as a camera that moves by `transforms` would see them.

    The planes show `margin` pixels more on every side than the result, so that nothing is invented
    at its border.
    """
    inset = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1]])
    shape = (planes.shape[1] - 2 * margin, planes.shape[2] - 2 * margin)
    return np.stack(
        [
            warp(plane, np.linalg.inv(inset @ matrix), shape)
            for plane, matrix in zip(planes, transforms, strict=True)
        ]
    )


def noise_texture(shape: tuple[int, int], *, slope: float = 0.8, seed: int = 0) -> np.ndarray:
    """Return a rough surface of grains of all sizes: (Y, X) float64, 0 … 1, spectrum 1/f^slope."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    frequency[0, 0] = 1 / max(shape)
    spectrum = np.fft.rfft2(rng.normal(size=shape)) / frequency**slope
    picture = np.fft.irfft2(spectrum, s=shape)
    picture = (picture - picture.mean()) / picture.std()
    return np.clip(0.45 + 0.16 * picture, 0.02, 1.0)


def relief(shape: tuple[int, int], *, smoothness: float = 40.0, seed: int = 0) -> np.ndarray:
    """Return smooth random heights: (Y, X) float64, 0 … 1, features of `smoothness` pixels."""
    rng = np.random.default_rng(seed)
    margin = int(3 * smoothness)
    noise = rng.normal(size=(shape[0] + 2 * margin, shape[1] + 2 * margin))
    heights = blur(noise, smoothness)[margin:-margin, margin:-margin]
    return (heights - heights.min()) / np.ptp(heights)


def rough_surface(size: int = 256, planes: int = 20, seed: int = 0) -> Truth:
    """Rough opaque surface under a reflected-light microscope: 16 bit, 1,500 photons, µm."""
    positions = 2.0 * np.arange(planes)
    depth = positions[-1] * (0.08 + 0.84 * relief((size, size), smoothness=size / 8, seed=seed))
    sharp = noise_texture((size, size), seed=seed + 1)
    clean = render_opaque(sharp, depth, positions, defocus=0.8)
    stack = FocalStack(
        photograph(clean, photons=1500, seed=seed), positions, (0.5, 0.5), "micrometer"
    )
    return _truth(stack, depth, sharp, np.ones((size, size), dtype=bool))


def cell_sheet(size: int = 224, planes: int = 20, seed: int = 0) -> Truth:
    """Fluorescent sheet of cells with haze: 16 bit, 800 photons, µm."""
    rng = np.random.default_rng(seed)
    positions = 0.5 * np.arange(planes)
    depth = positions[-1] * (0.15 + 0.7 * relief((size, size), smoothness=size / 5, seed=seed))
    outlines = np.zeros((size, size))
    count = max(2, size * size // 1200)
    seeds = rng.uniform(0, size, (count, 2))
    y, x = np.mgrid[:size, :size]
    distances = np.sort(np.hypot(y[..., None] - seeds[:, 0], x[..., None] - seeds[:, 1]), axis=2)
    outlines = np.exp(-((distances[..., 1] - distances[..., 0]) ** 2) / 4)
    grains = np.zeros((size, size))
    at = rng.integers(0, size, (2, size * size // 60))
    grains[at[0], at[1]] = rng.uniform(0.3, 1, at.shape[1])
    emission = 0.5 * outlines + 1.6 * blur(grains, 0.8) + 0.04
    emission = np.clip(emission / emission.max(), 0, 1)
    clean = render_fluorescent(emission, depth, positions, defocus=0.9, haze=0.5)
    sharp = emission + 0.5 * blur(emission, 12.0)
    scale = 0.95 / max(sharp.max(), clean.max())
    stack = FocalStack(
        photograph(scale * clean, photons=800, seed=seed), positions, (0.2, 0.2), "micrometer"
    )
    return _truth(stack, depth, scale * sharp, np.ones((size, size), dtype=bool))


def machined_part(size: int = 256, planes: int = 16, seed: int = 0) -> Truth:
    """Steps, a ramp and a dome in colour, hand-held drift and breathing: RGB, 8 bit, mm."""
    margin = size // 16
    positions = 0.1 * np.arange(planes)
    y, x = np.mgrid[-margin : size + margin, -margin : size + margin] / size
    depth = np.where(x < 0.5, np.floor(4 * np.clip(y, 0, 0.99)) / 4 * 0.7 + 0.1, 0.1 + 0.6 * y)
    away = np.hypot(y - 0.4, x - 0.6) / 0.2
    depth = np.where(away < 1, 0.55 + 0.35 * np.sqrt(np.clip(1 - away**2, 0, None)), depth)
    depth *= positions[-1]
    tint = np.stack([0.9 + 0.1 * x, 0.75 + 0.2 * y, 0.6 + 0.3 * (x < 0.5)], axis=-1)
    sharp = noise_texture(depth.shape, slope=0.6, seed=seed + 2)[..., None] * tint
    transforms = drift(planes, (size, size), shift=6, magnification=0.02, rotation=0.3, seed=seed)
    clean = moved(render_opaque(sharp, depth, positions, defocus=0.9), transforms, margin=margin)
    shot = photograph(clean, photons=4000, dtype=np.uint8, seed=seed)
    stack = FocalStack(shot, positions, (0.02, 0.02), "millimeter")
    inner = (slice(margin, -margin),) * 2
    return _truth(stack, depth[inner], sharp[inner], np.ones((size, size), dtype=bool), transforms)


def bare_patch(size: int = 224, planes: int = 20, seed: int = 0) -> Truth:
    """Rough ramp with a disc that has no texture at all: 8 bit, µm."""
    positions = 1.0 * np.arange(planes)
    y, x = np.mgrid[:size, :size] / size
    depth = positions[-1] * (0.1 + 0.5 * y + 0.3 * relief((size, size), smoothness=30, seed=seed))
    bare = np.hypot(y - 0.5, x - 0.55) < 0.22
    sharp = np.where(bare, 0.4, noise_texture((size, size), slope=0.7, seed=seed + 3))
    clean = render_opaque(sharp, depth, positions, defocus=0.8)
    shot = photograph(clean, photons=2500, dtype=np.uint8, seed=seed)
    stack = FocalStack(shot, positions, (0.4, 0.4), "micrometer")
    return _truth(stack, depth, sharp, ~bare)


SCENES: dict[str, Callable[[], Truth]] = {
    "rough_surface": rough_surface,
    "cell_sheet": cell_sheet,
    "machined_part": machined_part,
    "bare_patch": bare_patch,
}


def _truth(
    stack: FocalStack,
    depth: np.ndarray,
    sharp: np.ndarray,
    textured: np.ndarray,
    transforms: np.ndarray | None = None,
) -> Truth:
    count = stack.planes.shape[0]
    motion = np.tile(np.eye(3), (count, 1, 1)) if transforms is None else transforms
    return Truth(
        stack, depth.astype(np.float32), recorded(sharp, stack.planes.dtype.type), textured, motion
    )


def _bounds(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns that hold `mask`, with a margin."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )
