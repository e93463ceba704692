"""Weighted least squares: as the curves say where they know, smooth where they don't."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from napari_dff.compiled import kernel
from napari_dff.curve import deviations
from napari_dff.depth import windows_of
from napari_dff.progress import Progress, silent
from napari_dff.refinement.energy import likeness
from napari_dff.tiles import Window, on_all_cores

if TYPE_CHECKING:
    from napari_dff.depth import DepthMap
    from napari_dff.refinement.sequence import Scene

CYCLES = 4
SWEEPS = 2  # at every level, before and after the coarser ones
OVERRELAXATION = 1.7
COARSEST = 16  # pixels: a plane is halved while its sides are longer
BAND = 64  # rows that one core takes at a time
PARALLEL = 1 << 18  # pixels: smaller planes are done before other cores have begun
STEP = 2.0  # planes: neighbours farther apart than this are different surfaces
STEEP, GENTLE = 4.0, 0.1  # times the usual slope, plus planes a pixel: steeper is a step
NOISY = 1.0  # standard deviations by which a slope must exceed the noise to be a step
FOOT = 2.0  # pixels over which a slope is measured
FLATTEST = 0.005  # planes a pixel: no surface is taken to be smoother than this
COMMON = 4.0  # pixels over which errors of the estimate are alike
SHARED = 5.0  # pixels whose errors are one: their curves come from the same window


def least_squares(
    estimate: DepthMap, scene: Scene, smoothness: float, progress: Progress
) -> DepthMap:
    """Least sum of squared misfits to the depth and of squared steps between neighbours.

    Misfits are counted in the depth's uncertainty, steps in the slope that the surface usually has
    (read off where it is well known), less across edges of the guide and the feet of steps and
    not at all across jumps of more than `STEP` planes. Never-in-focus pixels follow their
    neighbours alone. The uncertainty shrinks with the number of independent pixels that are
    averaged.

    Farbman et al. 2008, doi:10.1145/1360612.1360666.
    """
    known = np.isfinite(estimate.uncertainty)
    if not known.any():
        return estimate
    spacing = np.float32(np.abs(np.diff(scene.positions)).mean())
    depth = estimate.depth / spacing
    # Noise alone: the scatter in the estimate's uncertainty is large at steps, which must stay.
    doubt = np.full_like(depth, np.inf)

    def fill(wanted: Window) -> None:
        here = wanted.slices
        curves, noise = scene.volume.read(wanted)
        found = deviations(curves, scene.positions, estimate.index[here], noise) / spacing
        doubt[here] = np.where(known[here], found, np.inf)

    on_all_cores(fill, windows_of(scene.volume), progress, desc="Weighing")
    trust = 1 / (np.float32(SHARED) * np.maximum(doubt, np.float32(1e-3)) ** 2)
    trust[~known] = 1e-9
    slope = usual_slope(depth, doubt)
    strength = np.float32(smoothness / slope**2)
    right, down = (part * strength for part in likeness(scene.guide))
    calm = calmness(depth, trust, slope)
    right[:, :-1] *= np.minimum(calm[:, :-1], calm[:, 1:])
    down[:-1] *= np.minimum(calm[:-1], calm[1:])
    right[:, :-1][np.abs(np.diff(depth, axis=1)) > STEP] = 0
    down[:-1][np.abs(np.diff(depth, axis=0)) > STEP] = 0
    right[:, -1] = 0
    down[-1] = 0
    values = solved(depth, trust, right, down, progress=progress) * spacing
    order = np.argsort(scene.positions)
    nearest = np.interp(values, scene.positions[order], order.astype(np.float64))
    reach = calm * strength / trust  # pixels²: how far neighbours are heard
    uncertainty = estimate.uncertainty / (1 + reach / np.float32(COMMON**2)) ** np.float32(0.25)
    return type(estimate)(np.rint(nearest).astype(np.uint16), values, uncertainty)


def solved(
    depth: np.ndarray,
    trust: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    *,
    cycles: int = CYCLES,
    progress: Progress = silent,
) -> np.ndarray:
    """Values v of least Σ trust (v - depth)² + Σ right (v - v to the right)² + Σ down (…)².

    All (Y, X) float32. Starts from `depth`; red-black successive over-relaxation on the plane and,
    for what is left, on planes of half the size and so on: blocks of pixels move together, by what
    lowers the same sum most. So no step ever raises it.

    References
    ----------
    Trottenberg, Oosterlee & Schüller 2001, Multigrid (algebraic, aggregates of two by two).
    """
    levels = [_Level(*(np.pad(part, 1) for part in (trust, right, down)))]
    while min(levels[-1].trust.shape) > COARSEST:
        levels.append(_halved(levels[-1]))
    found, goal = np.pad(depth, 1, mode="edge"), np.pad(trust * depth, 1)
    for _ in progress(range(cycles), desc="Least squares"):
        _cycle(found, goal, levels)
    return np.ascontiguousarray(found[1:-1, 1:-1])


class _Level(NamedTuple):
    """Weights of the sums at one size, with a border of one pixel in which they are 0."""

    trust: np.ndarray
    right: np.ndarray
    down: np.ndarray


def _cycle(found: np.ndarray, goal: np.ndarray, levels: list[_Level]) -> None:
    """Bring `found` nearer to what solves the sums of the first of `levels`, in place."""
    level, height = levels[0], len(goal)
    rows = BAND if goal.size >= PARALLEL else height
    bands = [(top, min(top + rows, height - 1)) for top in range(1, height - 1, rows)]
    residue = np.zeros_like(goal)

    def relax() -> None:
        for colour in SWEEPS * (0, 1):
            on_all_cores(
                lambda band: _relax(found, goal, *level, colour, *band), bands, silent, desc=""
            )

    relax()
    if len(levels) > 1:
        on_all_cores(
            lambda band: _residues(found, goal, *level, *band, residue), bands, silent, desc=""
        )
        coarse = _sums(residue)
        step = np.zeros_like(coarse)
        _cycle(step, coarse, levels[1:])
        larger = step[1:-1, 1:-1].repeat(2, axis=0).repeat(2, axis=1)
        inner = found[1:-1, 1:-1]
        inner += larger[: inner.shape[0], : inner.shape[1]]
        relax()


def _halved(level: _Level) -> _Level:
    """The same sums with two by two pixels made to move together."""
    right, down = level.right.copy(), level.down.copy()
    right[:, 1::2] = 0  # within a block
    down[1::2] = 0
    return _Level(_sums(level.trust), _sums(right), _sums(down))


def _sums(values: np.ndarray) -> np.ndarray:
    """Sums over two by two pixels, inside and with a border."""
    inner = values[1:-1, 1:-1]
    inner = np.pad(inner, [(0, size % 2) for size in inner.shape])
    inner = inner[::2] + inner[1::2]
    return np.pad(inner[:, ::2] + inner[:, 1::2], 1)


def calmness(depth: np.ndarray, trust: np.ndarray, slope: float) -> np.ndarray:
    """How usual the slope is at each pixel: (Y, X), 1 on smooth ground, 0 at the foot of a step."""
    weight = trust + np.float32(1e-6)
    mean = cv2.GaussianBlur(weight * depth, (0, 0), FOOT) / cv2.GaussianBlur(weight, (0, 0), FOOT)
    down, across = np.gradient(mean)
    # Errors of the depth are alike over COMMON pixels and look like slopes of this size.
    noise = cv2.GaussianBlur(1 / (np.float32(SHARED) * weight), (0, 0), FOOT)
    noise *= np.float32((NOISY / COMMON) ** 2)
    steep = np.maximum(down**2 + across**2 - noise, 0) / np.float32((STEEP * slope + GENTLE) ** 2)
    return np.asarray(1 / (1 + steep) ** 2, dtype=np.float32)


def usual_slope(depth: np.ndarray, doubt: np.ndarray) -> float:
    """Median slope, planes a pixel, over eight pixels, where depth is best known."""
    sure = doubt <= np.median(doubt[np.isfinite(doubt)])
    slopes = []
    for axis in (0, 1):
        a = [slice(None)] * 2
        b = [slice(None)] * 2
        a[axis], b[axis] = slice(8, None), slice(None, -8)
        steps = np.abs(depth[tuple(a)] - depth[tuple(b)])[sure[tuple(a)] & sure[tuple(b)]]
        slopes.append(np.median(steps[steps < STEP]) / 8 if (steps < STEP).any() else 0.0)
    return max(float(np.mean(slopes)) / 0.6745, FLATTEST)


@kernel
def _missing(found, goal, trust, right, down, y, out):  # type: ignore[no-untyped-def]
    """What every pixel of row `y` lacks for its equation to hold, and its own weight."""
    lack, weight = out
    for x in range(1, found.shape[1] - 1):
        left, upper = right[y, x - 1], down[y - 1, x]
        weight[x] = trust[y, x] + left + right[y, x] + upper + down[y, x]
        total = goal[y, x] + left * found[y, x - 1] + right[y, x] * found[y, x + 1]
        total += upper * found[y - 1, x] + down[y, x] * found[y + 1, x]
        lack[x] = total - weight[x] * found[y, x]


@kernel
def _relax(found, goal, trust, right, down, colour, start, stop):  # type: ignore[no-untyped-def]
    """Over-relax the pixels of one colour of a chessboard in rows `start` to `stop`."""
    lack, weight = np.empty(found.shape[1], np.float32), np.empty(found.shape[1], np.float32)
    for y in range(start, stop):
        _missing(found, goal, trust, right, down, y, (lack, weight))
        for x in range(1, found.shape[1] - 1):
            mine = np.float32(OVERRELAXATION) * np.float32((x + y + colour) & 1)
            found[y, x] += mine * lack[x] / weight[x]


@kernel
def _residues(found, goal, trust, right, down, start, stop, out):  # type: ignore[no-untyped-def]
    weight = np.empty(found.shape[1], np.float32)
    for y in range(start, stop):
        _missing(found, goal, trust, right, down, y, (out[y], weight))
