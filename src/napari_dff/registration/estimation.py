"""Transforms of all planes to the reference plane.

From the reference plane outwards, each plane is matched to the neighbour before it, since
neighbours are blurred almost alike. The transforms between neighbours are composed to a chain,
which `joint` refines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from napari_dff.imaging.warp import (
    downsample,
    downsampling_factor,
    upsampling_transform,
    valid_mask,
    warp,
)
from napari_dff.model.recipe import Motion
from napari_dff.registration.downsampling import DownsampledStack
from napari_dff.registration.joint import refine_jointly
from napari_dff.registration.matching import MATCHERS, Candidates
from napari_dff.registration.motion import MOTIONS, rms_distance, transform_points
from napari_dff.registration.report import Outcome, PlaneReport
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.threads import run_parallel

VERIFICATION_SIDE_PX = 384  # longer side of the planes on which transforms are verified
VERIFICATION_BLUR_PX = 2.0  # removes most of the difference that comes from defocus
MIN_OVERLAP = 0.25  # share of the pixels that both planes must have
MAX_NEIGHBOURS = 2  # planes towards the reference that are tried before a plane stays unmatched


class Chain(NamedTuple):
    """Transforms composed from neighbour to neighbour.

    Attributes
    ----------
    transforms : (Z, 3, 3) float64
        To the reference plane; the identity for planes that could not be matched.
    reports : list of PlaneReport
        Of each plane.
    matched : list of int
        The reference plane and the planes that could be matched, in ascending order.
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
    name = motion
    if motion == "auto":
        name = _select_model([candidates[pair] for pair in neighbours])

    def lookup(i: int, j: int) -> Candidates:
        return candidates.get((i, j)) or matcher.match_pair(i, j)

    chain = _compose(lookup, Verifier(images, name), outwards, reference, progress)
    transforms = chain.transforms
    if registration == "joint" and MOTIONS[name].is_linear:
        transforms = refine_jointly(
            images, transforms, chain.matched, reference, MOTIONS[name], progress
        )
    _interpolate_unmatched(transforms, chain.matched)
    upsampling = upsampling_transform(factor)
    transforms = upsampling @ transforms @ np.linalg.inv(upsampling)
    reports = (
        report._replace(keypoints=keypoints)
        for report, keypoints in zip(chain.reports, matcher.keypoint_counts, strict=True)
    )
    return transforms, tuple(_upsample_report(report, factor) for report in reports)


def _read_normalized(planes: Any, progress: Progress) -> tuple[np.ndarray, int]:
    """Return (Z, Y, X) float32 grey planes, 0 … 1, and the factor by which they are downsampled.

    0 and 1 are the percentiles 0.5 and 99.5 of the whole stack. Raises a ValueError where the
    planes have no contrast.
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


def _select_model(candidates: list[Candidates]) -> Motion:
    """Return the motion model with the smallest information criterion, summed over all pairs."""
    pairs = [pair for pair in candidates if pair.transforms and len(pair.matches.source)]
    if not pairs:  # without points to count: a similarity is what stages and lenses do
        return "similarity"

    def score(name: Motion) -> float:
        model = MOTIONS[name]
        return sum(model.information_criterion(p.transforms[name], *p.matches[:3]) for p in pairs)

    return min(MOTIONS, key=score)


def _compose(
    lookup: Callable[[int, int], Candidates],
    verifier: Verifier,
    outwards: list[int],
    reference: int,
    progress: Progress,
) -> Chain:
    """Compose verified transforms outwards from the reference plane.

    A plane that cannot be matched to the last matched plane is matched to the one before that.
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
            candidates = lookup(i, j)
            if candidates.transforms:
                step, reports[i] = verifier.choose(i, j, candidates)
                transforms[i] = transforms[j] @ step
                matched[side].append(i)
                break
    return Chain(
        transforms, [reports[i] for i in sorted(reports)], sorted({*matched[1], *matched[-1]})
    )


class Verifier:
    """Accepts transforms that lower the difference between two planes.

    Parameters
    ----------
    images : (Z, Y, X) float32
        They are compared blurred and downsampled to a longer side of `VERIFICATION_SIDE_PX`.
    requested : str
        The motion model that was requested or selected; simpler ones are its fallback.
    """

    def __init__(self, images: np.ndarray, requested: Motion) -> None:
        factor = downsampling_factor(images.shape[1:], VERIFICATION_SIDE_PX)
        self._upsampling = upsampling_transform(factor)
        self._images = [
            cv2.GaussianBlur(downsample(image, factor), (0, 0), VERIFICATION_BLUR_PX)
            for image in images
        ]
        self._requested = requested

    def choose(self, i: int, j: int, candidates: Candidates) -> tuple[np.ndarray, PlaneReport]:
        """Return the most general transform from plane `i` to `j` that lowers their difference.

        The identity where none does.
        """
        transforms, matches = candidates
        report = PlaneReport(i, j, matches=matches.candidate_count)
        names = list(MOTIONS)
        for name in names[names.index(self._requested) :: -1]:
            if name not in transforms or not self._lowers_difference(i, j, transforms[name]):
                continue
            report = report._replace(
                inliers=len(matches.source),
                model=name,
                points=matches.source,
                displacements=matches.target - matches.source,
            )
            if len(matches.source):
                distance = rms_distance(transforms[name], matches.source, matches.target)
                report = report._replace(residual=distance)
            if name != self._requested:
                report = report._replace(
                    fallback=f"{self._requested} does not lower the difference to plane {j}",
                    outcome=Outcome.SIMPLER_MODEL,
                )
            return transforms[name], report
        return np.eye(3), report._replace(
            fallback=f"no motion lowers the difference to plane {j}",
            outcome=Outcome.NO_MOTION_NEEDED,
        )

    def _lowers_difference(self, i: int, j: int, transform: np.ndarray) -> bool:
        """Return whether the mean absolute difference is less with the transform than without.

        Both are over the pixels that have data with the transform.
        """
        small = np.linalg.inv(self._upsampling) @ transform @ self._upsampling
        moving, fixed = self._images[i], self._images[j]
        valid = valid_mask(small, fixed.shape)
        if valid.mean() < MIN_OVERLAP:
            return False
        difference = float(np.abs(moving - fixed)[valid].mean())
        moved_difference = float(np.abs(warp(moving, small) - fixed)[valid].mean())
        return moved_difference < difference


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
