"""Transforms of all planes to the reference plane.

From the reference plane outwards, each plane is matched to the neighbour before it, since
neighbours are blurred almost alike. The transforms between neighbours are composed to a chain,
which `joint` refines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from napari_dff.progress import Progress
from napari_dff.recipe import Motion
from napari_dff.registration.downsampling import MAX_SIDE_PX, DownsampledStack
from napari_dff.registration.features import (
    MIN_MATCHES,
    NO_MATCHES,
    Keypoints,
    Matches,
    detect_keypoints,
    match,
)
from napari_dff.registration.intensity import estimate_ecc
from napari_dff.registration.joint import refine_jointly
from napari_dff.registration.motion import MOTIONS, rms_distance, transform_points
from napari_dff.registration.report import Outcome, PlaneReport
from napari_dff.threads import run_parallel
from napari_dff.warp import (
    downsample,
    downsampling_factor,
    upsampling_transform,
    valid_mask,
    warp,
)

VERIFICATION_SIDE_PX = 384  # longer side of the planes on which transforms are verified
VERIFICATION_BLUR_PX = 2.0  # removes most of the difference that comes from defocus
MIN_OVERLAP = 0.25  # share of the pixels that both planes must have
MAX_NEIGHBOURS = 2  # planes towards the reference that are tried before a plane stays unmatched


class Candidates(NamedTuple):
    """Transforms from a plane to its neighbour, by name of the motion model, and the matches."""

    fits: dict[str, np.ndarray]
    matches: Matches


class PairMatcher(Protocol):
    """A method that matches two planes."""

    def match_pair(self, plane: int, neighbour: int) -> Candidates:
        """Return the candidates for a pair; no fits where nothing can be matched."""
        ...

    def keypoint_count(self, plane: int) -> int:
        """Return the number of features of a plane; 0 where the method has none."""
        ...


class FeatureMatcher:
    """Matches planes by their features. All models are fitted, since a fit costs little.

    `max_count` features of each plane are detected at a longer side of `max_side` pixels.
    """

    def __init__(
        self, images: np.ndarray, max_side: int, max_count: int, progress: Progress
    ) -> None:
        self._keypoints: dict[int, Keypoints] = {}

        def detect(i: int) -> None:
            self._keypoints[i] = detect_keypoints(images[i], max_side, max_count)

        run_parallel(detect, range(len(images)), progress, desc="Finding features")

    def match_pair(self, plane: int, neighbour: int) -> Candidates:
        """Return the fits of all motion models."""
        matches = match(self._keypoints[plane], self._keypoints[neighbour])
        if len(matches.source) < MIN_MATCHES:
            return Candidates({}, matches)
        fits = {
            name: model.fit(matches.source, matches.target, matches.weights)
            for name, model in MOTIONS.items()
        }
        return Candidates(fits, matches)

    def keypoint_count(self, plane: int) -> int:
        """Return the number of features of a plane."""
        return len(self._keypoints[plane].points)


class IntensityMatcher:
    """Matches planes by the correlation of their grey levels."""

    def __init__(self, images: np.ndarray, motion: Motion) -> None:
        self._images = images
        self._models = ("translation", "similarity") if motion == "auto" else (motion,)

    def match_pair(self, plane: int, neighbour: int) -> Candidates:
        """Return the transforms of the requested model."""
        fits = {}
        moving, fixed = self._images[plane], self._images[neighbour]
        for name in self._models:
            transform = estimate_ecc(moving, fixed, MOTIONS[name])
            if transform is not None:
                fits[name] = MOTIONS[name].project(transform, moving.shape)
        return Candidates(fits, NO_MATCHES)

    def keypoint_count(self, plane: int) -> int:
        """Return 0."""
        return 0


# Joint registration refines the transforms by grey levels: few features at a coarse scale suffice.
MATCHERS: dict[str, Callable[[np.ndarray, Motion, Progress], PairMatcher]] = {
    "joint": lambda images, _, progress: FeatureMatcher(images, 384, 1000, progress),
    "sift": lambda images, _, progress: FeatureMatcher(images, MAX_SIDE_PX, 4000, progress),
    "ecc": lambda images, motion, _: IntensityMatcher(images, motion),
}


class Chain(NamedTuple):
    """Transforms composed from neighbour to neighbour.

    Attributes
    ----------
    transforms : (Z, 3, 3) float64
        To the reference plane; the identity for planes that could not be matched.
    reports : list of PlaneReport
        Of each plane.
    matched : list of int
        Planes that could be matched, in ascending order, with the reference plane.
    """

    transforms: np.ndarray
    reports: list[PlaneReport]
    matched: list[int]


def estimate(
    planes: Any, registration: str, motion: Motion, reference: int, progress: Progress
) -> tuple[np.ndarray, tuple[PlaneReport, ...]]:
    """Return (Z, 3, 3) transforms to the reference plane, and the report of each plane."""
    images, factor = _read_normalized(planes, progress)
    matcher = MATCHERS[registration](images, motion, progress)
    count = len(images)
    outwards = [*range(reference + 1, count), *range(reference - 1, -1, -1)]
    neighbours = [(i, i - 1 if i > reference else i + 1) for i in outwards]
    candidates: dict[tuple[int, int], Candidates] = {}

    def match_pair(pair: tuple[int, int]) -> None:
        candidates[pair] = matcher.match_pair(*pair)

    run_parallel(match_pair, neighbours, progress, desc="Matching planes")
    pairs = [candidates[pair] for pair in neighbours]
    model = _simplest_explanation(pairs) if motion == "auto" else motion
    verifier = Verifier(images, model)
    chain = _compose(matcher, verifier, candidates, outwards, reference, progress)
    transforms = chain.transforms
    if registration == "joint" and MOTIONS[model].is_linear:
        transforms = refine_jointly(
            images, transforms, chain.matched, reference, MOTIONS[model], progress
        )
    _interpolate_unmatched(transforms, chain.matched)
    upsampling = upsampling_transform(factor)
    transforms = upsampling @ transforms @ np.linalg.inv(upsampling)
    return transforms, tuple(_upsample_report(report, factor) for report in chain.reports)


def _read_normalized(planes: Any, progress: Progress) -> tuple[np.ndarray, int]:
    """Return (Z, Y, X) float32 grey planes, 0 … 1, and the factor by which they are downsampled.

    0 and 1 are the percentiles 0.5 and 99.5 of the whole stack. The longer side is `MAX_SIDE_PX`
    at most. Raises a ValueError where the planes have no contrast.
    """
    source = DownsampledStack(planes, as_grey=True)
    images = np.empty(source.shape, dtype=np.float32)

    def read(i: int) -> None:
        images[i] = source[i, slice(None), slice(None)]

    run_parallel(read, range(len(images)), progress, desc="Reading")
    sample = images[:, ::4, ::4].ravel()
    low, high = (np.float32(v) for v in np.percentile(sample, (0.5, 99.5)))
    if high <= low:
        low, high = np.float32(sample.min()), np.float32(sample.max())
    if high <= low:
        raise ValueError("planes have no contrast anywhere: there is nothing to align")
    for image in images:
        image -= low
        image /= high - low
        np.clip(image, 0, 1, out=image)
    return images, source.factor


def _simplest_explanation(candidates: list[Candidates]) -> str:
    """Return the motion model with the smallest information criterion, summed over all pairs."""
    pairs = [pair for pair in candidates if pair.fits and len(pair.matches.source)]
    if not pairs:  # no points to count: a similarity is what stages and lenses do
        return "similarity"
    scores = {
        name: sum(model.information_criterion(p.fits[name], *p.matches[:3]) for p in pairs)
        for name, model in MOTIONS.items()
    }
    return min(scores, key=lambda name: scores[name])


def _compose(
    matcher: PairMatcher,
    verifier: Verifier,
    candidates: dict[tuple[int, int], Candidates],
    outwards: list[int],
    reference: int,
    progress: Progress,
) -> Chain:
    """Compose verified transforms outwards from the reference plane.

    A plane that cannot be matched to its neighbour is matched to the next plane behind that.
    """
    transforms = np.tile(np.eye(3), (len(outwards) + 1, 1, 1))
    reports = {reference: PlaneReport(reference, reference, model="reference")}
    matched = {1: [reference], -1: [reference]}
    for i in progress(outwards, desc="Checking planes"):
        side = 1 if i > reference else -1
        reports[i] = PlaneReport(
            i,
            i - side,
            fallback="nothing to match: moves with its neighbour",
            outcome=Outcome.NOT_MATCHED,
        )
        for j in matched[side][: -MAX_NEIGHBOURS - 1 : -1]:
            pair = candidates.get((i, j)) or matcher.match_pair(i, j)
            if pair.fits:
                step, reports[i] = verifier.choose(i, j, pair)
                transforms[i] = transforms[j] @ step
                matched[side].append(i)
                break
    return Chain(
        transforms,
        [reports[i]._replace(keypoints=matcher.keypoint_count(i)) for i in sorted(reports)],
        sorted({*matched[1], *matched[-1]}),
    )


class Verifier:
    """Accepts transforms that lower the difference between two planes.

    Parameters
    ----------
    images : (Z, Y, X) float32
        They are compared blurred and downsampled to a longer side of `VERIFICATION_SIDE_PX`.
    model : str
        The motion model that was requested or selected; simpler ones are its fallback.
    """

    def __init__(self, images: np.ndarray, model: str) -> None:
        factor = downsampling_factor(images.shape[1:], VERIFICATION_SIDE_PX)
        self._upsampling = upsampling_transform(factor)
        self._images = [
            cv2.GaussianBlur(downsample(image, factor), (0, 0), VERIFICATION_BLUR_PX)
            for image in images
        ]
        names = list(MOTIONS)
        self._model = model
        self._trials = names[names.index(model) :: -1]

    def choose(self, i: int, j: int, candidates: Candidates) -> tuple[np.ndarray, PlaneReport]:
        """Return the most general transform from plane `i` to `j` that lowers their difference.

        The identity where none does.
        """
        matches = candidates.matches
        count = matches.candidate_count
        for name in self._trials:
            if name not in candidates.fits:
                continue
            transform = candidates.fits[name]
            if self._lowers_difference(i, j, transform):
                points, goal = matches.source, matches.target
                requested = name == self._model
                reason = f"{self._model} does not lower the difference to plane {j}"
                report = PlaneReport(
                    i,
                    j,
                    matches=count,
                    inliers=len(points),
                    residual=rms_distance(transform, points, goal) if len(points) else np.nan,
                    model=name,
                    fallback="" if requested else reason,
                    points=points,
                    displacements=goal - points,
                    outcome=Outcome.AS_REQUESTED if requested else Outcome.SIMPLER_MODEL,
                )
                return transform, report
        report = PlaneReport(
            i,
            j,
            matches=count,
            fallback=f"no motion lowers the difference to plane {j}",
            outcome=Outcome.NO_MOTION_NEEDED,
        )
        return np.eye(3), report

    def _lowers_difference(self, i: int, j: int, transform: np.ndarray) -> bool:
        """Return whether the mean absolute difference is less with the transform than without.

        Both are over the pixels that have data with the transform.
        """
        small = np.linalg.inv(self._upsampling) @ transform @ self._upsampling
        moving, fixed = self._images[i], self._images[j]
        valid = valid_mask(small, fixed.shape)
        if valid.mean() < MIN_OVERLAP:
            return False
        before = float(np.abs(moving - fixed)[valid].mean())
        after = float(np.abs(warp(moving, small) - fixed)[valid].mean())
        return after < before


def _interpolate_unmatched(transforms: np.ndarray, matched: list[int]) -> None:
    """Interpolate the transforms of planes that could not be matched, in place."""
    for i in range(len(transforms)):
        if i in matched:
            continue
        lower = max((k for k in matched if k < i), default=None)
        upper = min((k for k in matched if k > i), default=None)
        if lower is None or upper is None:
            transforms[i] = transforms[upper if lower is None else lower]
        else:
            share = (i - lower) / (upper - lower)
            transforms[i] = (1 - share) * transforms[lower] + share * transforms[upper]


def _upsample_report(report: PlaneReport, factor: int) -> PlaneReport:
    """Return the report in pixels of the planes, which were downsampled by `factor`."""
    return report._replace(
        residual=factor * report.residual,
        points=transform_points(upsampling_transform(factor), report.points),
        displacements=factor * report.displacements,
    )
