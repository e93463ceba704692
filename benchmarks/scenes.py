"""Scenes of different kinds with known truth, 512 × 512, for the benchmarks.

Rendering takes a while, so each scene is kept in a cache folder (``$NAPARI_DFF_CACHE``, or one in
the system's temporary folder) under the content of the code that renders it.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
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
}


def scene(name: str, seed: int = 0) -> GroundTruth:
    """Return a scene, rendered once and then kept."""
    code = Path(__file__).read_bytes() + Path(synthetic.__file__).read_bytes()
    key = hashlib.sha256(code + f"{name} {seed} {SIZE}".encode()).hexdigest()[:16]
    folder = Path(os.environ.get("NAPARI_DFF_CACHE", tempfile.gettempdir())) / "napari-dff-scenes"
    path = folder / f"{key}.pickle"
    if path.exists():
        return pickle.loads(path.read_bytes())
    made = SCENES[name](seed)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(made))
    return made
