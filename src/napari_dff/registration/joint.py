"""All near neighbours together: sub-pixel motions of pairs by grey levels, solved as one system.

A chain of neighbours adds up its errors. Here every plane is compared with the next, the next but
one and the third; each comparison starts from the chain, and one least-squares system finds the
motions that agree with all of them. Comparisons that fit badly count less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np

from napari_dff.compiled import inline_kernel, kernel
from napari_dff.progress import Progress, no_progress
from napari_dff.registration.motion import PARAMETERS, apply
from napari_dff.threads import run_parallel, thread_count
from napari_dff.warp import brought, knots, spline_at

T = TypeVar("T")
GAPS = (1, 2, 3)  # planes apart
BLOCK = 4  # planes, or one a core: as many are compared with those after them at a time
BAND = (1.5, 4.0)  # pixels: detail between these two blurs is compared, so that light may flicker
ITERATIONS = 6
SETTLED = 0.01  # pixels: a smaller step ends the iteration
SAMPLES = 60_000  # pixels of a pair that are compared
ROUNDS = 10  # of re-weighting
STILL = 0.1  # pixels: a stack that moves less than this is left alone


class Pair(NamedTuple):
    """Motion from plane `moving` to plane `fixed` and how far it is off at most, in pixels."""

    moving: int
    fixed: int
    matrix: np.ndarray
    doubt: float


def refined(
    pictures: np.ndarray,
    chain: np.ndarray,
    placed: list[int],
    centre: int,
    motion: str,
    progress: Progress,
) -> np.ndarray:
    """Transforms to the plane `centre`, better than those of the `chain` they start from.

    Parameters
    ----------
    pictures : (Z, Y, X) float32
    chain : (Z, 3, 3) array
    placed : list of int
        Planes whose motion is known; the others keep theirs.
    centre : int
        The plane that stays.
    motion : {"translation", "similarity", "affine"}
    progress : Progress

    Returns
    -------
    (Z, 3, 3) float64
    """
    wanted = [(a, b) for gap in GAPS for a, b in zip(placed, placed[gap:], strict=False)]
    pairs = _compared(pictures, chain, placed, wanted, motion, progress)
    shape = pictures[0].shape
    together = solve([pairs[pair] for pair in wanted], chain, centre, motion, shape)
    corners = _corners(shape)
    travel = max(float(np.abs(apply(together[i], corners) - corners).max()) for i in placed)
    return np.tile(np.eye(3), (len(chain), 1, 1)) if travel < STILL else together


def _compared(
    pictures: np.ndarray,
    chain: np.ndarray,
    placed: list[int],
    wanted: list[tuple[int, int]],
    motion: str,
    progress: Progress,
) -> dict[tuple[int, int], Pair]:
    """All `wanted` pairs, block by block of planes: few are held prepared at a time."""
    bands: dict[int, Band] = {}
    pairs: dict[tuple[int, int], Pair] = {}
    told = iter(progress(wanted, desc="Refining motions"))

    def prepare(i: int) -> None:
        bands[i] = band(pictures[i])

    def compare(pair: tuple[int, int]) -> None:
        a, b = pair
        start = np.linalg.inv(chain[b]) @ chain[a]
        pairs[pair] = Pair(a, b, *pair_motion(bands[a], bands[b], start, motion))

    def each(items: Sequence[T], /, *, desc: str) -> Iterator[T]:
        return (item for item, _ in zip(items, told, strict=False))

    size = max(BLOCK, thread_count())
    for first in range(0, len(placed), size):
        block = placed[first : first + size]
        held = placed[first : first + size + max(GAPS)]
        bands = {i: bands[i] for i in held if i in bands}
        run_parallel(prepare, [i for i in held if i not in bands], no_progress, desc="")
        run_parallel(compare, [pair for pair in wanted if pair[0] in block], each, desc="")
    next(told, None)
    return pairs


class Band(NamedTuple):
    """Detail of a picture between two blurs, its B-splines and its gradient: (Y, X) each."""

    values: np.ndarray
    knots: np.ndarray
    down: np.ndarray
    across: np.ndarray


def band(picture: np.ndarray) -> Band:
    """Detail of a (Y, X) float32 `picture` between the two blurs of `BAND`."""
    fine, coarse = (cv2.GaussianBlur(picture, (0, 0), width) for width in BAND)
    detail = fine - coarse
    return Band(detail, knots(detail), *np.gradient(detail))


def pair_motion(
    moving: Band, fixed: Band, start: np.ndarray, motion: str
) -> tuple[np.ndarray, float]:
    """Motion from one band-passed picture to another, and its standard deviation in pixels.

    Gauss-Newton on the mean of both gradients, which is of second order and treats both pictures,
    blurred differently, alike; Cauchy weights keep dust that doesn't move out of it. About
    `SAMPLES` pixels are compared: what lies nearer together than the band is fine tells little
    more.

    References
    ----------
    Benhimane & Malis 2004, doi:10.1109/IROS.2004.1389474.
    """
    height, width = fixed.values.shape
    every = max(1, round(np.sqrt(height * width / SAMPLES)))
    edge = min(8, height // 4, width // 4)
    rows, columns = (np.arange(edge, size - edge, every) for size in (height, width))
    y, x = (part.ravel().astype(np.float32) for part in np.meshgrid(rows, columns, indexing="ij"))
    size = max(height, width) / 2
    v, u = (y - (height - 1) / 2) / np.float32(size), (x - (width - 1) / 2) / np.float32(size)
    there = tuple(part[np.ix_(rows, columns)].ravel() for part in (fixed.values, *fixed[2:]))
    matrix = start.copy()
    doubt = np.inf
    for _ in range(ITERATIONS):
        moved, down, across, seen = _moved(
            moving.knots, moving.down, moving.across, y, x, np.linalg.inv(matrix)
        )
        if seen.mean() < 0.25:
            return start, np.inf
        gain = float((moved * there[0])[seen].sum() / max((moved[seen] ** 2).sum(), 1e-12))
        gain = float(np.clip(gain, 0.25, 4)) or 1.0
        misses = (gain * moved - there[0])[seen]
        gradient = ((gain * down + there[1]) / 2, (gain * across + there[2]) / 2)
        scale = 1.4826 * np.median(np.abs(misses)) + 1e-9
        trust = 1 / (1 + (misses / (2 * scale)) ** 2)
        design = np.stack([c[seen] for c in _columns(motion, *gradient, v, u)])
        normal = (design * trust) @ design.T
        step = np.linalg.solve(
            normal + 1e-9 * np.trace(normal) * np.eye(len(normal)), design @ (trust * misses)
        )
        # moved(x) - fixed(x) ≈ -∇I · δ(x) when content sits δ too far back along the gradient
        matrix = _update(motion, step, size, (height, width)) @ matrix
        spread = np.sqrt(np.trace(np.linalg.inv(normal + 1e-12 * np.eye(len(normal)))))
        doubt = float(scale * spread)
        if np.abs(step).max() < SETTLED:
            break
    corners = _corners((height, width))
    if np.abs(apply(matrix, corners) - apply(start, corners)).max() > 5:
        return start, np.inf  # it ran away: what the chain says stands
    return matrix, max(doubt, 1e-3)


@kernel
def _moved(knots, down, across, y, x, back):  # type: ignore[no-untyped-def]
    """Value and gradient of a moved picture at places (y, x), and whether it has any there."""
    rows, columns = knots.shape
    values, falls = np.zeros(len(y), np.float32), np.zeros(len(y), np.float32)
    rises, seen = np.zeros(len(y), np.float32), np.zeros(len(y), np.bool_)
    for p in range(len(y)):
        v, u = brought(back, y[p], x[p])
        if not (0 <= v <= rows - 1 and 0 <= u <= columns - 1):
            continue
        seen[p] = True
        values[p] = spline_at(knots, v, u)
        i, j = min(int(v), rows - 2), min(int(u), columns - 2)
        fall, rise = _between(down, i, j, v - i, u - j), _between(across, i, j, v - i, u - j)
        falls[p] = back[0, 0] * fall + back[1, 0] * rise
        rises[p] = back[0, 1] * fall + back[1, 1] * rise
    return values, falls, rises, seen


@inline_kernel
def _between(values, i, j, t, s):  # type: ignore[no-untyped-def]
    above = (1 - s) * values[i, j] + s * values[i, j + 1]
    below = (1 - s) * values[i + 1, j] + s * values[i + 1, j + 1]
    return (1 - t) * above + t * below


def solve(
    pairs: list[Pair], chain: np.ndarray, centre: int, motion: str, shape: tuple[int, int]
) -> np.ndarray:
    """Transforms that agree best with all pairs: robust linear least squares.

    The misfit of a pair is how far its two planes carry the same corners apart.
    """
    corners = _corners(shape)
    count = PARAMETERS[motion]
    unknown = sorted({p.moving for p in pairs} | {p.fixed for p in pairs} - {centre})
    unknown = [i for i in unknown if i != centre]
    place = {i: count * k for k, i in enumerate(unknown)}
    good = [p for p in pairs if np.isfinite(p.doubt)]
    result = chain.copy()
    if not good or not unknown:
        return result
    rows, goals, spreads = [], [], []
    for pair in good:
        block = np.zeros((2 * len(corners), count * len(unknown)))
        goal: np.ndarray = np.zeros(2 * len(corners))
        for i, points, sign in (
            (pair.moving, corners, 1.0),
            (pair.fixed, apply(pair.matrix, corners), -1.0),
        ):
            terms, fixed_part = _linear(motion, points)
            if i == centre:
                goal = goal - sign * points.T.ravel()
            else:
                block[:, place[i] : place[i] + count] += sign * terms
                goal = goal - sign * fixed_part
        rows.append(block)
        goals.append(goal)
        spreads.append(pair.doubt)
    base = 1 / (np.array(spreads) ** 2 + np.median(spreads) ** 2)
    weights = base
    solution = np.zeros(count * len(unknown))
    for _ in range(ROUNDS):
        root = np.repeat(np.sqrt(weights), 2 * len(corners))
        design, target = np.concatenate(rows), np.concatenate(goals)
        solution = np.linalg.lstsq(root[:, None] * design, root * target, rcond=None)[0]
        misses = (design @ solution - target).reshape(len(good), -1)
        length = np.sqrt((misses**2).mean(axis=1))
        scale = max(float(np.median(length)), 1e-6)
        weights = base / (1 + (length / (2 * scale)) ** 2)
    for i in unknown:
        result[i] = _matrix(motion, solution[place[i] : place[i] + count])
    return result


def _columns(
    motion: str, down: np.ndarray, across: np.ndarray, v: np.ndarray, u: np.ndarray
) -> list[np.ndarray]:
    """Derivative of the picture by each parameter of a small motion, in pixels at the border."""
    if motion == "translation":
        return [down, across]
    if motion == "similarity":
        return [down, across, down * v + across * u, across * v - down * u]
    return [down, across, down * v, down * u, across * v, across * u]


def _update(motion: str, step: np.ndarray, size: float, shape: tuple[int, int]) -> np.ndarray:
    """Small motion of `_columns`' parameters, about the middle of the picture."""
    small = np.eye(3)
    if motion == "similarity":
        small[:2, :2] += np.array([[step[2], -step[3]], [step[3], step[2]]]) / size
    elif motion == "affine":
        small[:2, :2] += np.array([[step[2], step[3]], [step[4], step[5]]]) / size
    middle = (np.array(shape) - 1) / 2
    small[:2, 2] = middle - small[:2, :2] @ middle + step[:2]
    return small


