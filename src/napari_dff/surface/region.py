"""Which pixels count: known heights inside a region of any shape."""

from __future__ import annotations

import numpy as np

from napari_dff.validation import MAX_MAGNITUDE, as_numbers

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
        Where one is no array of numbers or has masked values or such beyond 1e12, shapes differ, or
        no pixel is known.
    """
    for name, values in (("heights", heights), ("uncertainty", uncertainty)):
        if values is not None or name == "heights":
            check_values(name, values)
    if heights.ndim != 2:
        raise ValueError(f"heights must have axes (Y, X), got shape {heights.shape}")
    known = np.isfinite(heights)
    if where is not None:
        known &= validate_mask("where", where, heights.shape)
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


def check_values(name: str, values: np.ndarray | None) -> None:
    """Raise a ValueError unless `values` are an array of numbers, NaN allowed, up to 1e12."""
    if not isinstance(values, np.ndarray) or np.ma.isMaskedArray(values):
        kind = type(values).__name__
        raise ValueError(f"{name} must be an array, NaN where unknown, got {kind}")
    known = np.isfinite(as_numbers(name, values))
    low, high = (float(end(values, where=known, initial=0)) for end in (np.min, np.max))
    if low < -MAX_MAGNITUDE or high > MAX_MAGNITUDE:
        far = max(low, high, key=abs)
        raise ValueError(
            f"{name} must be from {-MAX_MAGNITUDE:g} to {MAX_MAGNITUDE:g}, got {far:g}"
        )


def validate_mask(name: str, mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`mask` as an array; ValueError unless it is bool and of that shape."""
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != shape:
        raise ValueError(
            f"{name} must be a bool mask of shape {shape}, got {mask.dtype} of shape {mask.shape}"
        )
    return mask


def bounding_box(known: np.ndarray) -> tuple[slice, slice]:
    """The smallest rectangle that holds every True pixel of (Y, X) `known`."""
    rows, columns = (np.flatnonzero(known.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
