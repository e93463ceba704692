"""Scenes of different kinds with known truth, 512 × 512, for the benchmarks.

Rendering takes a while, so each scene is kept in a cache folder (``$NAPARI_DFF_CACHE``, or one in
the system's temporary folder) under the content of the code that renders it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage import data, transform

from napari_dff import synthetic
from napari_dff.model.stack import FocalStack
from napari_dff.synthetic import GroundTruth

SIZE = 512


def texture(name: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    """One of scikit-image's CC0 textures, 0.05 … 0.95, rolled and flipped by `seed`."""
    picture = getattr(data, name)().astype(float)
    low, high = np.percentile(picture, (1, 99))
    picture = 0.05 + 0.9 * np.clip((picture - low) / (high - low), 0, 1)
    if seed % 2:
        picture = picture[:, ::-1]
    repeats = [-(-n // 512) for n in shape]
    return np.tile(np.roll(picture, 97 * seed, (0, 1)), repeats)[: shape[0], : shape[1]]


def surface(
    name: str, photons: float, seed: int, *, planes: int = 30, aperture: str = "gaussian"
) -> GroundTruth:
    """Smooth rough surface with a texture: 16 bit."""
    shape = (SIZE, SIZE)
    z = np.arange(float(planes))
    depth = z[-1] * (0.06 + 0.88 * synthetic.relief(shape, smoothness=60, seed=seed))
    sharp = texture(name, shape, seed)
    clean = synthetic.render_opaque(sharp, depth, z, defocus=0.7, aperture=aperture)
    shot = synthetic.photograph(clean, photons=photons, seed=seed)
    return truth(FocalStack(shot, z), depth, sharp)


def truth(stack, depth, sharp, textured=None, transforms=None) -> GroundTruth:
    if textured is None:
        textured = np.ones(depth.shape, bool)
    if transforms is None:
        transforms = np.tile(np.eye(3), (len(stack.positions), 1, 1))
    picture = synthetic.record_without_noise(sharp, stack.planes.dtype.type)
    return GroundTruth(stack, depth.astype(np.float32), picture, textured, transforms)


def gravel(seed: int) -> GroundTruth:
    return surface("gravel", 1500, seed)


def noisy_brick(seed: int) -> GroundTruth:
    return surface("brick", 200, seed)


def wide_aperture(seed: int) -> GroundTruth:
    return surface("grass", 3000, seed, planes=20, aperture="disc")


def drifting_grass(seed: int) -> GroundTruth:
    margin, planes = 32, 24
    shape = (SIZE + 2 * margin,) * 2
    z = np.arange(float(planes))
    depth = z[-1] * (0.06 + 0.88 * synthetic.relief(shape, smoothness=60, seed=seed))
    sharp = texture("grass", shape, seed)
    motion = synthetic.drift(
        planes, (SIZE, SIZE), shift=9, magnification=0.03, rotation=0.4, seed=seed
    )
    clean = synthetic.apply_motion(
        synthetic.render_opaque(sharp, depth, z, defocus=0.7), motion, margin=margin
    )
    shot = synthetic.photograph(clean, photons=1500, seed=seed)
    inner = (slice(margin, -margin),) * 2
    return truth(FocalStack(shot, z), depth[inner], sharp[inner], None, motion)


def bare_disc(seed: int) -> GroundTruth:
    shape, z = (SIZE, SIZE), np.arange(30.0)
    depth = z[-1] * (0.06 + 0.88 * synthetic.relief(shape, smoothness=70, seed=seed))
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    rng = np.random.default_rng(seed)
    bare = np.hypot(y - rng.uniform(0.4, 0.6), x - rng.uniform(0.4, 0.6)) < 0.17
    sharp = np.where(bare, 0.5, texture("gravel", shape, seed))
    clean = synthetic.render_opaque(sharp, depth, z, defocus=0.7)
    shot = synthetic.photograph(clean, photons=1500, seed=seed)
    return truth(FocalStack(shot, z), depth, sharp, ~bare)


def colour_steps(seed: int) -> GroundTruth:
    """Steps, a tilted plane and a dome in colour, 8 bit."""
    z = np.arange(20.0)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    depth = np.where(x < 0.5, np.floor(4 * y) / 4 * 0.7 + 0.1, 0.1 + 0.6 * y)
    away = np.hypot(y - 0.4, x - 0.6) / 0.2
    depth = z[-1] * np.where(away < 1, 0.55 + 0.35 * np.sqrt(np.clip(1 - away**2, 0, 1)), depth)
    tint = np.stack([0.9 + 0.1 * x, 0.75 + 0.2 * y, 0.6 + 0.3 * (x < 0.5)], axis=-1)
    sharp = texture("grass", (SIZE, SIZE), seed)[..., None] * tint
    clean = synthetic.render_opaque(sharp, depth, z, defocus=0.8)
    shot = synthetic.photograph(clean, photons=3000, dtype=np.uint8, seed=seed)
    return truth(FocalStack(shot, z), depth, sharp)


def cells(seed: int) -> GroundTruth:
    return synthetic.cell_sheet(size=SIZE, planes=25, seed=seed)


def motorcycle(seed: int) -> GroundTruth:
    """Middlebury's Motorcycle, its disparity as depth: silhouettes, thin parts, weak texture."""
    left, _, disparity = data.stereo_motorcycle()
    disparity = np.where(np.isfinite(disparity), disparity, np.nan)
    offset = 20 * (seed % 3)
    cut = (slice(0, 500), slice(60 + offset, 572 + offset))
    near = disparity[cut]
    rows = np.arange(500)
    for row in rows:  # unknown disparities: those of the farther neighbour
        good = np.flatnonzero(np.isfinite(near[row]))
        left_of = np.interp(np.arange(512), good, near[row][good])
        near[row] = np.where(np.isfinite(near[row]), near[row], left_of)
    z = np.arange(24.0)
    low, high = np.percentile(near, (1, 99))
    depth = 1 + (z[-1] - 2) * np.clip((near - low) / (high - low), 0, 1)
    sharp = transform.resize(left[cut] / 255.0, (500, 512, 3)) * 0.9 + 0.03
    clean = synthetic.render_opaque(sharp, depth, z, defocus=0.6)
    shot = synthetic.photograph(clean, photons=3000, dtype=np.uint8, seed=seed)
    return truth(FocalStack(shot, z), depth, sharp)


def low_contrast(seed: int) -> GroundTruth:
    """Fine grain of a tenth of the contrast, 12 planes only."""
    shape, z = (SIZE, SIZE), np.arange(12.0)
    depth = z[-1] * (0.1 + 0.8 * synthetic.relief(shape, smoothness=80, seed=seed))
    sharp = 0.5 + 0.25 * (synthetic.noise_texture(shape, slope=0.9, seed=seed + 9) - 0.45)
    clean = synthetic.render_opaque(sharp, depth, z, defocus=1.2)
    shot = synthetic.photograph(clean, photons=8000, seed=seed)
    return truth(FocalStack(shot, z), depth, sharp)


def fence(seed: int) -> GroundTruth:
    """Thin bars in front of a far wall: silhouettes and halos."""
    shape, z = (SIZE, SIZE), np.arange(24.0)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    wall = 3.0 + 2.0 * y / SIZE
    turned = x * np.cos(0.3) + y * np.sin(0.3) + rng.uniform(0, 60)
    bar = (turned % 64) < 22
    depth = np.where(bar, 19.0 - 3.0 * x / SIZE, wall)
    sharp = np.where(bar, 0.2 + 0.5 * texture("brick", shape, seed), texture("gravel", shape, seed))
    clean = synthetic.render_opaque(sharp, depth, z, defocus=0.6)
    shot = synthetic.photograph(clean, photons=2500, seed=seed)
    return truth(FocalStack(shot, z), depth, sharp)


def weak_texture(seed: int) -> GroundTruth:
    """Sparse marks of low contrast on smooth ground, at the contrast of a polished surface."""
    shape, z = (SIZE, SIZE), np.arange(24.0)
    depth = z[-1] * (0.08 + 0.84 * synthetic.relief(shape, smoothness=80, seed=seed))
    marks = np.random.default_rng(seed).random(shape) > 0.996
    strength = ndimage.gaussian_filter(marks.astype(float), 1.2)
    sharp = 0.5 + 0.02 * (texture("gravel", shape, seed) - 0.5) - 0.6 * strength
    clean = synthetic.render_opaque(sharp, depth, z, defocus=0.8)
    shot = synthetic.photograph(clean, photons=5000, seed=seed)
    return truth(FocalStack(shot, z), depth, sharp)


def hairs(seed: int) -> GroundTruth:
    """Dark hairs 3 px wide, 11 planes before textured ground; only the hairs count."""
    shape, z = (SIZE, SIZE), np.arange(20.0)
    y, x = np.mgrid[:SIZE, :SIZE]
    angle = np.random.default_rng(seed).uniform(0.3, 1.2)
    hair = (x * np.cos(angle) + y * np.sin(angle)) % 96 < 3
    texture = synthetic.noise_texture(shape, seed=seed + 1)
    ground = synthetic.render_opaque(texture, np.full(shape, 4.0), z, defocus=0.8)
    clean = synthetic.render_in_front(ground, hair, 0.05, 15.0, z, defocus=0.8)
    shot = synthetic.photograph(clean, photons=2000, dtype=np.uint8, seed=seed)
    sharp, depth = np.where(hair, 0.05, texture), np.where(hair, 15.0, 4.0)
    return truth(FocalStack(shot, z), depth, sharp, hair)


def few_planes(seed: int) -> GroundTruth:
    """Five planes."""
    shape, z = (SIZE, SIZE), np.arange(5.0)
    depth = z[-1] * (0.12 + 0.76 * synthetic.relief(shape, smoothness=80, seed=seed))
    sharp = synthetic.noise_texture(shape, seed=seed + 1)
    clean = synthetic.render_opaque(sharp, depth, z, defocus=0.8)
    shot = synthetic.photograph(clean, photons=2000, dtype=np.uint8, seed=seed)
    return truth(FocalStack(shot, z), depth, sharp)


def blank_planes(seed: int) -> GroundTruth:
    """Three black planes among 20 of a rough surface."""
    scene = surface("gravel", 1500, seed, planes=20)
    planes = np.array(scene.stack.planes)
    planes[[3, 9, 14]] = 0
    return scene._replace(stack=dataclasses.replace(scene.stack, planes=planes))


def vignette(seed: int) -> GroundTruth:
    """Light that falls to a fifth towards the corners."""
    shape, z = (SIZE, SIZE), np.arange(24.0)
    depth = z[-1] * (0.08 + 0.84 * synthetic.relief(shape, smoothness=60, seed=seed))
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    light = 0.2 + 0.8 * np.exp(-4 * (x**2 + y**2))
    sharp = texture("grass", shape, seed)
    clean = synthetic.render_opaque(sharp, depth, z, defocus=0.7) * light
    shot = synthetic.photograph(clean, photons=1500, seed=seed)
    return truth(FocalStack(shot, z), depth, sharp * light)


def fifty_photons(seed: int) -> GroundTruth:
    return surface("brick", 50, seed)


def bright_field(seed: int) -> GroundTruth:
    """Refractive discs: dark on one side of the focus, bright on the other, thin in between."""
    z = np.arange(16.0)
    y, x = np.mgrid[:SIZE, :SIZE]
    rng = np.random.default_rng(seed)
    depth = 4 + 8 * synthetic.relief((SIZE, SIZE), smoothness=120, seed=seed)
    height = np.zeros((SIZE, SIZE))
    for cy, cx, radius in rng.uniform((20, 20, 8), (SIZE - 20, SIZE - 20, 16), (160, 3)):
        height = np.maximum(height, np.hypot(y - cy, x - cx) < radius)
    grain = 0.15 * synthetic.noise_texture((SIZE, SIZE), slope=0.8, seed=seed + 3)
    absorbed = 0.7 - 0.1 * ndimage.gaussian_filter(height, 1) - grain * height
    curvature = ndimage.gaussian_laplace(ndimage.gaussian_filter(height, 1.5), 2)
    clean = synthetic.render_opaque(absorbed, depth, z, defocus=0.7)
    defocus = z[:, None, None] - depth
    clean += 0.5 * defocus * np.exp(-((defocus / 2) ** 2)) * curvature  # ∂I/∂z ~ -I ∇²φ
    shot = synthetic.photograph(np.clip(clean, 0.02, 1), photons=3000, seed=seed)
    inside = ndimage.binary_dilation(height > 0, iterations=2)
    return truth(FocalStack(shot, z), depth, absorbed, inside)


SCENES: dict[str, Callable[[int], GroundTruth]] = {
    "gravel": gravel,
    "noisy brick": noisy_brick,
    "drifting grass": drifting_grass,
    "bare disc": bare_disc,
    "colour steps": colour_steps,
    "cells with haze": cells,
    "motorcycle": motorcycle,
    "wide aperture": wide_aperture,
    "low contrast": low_contrast,
    "fence": fence,
    "weak texture": weak_texture,
    "hairs": hairs,
    "five planes": few_planes,
    "blank planes": blank_planes,
    "vignette": vignette,
    "50 photons": fifty_photons,
    "bright field": bright_field,
}


def scene(name: str, seed: int = 0) -> GroundTruth:
    """Return a scene, rendered once and then kept."""
    files = [Path(__file__), *sorted(Path(synthetic.__file__).parent.glob("*.py"))]
    code = b"".join(file.read_bytes() for file in files)
    key = hashlib.sha256(code + f"{name} {seed} {SIZE}".encode()).hexdigest()[:16]
    folder = Path(os.environ.get("NAPARI_DFF_CACHE", tempfile.gettempdir())) / "napari-dff-scenes"
    path = folder / f"{key}.pickle"
    if path.exists():
        return pickle.loads(path.read_bytes())
    made = SCENES[name](seed)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(made))
    return made
