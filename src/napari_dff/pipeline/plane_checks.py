"""Checks of planes before a run: planes without contrast are left out, a wrong order is reported.

Planes without contrast come from missed exposures. A wrong order comes from file names that do not
sort by focus position, and from sweeps there and back.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from napari_dff.imaging.images import luminance, read_plane
from napari_dff.model.stack import MIN_PLANES

MIN_RELATIVE_CONTRAST = 0.05  # of a typical plane; planes with less are blank
STRIP_ROWS = 64  # planes are compared in the middle rows
BLOCK_PX = 8  # least side of the blocks whose focus energy is compared
BLOCKS_ACROSS = 64  # largest number of blocks in a row
MIN_ORDERED_PLANES = 5
MIN_BLOCKS = 100
MAX_TOUR_RATIO = 0.88  # length of the shortest tour, over that of the planes as given
MAX_STEP_RATIO = 0.97  # largest step of these tours
MIN_TWO_SURFACES_RATIO = 0.65  # shortest tour of two flat surfaces, over that as given

# Wrong order
# -----------
# In the right order, the focus energy of a block rises once to its peak, and falls. Then its steps
# from 0 to the first plane, from plane to plane, and from the last plane to 0 sum to twice the
# peak; no order has less. So an order is a tour from a plane of zeros through all planes and back,
# and a wrong one is much longer than the shortest. The distance of two planes is the sum over the
# blocks of |difference of energy| / peak. Planes of coarse steps in the right order, and of a flat
# specimen, which are alike on both sides of the focus, have no shorter tour.
#
# Two flat surfaces that are both in every block have one, with a larger step from one surface to
# the other. It has about 2/3 of the length: (|a| + |b| + |a - b|) / 2 (|a| + |b|) for uniformly
# distributed energies a and b of the blocks. A sweep there and back over the same positions has a
# tour of half the length, with the same largest step.
#
# The shortest tour is approximated by average linkage and 2-opt (Croes 1958,
# doi:10.1287/opre.6.6.791), in about Z² operations for each of a few passes.
#
# In 21 stacks, 8 of them photographs, and in their every 2nd, 3rd and 4th plane, the ratio of the
# lengths is 0.91 or more. It is 0.85 or less if they are shuffled or swept there and back, except
# for 5 or 6 planes with little changed, and one stack (0.88 to 0.94) whose light and scale vary.


def is_order_wrong(planes: Any, blank: list[int]) -> bool:
    """Return whether another order explains the planes much better, as of a sweep there and back.

    `blank` planes do not count. `planes` may be lazy: the middle rows are read.
    """
    used = [k for k in range(planes.shape[0]) if k not in blank]
    if len(used) < MIN_ORDERED_PLANES:
        return False
    energy = np.array([_block_energy(planes, k) for k in used])
    peak = energy.max(axis=0)
    valid = (peak > 0) & np.isfinite(peak)  # squares of large numbers overflow
    if valid.sum() < MIN_BLOCKS:
        return False
    relative = energy[:, valid] / peak[valid]
    points = np.concatenate([np.zeros_like(relative[:1]), relative]).astype(np.float64)
    table = np.array([np.abs(points - point).sum(axis=1) for point in points])
    start = _linkage_order(table)
    shortest = _shorten_tour(table, np.roll(start, -np.flatnonzero(start == 0)[0]))
    tours = np.arange(len(table)), shortest
    steps, least_steps = (table[tour, np.roll(tour, -1)] for tour in tours)
    length_ratio = least_steps.sum() / steps.sum()
    steps_fall = least_steps[1:-1].max() < MAX_STEP_RATIO * steps[1:-1].max()
    return bool(length_ratio < (MAX_TOUR_RATIO if steps_fall else MIN_TWO_SURFACES_RATIO))


def _block_energy(planes: Any, k: int) -> np.ndarray:
    """Return the focus energy of blocks of the middle rows of plane `k`, (blocks,) float32."""
    grey = luminance(read_plane(planes, k, _middle_rows(planes)))
    energy = cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 1), cv2.CV_32F) ** 2
    height, width = energy.shape
    size = min(max(width // BLOCK_PX, 1), BLOCKS_ACROSS), max(height // BLOCK_PX, 1)
    return cv2.resize(energy, size, interpolation=cv2.INTER_AREA).ravel()


def _linkage_order(distance: np.ndarray) -> np.ndarray:
    """Return points in the order of average linkage, so that near ones follow each other.

    The two clusters of least mean distance are joined, the older one first, until one is left.
    Importing scipy's function would take longer than a run of a small stack.
    """
    distance = distance + np.diag(np.full(len(distance), np.inf))
    clusters, age = [[k] for k in range(len(distance))], np.arange(len(distance))
    for step in range(len(clusters) - 1):
        pair = np.unravel_index(int(distance.argmin()), distance.shape)
        a, b = sorted(map(int, pair), key=lambda k: age[k])
        sizes, age[a] = (len(clusters[a]), len(clusters[b])), len(distance) + step
        mean = np.average(distance[[a, b]], axis=0, weights=sizes)
        distance[a], distance[:, a] = mean, mean
        distance[b], distance[:, b], distance[a, a] = np.inf, np.inf, np.inf
        clusters[a] = clusters[a] + clusters[b]
        clusters[b] = []
    return np.array(max(clusters, key=len))


def _shorten_tour(distance: np.ndarray, tour: np.ndarray) -> np.ndarray:
    """Return a closed tour through the same points, shortened by reversing parts of it."""
    tour, improved, tolerance = tour.copy(), True, 1e-6 * distance.max()
    while improved:
        improved = False
        for i in range(1, len(tour) - 1):
            previous, first = tour[i - 1], tour[i]
            last, following = tour[i + 1 :], np.append(tour[i + 2 :], tour[0])
            gain = distance[previous, first] + distance[last, following]
            gain -= distance[previous, last] + distance[first, following]
            best = int(gain.argmax())
            if gain[best] > tolerance:
                tour[i : i + best + 2] = tour[i : i + best + 2][::-1]
                improved = True
    return tour


def find_blank_planes(planes: Any) -> list[int]:
    """Return the indices of the planes without contrast.

    Parameters
    ----------
    planes : (Z, Y, X[, 3]) array
        May be lazy: some rows are read, and whole planes only where these have no contrast.

    Raises
    ------
    ValueError
        If fewer than three planes have contrast.
    """
    count, height, width = planes.shape[:3]

    def contrast(k: int, where: tuple[slice, slice]) -> float:
        return float(read_plane(planes, k, where).std(dtype=float))

    contrasts = [contrast(k, _middle_rows(planes)) for k in range(count)]
    threshold = MIN_RELATIVE_CONTRAST * float(np.median(contrasts))
    blank = [k for k in range(count) if contrasts[k] < threshold]
    if blank:
        everywhere = slice(0, height), slice(0, width)
        typical = int(np.argsort(contrasts)[(len(blank) + count) // 2])  # the middle of the others
        threshold = MIN_RELATIVE_CONTRAST * contrast(typical, everywhere)
        blank = [k for k in blank if contrast(k, everywhere) < threshold]
    if blank and count - len(blank) < MIN_PLANES:
        raise ValueError(f"at least {MIN_PLANES} planes must have contrast; {describe(blank)}")
    return blank


def describe(blank: list[int]) -> str:
    """Return a clause that names blank planes."""
    names = ", ".join(map(str, blank))
    plural = len(blank) > 1
    return f"planes {names} have no contrast" if plural else f"plane {names} has no contrast"


def used_planes(count: int, blank: list[int]) -> np.ndarray | slice:
    """Return the indices of all planes but the blank ones; a full slice if none is blank."""
    return np.setdiff1d(np.arange(count), blank) if blank else slice(None)


def find_used_planes(planes: Any) -> np.ndarray | slice:
    """Return the planes that are not blank; all of lazy planes, of which a preview reads little."""
    in_memory = isinstance(planes, np.ndarray)
    return used_planes(len(planes), find_blank_planes(planes)) if in_memory else slice(None)


def _middle_rows(planes: Any) -> tuple[slice, slice]:
    height, width = planes.shape[1:3]
    top = max((height - STRIP_ROWS) // 2, 0)
    return slice(top, top + STRIP_ROWS), slice(0, width)
