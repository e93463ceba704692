"""Quality at a glance: how well a stack was aligned and covered, with advice in a sentence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from napari_dff.depth import DepthMap
from napari_dff.registration import STEADY, PlaneReport

MANY = (
    0.02  # share of the pixels from which an outermost plane, or a lack of focus, is worth a word
)
MOST = 0.3  # share that is never in focus from which the whole stack is in doubt


class Coverage(NamedTuple):
    """Shares of the pixels, 0 … 1: never in focus, and sharpest in the first or the last plane."""

    never: float
    first: float
    last: float


class Motion(NamedTuple):
    """What each plane did against the reference.

    Attributes
    ----------
    shift : (Z, 2) float64
        Of the middle of the plane: down and right, in pixels.
    magnification : (Z,) float64
    rotation : (Z,) float64
        In degrees.
    """

    shift: np.ndarray
    magnification: np.ndarray
    rotation: np.ndarray


def coverage(found: DepthMap, planes: int) -> Coverage:
    """How much of the scene a stack of so many planes covers."""
    known = np.isfinite(found.uncertainty)
    ends = [float(np.mean(known & (found.index == plane))) for plane in (0, planes - 1)]
    return Coverage(float(np.mean(~known)), *ends)


def advice(covered: Coverage) -> list[str]:
    """What the numbers say, and what to do about it: sentences."""
    told = [
        f"{covered.never:.1%} of the pixels are never in focus, {covered.first:.1%} are sharpest "
        f"in the first plane, {covered.last:.1%} in the last."
    ]
    if covered.first > MANY:
        told.append("The stack starts too late: take planes before its first one.")
    if covered.last > MANY:
        told.append("The stack stops too early: take planes after its last one.")
    if covered.never > MOST:
        told.append(
            "Much is never in focus: where there is texture, try a larger window and sigma; "
            "where there is none, light it differently."
        )
    return told


def motion_of(transforms: np.ndarray, shape: tuple[int, int]) -> Motion:
    """Shift, magnification and rotation of every plane of `shape` from (Z, 3, 3) transforms."""
    middle = np.array([(shape[0] - 1) / 2, (shape[1] - 1) / 2, 1.0])
    moved = transforms @ middle
    linear = transforms[:, :2, :2]
    return Motion(
        moved[:, :2] / moved[:, 2:] - middle[:2],
        np.sqrt(np.abs(np.linalg.det(linear))),
        np.degrees(
            np.arctan2(linear[:, 1, 0] - linear[:, 0, 1], linear[:, 0, 0] + linear[:, 1, 1])
        ),
    )


def fallen_back(report: tuple[PlaneReport, ...]) -> list[int]:
    """Planes whose motion isn't what was asked for; not those that fit best unmoved."""
    fell = [plane for plane in report if plane.fallback and not plane.fallback.startswith(STEADY)]
    return [plane.plane for plane in fell]


def alignment_advice(report: tuple[PlaneReport, ...], motion: Motion) -> list[str]:
    """What the alignment found: sentences."""
    far = np.hypot(*motion.shift.T).max()
    grown = 100 * (motion.magnification.max() / motion.magnification.min() - 1)
    told = [f"Planes moved by up to {far:.2f} pixels and {grown:.2f} % of their size."]
    fell = fallen_back(report)
    if fell:
        told.append(
            f"Planes {', '.join(map(str, fell))} could not be matched as asked (see fallback): "
            "look at them, and try a simpler motion."
        )
    return told
