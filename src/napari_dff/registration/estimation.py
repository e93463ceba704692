"""Which planes are matched, and which motions are believed.

From the reference plane outwards, each plane is matched to the neighbour before it: neighbours are
blurred almost alike. The motions between neighbours are composed.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, NamedTuple

import cv2
import numpy as np

from napari_dff.progress import Progress
from napari_dff.recipe import Motion
from napari_dff.registration import features, joint
from napari_dff.registration import motion as motions
from napari_dff.registration.downsampling import LARGEST, Shrunk
from napari_dff.registration.intensity import ecc
from napari_dff.registration.motion import MOTIONS
from napari_dff.threads import run_parallel
from napari_dff.warp import inside, scaling, shrunk, times, warp

SAME_BLUR = 2.0  # pixels: planes are blurred by this before they are compared
# Longer side at which features are found, and how many: where grey levels follow, few will do.
FEATURES = {"joint": (384, 1000), "sift": (LARGEST, 4000)}
CHECKED = 384  # pixels: planes with a longer side are checked shrunk
NEIGHBOURS = 2  # planes towards the reference that are tried before a plane is given up


class Outcome(Enum):
    """How the motion that was used compares with the requested motion model."""

    AS_REQUESTED = auto()
    SIMPLER_MODEL = auto()
    NO_MOTION_NEEDED = auto()  # no motion lowers the difference to the neighbour
    NOT_MATCHED = auto()


class PlaneReport(NamedTuple):
    """How one plane was aligned.

    Attributes
    ----------
    plane, neighbour : int
        The plane, and the one it was matched to (itself for the reference).
    keypoints, matches, inliers : int
        Features of the plane, matches that were unambiguous and mutual, and those that agree.
    residual : float
        Root mean square distance of the inliers from the motion, in pixels; NaN without any.
    model : str
        The motion that was used, ``identity`` or ``reference``.
    fallback : str
        Why it isn't the motion that was asked for; empty if it is.
    points, displacements : (N, 2) float64
        Inliers (y, x) in the plane, and where they lie in the neighbour, relative to that.
    outcome : Outcome
        The reason of `fallback` as a category.
    """

    plane: int
    neighbour: int
    keypoints: int = 0
    matches: int = 0
    inliers: int = 0
    residual: float = float("nan")
    model: str = "identity"
    fallback: str = ""
    points: np.ndarray = np.empty((0, 2))
    displacements: np.ndarray = np.empty((0, 2))
    outcome: Outcome = Outcome.AS_REQUESTED


class _Step(NamedTuple):
    """A plane's motion to a neighbour, as believed, and what is said about it."""

    matrix: np.ndarray
    report: PlaneReport


def estimate(
    planes: Any, registration: str, motion: Motion, centre: int, progress: Progress
) -> tuple[np.ndarray, tuple[PlaneReport, ...]]:
    """Transforms to the reference plane, and the report."""
    pictures, factor = _stretched(planes, progress)
    keypoints: list[Any] = [None] * len(pictures)

    def find(i: int) -> None:
        keypoints[i] = features.sift(pictures[i], *FEATURES[registration])

    if registration != "ecc":
        run_parallel(find, range(len(pictures)), progress, desc="Finding features")

    def candidates(i: int, j: int) -> tuple[dict[str, np.ndarray], features.Matches]:
        if registration != "ecc":
            matches = features.match(keypoints[i], keypoints[j])
            if len(matches.source) < features.MINIMUM_INLIERS:
                return {}, matches
            fits = {
                m: motions.fit(m, matches.source, matches.target, matches.weights) for m in MOTIONS
            }
            return fits, matches
        found = {}
        for name in ("translation", "similarity") if motion == "auto" else (motion,):
            matrix = ecc(pictures[i], pictures[j], name)
            if matrix is not None:
                found[name] = motions.project(matrix, name, pictures[i].shape)
        return found, features.NO_MATCHES

    count = len(pictures)
    order = [*range(centre + 1, count), *range(centre - 1, -1, -1)]
    neighbours = [(i, i - 1 if i > centre else i + 1) for i in order]
    found: dict[tuple[int, int], tuple[dict[str, np.ndarray], features.Matches]] = {}

    def compare(pair: tuple[int, int]) -> None:
        found[pair] = candidates(*pair)

    run_parallel(compare, neighbours, progress, desc="Matching planes")
    chosen = _explains_all([found[pair] for pair in neighbours]) if motion == "auto" else motion

    again = times(pictures.shape[1:], CHECKED)
    small = [cv2.GaussianBlur(shrunk(p, again), (0, 0), SAME_BLUR) for p in pictures]
    matrices = np.tile(np.eye(3), (count, 1, 1))
    reports = {centre: PlaneReport(centre, centre, model="reference")}
    placed = {1: [centre], -1: [centre]}
    for i in progress(order, desc="Checking planes"):
        side = 1 if i > centre else -1
        step = None
        for j in placed[side][: -NEIGHBOURS - 1 : -1]:
            fits, matches = found.get((i, j)) or candidates(i, j)
            if fits:
                step = _believed(small, again, i, j, fits, matches, chosen)
                break
        if step is None:
            reports[i] = PlaneReport(
                i,
                i - side,
                fallback="nothing to match: moves with its neighbour",
                outcome=Outcome.NOT_MATCHED,
            )
            continue
        placed[side].append(i)
        matrices[i] = matrices[step.report.neighbour] @ step.matrix
        reports[i] = step.report
    if registration != "ecc":
        reports = {i: r._replace(keypoints=len(keypoints[i].points)) for i, r in reports.items()}
    known = sorted({*placed[1], *placed[-1]})
    if registration == "joint" and chosen != "homography":
        matrices = joint.refined(pictures, matrices, known, centre, chosen, progress)
    _carry(matrices, known)
    grow = scaling(factor)
    matrices = grow @ matrices @ np.linalg.inv(grow)
    return matrices, tuple(_enlarged(reports[i], factor) for i in range(count))


