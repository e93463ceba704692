"""Joint registration: sub-pixel transforms between nearby planes, solved as one system.

In a chain of transforms between neighbours, errors accumulate. So every plane is compared with the
next three, with the transforms of the chain as start values. One system of robust least squares
gives the transforms that agree best with all comparisons.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from napari_dff.registration.motion import MotionModel, corner_points, transform_points
from napari_dff.registration.subpixel import BandpassImage, bandpass, refine_pair
from napari_dff.runtime.lazy import release_mapped_pages
from napari_dff.runtime.progress import Progress, iterate, no_progress
from napari_dff.runtime.threads import run_parallel, thread_count

T = TypeVar("T")
PLANE_GAPS = (1, 2, 3)  # distances in planes of the pairs that are compared
MIN_BLOCK_PLANES = 4  # planes compared at a time, each with the next three; at least one a thread
REWEIGHTING_STEPS = 10
RIDGE = 1e-12  # of the scaled normal equations, whose diagonal is 1
MIN_MOTION_PX = 0.1  # if no corner moves this much, no plane is resampled: it would cost more


class PairTransform(NamedTuple):
    """Transform from plane `moving` to plane `fixed`, and its standard deviation in pixels."""

    moving: int
    fixed: int
    transform: np.ndarray
    deviation: float


def refine_jointly(
    images: np.ndarray,  # (Z, Y, X) float32
    chain: np.ndarray,  # (Z, 3, 3), from which the comparisons start
    matched: list[int],  # planes to refine; the others keep their transform in `chain`
    reference: int,
    model: MotionModel,  # a linear one
    progress: Progress,
) -> np.ndarray:
    """Return the (Z, 3, 3) transforms of all planes to the reference plane, refined together."""
    pairs = _compare_near_planes(images, chain, matched, model, progress)
    transforms = solve(pairs, chain, reference, model, images[0].shape)
    corners = corner_points(images[0].shape)
    motion = max(np.abs(transform_points(transforms[i], corners) - corners).max() for i in matched)
    return np.tile(np.eye(3), (len(chain), 1, 1)) if motion < MIN_MOTION_PX else transforms


def _compare_near_planes(
    images: np.ndarray,
    chain: np.ndarray,
    matched: list[int],
    model: MotionModel,
    progress: Progress,
) -> list[PairTransform]:
    """Compare planes in blocks, so that few band-passed planes are in memory."""
    near = [(a, b) for gap in PLANE_GAPS for a, b in zip(matched, matched[gap:], strict=False)]
    bands: dict[int, BandpassImage] = {}
    pairs: dict[tuple[int, int], PairTransform] = {}
    ticks = iterate(progress, near, desc="Refining motions")

    def compare(pair: tuple[int, int]) -> None:
        a, b = pair
        start = np.linalg.inv(chain[b]) @ chain[a]
        pairs[pair] = PairTransform(a, b, *refine_pair(bands[a], bands[b], start, model))

    def count_all(items: Sequence[T], /, *, desc: str) -> Iterator[T]:  # one count for all blocks
        return (item for item, _ in zip(items, ticks, strict=False))

    size = max(MIN_BLOCK_PLANES, thread_count())
    for first in range(0, len(matched), size):
        block = matched[first : first + size]
        needed = matched[first : first + size + max(PLANE_GAPS)]
        bands = {i: bands[i] for i in needed if i in bands}
        missing = [i for i in needed if i not in bands]
        planes = [np.asarray(images[i]) for i in missing]
        bands |= zip(missing, run_parallel(bandpass, planes, no_progress, desc=""), strict=True)
        release_mapped_pages(images)
        run_parallel(compare, [pair for pair in near if pair[0] in block], count_all, desc="")
    next(ticks, None)  # ends the progress
    return [pairs[pair] for pair in near]


# Global least squares over pairs (Preibisch et al. 2009, doi:10.1093/bioinformatics/btp184). The
# unknowns are the transforms T_i from every plane i to the reference plane, for which T = I. A pair
# with the measured transform P from plane a to plane b requires T_a = T_b P. Its misfit at a corner
# c of the plane,
#     r(c) = T_a c - T_b (P c),
# is linear in the parameters of T_a and T_b (see `MotionModel.linear_system`). The sum over all
# pairs Σ w Σ_c |r(c)|² is minimized, with
#     w = 1 / (σ² + (median σ)²) · 1 / (1 + (R / (2 s))²).
# σ is the deviation of the pair; its median over all pairs limits the weight of one that fits
# perfectly by chance. The second factor is a Cauchy weight (Holland & Welsch 1977,
# doi:10.1080/03610927708827533), computed again in every pass, with the root mean square misfit R
# of the pair and the median s of all R. A pair has 8 equations in the parameters of two planes,
# which add to two rows and columns of blocks of the normal equations. Planes of a pair are near
# each other, so that these are a narrow band: time and memory grow with the planes only. They are
# scaled to a diagonal of 1 plus `RIDGE`: planes without a connection to the reference keep
# parameters near 0.
def solve(
    pairs: list[PairTransform],
    chain: np.ndarray,  # (Z, 3, 3); kept for planes in no pair of finite deviation
    reference: int,
    model: MotionModel,
    shape: tuple[int, int],
) -> np.ndarray:
    """Return the (Z, 3, 3) transforms to the reference plane that agree best with all pairs."""
    from scipy import linalg  # takes 0.1 s

    pairs = [pair for pair in pairs if np.isfinite(pair.deviation)]
    unknown = sorted({i for pair in pairs for i in (pair.moving, pair.fixed)} - {reference})
    result = chain.copy()
    if not unknown:
        return result
    design, target, columns = _linear_systems(pairs, unknown, model, corner_points(shape))
    products = np.einsum("pij,pik->pjk", design, design)
    moments = np.einsum("pij,pi->pj", design, target)
    size = model.parameter_count * len(unknown)
    rows, others = np.broadcast_arrays(columns[:, :, None], columns[:, None])
    used = products != 0  # 0: of the reference plane
    width = int(np.abs(rows - others)[used].max())
    places = (width + rows - others)[used], others[used]  # of a band: [width + i - j, j]
    deviations = np.array([pair.deviation for pair in pairs])
    weights = base = 1 / (deviations**2 + np.median(deviations) ** 2)
    for _ in range(REWEIGHTING_STEPS):
        normal, right = np.zeros((2 * width + 1, size)), np.zeros(size)
        np.add.at(normal, places, (weights[:, None, None] * products)[used])
        np.add.at(right, columns, weights[:, None] * moments)
        unit = 1 / np.sqrt(normal[width])
        normal *= (
            unit * np.pad(unit, width)[np.add.outer(np.arange(2 * width + 1), np.arange(size))]
        )
        normal[width] += RIDGE
        solution = unit * linalg.solve_banded((width, width), normal, unit * right)
        misfits = np.einsum("pij,pj->pi", design, solution[columns]) - target
        lengths = np.sqrt((misfits**2).mean(axis=1))
        scale = max(float(np.median(lengths)), 1e-6)
        weights = base / (1 + (lengths / (2 * scale)) ** 2)
    for i, parameters in zip(unknown, solution.reshape(len(unknown), -1), strict=True):
        result[i] = model.origin + np.tensordot(parameters, model.generators, 1)
    return result


def _linear_systems(
    pairs: list[PairTransform], unknown: list[int], model: MotionModel, corners: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A, b and indices i for each pair: A p[i] - b are its misfits.

    Its equations are y of all corners, then x of all. Columns of the reference plane are 0.
    """
    count = model.parameter_count
    first_column = {plane: count * k for k, plane in enumerate(unknown)}
    design = np.zeros((len(pairs), 2 * len(corners), 2 * count))
    target = np.zeros((len(pairs), 2 * len(corners)))
    columns = np.zeros((len(pairs), 2 * count), np.intp)
    for k, pair in enumerate(pairs):
        mapped = transform_points(pair.transform, corners)
        sides = (pair.moving, corners, 1.0), (pair.fixed, mapped, -1.0)
        for side, (plane, points, sign) in enumerate(sides):
            if plane in first_column:
                terms, constant = model.linear_system(points)
                own = slice(side * count, (side + 1) * count)
                design[k, :, own] = sign * terms
                columns[k, own] = first_column[plane] + np.arange(count)
                target[k] -= sign * constant
            else:  # the reference plane
                target[k] -= sign * points.T.ravel()
    return design, target, columns
