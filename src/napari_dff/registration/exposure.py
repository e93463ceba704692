"""Gains that bring all planes to the brightness and tint of the reference plane."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from napari_dff.imaging.warp import upsampling_transform
from napari_dff.registration.downsampling import DownsampledStack
from napari_dff.registration.lazy_stack import LazyAlignedStack
from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.windows import full_window

BLUR_PX = 8.0  # of the planes that are compared: blurred so much, they hardly depend on focus
SAMPLE_SPACING = 7  # every 7th valid pixel is compared


def estimate_gains(
    planes: Any,
    transforms: np.ndarray,
    *,
    reference: int | None = None,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Estimate the factors that equalize the exposure of all planes, per channel for colour.

    The gain from a plane to the next is the median ratio of the two blurred planes over the pixels
    where all planes have data; the gain to the reference plane is the product of these. Large
    planes are compared downsampled; each is read once, in strips.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        As they were taken, black at 0; numpy, memory map, zarr or dask.
    transforms : (Z, 3, 3) array
        (y, x, 1) of a plane → (y, x, 1) of the reference plane, as in `Alignment`.
    reference : int, optional
        The plane whose exposure is kept, 0 … Z-1; the middle one when None; the nearest that is
        not black if it is black.
    progress : Progress
        Called with the planes; may raise to cancel.

    Returns
    -------
    (Z,) or (Z, 3) float64
        1 everywhere when there is no pixel where all planes have data. A black plane has the gain
        of its neighbour.
    """
    small = DownsampledStack(planes)
    upsampling = upsampling_transform(small.factor)
    aligned = LazyAlignedStack(small, np.linalg.inv(upsampling) @ transforms @ upsampling)
    valid = aligned.valid(full_window((small.shape[1], small.shape[2])))
    count = len(aligned)
    gains = np.ones((count, *aligned.shape[3:]))
    if not valid.any():
        return gains
    samples: list[Any] = [None] * count

    def sample(i: int) -> None:
        blurred = cv2.GaussianBlur(aligned[i].astype(np.float32), (0, 0), BLUR_PX)
        # float64, since the ratio to a nearly black pixel overflows float32.
        samples[i] = blurred[valid][::SAMPLE_SPACING].astype(np.float64)

    run_parallel(sample, range(count), progress, desc="Comparing light")
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
