"""Feature matches between planes: SIFT, ratio and mutual test, robust consensus."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from napari_dff.registration.motion import apply
from napari_dff.warp import scaling, shrunk, times

RATIO = 0.8
REACH = 3.0  # pixels, largest distance of a match from the consensus
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


def sift(picture: np.ndarray, side: int, most: int) -> Keypoints:
    """The `most` distinct keypoints of one (Y, X) float32 picture, 0 … 1.

    Found at a longer side of `side` or less.

    References
    ----------
    Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94.
    """
    factor = times(picture.shape, side)
    # A third of Lowe's contrast threshold: defocused planes have few strong corners.
    detector = cv2.SIFT.create(nfeatures=most, contrastThreshold=0.013)
    levels = np.rint(255 * shrunk(picture, factor)).astype(np.uint8)
    found, descriptors = detector.detectAndCompute(levels, None)
    if descriptors is None:
        return Keypoints(np.empty((0, 2)), np.empty(0), np.empty((0, 128), np.float32))
    points = np.array([k.pt[::-1] for k in found], dtype=np.float64)
    sizes = factor * np.array([k.size for k in found])
    return Keypoints(apply(scaling(factor), points), sizes, descriptors)


def match(source: Keypoints, target: Keypoints) -> Matches:
    """Matches that are unambiguous, mutual, and agree with one homography.

    References
    ----------
    Barath et al. 2020, doi:10.1109/CVPR42600.2020.00138 (MAGSAC++).
    """
    if min(len(source.points), len(target.points)) < MINIMUM_INLIERS:
        return NO_MATCHES
    a, b = source.descriptors, target.descriptors
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * (a @ b.T)
    each, there, back = np.arange(len(a)), squares.argmin(axis=1), squares.argmin(axis=0)
    near, mutual = squares[each, there], back[there] == each
    squares[each, there] = np.inf
    second = squares.min(axis=1)
    chosen = np.flatnonzero(mutual & (near < RATIO**2 * second))
    if len(chosen) < MINIMUM_INLIERS:
        return NO_MATCHES._replace(tried=len(chosen))
    p, q = source.points[chosen], target.points[there[chosen]]
    consensus = cv2.findHomography(p[:, ::-1], q[:, ::-1], cv2.USAC_MAGSAC, REACH)[1]
    inlier = np.zeros(len(p), bool) if consensus is None else consensus.ravel() > 0
    weights = 1 / (source.sizes[chosen] * target.sizes[there[chosen]])[inlier]
    return Matches(p[inlier], q[inlier], weights / max(weights.mean(), 1e-12), len(chosen))
