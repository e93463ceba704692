"""Scenes that are rendered with their ground truth."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from napari_dff.model.acquisition import Acquisition
from napari_dff.model.checks import Range
from napari_dff.model.stack import FocalStack
from napari_dff.synthetic.optics import (
    apply_motion,
    blur,
    drift,
    photograph,
    record_without_noise,
    render_fluorescent,
    render_opaque,
)

SIZE_PX, COUNT, SEED = Range(16, 1 << 15, 1), Range(3, 1 << 15, 1), Range(0, 2**63 - 1, 1)
TIMES = Range(1, 1 << 15, 1)


class GroundTruth(NamedTuple):
    """A rendered focal stack with its ground truth."""

    stack: FocalStack
    depth: np.ndarray  # (Y, X) float32, in the unit of the stack
    sharp: np.ndarray  # (Y, X[, 3]) of the dtype of the planes, without defocus and noise
    textured: np.ndarray  # (Y, X) bool, where there is texture, so that depth can be measured
    transforms: np.ndarray  # (Z, 3, 3) float64, (y, x, 1) of a plane → of the middle plane


def check_scene(size: int, planes: int, seed: int) -> None:
    """Raise a ValueError unless these are the arguments of a scene."""
    SIZE_PX.check("size", size)
    COUNT.check("planes", planes)
    SEED.check("seed", seed)


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
    check_scene(size, planes, seed)
    positions = 2.0 * np.arange(planes)
    depth = positions[-1] * (0.08 + 0.84 * relief((size, size), smoothness=size / 8, seed=seed))
    sharp = noise_texture((size, size), seed=seed + 1)
    clean = render_opaque(sharp, depth, positions, defocus=0.8)
    shot = photograph(clean, photons=1500, seed=seed)
    return _truth(FocalStack(shot, positions, (0.5, 0.5), "micrometer"), depth, sharp)


def cell_sheet(size: int = 224, planes: int = 20, seed: int = 0) -> GroundTruth:
    """Render a fluorescent sheet of cells with haze: 16 bit, 800 photons, µm."""
    check_scene(size, planes, seed)
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
    check_scene(size, planes, seed)
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
    check_scene(size, planes, seed)
    positions = 1.0 * np.arange(planes)
    y, x = np.mgrid[:size, :size] / size
    depth = positions[-1] * (0.1 + 0.5 * y + 0.3 * relief((size, size), smoothness=30, seed=seed))
    bare = np.hypot(y - 0.5, x - 0.55) < 0.22
    sharp = np.where(bare, 0.4, noise_texture((size, size), slope=0.7, seed=seed + 3))
    clean = render_opaque(sharp, depth, positions, defocus=0.8)
    shot = photograph(clean, photons=2500, dtype=np.uint8, seed=seed)
    stack = FocalStack(shot, positions, (0.4, 0.4), "micrometer")
    return _truth(stack, depth, sharp, textured=~bare)


def moving_surface(
    size: int = 160,
    planes: int = 14,
    times: int = 8,
    *,
    photons: float = 1500,
    jump: float = 0.0,  # planes, by which a disc rises at once in the middle of the time-lapse
    motion: float = 1.0,  # 0: all times show the same surface
    seed: int = 0,
) -> tuple[Acquisition, np.ndarray]:
    """Render a time-lapse of a rough surface that rises and changes its shape: 16 bit, µm.

    Returns the acquisition with the axis T, and the true depth, (T, Y, X) float64, in µm.
    """
    check_scene(size, planes, seed)
    TIMES.check("times", times)
    shape, positions = (size, size), 2.0 * np.arange(planes)
    first, last = (relief(shape, smoothness=size / 8, seed=seed + i) for i in (0, 7))
    sharp = noise_texture(shape, seed=seed + 1)
    y, x = np.mgrid[:size, :size] / size
    disc = np.hypot(y - 0.35, x - 0.6) < 0.2
    stacks, depths = [], []
    for time in range(times):
        share = 0.3 * motion * time / times
        depth = 2 + (planes - 7) * ((1 - share) * first + share * last) + 0.15 * motion * time
        depth = 2.0 * (depth + jump * disc * (2 * time >= times))
        clean = render_opaque(sharp, depth, positions, defocus=0.8)
        stacks.append(photograph(clean, photons=photons, seed=seed + 100 + time))
        depths.append(depth)
    data = np.stack(stacks)
    acquisition = Acquisition(data, positions, (0.5, 0.5), "micrometer", axes=("t",))
    return acquisition, np.stack(depths)


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