def _stretched(planes: Any, progress: Progress) -> tuple[np.ndarray, int]:
    """Grey planes, 0 … 1 between percentiles common to the stack, and how often they are shrunk.

    To a longer side of `LARGEST`: (Z, Y, X) float32. ValueError without contrast.
    """
    source = Shrunk(planes, colourless=True)
    pictures = np.empty(source.shape, dtype=np.float32)

    def read(i: int) -> None:
        pictures[i] = source[i, slice(None), slice(None)]

    run_parallel(read, range(len(pictures)), progress, desc="Reading")
    sample = pictures[:, ::4, ::4].ravel()
    low, high = (np.float32(v) for v in np.percentile(sample, (0.5, 99.5)))
    if high <= low:
        low, high = np.float32(sample.min()), np.float32(sample.max())
    if high <= low:
        raise ValueError("planes have no contrast anywhere: there is nothing to align")
    for picture in pictures:
        picture -= low
        picture /= high - low
        np.clip(picture, 0, 1, out=picture)
    return pictures, source.factor


def _enlarged(report: PlaneReport, factor: int) -> PlaneReport:
    """The report of planes shrunk `factor` times, in pixels of the planes as they are."""
    return report._replace(
        residual=factor * report.residual,
        points=motions.apply(scaling(factor), report.points),
        displacements=factor * report.displacements,
    )


def _explains_all(found: list[tuple[dict[str, np.ndarray], features.Matches]]) -> str:
    """Return the simplest motion that explains every pair: least information criterion in sum."""
    pairs = [(fits, matches) for fits, matches in found if fits and len(matches.source)]
    if not pairs:  # matched by grey levels, without points to count: what stages and lenses do
        return "similarity"
    scores = {
        name: sum(
            motions.penalised_misfit(name, fits[name], m.source, m.target, m.weights)
            for fits, m in pairs
        )
        for name in MOTIONS
    }
    return min(scores, key=lambda name: scores[name])


def _believed(
    pictures: list[np.ndarray],
    factor: int,
    i: int,
    j: int,
    fits: dict[str, np.ndarray],
    matches: features.Matches,
    chosen: str,
) -> _Step:
    """Return the chosen motion if it lowers the difference to the neighbour, else a simpler one.

    `pictures` are shrunk `factor` times against what the motions are of.
    """
    grow = scaling(factor)
    names = list(MOTIONS)
    trials = [name for name in reversed(names[: names.index(chosen) + 1]) if name in fits]
    for name in trials:
        still, moved = _differences(
            pictures[i], pictures[j], np.linalg.inv(grow) @ fits[name] @ grow
        )
        if moved < still:
            fallback = "" if name == chosen else f"{chosen} doesn't lower the difference to {j}"
            points, goal = matches.source, matches.target
            report = PlaneReport(
                i,
                j,
                model=name,
                fallback=fallback,
                matches=matches.tried,
                inliers=len(points),
                residual=motions.residual(fits[name], points, goal) if len(points) else np.nan,
                points=points,
                displacements=goal - points,
                outcome=Outcome.AS_REQUESTED if name == chosen else Outcome.SIMPLER_MODEL,
            )
            return _Step(fits[name], report)
    report = PlaneReport(
        i,
        j,
        fallback=f"no motion lowers the difference to plane {j}",
        matches=matches.tried,
        outcome=Outcome.NO_MOTION_NEEDED,
    )
    return _Step(np.eye(3), report)


def _differences(moving: np.ndarray, fixed: np.ndarray, matrix: np.ndarray) -> tuple[float, float]:
    """Mean absolute difference without and with the motion, over the same pixels."""
    covered = inside(matrix, fixed.shape)
    if covered.mean() < 0.25:
        return 0.0, np.inf
    moved = warp(moving, matrix)
    still = float(np.abs(moving - fixed)[covered].mean())
    return still, float(np.abs(moved - fixed)[covered].mean())


def _carry(matrices: np.ndarray, placed: list[int]) -> None:
    """Give planes that could not be matched the motion of the planes beside them, in place."""
    for i in range(len(matrices)):
        if i not in placed:
            before = max((k for k in placed if k < i), default=None)
            after = min((k for k in placed if k > i), default=None)
            if before is None or after is None:
                matrices[i] = matrices[after if before is None else before]
            else:
                share = (i - before) / (after - before)
                matrices[i] = (1 - share) * matrices[before] + share * matrices[after]
