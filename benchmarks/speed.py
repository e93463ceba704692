"""How long does it take, and how much memory? One table and one plot; focusweave beside it.

Run from the top of a clone, with focusweave installed (``pip install focusweave``)::

    python benchmarks/speed.py                   # 0.25 to 16 megapixels, table and docs/speed.png
    python benchmarks/speed.py 1x30 4x30 4x60    # megapixels x planes
    python benchmarks/speed.py --engines         # alignment and refinement beside the usual ways
    python benchmarks/speed.py --regions         # what the preview and the inspector wait for

Every command runs in a process of its own, compiled beforehand, files in the page cache; medians of
three. Memory is the largest resident set, the stack included.
"""

from __future__ import annotations

import argparse
import functools
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import tifffile

from napari_dff import Recipe, align, depth_from_focus, focus_measure, refine, synthetic
from napari_dff.depth import depth_map
from napari_dff.io import read_stack, save_reconstruction
from napari_dff.model.stack import FocalStack

SIZES = ("0.25x30", "1x30", "4x30", "16x30", "1x10", "1x100")
REPEATS = 3
COMMANDS = {
    "no refinement": ("--registration", "none", "--refinement", "none"),
    "default refinement": ("--registration", "none"),
}
STEPS = {
    "Finding depth": "focus and depth",
    "Finding uncertainty": "focus and depth",
    "Message passing": "refine",
    "Weighing": "refine",
    "Coupling": "refine",
    "Least squares": "refine",
    "Fusing": "fuse",
}
HERE = Path(__file__).parent


@functools.cache
def tile() -> np.ndarray:
    return synthetic.rough_surface(size=512, planes=30).stack.planes


