"""How right is it? Every scene with known truth, one table.

Run from the top of a clone::

    python benchmarks/truth.py                  # all scenes, two seeds, default recipe
    python benchmarks/truth.py --samples        # the bundled stacks, with seconds and memory
    python benchmarks/truth.py --peers          # focusweave beside it (pip install focusweave)
    python benchmarks/truth.py --reliability    # errors beside the uncertainty
    python benchmarks/truth.py gravel cells --seeds 4 --set refinement=none window=15
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import NamedTuple

import numpy as np
from scenes import SCENES, scene
from skimage.metrics import structural_similarity

from napari_dff import Recipe, Reconstruction, depth_from_focus, synthetic
from napari_dff.registration.motion import transform_points
from napari_dff.synthetic import GroundTruth

COLUMNS = (
    ("depth error before", "planes"),
    ("after", "planes"),
    ("off by > 1", "%"),
    ("PSNR", "dB"),
    ("SSIM", ""),
    ("halo PSNR", "dB"),
    ("seams", "%"),
    ("sharpness", ""),
    ("within 1 σ", "%"),
    ("within 2 σ", "%"),
    ("AUSE", ""),
    ("never in focus", "%"),
    ("precision", "%"),
    ("recall", "%"),
    ("alignment mean", "px"),
    ("max", "px"),
)
MOVING = (
    "drifting grass",
    "machined_part",
)  # the scenes that move; all others are taken as they are


class Score(NamedTuple):
    """One row of the table, in the order of `COLUMNS`."""

    before: float
    after: float
    off: float
    psnr: float
    ssim: float
    halo: float
    seams: float
    sharpness: float
    one: float
    two: float
    ause: float
    never: float
    precision: float
    recall: float
    mean: float
    worst: float


def psnr(picture: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    top = np.iinfo(truth.dtype).max
    error = (picture.astype(float) - truth.astype(float))[where]
    return float(10 * np.log10(top**2 / max(np.mean(error**2), 1e-12)))


def sparsification_error(error: np.ndarray, uncertainty: np.ndarray) -> float:
    """Area under the sparsification error: 0 if sorted as the errors, 1 if by chance."""
    shares = np.linspace(0, 0.95, 20)

    def curve(values: np.ndarray) -> np.ndarray:
        return np.array([values[int(share * len(values)) :].mean() for share in shares])

    best, mine = np.sort(error)[::-1], error[np.argsort(uncertainty)[::-1]]
    chance = (error.mean() - curve(best)).sum()
    return float((curve(mine) - curve(best)).sum() / max(chance, 1e-9))


def print_reliability(name: str, truth: GroundTruth, result: Reconstruction) -> None:
    """Print the root mean square error of tenths of the pixels, beside that of their σ."""
    spacing = float(np.abs(np.diff(truth.stack.positions)).mean())
    known = np.isfinite(result.refined.uncertainty) & truth.textured & result.valid
    uncertainty = result.refined.uncertainty[known] / spacing
    error = (result.refined.depth - truth.depth)[known] / spacing
    order = np.argsort(uncertainty)
    for values, what in ((uncertainty, "σ"), (error, "error")):
        tenths = (np.sqrt((part**2).mean()) for part in np.array_split(values[order], 10))
        print(f"| {name} | {what} | " + " | ".join(f"{x:.3f}" for x in tenths) + " |", flush=True)


def near_steps(truth: GroundTruth, spacing: float, reach: int = 8) -> np.ndarray:
    """Within `reach` pixels of a jump of depth of more than two planes."""
    from scipy import ndimage

    spread = ndimage.maximum_filter(truth.depth, 3) - ndimage.minimum_filter(truth.depth, 3)
    return ndimage.binary_dilation(spread > 2 * spacing, iterations=reach)


def score(truth: GroundTruth, result: Reconstruction) -> Score:
    spacing = float(np.abs(np.diff(truth.stack.positions)).mean())
    covered = result.valid
    seen = truth.textured & covered
    before = np.abs(result.estimate.depth - truth.depth) / spacing
    after = np.abs(result.refined.depth - truth.depth) / spacing
    doubt = result.refined.uncertainty / spacing
    known = np.isfinite(doubt) & seen
    never = ~np.isfinite(result.refined.uncertainty) & covered
    bare = ~truth.textured & covered
    found = (never & bare).sum()
    steps = near_steps(truth, spacing) & covered
    height, width = truth.depth.shape
    y, x = np.meshgrid(np.linspace(0, height, 15), np.linspace(0, width, 15))
    grid = np.column_stack([y.ravel(), x.ravel()])
    misses = [
        np.hypot(*(transform_points(a, grid) - transform_points(b, grid)).T)
        for a, b in zip(result.transforms, truth.transforms, strict=True)
    ]
    moved = result.recipe.registration != "none"
    quality = result.quality
    top = np.iinfo(truth.sharp.dtype).max
    similar = structural_similarity(
        result.all_in_focus, truth.sharp, data_range=top, full=True,
        channel_axis=2 if truth.sharp.ndim == 3 else None,
    )[1]  # fmt: skip
    return Score(
        before=before[seen].mean(),
        after=after[seen].mean(),
        off=100 * (after[seen] > 1).mean(),
        psnr=psnr(result.all_in_focus, truth.sharp, covered),
        ssim=float(similar[covered].mean()),
        halo=psnr(result.all_in_focus, truth.sharp, steps) if steps.any() else np.nan,
        seams=100 * quality.seams,
        sharpness=quality.sharpness,
        one=100 * (after[known] <= doubt[known]).mean(),
        two=100 * (after[known] <= 2 * doubt[known]).mean(),
        ause=sparsification_error(after[known], doubt[known]),
        never=100 * (never & seen).sum() / seen.sum(),
        precision=100 * found / max(never.sum(), 1) if bare.any() else np.nan,
        recall=100 * found / bare.sum() if bare.any() else np.nan,
        mean=np.mean(misses) if moved else np.nan,
        worst=np.max(misses) if moved else np.nan,
    )


def run(name: str, truth: GroundTruth, settings: dict[str, object]) -> Reconstruction:
    still = {} if name in MOVING else {"registration": "none"}
    return depth_from_focus(truth.stack, Recipe.from_dict({**still, **settings}))


def peer(truth: GroundTruth) -> float:
    """PSNR of focusweave's picture, on planes aligned by truth."""
    import focusweave

    planes = truth.stack.planes
    colour = planes if planes.ndim == 4 else np.repeat(planes[..., None], 3, axis=3)
    still = [np.eye(3)[:2]] * len(planes)
    levels = focusweave.compute_levels(planes.shape[1:3])
    picture = focusweave.stack_images([*np.ascontiguousarray(colour)], still, levels, 4.0)
    picture = picture if planes.ndim == 4 else picture[..., 0]
    return psnr(picture, truth.sharp, np.ones(truth.depth.shape, bool))


