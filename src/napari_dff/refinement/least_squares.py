"""Weighted least squares: as the curves say where they know, smooth where they don't."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from napari_dff.compiled import inline_kernel, kernel
from napari_dff.curve import FocusVolume, focus_windows, peak_uncertainty
from napari_dff.progress import Progress, no_progress
from napari_dff.refinement.energy import likeness
from napari_dff.stack import fractional_plane_index
from napari_dff.threads import run_parallel
from napari_dff.windows import Window, plan_windows

if TYPE_CHECKING:
    from napari_dff.depth import DepthMap
    from napari_dff.refinement.hints import Said
    from napari_dff.refinement.sequence import Scene

CYCLES = 4
SWEEPS = 2  # at every level, before and after the coarser ones
OVERRELAXATION = 1.7
COARSEST = 8  # pixels: a plane is halved while a side is longer
BAND = 64  # rows that one core takes at a time
PARALLEL = 1 << 18  # pixels: smaller planes are done before other cores have begun
STEP = 2.0  # planes: neighbours farther apart than this are different surfaces
STEEP, GENTLE = 4.0, 0.1  # times the usual slope, plus planes a pixel: steeper is a step
NOISY = 1.0  # standard deviations by which a slope must exceed the noise to be a step
FOOT = 2.0  # pixels over which a slope is measured
CALM_REACH = 12  # pixels around a window that its calmness depends on
MAPS = 16  # float32 maps of a window that are held at a time
SAMPLE = 1 << 18  # pixels that tell the usual slope
PATCH = 128  # pixels: side of the windows that are looked at for it where time is short
FLATTEST = 0.005  # planes a pixel: no surface is taken to be smoother than this
FAINT = np.float32(1e-6)  # of a coupling: what trusts its depth less can't be solved in float32
COMMON = 4.0  # pixels over which errors of the estimate are alike
LEAN = 16.0  # pixels: a hint pulls like a neighbour at this distance
PINNED = 1e3  # times a neighbour: a hint pulls its own pixel like this
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
    if not known.any() and scene.slope is None:
        return estimate
    shape = estimate.depth.shape
    spacing = np.float32(np.abs(np.diff(scene.positions)).mean())
    depth = estimate.depth / spacing
    doubt, trust, right, down, reach = (np.empty(shape, np.float32) for _ in range(5))

    def weigh(wanted: Window) -> None:
        # Noise alone: the scatter in the estimate's uncertainty is large at steps, which must stay.
        here = wanted.slices
        curves, noise = scene.volume.read(wanted)
        found = peak_uncertainty(curves, scene.positions, estimate.index[here], noise) / spacing
        doubt[here] = np.where(known[here], found, np.inf)
        trust[here] = 1 / (np.float32(SHARED) * np.maximum(doubt[here], np.float32(1e-3)) ** 2)
        trust[here][~known[here]] = 1e-9

    def couple(wanted: Window) -> None:
        around = wanted.expand(CALM_REACH, shape)
        inner, here = wanted.slices_in(around), wanted.slices
        calm = calmness(depth[around.slices], trust[around.slices], slope)
        weights = couplings(depth[around.slices], scene.guide[around.slices], calm, strength)
        right[here], down[here] = (part[inner] for part in weights)
        reach[here] = calm[inner] * strength / trust[here]  # pixels²: how far neighbours are heard

    run_parallel(weigh, focus_windows(scene.volume), progress, desc="Weighing")
    slope = scene.slope or usual_slope(depth, doubt)
    strength = np.float32(smoothness / slope**2)
    if scene.said is not None:
        lean(depth, trust, scene.said, spacing, strength)
    run_parallel(couple, plan_windows(shape, MAPS, CALM_REACH), progress, desc="Coupling")
    right[:, -1] = 0
    down[-1] = 0
    np.maximum(trust, FAINT * strength, out=trust)
    values = solved(depth, trust, right, down, progress=progress) * spacing
    nearest = np.rint(fractional_plane_index(values, scene.positions)).astype(np.uint16)
    uncertainty = estimate.uncertainty / np.sqrt(np.sqrt(1 + reach / np.float32(COMMON**2)))
    return type(estimate)(nearest, values, uncertainty)


def lean(
    depth: np.ndarray, trust: np.ndarray, said: Said, spacing: np.float32, strength: np.float32
) -> None:
    """Lean `depth` (in planes) towards the hints, and change how far it is trusted, in place.

    Not where it is another surface than the hint's: more than `STEP` away. The pull is that of a
    neighbour `LEAN` pixels away; at the hint itself nothing else counts.
    """
    target = said.depth / spacing
    pinned = said.influence == 1
    heard = pinned | ((said.influence > 0) & (np.abs(depth - target) <= STEP))
    influence = said.influence[heard]
    own = trust[heard] * (1 - influence)
    pull = np.where(pinned[heard], PINNED * strength, strength * (influence / LEAN) ** 2)
    trust[heard] = own + pull
    depth[heard] += pull / (own + pull) * (target[heard] - depth[heard])


def couplings(
    depth: np.ndarray, guide: np.ndarray, calm: np.ndarray, strength: np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """How strongly a pixel holds its right and its lower neighbour: (Y, X) each."""
    right, down = (strength * part for part in likeness(guide))
    right[:, :-1] *= np.minimum(calm[:, :-1], calm[:, 1:])
    down[:-1] *= np.minimum(calm[:-1], calm[1:])
    right[:, :-1][np.abs(np.diff(depth, axis=1)) > STEP] = 0
    down[:-1][np.abs(np.diff(depth, axis=0)) > STEP] = 0
    return right, down


def solved(
    depth: np.ndarray,
    trust: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    *,
    cycles: int = CYCLES,
    progress: Progress = no_progress,
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
    while max(levels[-1].trust.shape) > COARSEST:
        levels.append(_halved(levels[-1]))
    found, goal = np.pad(depth, 1, mode="edge"), np.pad(trust * depth, 1)
    for _ in progress(range(cycles), desc="Least squares"):
        _cycle(found, goal, levels)
    # The exact values lie between the lowest and the highest depth; over-relaxed ones may not.
    return np.clip(found[1:-1, 1:-1], depth.min(), depth.max())


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
            work = functools.partial(_relax_band, found, goal, level, colour)
            run_parallel(work, bands, no_progress, desc="")

    relax()
    if len(levels) > 1:
        run_parallel(
            lambda band: _residues(found, goal, *level, *band, residue), bands, no_progress, desc=""
        )
        coarse, step = np.zeros_like(levels[1].trust), np.zeros_like(levels[1].trust)
        _add_blocks(residue, coarse, 1, 1)
        _cycle(step, coarse, levels[1:])
        _move_blocks(found, step)
        relax()


def _relax_band(
    found: np.ndarray, goal: np.ndarray, level: _Level, colour: int, band: tuple[int, int]
) -> None:
    _relax(found, goal, *level, colour, *band)


def _halved(level: _Level) -> _Level:
    """The same sums with two by two pixels made to move together."""
    height, width = (-(-(size - 2) // 2) + 2 for size in level.trust.shape)
    half = _Level(*(np.zeros((height, width), np.float32) for _ in level))
    _add_blocks(level.trust, half.trust, 1, 1)
    _add_blocks(level.right, half.right, 1, 2)  # within a block nothing pulls
    _add_blocks(level.down, half.down, 2, 1)
    return half


def calmness(depth: np.ndarray, trust: np.ndarray, slope: float) -> np.ndarray:
    """How usual the slope is at each pixel: (Y, X), 1 on smooth ground, 0 at the foot of a step."""
    weight = trust + np.float32(1e-6)
    mean = cv2.GaussianBlur(weight * depth, (0, 0), FOOT) / cv2.GaussianBlur(weight, (0, 0), FOOT)
    down, across = np.gradient(mean)
    # Errors of the depth are alike over COMMON pixels and look like slopes of this size.
    noise = cv2.GaussianBlur(1 / (np.float32(SHARED) * weight), (0, 0), FOOT)
    noise = noise * np.float32((NOISY / COMMON) ** 2)
    steep = np.maximum(down**2 + across**2 - noise, 0) / np.float32((STEEP * slope + GENTLE) ** 2)
    return np.asarray(1 / (1 + steep) ** 2, dtype=np.float32)


def usual_slope(depth: np.ndarray, doubt: np.ndarray) -> float:
    """Median slope, planes a pixel, over eight pixels, where depth is best known.

    Of about `SAMPLE` pixels.
    """
    every = max(1, int(np.sqrt(depth.size / SAMPLE)))
    sure = doubt <= np.median(doubt[::every, ::every][np.isfinite(doubt[::every, ::every])])
    slopes = []
    for axis in (0, 1):
        a, b = ([slice(None, None, every)] * 2 for _ in range(2))
        a[axis], b[axis] = slice(8, None, every), slice(None, -8, every)
        steps = np.abs(depth[tuple(a)] - depth[tuple(b)])[sure[tuple(a)] & sure[tuple(b)]]
        slopes.append(np.median(steps[steps < STEP]) / 8 if (steps < STEP).any() else 0.0)
    return max(float(np.mean(slopes)) / 0.6745, FLATTEST)


def slope_of(estimate: DepthMap, volume: FocusVolume, positions: np.ndarray) -> float:
    """The usual slope of an estimate, from some windows of a large one."""
    height, width = estimate.depth.shape
    every = PATCH * max(1, round(np.sqrt(estimate.depth.size / SAMPLE)))
    spacing = np.float32(np.abs(np.diff(positions)).mean())
    doubt = np.full(estimate.depth.shape, np.inf, np.float32)

    def fill(wanted: Window) -> None:
        here = wanted.slices
        curves, noise = volume.read(wanted)
        found = peak_uncertainty(curves, positions, estimate.index[here], noise) / spacing
        doubt[here] = np.where(np.isfinite(estimate.uncertainty[here]), found, np.inf)

    corners = itertools.product(range(0, height, every), range(0, width, every))
    patches = [Window(y, min(y + PATCH, height), x, min(x + PATCH, width)) for y, x in corners]
    run_parallel(fill, patches, no_progress, desc="")
    return usual_slope(estimate.depth / spacing, doubt)


@inline_kernel
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


@kernel
def _add_blocks(values, sums, first_row, first_column):  # type: ignore[no-untyped-def]
    """Add to `sums` the values of its two by two blocks, from a row and column of these on."""
    height, width = values.shape
    for y in range(first_row, height - 1, first_row):
        for x in range(first_column, width - 1, first_column):
            sums[(y + 1) // 2, (x + 1) // 2] += values[y, x]


@kernel
def _move_blocks(values, steps):  # type: ignore[no-untyped-def]
    """Add to the values of every two by two block its step."""
    height, width = values.shape
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            values[y, x] += steps[(y + 1) // 2, (x + 1) // 2]
