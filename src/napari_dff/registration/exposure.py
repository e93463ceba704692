"""Light that flickers: planes brought to the brightness and tint of the reference plane."""

from __future__ import annotations

import cv2
import numpy as np

from napari_dff.progress import Progress, silent
from napari_dff.stack import as_dtype

SAME_LIGHT = 8.0  # pixels: what is compared is blurred by this, so that focus doesn't count


def equalised(
    planes: np.ndarray, valid: np.ndarray, centre: int, progress: Progress = silent
) -> np.ndarray:
    """Planes times one gain each, for colour one a channel.

    The gain from a plane to the next is the median of the ratio of both over the pixels where all
    planes have data.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Aligned, black at 0.
    valid : (Y, X) bool
    centre : int
        The plane whose light is kept.
    progress : Progress

    Returns
    -------
    (Z, Y, X[, 3]), dtype of `planes`
    """
    light = [
        cv2.GaussianBlur(planes[i].astype(np.float32), (0, 0), SAME_LIGHT)[valid][::7]
        for i in progress(range(len(planes)), desc="Comparing light")
    ]
    gains = np.ones((len(planes), *planes.shape[3:]))
    for side in (1, -1):
        end = len(planes) if side > 0 else -1
        for i in range(centre + side, end, side):
            ratio = light[i - side] / np.maximum(light[i], 1e-6)
            gains[i] = gains[i - side] * np.median(ratio, axis=0)
    return np.stack([as_dtype(p * g, planes.dtype) for p, g in zip(planes, gains, strict=True)])
