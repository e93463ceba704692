"""Matching of two planes: by their features, or by the correlation of their grey levels."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np

from napari_dff.model.recipe import Motion
from napari_dff.registration import downsampling
from napari_dff.registration.downsampling import MAX_SIDE_PX
from napari_dff.registration.motion import (
    MATCH_PRECISION_PX,
    MOTIONS,
    MotionModel,
    transform_points,
)
from napari_dff.runtime.lazy import release_mapped_pages
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.threads import run_parallel

MAX_DISTANCE_RATIO = 0.8  # of the nearest to the second nearest descriptor
MIN_MATCHES = 8
CONSENSUS_RADIUS_PX = 3.0  # largest distance of a match from the consensus
# A third of the default of cv2.SIFT: defocused planes have few corners of high contrast.
CONTRAST_THRESHOLD = 0.013
PYRAMID_LEVELS = 3
MIN_PYRAMID_SIDE_PX = 64  # of a plane that is halved once more
ECC_MAX_ITERATIONS = 100
ECC_CONVERGENCE = 1e-6  # increase of the correlation coefficient that ends the iteration
ECC_BLUR_KERNEL_PX = 5
SWAP_AXES = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])  # (x, y, 1) of cv2 ↔ (y, x, 1)


class Keypoints(NamedTuple):
    """SIFT features of one plane."""

    points: np.ndarray  # (N, 2) float64, y and x in pixels
    sizes: np.ndarray  # (N,) float64, diameters in pixels
    descriptors: np.ndarray  # (N, 128) uint8


class Matches(NamedTuple):
    """Features of a plane and of its neighbour that match, and agree with one homography."""

    source: np.ndarray  # (N, 2) float64, y and x in the plane
    target: np.ndarray  # (N, 2) float64, y and x in the neighbour
    # (N,) float64, 1 / (product of the diameters), mean 1: a feature is located to a fraction of
    # its diameter.
    weights: np.ndarray
    candidate_count: int  # unambiguous, mutual matches before the consensus

    def distinct(self) -> "Matches":
        """Return the matches without those of the same feature in another orientation."""
        places = np.round(np.hstack([self.source, self.target]) / MATCH_PRECISION_PX)
        first = np.sort(np.unique(places, axis=0, return_index=True)[1])
        arrays = self.source[first], self.target[first], self.weights[first]
        return Matches(*arrays, self.candidate_count)


NO_MATCHES = Matches(np.empty((0, 2)), np.empty((0, 2)), np.empty(0), 0)


def detect_keypoints(image: np.ndarray, max_side: int, max_count: int) -> Keypoints:
    """Detect SIFT keypoints in a (Y, X) float32 image, 0 … 1, downsampled to `max_side`."""
    factor = downsampling.compute_factor(image.shape, max_side)
    detector = cv2.SIFT.create(nfeatures=max_count, contrastThreshold=CONTRAST_THRESHOLD)
    levels = np.rint(255 * downsampling.downsample(image, factor)).astype(np.uint8)
    keypoints, descriptors = detector.detectAndCompute(levels, None)
    if descriptors is None:
        return Keypoints(np.empty((0, 2)), np.empty(0), np.empty((0, 128), np.uint8))
    points = np.array([k.pt[::-1] for k in keypoints], dtype=np.float64)
    sizes = factor * np.array([k.size for k in keypoints])
    points = transform_points(downsampling.upsampling_matrix(factor), points)
    return Keypoints(points, sizes, descriptors.astype(np.uint8))  # which cv2 has rounded


# A match is unambiguous when its descriptor is clearly nearer than the second nearest one (ratio
# test, Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94), and mutual when each of the two is the
# nearest to the other. Of these, those are kept that agree with one homography within
# CONSENSUS_RADIUS_PX. MAGSAC++ (Barath et al. 2020, doi:10.1109/CVPR42600.2020.00138) fits it to
# random samples of four matches and averages its score over all noise levels up to the radius, on
# which the result hardly depends. A homography includes every simpler motion: the motion model is
# selected later.
def match_keypoints(source: Keypoints, target: Keypoints) -> Matches:
    """Match the features of two planes."""
    if min(len(source.points), len(target.points)) < MIN_MATCHES:
        return NO_MATCHES
    source_index, target_index = _match_descriptors(source.descriptors, target.descriptors)
    count = len(source_index)
    if count < MIN_MATCHES:
        return NO_MATCHES._replace(candidate_count=count)
    p, q = source.points[source_index], target.points[target_index]
    consensus = cv2.findHomography(p[:, ::-1], q[:, ::-1], cv2.USAC_MAGSAC, CONSENSUS_RADIUS_PX)[1]
    inlier = np.zeros(count, bool) if consensus is None else consensus.ravel() > 0
    weights = 1 / (source.sizes[source_index] * target.sizes[target_index])[inlier]
    mean = weights.sum() / max(len(weights), 1)  # there may be none
    return Matches(p[inlier], q[inlier], weights / max(mean, 1e-12), count)


# |a - b|² = |a|² + |b|² - 2 a·b is one matrix product. SIFT descriptors are small integers, so that
# float32 holds all of it exactly. The result is that of `skimage.feature.match_descriptors` and of
# `cv2.batchDistance`; with 700 features a plane it was measured to be 20 and 7 times faster.
def _match_descriptors(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices (N,) of unambiguous, mutual matches of (N, 128) descriptors."""
    source, target = source.astype(np.float32), target.astype(np.float32)
    squares = (source**2).sum(axis=1)[:, None] + (target**2).sum(axis=1) - 2 * (source @ target.T)
    rows, nearest = np.arange(len(source)), squares.argmin(axis=1)
    mutual = squares.argmin(axis=0)[nearest] == rows
    distance = squares[rows, nearest]
    squares[rows, nearest] = np.inf
    matched = mutual & (distance < MAX_DISTANCE_RATIO**2 * squares.min(axis=1))
    return rows[matched], nearest[matched]


