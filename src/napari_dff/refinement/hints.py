"""What a person knows: here it is that plane, or here it is never in focus.

A hint is obeyed at its own pixel and heard around it: the less, the longer the way to it over the
guide, on which an edge is as good as a wall. Who hears a hint trusts its own focus curve less;
what it does instead is up to each refinement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from napari_dff.compiled import kernel
from napari_dff.refinement.energy import EDGE
from napari_dff.refinement.message_passing import disputed
from napari_dff.validation import as_numbers
from napari_dff.windows import GRID_PX, Window

if TYPE_CHECKING:
    from napari_dff.depth import DepthMap

NO_HINT, BACKGROUND = -1, -2
RANGE = 24  # pixels: a hint is heard no farther
FOLLOWS = 0.5  # of the influence: above it, what isn't known otherwise is as the hint says


class Before(NamedTuple):
    """An earlier answer of `refine` to other hints, all else the same.

    Attributes
    ----------
    result : DepthMap
    hints : (Y, X) integer array
        The hints it was given.
    """

    result: DepthMap
    hints: np.ndarray


class Said(NamedTuple):
    """What the nearest hint says, (Y, X) each, and how much it is heard: 0 … 1.

    1 is at a hint. Around, it falls with the distance, and with how well the pixel knows itself.
    """

    index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, as in DepthMap
    depth: np.ndarray
    uncertainty: np.ndarray
    influence: np.ndarray


def checked_hints(name: str, hints: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
    """`hints` as (Y, X) int32, `NO_HINT` everywhere when None; ValueError where they can't be."""
    if hints is None:
        return np.full(shape[1:], NO_HINT, np.int32)
    values = as_numbers(name, hints)
    if values.shape != shape[1:]:
        raise ValueError(
            f"{name} must have the shape of a plane of focus, {shape[1:]}, got {values.shape}"
        )
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, plane numbers, got {values.dtype}")
    low, high = int(values.min()), int(values.max())
    if low < BACKGROUND or high >= shape[0]:
        raise ValueError(
            f"{name} must be plane numbers from 0 to {shape[0] - 1}, {NO_HINT} for no hint or "
            f"{BACKGROUND} for background, got values from {low} to {high}"
        )
    return values.astype(np.int32)


