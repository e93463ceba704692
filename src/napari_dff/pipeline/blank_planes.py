"""Planes without contrast, as of missed exposures: they are left out of the focus curves."""

from typing import Any

import numpy as np

from napari_dff.imaging.images import read_plane
from napari_dff.model.stack import MIN_PLANES

MIN_RELATIVE_CONTRAST = 0.05  # of a typical plane; planes with less are blank
STRIP_ROWS = 64  # contrast is measured first in the middle rows


def find_blank_planes(planes: Any) -> list[int]:
    """Return the indices of (Z, Y, X[, 3]) planes without contrast; ValueError if too few have it.

    Some rows of lazy planes are read, and whole planes only where these rows have no contrast.
    """
    height, width = planes.shape[1:3]
    top = max((height - STRIP_ROWS) // 2, 0)
    strip = slice(top, top + STRIP_ROWS), slice(0, width)
    count = planes.shape[0]

    def contrast(k: int, where: tuple[slice, slice]) -> float:
        return float(read_plane(planes, k, where).std(dtype=float))

    contrasts = [contrast(k, strip) for k in range(count)]
    threshold = MIN_RELATIVE_CONTRAST * float(np.median(contrasts))
    blank = [k for k in range(count) if contrasts[k] < threshold]
    if blank:
        everywhere = slice(0, height), slice(0, width)
        typical = int(np.argsort(contrasts)[(len(blank) + count) // 2])  # the middle of the others
        threshold = MIN_RELATIVE_CONTRAST * contrast(typical, everywhere)
        blank = [k for k in blank if contrast(k, everywhere) < threshold]
    if blank and count - len(blank) < MIN_PLANES:
        raise ValueError(f"at least {MIN_PLANES} planes must have contrast; {describe(blank)}")
    return blank


def describe(blank: list[int]) -> str:
    """Return a clause that names blank planes."""
    names = ", ".join(map(str, blank))
    plural = len(blank) > 1
    return f"planes {names} have no contrast" if plural else f"plane {names} has no contrast"


def used_planes(count: int, blank: list[int]) -> np.ndarray | slice:
    """Return the indices of all planes but the blank ones; a full slice if none is blank."""
    return np.setdiff1d(np.arange(count), blank) if blank else slice(None)


def find_used_planes(planes: Any) -> np.ndarray | slice:
    """Return the planes that are not blank; all of lazy planes, of which a preview reads little."""
    in_memory = isinstance(planes, np.ndarray)
    return used_planes(len(planes), find_blank_planes(planes)) if in_memory else slice(None)