# The enhanced correlation coefficient (Evangelidis & Psarakis 2008, doi:10.1109/TPAMI.2008.113) is
# the correlation of both planes after their means are subtracted: linear changes of brightness have
# no effect. Its Gauss-Newton iteration converges only from nearby and stops early on fine speckle
# (OpenCV issue 29774). So it starts at the coarsest level of a pyramid, where planes have a quarter
# of their size, and the result of each level is the start of the next.
#
# cv2 returns the transform W from the fixed to the moving plane, in (x, y). With S = diag(s, s, 1)
# for a level that is s times as large as the planes, W there is S W S⁻¹.
def estimate_ecc(source: np.ndarray, target: np.ndarray, model: MotionModel) -> np.ndarray | None:
    """Return the transform between (Y, X) float32 images; None where it does not converge."""
    pyramid = [(source, target)]
    while len(pyramid) < PYRAMID_LEVELS and min(pyramid[-1][0].shape) >= MIN_PYRAMID_SIDE_PX:
        pyramid.append((cv2.pyrDown(pyramid[-1][0]), cv2.pyrDown(pyramid[-1][1])))
    inverse = np.eye(3)
    rows = 3 if model.ecc_type == cv2.MOTION_HOMOGRAPHY else 2
    ends = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT
    criteria = ends, ECC_MAX_ITERATIONS, ECC_CONVERGENCE
    for level, (moving, fixed) in reversed(list(enumerate(pyramid))):
        mask = np.full(fixed.shape, 255, np.uint8)
        scale = np.diag([0.5**level, 0.5**level, 1.0])
        at_level = scale @ inverse @ np.linalg.inv(scale)
        start = at_level[:rows].astype(np.float32)
        try:
            at_level[:rows] = cv2.findTransformECC(
                fixed, moving, start, model.ecc_type, criteria, mask, ECC_BLUR_KERNEL_PX
            )[1]
        except cv2.error:
            return None
        inverse = np.linalg.inv(scale) @ at_level @ scale
    return np.asarray(np.linalg.inv(SWAP_AXES @ inverse @ SWAP_AXES))


class Candidates(NamedTuple):
    """Possible transforms from a plane to its neighbour; none where nothing can be matched."""

    transforms: Mapping[Motion, np.ndarray]
    matches: Matches


class _Fits(Mapping[Motion, np.ndarray]):
    """Fits of all motion models to the same matches, each computed when it is first used."""

    def __init__(self, matches: Matches) -> None:
        self._points, self._fits = matches[:3], dict[Motion, np.ndarray]()

    def __getitem__(self, name: Motion) -> np.ndarray:
        if name not in self._fits:
            self._fits[name] = MOTIONS[name].fit(*self._points)
        return self._fits[name]

    def __iter__(self) -> Iterator[Motion]:
        return iter(MOTIONS)

    def __len__(self) -> int:
        return len(MOTIONS)


# A function from the indices of a plane and of its neighbour to `Candidates`, and the number of
# features of each plane.
Matcher = tuple[Callable[[int, int], Candidates], list[int]]


def feature_matcher(images: np.ndarray, max_side: int, count: int, progress: Progress) -> Matcher:
    """Match planes by `count` features each, to which any motion model can be fitted."""

    def detect(i: int) -> Keypoints:
        features = detect_keypoints(np.asarray(images[i]), max_side, count)
        release_mapped_pages(images)
        return features

    keypoints = run_parallel(detect, range(len(images)), progress, desc="Finding features")

    def match_pair(plane: int, neighbour: int) -> Candidates:
        matches = match_keypoints(keypoints[plane], keypoints[neighbour])
        return Candidates(_Fits(matches) if len(matches.source) >= MIN_MATCHES else {}, matches)

    return match_pair, [len(plane.points) for plane in keypoints]


def intensity_matcher(images: np.ndarray, motion: Motion) -> Matcher:
    """Match planes by the enhanced correlation coefficient, for the requested motion model."""
    names: tuple[Motion, ...] = ("translation", "similarity") if motion == "auto" else (motion,)

    def match_pair(plane: int, neighbour: int) -> Candidates:
        transforms = {}
        for name in names:
            transform = estimate_ecc(images[plane], images[neighbour], MOTIONS[name])
            if transform is not None:
                transforms[name] = MOTIONS[name].project(transform, images[plane].shape)
        return Candidates(transforms, NO_MATCHES)

    return match_pair, [0] * len(images)


# Joint registration refines the transforms by grey levels: few features at a coarse scale suffice.
MATCHERS: dict[str, Callable[[np.ndarray, Motion, Progress], Matcher]] = {
    "joint": lambda images, _, progress: feature_matcher(images, 384, 1000, progress),
    "sift": lambda images, _, progress: feature_matcher(images, MAX_SIDE_PX, 4000, progress),
    "ecc": lambda images, motion, _: intensity_matcher(images, motion),
}