def stack_of(megapixels: float, count: int) -> np.ndarray:
    """Rough surface of 512 x 512 pixels and 30 planes, mirrored and interpolated to the size."""
    at = np.linspace(0, len(tile()) - 1, count)
    below = np.minimum(at.astype(int), len(tile()) - 2)
    share = (at - below)[:, None, None]
    planes = (1 - share) * tile()[below] + share * tile()[below + 1]
    planes = np.rint(planes).astype(np.uint16)
    side = int(np.sqrt(megapixels) * 1024)
    pair = np.concatenate([planes, planes[:, :, ::-1]], axis=2)
    block = np.concatenate([pair, pair[:, ::-1]], axis=1)
    repeats = -(-side // block.shape[1])
    return np.tile(block, (1, repeats, repeats))[:, :side, :side]


def run(command: list[str]) -> tuple[float, float]:
    """Median seconds, and megabytes, of a command."""
    code = (
        "import resource, subprocess, sys, time; start = time.perf_counter();"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(time.perf_counter() - start,"
        " resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000)"
    )
    spent, held = [], []
    for _ in range(REPEATS):
        timed = [sys.executable, "-c", code, *command]
        done = subprocess.run(timed, capture_output=True, text=True, check=True)
        seconds, memory = done.stdout.split()[-2:]
        spent.append(float(seconds))
        held.append(float(memory))
    return statistics.median(spent), max(held)


def steps(stack: str, out: str) -> dict[str, float]:
    """Seconds a step of the default recipe without alignment, in this process, second run."""
    for _ in range(2):
        spent = dict.fromkeys(["read", *dict.fromkeys(STEPS.values()), "write", "other"], 0.0)

        def clock(items, /, *, desc):
            start = time.perf_counter()
            yield from items
            spent[STEPS[desc]] += time.perf_counter() - start  # noqa: B023

        begin = time.perf_counter()
        planes = read_stack(stack)
        spent["read"] = time.perf_counter() - begin
        result = depth_from_focus(planes, Recipe(registration="none"), progress=clock)
        start = time.perf_counter()
        save_reconstruction(result, out)
        spent["write"] = time.perf_counter() - start
        spent["other"] = time.perf_counter() - begin - sum(spent.values())
    return spent


def sizes(names: list[str]) -> None:
    rows = []
    heads = [f"{kind} ({unit})" for kind in (*COMMANDS, "focusweave") for unit in ("s", "MB")]
    parts = ["read", *dict.fromkeys(STEPS.values()), "write", "other"]
    print("| Mpixel × planes | " + " | ".join(heads + [f"{part} (s)" for part in parts]) + " |")
    print("|---" * (1 + len(heads) + len(parts)) + "|")
    program = str(Path(sys.executable).parent / "napari-dff")
    weave = str(Path(sys.executable).parent / "focusweave")
    for name in names:
        megapixels, count = name.split("x")
        with tempfile.TemporaryDirectory() as place:
            planes = stack_of(float(megapixels), int(count))
            stack, out = f"{place}/stack.tif", f"{place}/out"
            tifffile.imwrite(stack, planes, imagej=True, metadata={"axes": "ZYX"})
            frames = Path(place) / "frames"
            frames.mkdir()
            for i, plane in enumerate(planes):
                tifffile.imwrite(frames / f"{i:03d}.tif", plane)
            del planes
            cells = []
            for options in COMMANDS.values():
                cells += run([program, "run", stack, "--out", out, "--quiet", *options])
            peer = [weave, str(frames), "--no-align", "--output", f"{place}/peer.tif"]
            cells += run(peer) if Path(weave).exists() else (np.nan, np.nan)
            code = f"import speed; print(*speed.steps({stack!r}, {out!r}).values())"
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=True
            )
            cells += [float(word) for word in done.stdout.split()]
        rows.append((float(megapixels), int(count), cells))
        texts = [f"{cell:.0f}" if i in (1, 3, 5) else f"{cell:.2f}" for i, cell in enumerate(cells)]
        print(f"| {megapixels} × {count} | " + " | ".join(texts) + " |", flush=True)
    plot([row for row in rows if row[1] == 30])


def plot(rows: list[tuple[float, int, list[float]]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if len(rows) < 2:
        return
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for k, (panel, label) in enumerate(
        zip(figure.subplots(1, 2), ("seconds", "megabytes"), strict=True)
    ):
        for j, kind in enumerate((*COMMANDS, "focusweave (no depth)")):
            values = [cells[2 * j + k] for _, _, cells in rows]
            panel.loglog([size for size, _, _ in rows], values, marker="o", label=kind)
        panel.set_xlabel("megapixels, 30 planes")
        panel.set_ylabel(f"{label}, whole command")
        panel.grid(True, which="major", alpha=0.3)
    panel.legend()
    figure.savefig(HERE.parent / "docs" / "speed.png", dpi=100)


def straight(planes: np.ndarray) -> np.ndarray:
    """The straight recipe: SIFT on both planes of every pair, RANSAC, warped frame after frame."""
    grey = [np.clip(p / np.percentile(planes[::4, ::8, ::8], 99.5), 0, 1) for p in planes]
    grey = [(255 * picture).astype(np.uint8) for picture in grey]
    middle = len(grey) // 2
    found = [np.eye(3)] * len(grey)
    for side in (1, -1):
        motion = np.eye(3)
        for i in range(middle + side, len(grey) if side > 0 else -1, side):
            detector, matcher = cv2.SIFT.create(nfeatures=4000), cv2.BFMatcher()
            here, near = (detector.detectAndCompute(grey[k], None) for k in (i, i - side))
            pairs = matcher.knnMatch(here[1], near[1], k=2)
            good = [a for a, b in pairs if a.distance < 0.75 * b.distance]
            p = np.array([here[0][m.queryIdx].pt for m in good])
            q = np.array([near[0][m.trainIdx].pt for m in good])
            motion = motion @ cv2.findHomography(p, q, cv2.RANSAC, 3.0)[0]
            cv2.warpPerspective(planes[i], motion, planes.shape[:0:-1])
            found[i] = motion
    flip = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    return flip @ np.array(found) @ flip


def timed(work) -> tuple[float, object]:
    work()
    spent = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = work()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent), result


def engines() -> None:
    from scenes import scene

    from napari_dff.curve.noise import compute_noise
    from napari_dff.refinement.energy import data_term, labelling_energy, pair_weights
    from napari_dff.refinement.graph_cut import alpha_expansion
    from napari_dff.refinement.plane_statistics import normalized_guide
    from napari_dff.refinement.trws import minimize_energy
    from napari_dff.refinement.weighted_median import GUIDE_BINS, weighted_medians
    from napari_dff.registration.motion import transform_points
    from napari_dff.runtime.progress import no_progress

    print("| what | how | seconds | result |\n|---|---|---|---|")
    truth = scene("drifting grass")
    y, x = np.meshgrid(np.linspace(0, 512, 15), np.linspace(0, 512, 15))
    grid = np.column_stack([y.ravel(), x.ravel()])
    planes = truth.stack.planes
    ways = {"straight recipe": straight, "ours": lambda p: align(p).transforms}
    for name, way in ways.items():
        seconds, found = timed(lambda way=way: way(planes))
        pairs = zip(found, truth.transforms, strict=True)
        misses = [
            np.hypot(*(transform_points(a, grid) - transform_points(b, grid)).T) for a, b in pairs
        ]
        error = f"error mean {np.mean(misses):.3f}, max {np.max(misses):.3f} px"
        print(f"| align 24 × 512 × 512 | {name} | {seconds:.2f} | {error} |", flush=True)

    for name in ("gravel", "motorcycle"):
        truth = scene(name)
        focus = focus_measure(truth.stack.planes)
        estimate = depth_map(focus)
        seconds, _ = timed(lambda f=focus, e=estimate, t=truth: refine(e, f, guide=t.sharp))
        shape = " × ".join(map(str, focus.shape))
        print(f"| refine {name} {shape} | default | {seconds:.2f} | |", flush=True)
        weights = pair_weights(normalized_guide(truth.sharp, focus.shape[1:], None), 1.0)
        in_focus = np.isfinite(estimate.uncertainty)
        terms = data_term(focus, estimate.index, in_focus, *compute_noise(focus)), *weights
        start = time.perf_counter()
        cut = labelling_energy(*terms, alpha_expansion(*terms, no_progress))
        seconds = time.perf_counter() - start
        print(f"| energy {name} | gco | {seconds:.2f} | 1 |", flush=True)
        for sweeps in (2, 8, 32):
            seconds, found = timed(lambda n=sweeps, t=terms: minimize_energy(*t, n))
            ratios = f"{found.energy / cut:.4f}, bound {found.bound / cut:.4f}"
            print(f"| energy {name} | {sweeps} pairs of sweeps | {seconds:.2f} | {ratios} |")

    rng = np.random.default_rng(0)
    votes, guide_bins = (
        rng.integers(0, n, (512, 512)).astype(np.int32) for n in (1000, GUIDE_BINS)
    )
    depth = cv2.GaussianBlur(rng.uniform(0, 30, (512, 512)).astype(np.float32), (0, 0), 8)
    for radius in (1, 3, 6, 12, 25):
        seconds, _ = timed(lambda r=radius: weighted_medians(depth, votes, guide_bins, r))
        print(f"| weighted median 512 × 512, one core | radius {radius} | {seconds:.2f} | |")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"\npeak of this process {memory:.0f} MB", file=sys.stderr)


PLAIN = Recipe(refinement="none")
VIEW = 384  # pixels, the side of a preview


def regions() -> None:
    """What a preview takes: a whole small stack, what is in view of a large one, one pixel."""
    from napari_dff.pipeline.preview import focus_curve, measure_region, reconstruct_region
    from napari_dff.runtime.windows import Window

    print("| stack | what | seconds |\n|---|---|---|")
    for side in (512, 2048):
        stack = FocalStack(stack_of(side**2 / 2**20, 30))
        middle = (side - VIEW) // 16 * 8
        view = Window(middle, middle + VIEW, middle, middle + VIEW)
        if side == 512:
            view = Window(0, 512, 0, 512)
        shape = " × ".join(map(str, view.shape))
        for name, work in {
            f"focus of {shape}": lambda v=view, s=stack: measure_region(s, PLAIN, v),
            f"depth and image of {shape}": lambda v=view, s=stack: reconstruct_region(s, PLAIN, v),
            f"refined depth of {shape}": lambda v=view, s=stack: reconstruct_region(
                s, Recipe(), v, fuse=False
            ),
            "focus curve of a pixel": lambda s=stack: focus_curve(s, PLAIN, 300, 300),
        }.items():
            work()
            print(f"| 30 × {side} × {side} | {name} | {timed(work)[0]:.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", default=SIZES, help="megapixels x planes, as 4x30")
    parser.add_argument("--engines", action="store_true", help="alignment and refinement alone")
    parser.add_argument("--regions", action="store_true", help="what a preview waits for")
    options = parser.parse_args()
    if options.engines:
        engines()
    elif options.regions:
        regions()
    else:
        sizes(list(options.sizes))


if __name__ == "__main__":
    main()
