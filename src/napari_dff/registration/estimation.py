"""Transforms of all planes to the reference plane.

From the reference plane outwards, each plane is matched to its neighbour on the side of the
reference plane, since neighbours are blurred almost alike. The transforms between neighbours are
composed to a chain, which `joint` refines.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from napari_dff.imaging.warp import valid_mask, warp
from napari_dff.model.checks import Range
from napari_dff.model.recipe import Motion, Recipe
from napari_dff.registration import downsampling
from napari_dff.registration.dark_border import (
    fill_border,
    find_border,
    is_moving,
    upsample_field,
)
from napari_dff.registration.joint import refine_jointly
from napari_dff.registration.matching import MATCHERS, Candidates
from napari_dff.registration.motion import MOTIONS, transform_points
from napari_dff.registration.report import Outcome, PlaneReport
from napari_dff.registration.still_pattern import STILL_PATTERN_NOTE, follows_still_pattern
from napari_dff.runtime.lazy import release_mapped_pages, temporary_array
from napari_dff.runtime.progress import Progress, iterate, no_progress
from napari_dff.runtime.threads import run_parallel

VERIFICATION_SIDE_PX = 384  # longer side of the planes on which transforms are verified
VERIFICATION_BLUR_PX = 2.0  # removes most of the difference that comes from defocus
MIN_OVERLAP = 0.25  # share of the pixels that both planes must have
MIN_GAIN = 0.05  # of ln(variance of predicted matches), from which more than a similarity is taken
MIN_SCORED_MATCHES = 10  # half of them must determine a homography
MAX_SAMPLES = 1 << 24  # grey values from which the percentiles of a stack are taken
MAX_NEIGHBOURS = 2  # planes towards the reference that are tried before a plane stays unmatched


class Estimate(NamedTuple):
    """Transforms of all planes, and what was seen of the planes."""

    transforms: np.ndarray  # (Z, 3, 3)
    report: tuple[PlaneReport, ...]
    field: np.ndarray | None = None  # (Y, X) bool: see `LazyAlignedStack`
    notes: tuple[str, ...] = ()  # sentences on doubtful planes


def estimate_transforms(
    planes: Any,  # (Z, Y, X[, 3])
    recipe: Recipe,
    reference: int | None = None,
    *,
    on_disk: bool = False,  # downsampled planes are in a temporary file, not in memory
    progress: Progress = no_progress,
) -> Estimate:
    """Estimate the transforms of `align`; each plane is read once."""
    registration, motion, count = recipe.registration, recipe.motion, planes.shape[0]
    if reference is None:
        reference = count // 2
    reference = int(Range(0, count - 1, 1).check("reference", reference))
    if registration == "none":
        reports = tuple(PlaneReport(i, i) for i in range(count))
        return Estimate(np.tile(np.eye(3), (count, 1, 1)), reports)
    factor = downsampling.compute_factor(planes.shape[1:3], downsampling.MAX_SIDE_PX)
    images = _read_normalized(planes, factor, on_disk, progress)
    border = find_border(images)
    if border is not None:
        fill_border(images, border)
    find_candidates, keypoint_counts = MATCHERS[registration](images, motion, progress)
    match_pair = functools.cache(find_candidates)
    neighbours = [(i, i - 1) for i in range(reference + 1, count)]
    neighbours += [(i, i + 1) for i in range(reference - 1, -1, -1)]
    run_parallel(lambda pair: match_pair(*pair), neighbours, progress, desc="Matching planes")
    if motion == "auto":
        motion = _select_model([match_pair(*pair) for pair in neighbours])
    transforms, composed = _compose(images, match_pair, motion, neighbours, reference, progress)
    matched = [i for i, r in enumerate(composed) if r.outcome != Outcome.NOT_MATCHED]
    model = MOTIONS[motion]
    if registration == "joint" and len(model.generators):
        transforms = refine_jointly(images, transforms, matched, reference, model, progress)
        if np.any(transforms != np.eye(3)):
            composed = [_refined_report(report, motion) for report in composed]
    _interpolate_unmatched(transforms, matched)
    field = None
    if border is not None and is_moving(transforms, border.shape):
        field = upsample_field(border, factor, planes.shape[1:3])
    upsampling = downsampling.upsampling_matrix(factor)
    reports = tuple(
        report._replace(
            keypoints=keypoints,
            residual=factor * report.residual,
            points=transform_points(upsampling, report.points),
            displacements=factor * report.displacements,
        )
        for report, keypoints in zip(composed, keypoint_counts, strict=True)
    )
    notes = (STILL_PATTERN_NOTE,) if follows_still_pattern(images, transforms) else ()
    return Estimate(upsampling @ transforms @ np.linalg.inv(upsampling), reports, field, notes)


def _read_normalized(planes: Any, factor: int, on_disk: bool, progress: Progress) -> np.ndarray:
    """Return (Z, Y, X) float32 grey planes, 0 … 1 from percentile 0.5 to 99.5 of the stack."""
    count, height, width = planes.shape[:3]
    shape = count, height // factor, width // factor
    images = temporary_array(shape, np.float32) if on_disk else np.empty(shape, np.float32)
    step = -(-count * shape[1] * shape[2] // (16 * MAX_SAMPLES))  # planes of many have the sample
    samples = np.empty((len(images[::step]), *images[0, ::4, ::4].shape), np.float32)

    def read(i: int) -> None:
        images[i] = downsampling.read(planes, i, factor, as_grey=True)
        if i % step == 0:
            samples[i // step] = images[i, ::4, ::4]
        release_mapped_pages(images)

    run_parallel(read, range(count), progress, desc="Reading")
    sample = samples.ravel()
    low, high = (np.float32(v) for v in np.percentile(sample, (0.5, 99.5), overwrite_input=True))
    if high <= low:
        low, high = np.float32(sample.min()), np.float32(sample.max())
    if high <= low:
        raise ValueError("planes have no contrast anywhere: there is nothing to align")
    for image in images:
        image -= low
        image /= high - low
        np.clip(image, 0, 1, out=image)
        release_mapped_pages(images)
    return images


def _select_model(candidates: list[Candidates]) -> Motion:
    """Return the simplest motion model that predicts matches it was not fitted to, over all pairs.

    Each parameter must lower n ln(variance) by ln n, as in the Bayesian information criterion
    (Schwarz 1978, doi:10.1214/aos/1176344136), or random matches would decide. More than a
    similarity, which is what stages and lenses do, must lower their variance clearly: defocus moves
    features, and models with more freedom follow that.
    """
    distinct = (pair.matches.distinct() for pair in candidates)
    pairs = [matches for matches in distinct if len(matches.source) >= MIN_SCORED_MATCHES]
    if not pairs:  # no points to compare: stages and lenses cause similarities
        return "similarity"
    count = 2 * sum(len(pair.source) for pair in pairs)
    best: Motion = "translation"
    least = np.inf
    for name, model in MOTIONS.items():
        score = sum(model.prediction_score(*pair[:3]) for pair in pairs) / count
        score += model.parameter_count * np.log(count) / count
        is_common = model.parameter_count <= MOTIONS["similarity"].parameter_count
        if score < least - (0 if is_common else MIN_GAIN):
            best, least = name, score
    return best


def _compose(
    images: np.ndarray,
    match_pair: Callable[[int, int], Candidates],
    motion: Motion,
    neighbours: list[tuple[int, int]],
    reference: int,
    progress: Progress,
) -> tuple[np.ndarray, list[PlaneReport]]:
    """Compose verified transforms to the reference plane, and report on each plane."""
    factor = downsampling.compute_factor(images.shape[1:], VERIFICATION_SIDE_PX)

    @functools.lru_cache(maxsize=2 * MAX_NEIGHBOURS + 1)
    def blurred(i: int) -> np.ndarray:
        image = downsampling.downsample(np.asarray(images[i]), factor)
        release_mapped_pages(images)
        return cv2.GaussianBlur(image, (0, 0), VERIFICATION_BLUR_PX)

    transforms = np.tile(np.eye(3), (len(images), 1, 1))
    reports = {reference: PlaneReport(reference, reference, model="reference")}
    matched = {1: [reference], -1: [reference]}  # after the reference plane, and before it
    fallback = "nothing to match: moves with its neighbour"
    for i, neighbour in iterate(progress, neighbours, desc="Checking planes"):
        reports[i] = PlaneReport(i, neighbour, fallback=fallback, outcome=Outcome.NOT_MATCHED)
        matched_planes = matched[i - neighbour]
        for j in matched_planes[: -MAX_NEIGHBOURS - 1 : -1]:
            candidates = match_pair(i, j)
            if candidates.transforms:
                name = _verify(candidates, motion, blurred(i), blurred(j), factor)
                step = candidates.transforms[name] if name else np.eye(3)
                transforms[i] = transforms[j] @ step
                reports[i] = _report(i, j, candidates, name, motion)
                matched_planes.append(i)
                break
    return transforms, [reports[i] for i in sorted(reports)]


def _verify(
    candidates: Candidates, motion: Motion, moving: np.ndarray, fixed: np.ndarray, factor: int
) -> Motion | None:
    """Return the most general model, up to `motion`, that lowers the difference of two planes."""
    upsampling, names = downsampling.upsampling_matrix(factor), list(MOTIONS)
    for name in names[names.index(motion) :: -1]:
        if name not in candidates.transforms:
            continue
        transform = np.linalg.inv(upsampling) @ candidates.transforms[name] @ upsampling
        valid = valid_mask(transform, fixed.shape)
        if valid.mean() < MIN_OVERLAP:
            continue
        difference = np.abs(warp(moving, transform) - fixed)[valid].mean()
        if difference < np.abs(moving - fixed)[valid].mean():
            return name
    return None


def _report(
    i: int, j: int, candidates: Candidates, model: Motion | None, requested: Motion
) -> PlaneReport:
    source, target, _, count = candidates.matches
    if model is None:
        fallback = f"no motion lowers the difference to plane {j}"
        return PlaneReport(i, j, matches=count, fallback=fallback, outcome=Outcome.NO_MOTION_NEEDED)
    report = PlaneReport(i, j, 0, count, len(source), model=model)
    if len(source):
        errors = transform_points(candidates.transforms[model], source) - target
        residual = float(np.sqrt(np.mean(np.sum(errors**2, axis=1))))
        report = report._replace(residual=residual, points=source, displacements=target - source)
    if model != requested:
        fallback = f"{requested} does not lower the difference to plane {j}"
        report = report._replace(fallback=fallback, outcome=Outcome.SIMPLER_MODEL)
    return report


def _refined_report(report: PlaneReport, motion: Motion) -> PlaneReport:
    """Return the report after joint refinement, which gives all matched planes one model."""
    if report.outcome == Outcome.NOT_MATCHED or report.model == "reference":
        return report
    return report._replace(model=motion, fallback="", outcome=Outcome.AS_REQUESTED)


def _interpolate_unmatched(transforms: np.ndarray, matched: list[int]) -> None:
    for i in set(range(len(transforms))) - set(matched):
        lower = max((k for k in matched if k < i), default=matched[0])
        upper = min((k for k in matched if k > i), default=matched[-1])
        share = (i - lower) / (upper - lower) if lower < upper else 0
        transforms[i] = (1 - share) * transforms[lower] + share * transforms[upper]
