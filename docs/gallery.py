"""Make the pictures of docs/gallery.md: rendered stacks with a fault, and what helps.

Run it from the top of a clone; it prints the figures of the captions::

    python docs/gallery.py
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from napari_dff import FocalStack, Recipe, Reconstruction, depth_from_focus
from napari_dff.synthetic import (
    apply_motion,
    drift,
    noise_texture,
    photograph,
    relief,
    render_in_front,
    render_opaque,
)

FOLDER = Path(__file__).parent / "pictures"
SIZE_PX, MARGIN_PX, PLANES = 160, 20, 16
LABEL_PX, GAP_PX = 22, 4
POSITIONS = np.arange(float(PLANES))
STILL = Recipe(registration="none")
Panel = tuple[str, np.ndarray]  # label, and a grey image or a depth with NaN where unknown


def scene(size: int = SIZE_PX, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return texture and depth, (Y, X), in planes."""
    depth = 1.5 + (PLANES - 4) * relief((size, size), smoothness=size / 6, seed=seed)
    return noise_texture((size, size), seed=seed), depth


def shoot(sharp: np.ndarray, depth: np.ndarray, photons: float = 4000.0) -> np.ndarray:
    """Return photographs of a surface at all positions."""
    return photograph(render_opaque(sharp, depth, POSITIONS, defocus=0.8), photons=photons)


def solve(planes: np.ndarray, recipe: Recipe, positions: np.ndarray = POSITIONS) -> Reconstruction:
    """Return a result, and print what it warns about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = depth_from_focus(FocalStack(planes, positions), recipe)
    print(*(f"    {each.message}" for each in caught), sep="\n", end="\n" if caught else "")
    return result


def depth_panel(label: str, result: Reconstruction, truth: np.ndarray) -> Panel:
    """Return the depth where it is known, and print its error."""
    depth, uncertainty = result.refined.depth, result.refined.uncertainty
    known = np.isfinite(uncertainty)
    error = np.abs(depth - truth)[known].mean() if known.any() else np.nan
    print(f"    {label}: error {error:.2f} planes, {1 - known.mean():.0%} never in focus")
    return label, np.where(known, depth, np.nan)


def no_texture() -> list[Panel]:
    sharp, depth = scene()
    rows, columns = np.mgrid[:SIZE_PX, :SIZE_PX] - SIZE_PX / 2
    sharp = np.where(np.hypot(rows, columns) < 45, sharp.mean(), sharp)
    planes = shoot(sharp, depth)
    return [("a plane", planes[8]), depth_panel("depth", solve(planes, STILL), depth)]


def noise() -> list[Panel]:
    sharp, depth = scene()
    planes = shoot(0.4 + 0.15 * sharp, depth, photons=700)
    small, large = (
        solve(planes, Recipe(registration="none", window=window, sigma=sigma))
        for window, sigma in ((5, 0.7), (21, 1.5))
    )
    panels = [depth_panel("window 5", small, depth), depth_panel("window 21", large, depth)]
    return [("a plane", planes[8]), *panels]


def motion() -> list[Panel]:
    sharp, depth = scene(SIZE_PX + 2 * MARGIN_PX)
    light = render_opaque(sharp, depth, POSITIONS, defocus=0.8)
    moves = drift(PLANES, light.shape[1:], shift=8, magnification=0.02, seed=2)
    moves[:, :2, 2] += np.random.default_rng(0).normal(0, 4, (PLANES, 2))  # hand-held
    moves = np.linalg.inv(moves[PLANES // 2]) @ moves  # truth is that of the middle plane
    planes = photograph(apply_motion(light, moves, margin=MARGIN_PX), photons=4000)
    truth = depth[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    wrong, right = solve(planes, STILL), solve(planes, Recipe())
    return [
        ("not aligned", wrong.all_in_focus),
        depth_panel("not aligned", wrong, truth),
        ("aligned", right.all_in_focus),
        depth_panel("aligned", right, truth),
    ]


def too_short() -> list[Panel]:
    sharp, depth = scene()
    planes = shoot(sharp, depth)
    short = solve(planes[:9], STILL, POSITIONS[:9])
    panels = [depth_panel("planes 0 to 8", short, depth)]
    panels.append(depth_panel("all planes", solve(planes, STILL), depth))
    return [("planes 0 to 8", short.all_in_focus), *panels]


def order() -> list[Panel]:
    sharp, depth = scene()
    planes = shoot(sharp, depth)
    by_text = sorted(range(PLANES), key=str)  # 0, 1, 10, 11, …, 2, 3
    return [
        depth_panel("order 0, 1, 10, 11, …", solve(planes[by_text], STILL), depth),
        depth_panel("order 0, 1, 2, 3, …", solve(planes, STILL), depth),
    ]


def coarse_steps() -> list[Panel]:
    sharp, depth = scene()
    planes = photograph(render_opaque(sharp, depth, POSITIONS, defocus=2.0), photons=4000)
    coarse = solve(planes[::5], STILL, POSITIONS[::5])
    panels = [depth_panel("every 5th plane", coarse, depth)]
    panels.append(depth_panel("all planes", solve(planes, STILL), depth))
    return [("every 5th plane", coarse.all_in_focus), *panels]


def hair() -> list[Panel]:
    texture, _ = scene()
    mask = np.zeros((SIZE_PX, SIZE_PX), bool)
    columns = np.arange(SIZE_PX)
    for column in columns:
        row = SIZE_PX // 2 + round(25 * np.sin(column / 30))
        mask[row : row + 2, column] = True
    depth = np.where(mask, 12.0, 3.0)
    ground = render_opaque(texture, np.full(mask.shape, 3.0), POSITIONS, defocus=0.8)
    panels = []
    for name, brightness in (("dark", 0.05), ("grey", 0.35)):
        clean = render_in_front(ground, mask, brightness, 12.0, POSITIONS, defocus=0.8)
        planes = photograph(clean, photons=4000.0)
        result = solve(planes, STILL)
        panels += [(f"{name} hair", planes[12]), depth_panel("depth", result, depth)]
        medians = np.median([result.refined.depth[mask], result.refined.uncertainty[mask]], axis=1)
        print("    on the hair: depth {:.1f}, uncertainty {:.1f}".format(*medians))
    return [*panels, ("truth", depth)]


CASES = (no_texture, noise, motion, too_short, order, coarse_steps, hair)


def draw(panels: list[Panel], path: Path) -> None:
    """Write panels side by side, at 100 %."""
    step = SIZE_PX + GAP_PX
    width, height = len(panels) * step - GAP_PX, SIZE_PX + LABEL_PX
    figure = Figure((width / 100, height / 100), dpi=100, facecolor="white")
    for k, (label, image) in enumerate(panels):
        centre = (k * step + SIZE_PX / 2) / width, 1 - LABEL_PX / 2 / height
        figure.text(*centre, label, ha="center", va="center", fontsize=9)
        look: dict[str, Any] = {"cmap": "gray"}
        if image.dtype.kind == "f":
            look = {"cmap": "viridis", "vmin": 0, "vmax": PLANES - 1}
        figure.figimage(image, k * step, 0, origin="upper", **look)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    for case in CASES:
        print(case.__name__)
        draw(case(), FOLDER / f"gallery_{case.__name__}.png")
