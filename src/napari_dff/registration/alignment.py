"""The public door of registration: which planes are matched, what is believed, how it is applied.

From the reference plane outwards, each plane is matched to the neighbour before it: neighbours are
blurred almost alike. The motions between neighbours are composed, and each plane is resampled once.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import cv2
import numpy as np

from napari_dff import checks
from napari_dff.progress import Progress, silent
from napari_dff.recipe import Exposure, Motion, Registration
from napari_dff.registration import features, joint
from napari_dff.registration import motion as motions
from napari_dff.registration.exposure import equalised
from napari_dff.registration.intensity import ecc
from napari_dff.registration.motion import MOTIONS
from napari_dff.stack import as_dtype, check_planes, grey, in_memory, read_plane
from napari_dff.tiles import on_all_cores
from napari_dff.warp import inside, narrow, scaling, shrunk, warp

REGISTRATIONS = ("joint", "sift", "ecc", "none")
SAME_BLUR = 2.0  # pixels: planes are blurred by this before they are compared
LARGEST = 1024  # pixels: planes with a longer side are compared shrunk
# Longer side at which features are found, and how many: where grey levels follow, few will do.
FEATURES = {"joint": (384, 1000), "sift": (LARGEST, 4000)}
CHECKED = 384  # pixels: planes with a longer side are checked shrunk
NEIGHBOURS = 2  # planes towards the reference that are tried before a plane is given up


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
    """

    plane: int
    neighbour: int
    keypoints: int
    matches: int
    inliers: int
    residual: float
    model: str
    fallback: str
    points: np.ndarray
    displacements: np.ndarray


class Alignment(NamedTuple):
    """Aligned planes and how they got there.

    Attributes
    ----------
    planes : (Z, Y, X[, 3]), dtype of the input
        Each plane resampled once, cubic; its border repeated where it has no data.
    transforms : (Z, 3, 3) float64
        (y, x, 1) of a plane → (y, x, 1) of the reference plane.
    valid : (Y, X) bool
        True where every plane has data.
    report : tuple of PlaneReport
    """

    planes: np.ndarray
    transforms: np.ndarray
    valid: np.ndarray
    report: tuple[PlaneReport, ...]


class _Step(NamedTuple):
    """A plane's motion to a neighbour, as believed, and what is said about it."""

    matrix: np.ndarray
    report: PlaneReport


def align(
    planes: Any,  # (Z, Y, X[, 3])
    *,
    registration: Registration = "joint",
    motion: Motion = "auto",
    reference: int | None = None,
    exposure: Exposure = "keep",
    progress: Progress = silent,
) -> Alignment:
    """Align every plane to the reference plane.

    A motion is believed only where it lowers the difference to the neighbour; otherwise a simpler
    one, then none. A plane in which nothing can be matched moves with the planes beside it. All
    this is told in the report.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type.
    registration : {"joint", "sift", "ecc", "none"}
        By matched features from neighbour to neighbour, then by grey levels of all near
        neighbours together; by the features alone; by grey levels from neighbour to neighbour;
        or leave the planes as they are.
    motion : {"auto", "translation", "similarity", "affine", "homography"}
        What a plane may do against the next; ``auto`` takes the simplest that explains all pairs.
    reference : int, optional
        The plane that stays, 0 … Z-1; the middle one when None.
    exposure : {"keep", "equal"}
        Leave the light as it is, or bring every plane (each channel) to that of the reference.
        For lamps that flicker; not where the brightness itself changes with focus.
    progress : Progress
        Told of each plane; may raise to cancel.

    Returns
    -------
    Alignment

    Raises
    ------
    ValueError
        For a wrong argument, values that aren't finite, or planes without any contrast.

    References
    ----------
    Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94 (SIFT).
    Barath et al. 2020, doi:10.1109/CVPR42600.2020.00138 (MAGSAC++).
    Evangelidis & Psarakis 2008, doi:10.1109/TPAMI.2008.113 (ECC).
    """
    check_planes(planes)
    checks.one_of("registration", registration, REGISTRATIONS)
    checks.one_of("motion", motion, ("auto", *MOTIONS))
    checks.one_of("exposure", exposure, ("keep", "equal"))
    count = planes.shape[0]
    centre = count // 2 if reference is None else reference
    if not (isinstance(centre, int) and 0 <= centre < count):
        raise ValueError(f"reference must be a plane from 0 to {count - 1}, got {reference!r}")
    if registration == "none":
        matrices = np.tile(np.eye(3), (count, 1, 1))
        report = tuple(_report(i, i, model="identity") for i in range(count))
    else:
        matrices, report = _estimate(planes, registration, motion, centre, progress)
    out, valid = resample(planes, matrices, progress=progress)
    if exposure == "equal" and valid.any():
        out = equalised(out, valid, centre, progress)
    return Alignment(out, matrices, valid, report)