def cell(value: float, unit: str) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:.3f}" if unit in ("planes", "px", "") else f"{value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"scenes: {', '.join(SCENES)}")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--samples", action="store_true", help="the bundled stacks")
    parser.add_argument("--peers", action="store_true", help="focusweave's PSNR as a last column")
    parser.add_argument("--reliability", action="store_true", help="errors beside the uncertainty")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="of the recipe")
    options = parser.parse_args()
    settings: dict[str, object] = {}
    for pair in options.set:
        key, value = pair.split("=")
        number = value.replace(".", "", 1).isdigit()
        settings[key] = value if not number else int(value) if value.isdigit() else float(value)
    names = options.names or list(synthetic.SCENES if options.samples else SCENES)
    if options.reliability:
        print("| scene | tenths of the pixels, by σ |" + " |" * 10)
        print("|---" * 12 + "|")
        for name in names:
            truth = synthetic.SCENES[name]() if options.samples else scene(name, options.first_seed)
            print_reliability(name, truth, run(name, truth, settings))
        return
    heads = [f"{head} ({unit})" if unit else head for head, unit in COLUMNS]
    heads += ["seconds", "peak MB"] + ["focusweave PSNR (dB)"] * options.peers
    print("| scene | " + " | ".join(heads) + " |")
    print("|---" * (len(heads) + 1) + "|")
    for name in names:
        rows = []
        seeds = (
            (0,)
            if options.samples
            else range(options.first_seed, options.first_seed + options.seeds)
        )
        for seed in seeds:
            truth = synthetic.SCENES[name]() if options.samples else scene(name, seed)
            start = time.perf_counter()
            result = run(name, truth, settings)
            seconds = time.perf_counter() - start
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            extra = (
                [peer(truth)] if options.peers and name not in MOVING else [np.nan] * options.peers
            )
            rows.append([*score(truth, result), seconds, memory, *extra])
        units = [unit for _, unit in COLUMNS] + ["s", "MB"] + ["dB"] * options.peers
        means = [np.mean(column) for column in zip(*rows, strict=True)]
        print(f"| {name} | " + " | ".join(map(cell, means, units)) + " |", flush=True)


if __name__ == "__main__":
    main()
