"""Checks of arrays at public functions."""

from __future__ import annotations

from typing import Any

import numpy as np

MAX_MAGNITUDE = 1e12  # of a grey level or a length: float32 holds its cube


def as_numbers(name: str, values: Any) -> np.ndarray:
    """Return `values` as an array of real numbers; ValueError if they are none."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be numbers in rows of one length, got others") from error
    if array.dtype.kind not in "buif":
        got = array.dtype if array.ndim else repr(values)
        raise ValueError(f"{name} must be numbers, got {got}")
    return array


def check_finite(name: str, values: np.ndarray, where: str = "") -> None:
    """Raise a ValueError unless all `values` are finite and within ±`MAX_MAGNITUDE`."""
    if values.dtype.kind != "f" and values.dtype.itemsize <= 4:
        return
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low >= -MAX_MAGNITUDE and high <= MAX_MAGNITUDE:
        return
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise ValueError(f"{name} must be finite, got {bad} NaN or infinite values{where}")
    raise ValueError(
        f"{name} must be from {-MAX_MAGNITUDE:g} to {MAX_MAGNITUDE:g}, "
        f"got {max(high, low, key=abs):g}{where}"
    )
