"""Validation of height maps and regions, and their known pixels."""

import numpy as np

from napari_dff.model.checks import as_mask, as_numbers, check_finite

# Depth errors are correlated over about 5 × 5 pixels, the effective window of the focus measure:
# this number of pixels has the information of one independent pixel.
CORRELATED_PIXELS = 25


def known_pixels(
    heights: np.ndarray,
    where: np.ndarray | None = None,
    uncertainty: np.ndarray | None = None,
    name: str = "heights",  # of the argument, in messages
) -> np.ndarray:
    """Return where height and uncertainty are finite, (Y, X) bool; ValueError if nowhere."""
    check_values(name, heights)
    if heights.ndim != 2:
        raise ValueError(f"{name} must have axes (Y, X), got shape {heights.shape}")
    mask = np.isfinite(heights)
    if where is not None:
        mask &= as_mask("where", where, heights.shape)
    if uncertainty is not None:
        check_values("uncertainty", uncertainty)
        if uncertainty.shape != heights.shape:
            raise ValueError(
                f"uncertainty must have the shape of {name}, {heights.shape}, "
                f"got {uncertainty.shape}"
            )
        mask &= np.isfinite(uncertainty)
    if not mask.any():
        place = "" if where is None else " inside the region"
        raise ValueError(f"{name} must be known somewhere{place}, got no pixel that is")
    return mask


def check_values(name: str, values: np.ndarray) -> None:
    """Raise ValueError unless `values` is an array of numbers up to 1e12; NaN is allowed."""
    if not isinstance(values, np.ndarray) or np.ma.isMaskedArray(values):
        kind = type(values).__name__
        raise ValueError(f"{name} must be an array, NaN where unknown, got {kind}")
    mask = np.isfinite(as_numbers(name, values))
    check_finite(name, values[mask])


def bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    """Return rows and columns of the smallest rectangle that contains all True pixels."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
