"""Registration by the grey levels themselves: enhanced correlation, coarse to fine."""

from __future__ import annotations

import cv2
import numpy as np

LEVELS = 3
KINDS = {
    "translation": cv2.MOTION_TRANSLATION,
    "similarity": cv2.MOTION_AFFINE,  # cv2 has no similarity: an affine one, brought back to it
    "affine": cv2.MOTION_AFFINE,
    "homography": cv2.MOTION_HOMOGRAPHY,
}


def ecc(source: np.ndarray, target: np.ndarray, motion: str) -> np.ndarray | None:
    """Motion from `source` to `target`, (Y, X) float32 pictures; None where it doesn't converge.

    Starts on pictures an eighth to a quarter as large, since the method finds only what is near
    and stops early on fine speckle (OpenCV issue 29774).

    Returns
    -------
    (3, 3) float64, acting on (y, x, 1)

    References
    ----------
    Evangelidis & Psarakis 2008, doi:10.1109/TPAMI.2008.113.
    """
    pyramid = [(source, target)]
    while len(pyramid) < LEVELS and min(pyramid[-1][0].shape) >= 64:
        pyramid.append((cv2.pyrDown(pyramid[-1][0]), cv2.pyrDown(pyramid[-1][1])))
    kind = KINDS[motion]
    warp = np.eye(3, dtype=np.float64)
    steps = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-6)
    for level in range(len(pyramid) - 1, -1, -1):
        moving, fixed = pyramid[level]
        everywhere = np.full(fixed.shape, 255, np.uint8)
        grow = np.diag([0.5**level, 0.5**level, 1.0])
        start = (grow @ warp @ np.linalg.inv(grow)).astype(np.float32)
        rows = 3 if kind == cv2.MOTION_HOMOGRAPHY else 2
        try:
            _, found = cv2.findTransformECC(
                fixed, moving, start[:rows].copy(), kind, steps, everywhere, 5
            )
        except cv2.error:
            return None
        full = np.eye(3)
        full[:rows] = found
        warp = np.linalg.inv(grow) @ full @ grow
    flip = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    return np.asarray(np.linalg.inv(flip @ warp @ flip))  # cv2 maps the fixed picture to the moving
