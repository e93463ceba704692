"""Transforms of all planes to the reference plane.

From the reference plane outwards, each plane is matched to its neighbour on the side of the
reference plane, since neighbours are blurred almost alike. The transforms between neighbours are
composed to a chain, which `joint` refines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import cv2
import numpy as np

from napari_dff.imaging.warp import valid_mask, warp
from napari_dff.model.checks import Range, check_choice
from napari_dff.model.recipe import Motion, Registration
from napari_dff.registration import downsampling
from napari_dff.registration.downsampling import (
    downsample,
    downsampling_factor,
    read_downsampled,
    upsampling_matrix,
)
from napari_dff.registration.joint import refine_jointly
from napari_dff.registration.matching import MATCHERS, Candidates
from napari_dff.registration.motion import MOTIONS, transform_points
from napari_dff.registration.report import Outcome, PlaneReport
from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.threads import run_parallel

VERIFICATION_SIDE_PX = 384  # longer side of the planes on which transforms are verified
VERIFICATION_BLUR_PX = 2.0  # removes most of the difference that comes from defocus
MIN_OVERLAP = 0.25  # share of the pixels that both planes must have
MAX_NEIGHBOURS = 2  # planes towards the reference that are tried before a plane stays unmatched


def estimate_transforms(
    planes: Any,  # (Z, Y, X[, 3])
    *,
    registration: Registration = "joint",
    motion: Motion = "auto",
    reference: int | None = None,
    progress: Progress = no_progress,
) -> tuple[np.ndarray, tuple[PlaneReport, ...]]:
    """Return the (Z, 3, 3) transforms and the reports of `align`, without resampling any plane.

    Each plane is read once, in strips; grey planes of `MAX_SIDE_PX` are kept in memory.
    """
    check_choice("registration", registration, get_args(Registration))
    check_choice("motion", motion, get_args(Motion))
    count = planes.shape[0]
    if reference is None:
        reference = count // 2
    reference = int(Range(0, count - 1, 1).check("reference", reference))
    if registration == "none":
        return np.tile(np.eye(3), (count, 1, 1)), tuple(PlaneReport(i, i) for i in range(count))
    factor = downsampling_factor(planes.shape[1:3], downsampling.MAX_SIDE_PX)
    images = _read_normalized(planes, factor, progress)
    match_pair, keypoint_counts = MATCHERS[registration](images, motion, progress)
    outwards = [*range(reference + 1, count), *range(reference - 1, -1, -1)]
    neighbours = [(i, i - 1 if i > reference else i + 1) for i in outwards]
    candidates: dict[tuple[int, int], Candidates] = {}

    def match_neighbours(pair: tuple[int, int]) -> None:
        candidates[pair] = match_pair(*pair)

    def lookup(i: int, j: int) -> Candidates:
        return candidates.get((i, j)) or match_pair(i, j)

    run_parallel(match_neighbours, neighbours, progress, desc="Matching planes")
    if motion == "auto":
        motion = _select_model([candidates[pair] for pair in neighbours])
    chain = _compose(lookup, Verifier(images, motion), outwards, reference, progress)
    transforms, model = chain.transforms, MOTIONS[motion]
    if registration == "joint" and model.is_linear:
        transforms = refine_jointly(images, transforms, chain.matched, reference, model, progress)
    _interpolate_unmatched(transforms, chain.matched)
    upsampling = upsampling_matrix(factor)
    reports = (
        report._replace(
            keypoints=keypoints,
            residual=factor * report.residual,
            points=transform_points(upsampling, report.points),
            displacements=factor * report.displacements,
        )
        for report, keypoints in zip(chain.reports, keypoint_counts, strict=True)
    )
    return upsampling @ transforms @ np.linalg.inv(upsampling), tuple(reports)


def _read_normalized(planes: Any, factor: int, progress: Progress) -> np.ndarray:
    """Return (Z, Y, X) float32 grey planes, downsampled by `factor`, 0 … 1.

    0 and 1 are the percentiles 0.5 and 99.5 of the whole stack. Raises a ValueError where the
    planes have no contrast.
    """
    count, height, width = planes.shape[:3]
    images = np.empty((count, height // factor, width // factor), dtype=np.float32)

    def read(i: int) -> None:
        images[i] = read_downsampled(planes, i, factor, as_grey=True)

    run_parallel(read, range(count), progress, desc="Reading")
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
    return images


def _select_model(candidates: list[Candidates]) -> Motion:
    """Return the motion model with the smallest information criterion, summed over all pairs."""
    pairs = [pair for pair in candidates if pair.transforms and len(pair.matches.source)]
    if not pairs:  # without points to count: a similarity is what stages and lenses do
        return "similarity"

    def score(name: Motion) -> float:
        model = MOTIONS[name]
        return sum(model.information_criterion(p.transforms[name], *p.matches[:3]) for p in pairs)

    return min(MOTIONS, key=score)


class Chain(NamedTuple):
    """Transforms composed from neighbour to neighbour."""

    transforms: np.ndarray  # (Z, 3, 3), to the reference plane; the identity where unmatched
    reports: list[PlaneReport]  # of each plane
    matched: list[int]  # the reference plane and those that could be matched, in ascending order


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
        fallback = "nothing to match: moves with its neighbour"
        reports[i] = PlaneReport(i, i - side, fallback=fallback, outcome=Outcome.NOT_MATCHED)
        for j in matched[side][: -MAX_NEIGHBOURS - 1 : -1]:
            candidates = lookup(i, j)
            if candidates.transforms:
                step, reports[i] = verifier.choose(i, j, candidates)
                transforms[i] = transforms[j] @ step
                matched[side].append(i)
                break
    ordered = [reports[i] for i in sorted(reports)]
    return Chain(transforms, ordered, sorted({*matched[1], *matched[-1]}))


class Verifier:
    """Selects transforms that lower the difference between two planes.

    (Z, Y, X) float32 `images` are compared blurred and downsampled. `requested` is the motion model
    that was requested or selected; simpler ones are its fallback.
    """

    def __init__(self, images: np.ndarray, requested: Motion) -> None:
        factor = downsampling_factor(images.shape[1:], VERIFICATION_SIDE_PX)
        self._upsampling = upsampling_matrix(factor)
        self._images = [
            cv2.GaussianBlur(downsample(image, factor), (0, 0), VERIFICATION_BLUR_PX)
            for image in images
        ]
        self._requested = requested

    def choose(self, i: int, j: int, candidates: Candidates) -> tuple[np.ndarray, PlaneReport]:
        """Return the most general transform from plane `i` to `j` that lowers their difference.

        The identity where none does.
        """
        transforms, (source, target, _, match_count) = candidates
        names = list(MOTIONS)
        for name in names[names.index(self._requested) :: -1]:
            if name not in transforms or not self._lowers_difference(i, j, transforms[name]):
                continue
            report = PlaneReport(
                i,
                j,
                matches=match_count,
                inliers=len(source),
                model=name,
                points=source,
                displacements=target - source,
            )
            if len(source):
                errors = transform_points(transforms[name], source) - target
                residual = float(np.sqrt(np.mean(np.sum(errors**2, axis=1))))
                report = report._replace(residual=residual)
            if name != self._requested:
                fallback = f"{self._requested} does not lower the difference to plane {j}"
                report = report._replace(fallback=fallback, outcome=Outcome.SIMPLER_MODEL)
            return transforms[name], report
        fallback, outcome = (
            f"no motion lowers the difference to plane {j}",
            Outcome.NO_MOTION_NEEDED,
        )
        report = PlaneReport(i, j, matches=match_count, fallback=fallback, outcome=outcome)
        return np.eye(3), report

    def _lowers_difference(self, i: int, j: int, transform: np.ndarray) -> bool:
        """Return whether the transform lowers the mean absolute difference, where it has data."""
        small = np.linalg.inv(self._upsampling) @ transform @ self._upsampling
        moving, fixed = self._images[i], self._images[j]
        valid = valid_mask(small, fixed.shape)
        if valid.mean() < MIN_OVERLAP:
            return False
        difference = float(np.abs(moving - fixed)[valid].mean())
        return float(np.abs(warp(moving, small) - fixed)[valid].mean()) < difference


def _interpolate_unmatched(transforms: np.ndarray, matched: list[int]) -> None:
    """Interpolate the transforms of planes that could not be matched, in place."""
    for i in set(range(len(transforms))) - set(matched):
        lower = max((k for k in matched if k < i), default=matched[0])
        upper = min((k for k in matched if k > i), default=matched[-1])
        share = (i - lower) / (upper - lower) if lower < upper else 0
        transforms[i] = (1 - share) * transforms[lower] + share * transforms[upper]
