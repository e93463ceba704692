"""Methods that match two planes: by features, or by the correlation of their grey levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from napari_dff.model.recipe import Motion
from napari_dff.registration.downsampling import MAX_SIDE_PX
from napari_dff.registration.features import (
    MIN_MATCHES,
    NO_MATCHES,
    Keypoints,
    Matches,
    detect_keypoints,
    match,
)
from napari_dff.registration.intensity import estimate_ecc
from napari_dff.registration.motion import MOTIONS
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.threads import run_parallel


class Candidates(NamedTuple):
    """Transforms from a plane to its neighbour, by name of the motion model, and the matches.

    Without transforms where nothing can be matched.
    """

    transforms: dict[Motion, np.ndarray]
    matches: Matches


class Matcher(NamedTuple):
    """A method that matches two planes.

    Attributes
    ----------
    match_pair : callable
        From the indices of a plane and of its neighbour to `Candidates`.
    keypoint_counts : list of int
        Number of features of each plane; 0 where the method has none.
    """

    match_pair: Callable[[int, int], Candidates]
    keypoint_counts: list[int]


def feature_matcher(
    images: np.ndarray, max_side: int, max_count: int, progress: Progress
) -> Matcher:
    """Match planes by their features, and fit all motion models, since a fit costs little.

    Up to `max_count` features a plane are detected at a longer side of `max_side` pixels.
    """
    keypoints: dict[int, Keypoints] = {}

    def detect(i: int) -> None:
        keypoints[i] = detect_keypoints(images[i], max_side, max_count)

    def match_pair(plane: int, neighbour: int) -> Candidates:
        matches = match(keypoints[plane], keypoints[neighbour])
        if len(matches.source) < MIN_MATCHES:
            return Candidates({}, matches)
        points = matches.source, matches.target, matches.weights
        return Candidates({name: model.fit(*points) for name, model in MOTIONS.items()}, matches)

    run_parallel(detect, range(len(images)), progress, desc="Finding features")
    return Matcher(match_pair, [len(keypoints[i].points) for i in range(len(images))])


def intensity_matcher(images: np.ndarray, motion: Motion) -> Matcher:
    """Match planes by the enhanced correlation coefficient, for the requested motion model."""
    names: tuple[Motion, ...] = (motion,)
    if motion == "auto":
        names = ("translation", "similarity")

    def match_pair(plane: int, neighbour: int) -> Candidates:
        transforms = {}
        for name in names:
            model = MOTIONS[name]
            transform = estimate_ecc(images[plane], images[neighbour], model)
            if transform is not None:
                transforms[name] = model.project(transform, images[plane].shape)
        return Candidates(transforms, NO_MATCHES)

    return Matcher(match_pair, [0] * len(images))


# Joint registration refines the transforms by grey levels: few features at a coarse scale suffice.
MATCHERS: dict[str, Callable[[np.ndarray, Motion, Progress], Matcher]] = {
    "joint": lambda images, _, progress: feature_matcher(images, 384, 1000, progress),
    "sift": lambda images, _, progress: feature_matcher(images, MAX_SIDE_PX, 4000, progress),
    "ecc": lambda images, motion, _: intensity_matcher(images, motion),
}