def resample(
    planes: Any, transforms: np.ndarray, *, progress: Progress = silent
) -> tuple[np.ndarray, np.ndarray]:
    """Move planes by motions that are known, each resampled once by cubic splines.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type.
    transforms : (Z, 3, 3) array
        (y, x, 1) of a plane → of the reference, as in `Alignment`, of these planes or of others
        that were taken with them.
    progress : Progress
        Told of each plane; may raise to cancel.

    Returns
    -------
    (Z, Y, X[, 3]), dtype of `planes`
        Borders repeated where a plane has no data.
    (Y, X) bool
        Where every plane has data.

    Raises
    ------
    ValueError
        When `transforms` don't belong to as many planes.
    """
    check_planes(planes)
    shape = tuple(planes.shape)
    transforms = np.asarray(transforms, dtype=np.float64)
    if transforms.shape != (shape[0], 3, 3) or not np.isfinite(transforms).all():
        raise ValueError(
            f"transforms must be one 3 × 3 matrix for each of the {shape[0]} planes, "
            f"got shape {transforms.shape}"
        )
    height, width = shape[1:3]
    planes = in_memory(planes)
    out = np.empty(shape, dtype=planes.dtype)
    valid = np.ones((height, width), dtype=bool)

    def move(i: int) -> None:
        plane = read_plane(planes, i)
        if np.allclose(transforms[i], np.eye(3), rtol=0, atol=1e-9):
            out[i] = plane
            return
        out[i] = as_dtype(warp(plane, transforms[i]), out.dtype)
        with lock:
            narrow(valid, np.linalg.inv(transforms[i]))

    lock = threading.Lock()
    on_all_cores(move, range(len(planes)), progress, desc="Resampling")
    return out, valid


def _estimate(
    planes: Any, registration: str, motion: Motion, centre: int, progress: Progress
) -> tuple[np.ndarray, tuple[PlaneReport, ...]]:
    """Transforms to the reference plane, and the report."""
    pictures, factor = _stretched(planes, progress)
    keypoints: list[Any] = [None] * len(pictures)

    def find(i: int) -> None:
        keypoints[i] = features.sift(pictures[i], *FEATURES[registration])

    if registration != "ecc":
        on_all_cores(find, range(len(pictures)), progress, desc="Finding features")

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

    on_all_cores(compare, neighbours, progress, desc="Matching planes")
    chosen = _explains_all([found[pair] for pair in neighbours]) if motion == "auto" else motion

    again = -(-max(pictures[0].shape) // CHECKED)
    small = [cv2.GaussianBlur(shrunk(p, again), (0, 0), SAME_BLUR) for p in pictures]
    matrices = np.tile(np.eye(3), (count, 1, 1))
    reports = {centre: _report(centre, centre, model="reference")}
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
            reports[i] = _report(
                i, i - side, model="identity", fallback="nothing to match: moves with its neighbour"
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


def _stretched(planes: Any, progress: Progress) -> tuple[list[np.ndarray], int]:
    """Grey planes, 0 … 1 between percentiles common to the stack, and how often they are shrunk.

    To a longer side of `LARGEST`. ValueError without contrast.
    """
    planes = in_memory(planes)
    factor = -(-max(planes.shape[1:3]) // LARGEST)
    pictures: list[Any] = [None] * len(planes)

    def read(i: int) -> None:
        pictures[i] = shrunk(grey(read_plane(planes, i)), factor)

    on_all_cores(read, range(len(planes)), progress, desc="Reading")
    sample = np.concatenate([picture[::4, ::4].ravel() for picture in pictures])
    low, high = (np.float32(v) for v in np.percentile(sample, (0.5, 99.5)))
    if high <= low:
        low, high = np.float32(sample.min()), np.float32(sample.max())
    if high <= low:
        raise ValueError("planes have no contrast anywhere: there is nothing to align")
    return [np.clip((picture - low) / (high - low), 0, 1) for picture in pictures], factor


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
            report = _report(
                i,
                j,
                model=name,
                fallback=fallback,
                matches=matches.tried,
                inliers=len(points),
                residual=motions.residual(fits[name], points, goal) if len(points) else np.nan,
                points=points,
                displacements=goal - points,
            )
            return _Step(fits[name], report)
    fallback = f"no motion lowers the difference to plane {j}"
    return _Step(
        np.eye(3), _report(i, j, model="identity", fallback=fallback, matches=matches.tried)
    )


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


def _report(
    plane: int,
    neighbour: int,
    *,
    model: str,
    fallback: str = "",
    matches: int = 0,
    inliers: int = 0,
    residual: float = float("nan"),
    points: np.ndarray | None = None,
    displacements: np.ndarray | None = None,
) -> PlaneReport:
    none = np.empty((0, 2))
    return PlaneReport(
        plane,
        neighbour,
        0,
        matches,
        inliers,
        residual,
        model,
        fallback,
        none if points is None else points,
        none if displacements is None else displacements,
    )
