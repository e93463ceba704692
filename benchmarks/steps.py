"""How long do single steps take? Alignment, refinement and previews, beside the usual ways.

Run from the top of a clone::

    python benchmarks/steps.py --engines         # alignment and refinement beside the usual ways
    python benchmarks/steps.py --regions         # what the preview and the inspector wait for

Medians of three, compiled beforehand.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time

import cv2
import numpy as np
from speed import stack_of

from napari_dff import Recipe, align, focus_measure, refine
from napari_dff.depth import depth_map
from napari_dff.model.stack import FocalStack

REPEATS = 3


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
    parser.add_argument("--engines", action="store_true", help="alignment and refinement alone")
    parser.add_argument("--regions", action="store_true", help="what a preview waits for")
    options = parser.parse_args()
    if options.engines:
        engines()
    if options.regions:
        regions()


if __name__ == "__main__":
    main()
