"""Which pixels count: known heights inside a region of any shape."""

from __future__ import annotations

import numpy as np

# Errors of depth are alike over about 5 × 5 pixels, the window focus is measured in: so many
# pixels tell as much as one independent pixel.
PATCH = 25


def known_pixels(
    heights: np.ndarray,  # (Y, X)
    where: np.ndarray | None = None,  # (Y, X)
    uncertainty: np.ndarray | None = None,  # (Y, X)
) -> np.ndarray:
    """Pixels inside `where` with finite height and, if given, finite uncertainty: (Y, X) bool.

    Raises
    ------
    ValueError
        Where shapes differ, or no pixel is known.
    """
    if heights.ndim != 2:
        raise ValueError(f"heights must have axes (Y, X), got shape {heights.shape}")
    known = np.isfinite(heights)
    if where is not None:
        known &= checked_mask("where", where, heights.shape)
    if uncertainty is not None:
        if uncertainty.shape != heights.shape:
            raise ValueError(
                f"uncertainty must have the shape of heights, {heights.shape}, "
                f"got {uncertainty.shape}"
            )
        known &= np.isfinite(uncertainty)
    if not known.any():
        place = "" if where is None else " inside the region"
        raise ValueError(f"heights must be known somewhere{place}, got no pixel that is")
    return known


def checked_mask(name: str, mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`mask` itself; ValueError unless it is bool and of that shape."""
    if mask.dtype != bool or mask.shape != shape:
        raise ValueError(
            f"{name} must be a bool mask of shape {shape}, got {mask.dtype} of shape {mask.shape}"
        )
    return mask


def checked_pixel_size(pixel_size: tuple[float, float]) -> tuple[float, float]:
    """Height and width of a pixel as floats; ValueError unless two positive lengths."""
    size = tuple(float(s) for s in pixel_size)
    if len(size) != 2 or not all(np.isfinite(s) and s > 0 for s in size):
        raise ValueError(f"pixel_size must be two positive lengths, got {pixel_size}")
    return size


def bounding_box(known: np.ndarray) -> tuple[slice, slice]:
    """The smallest rectangle that holds every True pixel of (Y, X) `known`."""
    rows, columns = (np.flatnonzero(known.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
