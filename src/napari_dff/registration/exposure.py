"""Light that flickers: planes brought to the brightness and tint of the reference plane."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from napari_dff.progress import Progress, no_progress
from napari_dff.registration.downsampling import Shrunk
from napari_dff.registration.lazy_stack import LazyAlignedStack
from napari_dff.threads import run_parallel
from napari_dff.warp import scaling
from napari_dff.windows import full_window

SAME_LIGHT = 8.0  # pixels: what is compared is blurred by this, so that focus doesn't count


def estimate_gains(
    planes: Any,
    transforms: np.ndarray,
    *,
    reference: int | None = None,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Factors that bring planes to one light, for colour one a channel.

    The gain from a plane to the next is the median of the ratio of both over the pixels where all
    planes have data. Large planes are compared shrunk; each is read once, in strips.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        As they were taken, black at 0; numpy, memory map, zarr or dask.
    transforms : (Z, 3, 3) array
        (y, x, 1) of a plane → of the reference, as in `Alignment`.
    reference : int, optional
        The plane whose light is kept, 0 … Z-1; the middle one when None; the next if it is black.
    progress : Progress
        Told of each plane; may raise to cancel.

    Returns
    -------
    (Z,) or (Z, 3) float64
        1 everywhere when there is no pixel where all planes have data; that of its neighbour for
        a plane that is black.
    """
    small = Shrunk(planes)
    grow = scaling(small.factor)
    moved = LazyAlignedStack(small, np.linalg.inv(grow) @ transforms @ grow)
    valid = moved.valid(full_window((small.shape[1], small.shape[2])))
    return _gains(moved, valid, reference, progress)


def _gains(
    moved: LazyAlignedStack, valid: np.ndarray, reference: int | None, progress: Progress
) -> np.ndarray:
    """Gains of aligned planes, from those of their pixels that are `valid`."""
    count = len(moved)
    centre = count // 2 if reference is None else reference
    gains = np.ones((count, *moved.shape[3:]))
    if not valid.any():
        return gains
    light: list[Any] = [None] * count

    def look(i: int) -> None:
        blurred = cv2.GaussianBlur(moved[i].astype(np.float32), (0, 0), SAME_LIGHT)
        light[i] = blurred[valid][::7].astype(np.float64)  # a ratio to hardly any light is large

    run_parallel(look, range(count), progress, desc="Comparing light")
    lit = [i for i in range(count) if (np.median(light[i], axis=0) > 0).all()]
    if not lit:
        return gains
    centre = min(lit, key=lambda i: abs(i - centre))
    for side in (1, -1):
        before = centre  # the last plane that isn't black
        for i in range(centre + side, count if side > 0 else -1, side):
            gains[i] = gains[before]
            if i in lit:
                ratio = light[before] / np.maximum(light[i], np.finfo(np.float32).tiny)
                gains[i] *= np.median(ratio, axis=0)
                before = i
    return gains
