"""Checks of planes before a run: which planes are left out, and whether their order is wrong.

Planes without contrast come from missed exposures, copies of the plane before from cameras that
deliver a frame twice, and planes unlike those beside them from a bump of the stage or from another
stack. These are left out. All are found in the middle rows of the planes, and confirmed on whole
planes, so that lazy planes are read as a whole only where something is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from napari_dff.imaging.images import luminance, read_plane
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.stack import MIN_PLANES
from napari_dff.pipeline.plane_order import is_order_wrong, pairwise_distances
from napari_dff.runtime.lazy import is_ready

EVERYWHERE = slice(None), slice(None)
STRIP_ROWS = 64  # planes are compared in the middle rows
BLOCK_PX = 8  # least side of the blocks whose focus energy and grey levels are compared
BLOCKS_ACROSS = 64  # largest number of blocks in a row
MIN_BLOCKS = 100
MIN_RELATIVE_CONTRAST = 0.05  # of a typical plane; planes with less are blank
MAX_COPY_CHANGE = 0.1  # of the change between planes nearby; codecs change copies a little
MIN_COMPARED_PLANES = 5
MAX_RUN_PLANES = 2  # that are unlike those beside them, one after the other
MAX_UNLIKE_SHARE = 0.2  # of the planes; if there are more, all planes are unlike each other
TINY = 1e-12  # grey levels
UNLIKE_RATIO = 3.0  # see below
UNLIKE_END_RATIO = 10.0  # of the first and of the last plane, which have one plane beside them
MAX_SHARPNESS_RATIO = 1.2  # of a plane that is unlike the planes beside it
MESSAGES = {
    "blank": "{} no contrast, and no influence on the result",
    "copies": "{} nearly the same pixels as the plane before, and no influence on the result: "
    "check whether a plane is missing there",
    "unlike": "{} little in common with the planes beside, as after a bump of the stage, and no "
    "influence on the result: take such planes again",
}
WRONG_ORDER_MESSAGE = (
    "another order of the planes explains them much better, as of shuffled files or of a sweep "
    "there and back: check their order, or keep one sweep"
)

# Unlike planes
# -------------
# Coarse grey levels hardly depend on defocus. From plane to plane they change little, and steadily:
# a plane is closer to the planes before and after it than these are to each other. Let d be the
# Euclidean distance of the normalized grey levels of blocks. In 20 stacks, 9 of them photographs
# without alignment, and in every 2nd, 3rd and 4th plane, the ratio
#     min(d(k, k-1), d(k, k+1)) / max(d(k-1, k+1), median of d(i, i+1))
# is 1.1 or less, and 2.4 where a sweep turns back. It is 3 or more for a plane of another field,
# and for a shift by 1 to 3 % of the width. The ratio of the first or last plane is up to 4.4. A
# plane that is sharper than those beside it may be the only one in focus: it is not unlike.


class PlaneChecks(NamedTuple):
    """Indices of the planes that are left out, and whether the order of the others is wrong."""

    blank: Sequence[int] = ()
    copies: Sequence[int] = ()  # of the plane before
    unlike: Sequence[int] = ()  # the planes beside them
    has_wrong_order: bool = False

    @property
    def left_out(self) -> list[int]:
        """Indices of all planes that are left out, sorted."""
        return sorted([*self.blank, *self.copies, *self.unlike])

    @property
    def sentences(self) -> list[str]:
        """Sentences that name these planes, and say what to do."""
        named = {name: getattr(self, name) for name in MESSAGES}
        texts = [
            MESSAGES[name].format(describe(planes)) for name, planes in named.items() if planes
        ]
        return texts + [WRONG_ORDER_MESSAGE] * self.has_wrong_order

    def used_planes(self, count: int) -> np.ndarray | slice:
        """Return the indices of the planes that are not left out; a full slice if none is."""
        left_out = self.left_out
        return np.setdiff1d(np.arange(count), left_out) if left_out else slice(None)


class PlaneFeatures(NamedTuple):
    """What planes are compared by, from the same rows of each."""

    contrasts: np.ndarray  # (Z,) standard deviations
    changes: np.ndarray  # (Z - 1,) mean differences of consecutive planes of mean 0 and deviation 1
    layout: np.ndarray  # (Z, N) grey levels of blocks, blurred, of mean 0 and norm 1 or 0
    energy: np.ndarray  # (Z, N) focus energy of the blocks


def check_planes(planes: Any) -> PlaneChecks:
    """Check (Z, Y, X[, 3]) planes, which may be lazy.

    Raises
    ------
    ValueError
        If fewer than three planes have contrast.
    """
    checks, features = _check_each_plane(planes)
    if features.layout.shape[1] < MIN_BLOCKS:
        return checks
    used = checks.used_planes(planes.shape[0])
    is_wrong = is_order_wrong(features.energy[used], features.layout[used])
    return checks._replace(has_wrong_order=is_wrong)


def _check_each_plane(planes: Any) -> tuple[PlaneChecks, PlaneFeatures]:
    """Return the planes that are left out, and the features of the middle rows."""
    count = planes.shape[0]
    features = _measure(planes, range(count), _middle_rows(planes))
    blank = _find_blank(planes, features.contrasts)
    others = np.setdiff1d(np.arange(count), blank)
    copies = _find_copies(planes, features.changes, others)
    others = np.setdiff1d(others, copies)
    if len(others) < MIN_PLANES:
        return PlaneChecks(blank), features
    return PlaneChecks(blank, copies, _find_unlike(planes, features, others)), features


def find_used_planes(planes: Any) -> np.ndarray | slice:
    """Return the planes that are not left out; all if they are lazy, as previews read little."""
    if not is_ready(planes):
        return slice(None)
    return _check_each_plane(planes)[0].used_planes(len(planes))


def to_all_planes(depth_map: DepthMap, used: np.ndarray | slice) -> DepthMap:
    """Return a depth map whose index, among the `used` planes, is one among all planes."""
    if isinstance(used, slice):
        return depth_map
    return depth_map._replace(index=used.astype(depth_map.index.dtype)[depth_map.index])


def to_used_planes(depth_map: DepthMap, used: np.ndarray | slice) -> DepthMap:
    """Return a depth map whose index, among all planes, is one among the `used` planes.

    That of a plane that is left out becomes the next one.
    """
    if isinstance(used, slice):
        return depth_map
    index = np.searchsorted(used, depth_map.index).clip(max=len(used) - 1)
    return depth_map._replace(index=index.astype(depth_map.index.dtype))


def describe(planes: Sequence[int]) -> str:
    """Return subject and verb of a clause on what planes have."""
    names = ", ".join(map(str, planes))
    return f"planes {names} have" if len(planes) > 1 else f"plane {names} has"


@np.errstate(over="ignore", invalid="ignore")  # squares of large numbers overflow
def _measure(planes: Any, indices: Sequence[int], where: tuple[slice, slice]) -> PlaneFeatures:
    """Return the features of some planes, of which the part `where` is read."""
    contrasts, changes, layouts, energies = [], [], [], []
    previous = None
    for k in indices:
        part = read_plane(planes, k, where)
        contrasts.append(float(part.std(dtype=float)))
        grey = luminance(part)
        normalized = (grey - grey.mean()) / max(float(grey.std()), TINY)
        if previous is not None:
            changes.append(float(np.abs(normalized - previous).mean(dtype=float)))
        previous = normalized
        height, width = grey.shape
        size = min(max(width // BLOCK_PX, 1), BLOCKS_ACROSS), max(height // BLOCK_PX, 1)
        energy = cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 1), cv2.CV_32F) ** 2
        energies.append(cv2.resize(energy, size, interpolation=cv2.INTER_AREA).ravel())
        blocks = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float64)
        layouts.append(cv2.GaussianBlur(blocks, (0, 0), 1).ravel())
    layout = np.array(layouts) - np.mean(layouts, axis=1, keepdims=True)
    norm = np.linalg.norm(layout, axis=1, keepdims=True)
    layout = np.nan_to_num(layout / np.where(norm > 0, norm, 1), posinf=0, neginf=0)
    return PlaneFeatures(np.array(contrasts), np.array(changes), layout, np.array(energies))


def _find_blank(planes: Any, contrasts: np.ndarray) -> list[int]:
    """Return the planes without contrast, in the middle rows and as a whole."""
    count = len(contrasts)
    blank = np.flatnonzero(contrasts < MIN_RELATIVE_CONTRAST * np.median(contrasts)).tolist()
    if blank:
        typical = int(np.argsort(contrasts)[(len(blank) + count) // 2])  # the middle of the others
        full = {k: float(read_plane(planes, k).std(dtype=float)) for k in [*blank, typical]}
        blank = [k for k in blank if full[k] < MIN_RELATIVE_CONTRAST * full[typical]]
    if blank and count - len(blank) < MIN_PLANES:
        message = f"at least {MIN_PLANES} planes must have contrast; {describe(blank)} no contrast"
        raise ValueError(message)
    return blank


def _find_copies(planes: Any, changes: np.ndarray, others: np.ndarray) -> list[int]:
    """Return which of the planes `others` are copies of the plane before."""
    if not changes.any():  # no plane differs from another one
        return []
    typical = np.median(changes[changes > 0])
    suspects = np.flatnonzero(changes <= MAX_COPY_CHANGE * typical) + 1
    copies = []
    for k in np.intersect1d(suspects, others).tolist():
        near = range(max(k - 2, 0), min(k + 2, planes.shape[0]))
        full, place = _measure(planes, near, EVERYWHERE), near.index(k)
        change, other_changes = full.changes[place - 1], np.delete(full.changes, place - 1)
        if full.contrasts[place] > 0 and change <= MAX_COPY_CHANGE * other_changes.max():
            copies.append(k)
    return copies


def _find_unlike(planes: Any, features: PlaneFeatures, others: np.ndarray) -> list[int]:
    """Return which of the planes `others` are unlike those beside them."""
    count = len(others)
    if count < MIN_COMPARED_PLANES or features.layout.shape[1] < MIN_BLOCKS:
        return []
    distance = pairwise_distances(features.layout[others], 2)
    typical = float(np.median(np.diag(distance, 1)))
    sharpness = features.energy[others].mean(axis=1)
    unlike: set[int] = set()
    for run, neighbours, ratio in _runs(count):
        if unlike.intersection([*run, *neighbours]):
            continue
        if _distance_ratio(distance, run, neighbours, typical) <= ratio:
            continue
        if sharpness[run].min() > MAX_SHARPNESS_RATIO * sharpness[neighbours].max():
            continue
        near = others[[*run, *neighbours]].tolist()
        full_distance = pairwise_distances(_measure(planes, near, EVERYWHERE).layout, 2)
        places = list(range(len(run))), list(range(len(run), len(near)))
        if _distance_ratio(full_distance, *places) > ratio:
            unlike.update(run)
    if len(unlike) > MAX_UNLIKE_SHARE * count:
        return []
    return sorted(int(k) for k in others[list(unlike)])


def _runs(count: int) -> Iterator[tuple[list[int], list[int], float]]:
    """Return runs of planes that may be unlike, two neighbours of each, and the largest ratio."""
    yield [0], [1, 2], UNLIKE_END_RATIO
    yield [count - 1], [count - 2, count - 3], UNLIKE_END_RATIO
    for length in range(1, MAX_RUN_PLANES + 1):
        for first in range(1, count - length):
            run = list(range(first, first + length))
            yield run, [first - 1, first + length], UNLIKE_RATIO


def _distance_ratio(
    distance: np.ndarray, run: list[int], neighbours: list[int], typical: float = 0.0
) -> float:
    """Return how much farther the planes of a run are from two planes than these are apart."""
    usual = max(float(distance[neighbours[0], neighbours[1]]), typical)
    return float(distance[np.ix_(run, neighbours)].min()) / usual if usual else 0.0


def _middle_rows(planes: Any) -> tuple[slice, slice]:
    height = planes.shape[1]
    top = max((height - STRIP_ROWS) // 2, 0)
    return slice(top, top + STRIP_ROWS), slice(None)
