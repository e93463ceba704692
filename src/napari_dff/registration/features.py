"""Feature matches between planes: SIFT, ratio and mutual test, robust consensus."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

RATIO = 0.8
REACH = 3.0  # pixels, largest distance of a match from the consensus
MAXIMUM_KEYPOINTS = 4000
MINIMUM_INLIERS = 8


class Keypoints(NamedTuple):
    """Features of one plane: (N, 2) positions (y, x), (N,) diameters, (N, 128) descriptors."""

    points: np.ndarray
    sizes: np.ndarray
    descriptors: np.ndarray


class Matches(NamedTuple):
    """Matched positions (y, x) in a plane and in its neighbour, and how many were tried.

    A feature is located to a share of its size; the weights are 1 / size², mean 1.
    """

    source: np.ndarray
    target: np.ndarray
    weights: np.ndarray
    tried: int


NO_MATCHES = Matches(np.empty((0, 2)), np.empty((0, 2)), np.empty(0), 0)


def sift(picture: np.ndarray) -> Keypoints:
    """Keypoints of one (Y, X) uint8 picture.

    References
    ----------
    Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94.
    """
    # A third of Lowe's contrast threshold: defocused planes have few strong corners.
    detector = cv2.SIFT.create(nfeatures=MAXIMUM_KEYPOINTS, contrastThreshold=0.013)
    found, descriptors = detector.detectAndCompute(picture, None)
    if descriptors is None:
        return Keypoints(np.empty((0, 2)), np.empty(0), np.empty((0, 128), np.float32))
    points = np.array([k.pt[::-1] for k in found], dtype=np.float64)
    return Keypoints(points, np.array([k.size for k in found]), descriptors)


def match(source: Keypoints, target: Keypoints) -> Matches:
    """Matches that are unambiguous, mutual, and agree with one homography.

    References
    ----------
    Barath et al. 2020, doi:10.1109/CVPR42600.2020.00138 (MAGSAC++).
    """
    if min(len(source.points), len(target.points)) < MINIMUM_INLIERS:
        return NO_MATCHES
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    there = matcher.knnMatch(source.descriptors, target.descriptors, k=2)
    back = {m.queryIdx: m.trainIdx for m in matcher.match(target.descriptors, source.descriptors)}
    pairs = [
        (best.queryIdx, best.trainIdx)
        for best, second in there
        if best.distance < RATIO * second.distance and back[best.trainIdx] == best.queryIdx
    ]
    if len(pairs) < MINIMUM_INLIERS:
        return NO_MATCHES._replace(tried=len(pairs))
    chosen = np.array(pairs)
    p, q = source.points[chosen[:, 0]], target.points[chosen[:, 1]]
    consensus = cv2.findHomography(p[:, ::-1], q[:, ::-1], cv2.USAC_MAGSAC, REACH)[1]
    inlier = np.zeros(len(p), bool) if consensus is None else consensus.ravel() > 0
    weights = 1 / (source.sizes[chosen[:, 0]] * target.sizes[chosen[:, 1]])[inlier]
    return Matches(p[inlier], q[inlier], weights / max(weights.mean(), 1e-12), len(pairs))
