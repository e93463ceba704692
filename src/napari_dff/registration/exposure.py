"""Gains that bring all planes to the brightness and tint of the reference plane."""

from typing import Any

import cv2
import numpy as np

from napari_dff.imaging.warp import valid_mask
from napari_dff.registration import downsampling
from napari_dff.registration.lazy_stack import LazyAlignedStack
from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.threads import run_parallel

BLUR_PX = 8.0  # of the planes that are compared: blurred so much, they hardly depend on focus
SAMPLE_SPACING = 7  # every 7th valid pixel is compared


# The gain from a plane to the next is the median ratio of the two blurred planes over the pixels
# where all planes have data; 1 if there are none. The gain to the reference plane is the product
# of these. A black plane has the gain of its neighbour, and a black reference plane is replaced by
# the nearest plane that is not black.
def estimate_gains(
    planes: Any,  # (Z, Y, X[, 3])
    transforms: np.ndarray,  # (Z, 3, 3)
    *,
    reference: int | None = None,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Return the factors (Z,) or (Z, 3) float64 that equalize the exposure of all planes."""
    count = len(transforms)
    factor = downsampling.compute_factor(planes.shape[1:3], downsampling.MAX_SIDE_PX)
    upsampling = downsampling.upsampling_matrix(factor)
    small_transforms = np.linalg.inv(upsampling) @ transforms @ upsampling
    valid = np.ones([size // factor for size in planes.shape[1:3]], dtype=bool)
    for matrix in small_transforms:
        valid &= valid_mask(matrix, valid.shape)
    gains = np.ones((count, *planes.shape[3:]))
    if not valid.any():
        return gains

    def sample(i: int) -> np.ndarray:
        small = downsampling.read(planes, i, factor)[None]
        aligned = LazyAlignedStack(small, small_transforms[[i]])[0]
        blurred = cv2.GaussianBlur(aligned.astype(np.float32), (0, 0), BLUR_PX)
        # float64, since the ratio to a nearly black pixel overflows float32.
        return blurred[valid][::SAMPLE_SPACING].astype(np.float64)

    samples = run_parallel(sample, range(count), progress, desc="Comparing light")
    bright = [i for i in range(count) if (np.median(samples[i], axis=0) > 0).all()]
    if not bright:
        return gains
    start = count // 2 if reference is None else reference
    start = min(bright, key=lambda i: abs(i - start))
    for side in (1, -1):
        last_bright = start
        for i in range(start + side, count if side > 0 else -1, side):
            gains[i] = gains[last_bright]
            if i in bright:
                ratio = samples[last_bright] / np.maximum(samples[i], np.finfo(np.float32).tiny)
                gains[i] *= np.median(ratio, axis=0)
                last_bright = i
    return gains
