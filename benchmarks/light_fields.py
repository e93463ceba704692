"""Error on stacks with truth made by others, of which some were refocused from light fields.

Run from the top of a clone, FOLDER containing a folder a stack::

    python benchmarks/light_fields.py FOLDER [STACK ...]

A stack is the frames (PNG or JPEG) and ``truth.npz`` with ``depth`` in planes, NaN where unknown.
The truth of refocused stacks is a disparity that was mapped to planes linearly. Distance depends on
disparity d as 1 / d, so that the plane in focus is a hyperbola of the mapped truth t:

    p(t) = a + b (t - c) / (1 + e (t - c) / c), c the middle of the stack.

a, b and e are fitted to the depths of the plain method: of the half of the pixels with the highest
focus measure, the most frequent depth in each interval of truth that is one plane wide. It has no
part in our result. Both rows are printed, with the truth as it is and on the hyperbola; the exact
truth of rendered surfaces (JPEG) is taken as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import least_squares
from truth import sparsification_error

from napari_dff import FocalStack, Recipe, depth_from_focus

BIN_PLANES = 0.1  # of the histogram of depths
SMOOTHED_BINS = 5  # whose sum is the frequency of a depth
MIN_PIXELS = 100  # of an interval of truth


def plain_method(stack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth and highest energy of the Laplacian of Gaussian, Gaussian window and peak."""
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) if f.ndim == 3 else f for f in stack]
    smooth = (cv2.GaussianBlur(f.astype(np.float32), (0, 0), 1) for f in grey)
    energy = np.stack(
        [cv2.GaussianBlur(cv2.Laplacian(f, cv2.CV_32F) ** 2, (0, 0), 3) for f in smooth]
    )
    index = energy.argmax(0)
    middle = np.clip(index, 1, len(energy) - 2)
    a, b, c = (
        np.log(np.take_along_axis(energy, (middle + k)[None], 0)[0] + 1e-9) for k in (-1, 0, 1)
    )
    curvature = a - 2 * b + c
    offset = np.divide(a - c, 2 * curvature, out=np.zeros_like(a), where=np.abs(curvature) > 1e-9)
    inside = (index > 0) & (index < len(energy) - 1)
    return np.where(inside, index + np.clip(offset, -0.5, 0.5), index), energy.max(0)


def on_hyperbola(truth: np.ndarray, depth: np.ndarray, energy: np.ndarray, last: int) -> np.ndarray:
    """Map `truth` to the planes that `depth` of the plain method is most often found in."""
    known, centre = np.isfinite(truth) & (depth > 0.5) & (depth < last - 0.5), last / 2
    edges = np.arange(-last, last, BIN_PLANES)
    points = []
    for low in range(last):
        here = known & (truth >= low) & (truth < low + 1)
        if here.sum() < MIN_PIXELS:
            continue
        here &= energy >= np.median(energy[here])
        counts = np.histogram((depth - truth)[here], edges)[0]
        counts = np.convolve(counts, np.ones(SMOOTHED_BINS), "same")
        best = counts.argmax()
        points.append((np.median(truth[here]), edges[best] + BIN_PLANES / 2, counts[best]))
    t, offset, count = np.array(points, float).T

    def hyperbola(parameters: np.ndarray, values: np.ndarray) -> np.ndarray:
        a, b, e = parameters
        return a + b * (values - centre) / (1 + e * (values - centre) / centre)

    def residual(parameters: np.ndarray) -> np.ndarray:
        return (hyperbola(parameters, t) - t - offset) * np.sqrt(count)

    scale = 0.5 * np.sqrt(np.median(count))  # half a plane
    fits = (
        least_squares(residual, [centre, 1, e], loss="cauchy", f_scale=scale) for e in (0, 0.2, 0.5)
    )
    return hyperbola(min(fits, key=lambda fit: fit.cost).x, truth)


def main() -> None:
    """Print a table."""
    folder, *names = sys.argv[1:]
    print("| stack | truth | error | off by > 1 (%) | plain: error | within 1 σ (%) | 2 σ | AUSE |")
    print("|---|---|---|---|---|---|---|---|")
    for path in sorted(Path(folder).iterdir()):
        frames = sorted(p for p in path.glob("*") if p.suffix in (".png", ".jpg"))
        if not frames or (names and path.name not in names):
            continue
        exact = frames[0].suffix == ".jpg"
        read = cv2.IMREAD_GRAYSCALE if exact else cv2.IMREAD_COLOR_RGB
        stack = np.stack([cv2.imread(str(frame), read) for frame in frames])
        given = np.load(path / "truth.npz")["depth"].astype(float)
        plain, energy = plain_method(stack)
        truths = {"exact" if exact else "linear": given}
        if not exact:
            truths["hyperbola"] = on_hyperbola(given, plain, energy, len(stack) - 1)
        refined = depth_from_focus(FocalStack(stack), Recipe(registration="none")).refined
        known = np.isfinite(given)
        sure = known & np.isfinite(refined.uncertainty)
        for kind, truth in truths.items():
            error, sigma = np.abs(refined.depth - truth), refined.uncertainty[sure]
            within = (100 * (error[sure] <= k * sigma).mean() for k in (1, 2))
            print(
                f"| {path.name} | {kind} | {error[known].mean():.3f}"
                f" | {100 * (error[known] > 1).mean():.1f}"
                f" | {np.abs(plain - truth)[known].mean():.3f}"
                f" | {next(within):.0f} | {next(within):.0f}"
                f" | {sparsification_error(error[sure], sigma):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