def spread(hints: np.ndarray, guide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest hint of every pixel and how near it is: (Y, X) int32 and float32, 0 … 1.

    By geodesic distance: a step between pixels is as long as it is, and longer by up to `RANGE`
    where the guide steps by up to `EDGE`.

    References
    ----------
    Criminisi, Sharp & Blake 2008, doi:10.1007/978-3-540-88682-2_9.
    """
    nearest = hints.copy()
    distance = np.where(hints == NO_HINT, np.float32(RANGE), np.float32(0))
    for box in boxes(hints != NO_HINT, RANGE):
        _spread(guide, distance, nearest, *box)
    return nearest, (1 - (distance / RANGE) ** 2) ** 2


@kernel
def _spread(guide, distance, nearest, top, bottom, left, right):  # type: ignore[no-untyped-def]
    """Shorten distances by one step, from the top left and from the bottom right, to the end."""
    reach = np.float32(RANGE)
    shorter, sign = 2, -1
    while shorter > 0:  # until neither of two sweeps has shortened any
        shorter -= 1
        for i in range(top, bottom):
            y = i if sign < 0 else bottom - 1 - (i - top)
            for j in range(left, right):
                x = j if sign < 0 else right - 1 - (j - left)
                for dy, dx in ((0, 1), (1, 1), (1, 0), (1, -1)):
                    v, u = y + sign * dy, x + sign * dx
                    if not (top <= v < bottom and left <= u < right) or distance[v, u] >= reach:
                        continue
                    edge = min(abs(guide[v, u] - guide[y, x]) / np.float32(EDGE), np.float32(1))
                    step = np.float32(np.sqrt(dy * dy + dx * dx)) + reach * edge**4
                    if distance[v, u] + step < distance[y, x]:
                        distance[y, x] = distance[v, u] + step
                        nearest[y, x] = nearest[v, u]
                        shorter = 2
        sign = -sign


def hinted(
    estimate: DepthMap, hints: np.ndarray, guide: np.ndarray, positions: np.ndarray
) -> tuple[DepthMap, Said]:
    """`estimate` as far as hints alone decide it, and what is to be heard of them.

    Where it is never in focus and a hint is near, its plane is where to begin. Background makes
    never in focus what was not well known.
    """
    nearest, influence = spread(hints, guide)
    plane = np.maximum(nearest, 0)
    distances = np.abs(np.gradient(positions))  # of the planes beside, halved: as in locate_peak
    uncertainty = (distances / np.sqrt(12)).astype(np.float32)[plane]
    unknown = np.isinf(estimate.uncertainty)
    ill = unknown | disputed(estimate) | (estimate.uncertainty > distances.mean())
    background = nearest == BACKGROUND
    nowhere = (hints == BACKGROUND) | (background & ill & (influence > FOLLOWS))
    influence[background] = 0
    own = np.where(unknown, np.float32(0), estimate.uncertainty)
    unsure = np.where(unknown, np.float32(1), own**2 / (own**2 + uncertainty**2))
    influence = np.where(hints == NO_HINT, influence * unsure, influence)
    depth = positions.astype(np.float32)[plane]
    said = Said(plane.astype(np.uint16), depth, uncertainty, influence)
    follows = unknown & (influence > FOLLOWS)
    found = type(estimate)(
        np.where(follows, said.index, estimate.index),
        np.where(follows, said.depth, estimate.depth),
        np.where(nowhere, np.float32(np.inf), estimate.uncertainty),
    )
    return pinned(found, said), said


def pinned(estimate: DepthMap, said: Said) -> DepthMap:
    """`estimate`, with what the hints say where they are."""
    here = said.influence == 1
    return type(estimate)(
        *(np.where(here, one, own) for one, own in zip(said[:3], estimate, strict=True))
    )


def framed(said: Said, result: DepthMap, box: Window, shape: tuple[int, ...]) -> Said:
    """`said` of a part of a plane, with its rim, `RANGE` wide, pinned to an earlier `result`.

    What hints outside the part say reaches no farther than the rim, which is not where the plane
    ends.
    """
    height, width = box.shape
    inner = np.zeros(box.shape, bool)
    top, left = (RANGE if start > 0 else 0 for start in (box.top, box.left))
    bottom = height - (RANGE if box.bottom < shape[0] else 0)
    right = width - (RANGE if box.right < shape[1] else 0)
    inner[top:bottom, left:right] = True
    index, depth, uncertainty = (
        np.where(inner, one, old) for one, old in zip(said[:3], result, strict=True)
    )
    return Said(index, depth, uncertainty, np.where(inner, said.influence, np.float32(1)))


def boxes(mask: np.ndarray, by: int) -> list[Window]:
    """Windows, none of which overlap, that cover `mask` and `by` pixels around it."""
    shape: tuple[int, int] = mask.shape
    padded = np.pad(mask, [(0, -size % GRID_PX) for size in shape])
    rows, columns = (size // GRID_PX for size in padded.shape)
    coarse = padded.reshape(rows, GRID_PX, columns, GRID_PX).any(axis=(1, 3))
    _, _, stats, _ = cv2.connectedComponentsWithStats(np.asarray(coarse, np.uint8))
    found: list[Window] = []
    for left, top, width, height, _ in GRID_PX * stats[1:].astype(int):
        new = Window(top, top + height, left, left + width).expand(by, shape)
        while any(touching := [_overlap(new, other) for other in found]):
            together = [new, *(w for w, hit in zip(found, touching, strict=True) if hit)]
            found = [w for w, hit in zip(found, touching, strict=True) if not hit]
            top, bottom, left, right = zip(*together, strict=True)
            new = Window(min(top), max(bottom), min(left), max(right))
        found.append(new)
    return found


def _overlap(a: Window, b: Window) -> bool:
    return a.top < b.bottom and b.top < a.bottom and a.left < b.right and b.left < a.right
