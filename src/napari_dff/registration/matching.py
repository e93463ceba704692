"""Methods that match two planes: by features, or by the correlation of their grey levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from napari_dff.model.recipe import Motion
from napari_dff.registration import features
from napari_dff.registration.downsampling import MAX_SIDE_PX
from napari_dff.registration.intensity import estimate_ecc
from napari_dff.registration.motion import MOTIONS
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.threads import run_parallel


class Candidates(NamedTuple):
    """Possible transforms from a plane to its neighbour; none where nothing can be matched."""

    transforms: dict[Motion, np.ndarray]
    matches: features.Matches


# A function from the indices of a plane and of its neighbour to `Candidates`, and the number of
# features of each plane.
Matcher = tuple[Callable[[int, int], Candidates], list[int]]


def feature_matcher(
    images: np.ndarray, max_side: int, max_count: int, progress: Progress
) -> Matcher:
    """Match planes by their features, and fit all motion models, since a fit costs little.

    Up to `max_count` features a plane are detected at a longer side of `max_side` pixels.
    """
    keypoints: dict[int, features.Keypoints] = {}

    def detect(i: int) -> None:
        keypoints[i] = features.detect_keypoints(images[i], max_side, max_count)

    def match_pair(plane: int, neighbour: int) -> Candidates:
        matches = features.match(keypoints[plane], keypoints[neighbour])
        if len(matches.source) < features.MIN_MATCHES:
            return Candidates({}, matches)
        return Candidates(
            {name: model.fit(*matches[:3]) for name, model in MOTIONS.items()}, matches
        )

    run_parallel(detect, range(len(images)), progress, desc="Finding features")
    return match_pair, [len(keypoints[i].points) for i in range(len(images))]


def intensity_matcher(images: np.ndarray, motion: Motion) -> Matcher:
    """Match planes by the enhanced correlation coefficient, for the requested motion model."""
    names: tuple[Motion, ...] = ("translation", "similarity") if motion == "auto" else (motion,)

    def match_pair(plane: int, neighbour: int) -> Candidates:
        transforms = {}
        for name in names:
            transform = estimate_ecc(images[plane], images[neighbour], MOTIONS[name])
            if transform is not None:
                transforms[name] = MOTIONS[name].project(transform, images[plane].shape)
        return Candidates(transforms, features.NO_MATCHES)

    return match_pair, [0] * len(images)


# Joint registration refines the transforms by grey levels: few features at a coarse scale suffice.
MATCHERS: dict[str, Callable[[np.ndarray, Motion, Progress], Matcher]] = {
    "joint": lambda images, _, progress: feature_matcher(images, 384, 1000, progress),
    "sift": lambda images, _, progress: feature_matcher(images, MAX_SIDE_PX, 4000, progress),
    "ecc": lambda images, motion, _: intensity_matcher(images, motion),
}