def _linear(motion: str, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mapped (all y, then all x) coordinates as linear terms of the parameters, plus a constant."""
    y, x = points.T
    one, zero = np.ones_like(y), np.zeros_like(y)
    if motion == "translation":
        return np.block([[one[:, None], zero[:, None]], [zero[:, None], one[:, None]]]), np.r_[y, x]
    if motion == "similarity":
        down = np.stack([y, -x, one, zero], axis=1)
        across = np.stack([x, y, zero, one], axis=1)
    else:
        down = np.stack([y, x, one, zero, zero, zero], axis=1)
        across = np.stack([zero, zero, zero, y, x, one], axis=1)
    return np.concatenate([down, across]), np.zeros(2 * len(y))


def _matrix(motion: str, p: np.ndarray) -> np.ndarray:
    matrix = np.eye(3)
    if motion == "translation":
        matrix[:2, 2] = p
    elif motion == "similarity":
        matrix[:2] = [[p[0], -p[1], p[2]], [p[1], p[0], p[3]]]
    else:
        matrix[:2] = p.reshape(2, 3)
    return matrix


def _corners(shape: tuple[int, int]) -> Any:
    height, width = shape[0] - 1.0, shape[1] - 1.0
    return np.array([[0, 0], [0, width], [height, 0], [height, width]], dtype=np.float64)
