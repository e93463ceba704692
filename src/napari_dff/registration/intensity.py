"""Transform between two planes by the enhanced correlation coefficient of their grey levels."""

from __future__ import annotations

import cv2
import numpy as np

from napari_dff.registration.motion import MotionModel

PYRAMID_LEVELS = 3
MIN_PYRAMID_SIDE_PX = 64  # of a plane that is halved once more
MAX_ITERATIONS = 100
CONVERGENCE = 1e-6  # increase of the correlation coefficient that ends the iteration
BLUR_KERNEL_PX = 5
SWAP_AXES = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])  # (x, y, 1) of cv2 ↔ (y, x, 1)


# The enhanced correlation coefficient (Evangelidis & Psarakis 2008, doi:10.1109/TPAMI.2008.113) is
# the correlation of both planes after their means are subtracted: linear changes of brightness have
# no effect. Its Gauss-Newton iteration converges only from nearby and stops early on fine speckle
# (OpenCV issue 29774). So it starts at the coarsest level of a pyramid, where planes have a quarter
# of their size, and the result of each level is the start of the next.
#
# cv2 returns the transform W from the fixed to the moving plane, in (x, y). With S = diag(s, s, 1)
# for a level that is s times as large as the planes, W there is S W S⁻¹.
def estimate_ecc(source: np.ndarray, target: np.ndarray, model: MotionModel) -> np.ndarray | None:
    """Return the transform from `source` to `target`, (Y, X) float32 images.

    None where the iteration does not converge.
    """
    pyramid = [(source, target)]
    while len(pyramid) < PYRAMID_LEVELS and min(pyramid[-1][0].shape) >= MIN_PYRAMID_SIDE_PX:
        pyramid.append((cv2.pyrDown(pyramid[-1][0]), cv2.pyrDown(pyramid[-1][1])))
    inverse = np.eye(3)
    rows = 3 if model.ecc_type == cv2.MOTION_HOMOGRAPHY else 2
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, MAX_ITERATIONS, CONVERGENCE)
    for level, (moving, fixed) in reversed(list(enumerate(pyramid))):
        mask = np.full(fixed.shape, 255, np.uint8)
        scale = np.diag([0.5**level, 0.5**level, 1.0])
        at_level = scale @ inverse @ np.linalg.inv(scale)
        start = at_level[:rows].astype(np.float32)
        try:
            at_level[:rows] = cv2.findTransformECC(
                fixed, moving, start, model.ecc_type, criteria, mask, BLUR_KERNEL_PX
            )[1]
        except cv2.error:
            return None
        inverse = np.linalg.inv(scale) @ at_level @ scale
    return np.asarray(np.linalg.inv(SWAP_AXES @ inverse @ SWAP_AXES))
