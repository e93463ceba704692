"""Matched features of two planes: SIFT, ratio and mutual test, robust consensus."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from napari_dff.registration.downsampling import downsample, downsampling_factor, upsampling_matrix
from napari_dff.registration.motion import transform_points

MAX_DISTANCE_RATIO = 0.8  # of the nearest to the second nearest descriptor
MIN_MATCHES = 8
CONSENSUS_RADIUS_PX = 3.0  # largest distance of a match from the consensus
# A third of the default of cv2.SIFT: defocused planes have few corners of high contrast.
CONTRAST_THRESHOLD = 0.013


class Keypoints(NamedTuple):
    """SIFT features of one plane."""

    points: np.ndarray  # (N, 2) float64, y and x in pixels
    sizes: np.ndarray  # (N,) float64, diameters in pixels
    descriptors: np.ndarray  # (N, 128) float32


class Matches(NamedTuple):
    """Features of a plane and of its neighbour that match, and agree with one homography."""

    source: np.ndarray  # (N, 2) float64, y and x in the plane
    target: np.ndarray  # (N, 2) float64, y and x in the neighbour
    # (N,) float64, 1 / (product of the diameters), mean 1: a feature is located to a fraction of
    # its diameter.
    weights: np.ndarray
    candidate_count: int  # unambiguous, mutual matches before the consensus


NO_MATCHES = Matches(np.empty((0, 2)), np.empty((0, 2)), np.empty(0), 0)


def detect_keypoints(image: np.ndarray, max_side: int, max_count: int) -> Keypoints:
    """Detect the `max_count` most distinct SIFT keypoints of a (Y, X) float32 image, 0 … 1.

    They are detected at a longer side of `max_side` pixels, and are in pixels of `image`.
    """
    factor = downsampling_factor(image.shape, max_side)
    detector = cv2.SIFT.create(nfeatures=max_count, contrastThreshold=CONTRAST_THRESHOLD)
    levels = np.rint(255 * downsample(image, factor)).astype(np.uint8)
    keypoints, descriptors = detector.detectAndCompute(levels, None)
    if descriptors is None:
        return Keypoints(np.empty((0, 2)), np.empty(0), np.empty((0, 128), np.float32))
    points = np.array([k.pt[::-1] for k in keypoints], dtype=np.float64)
    sizes = factor * np.array([k.size for k in keypoints])
    return Keypoints(transform_points(upsampling_matrix(factor), points), sizes, descriptors)


# A match is unambiguous when its descriptor is clearly nearer than the second nearest one (ratio
# test, Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94), and mutual when each of the two is the
# nearest to the other. Of these, those are kept that agree with one homography within
# CONSENSUS_RADIUS_PX. MAGSAC++ (Barath et al. 2020, doi:10.1109/CVPR42600.2020.00138) fits it to
# random samples of four matches and averages its score over all noise levels up to the radius, on
# which the result hardly depends. A homography includes every simpler motion: the motion model is
# selected later.
def match(source: Keypoints, target: Keypoints) -> Matches:
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
    return Matches(p[inlier], q[inlier], weights / max(weights.mean(), 1e-12), count)


# |a - b|² = |a|² + |b|² - 2 a·b is one matrix product. SIFT descriptors are small integers, so that
# float32 holds all of it exactly. The result is that of `skimage.feature.match_descriptors` and of
# `cv2.batchDistance`; with 700 features a plane it was measured to be 20 and 7 times faster.
def _match_descriptors(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices (N,) of unambiguous, mutual matches of (N, 128) descriptors."""
    squares = (source**2).sum(axis=1)[:, None] + (target**2).sum(axis=1) - 2 * (source @ target.T)
    rows, nearest = np.arange(len(source)), squares.argmin(axis=1)
    mutual = squares.argmin(axis=0)[nearest] == rows
    distance = squares[rows, nearest]
    squares[rows, nearest] = np.inf
    matched = mutual & (distance < MAX_DISTANCE_RATIO**2 * squares.min(axis=1))
    return rows[matched], nearest[matched]
