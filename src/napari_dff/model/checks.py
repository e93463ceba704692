"""Checks of arguments at public functions. Errors name the argument and its value.

`model.recipe` needs this module, and must not load numpy: two functions import it.
"""

import contextlib
import os
from collections.abc import Collection, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from napari_dff.runtime.words import shorten

if TYPE_CHECKING:
    import numpy as np

AUTO: Literal["auto"] = "auto"
MAX_MAGNITUDE = 1e12  # of a grey level or a length: float32 holds its cube


class Range(NamedTuple):
    """Allowed values of a numeric setting, `low` to `high`: integers if `low` is an int."""

    low: float
    high: float
    step: float  # distance between the allowed integers; for floats that of the form's spin box
    has_auto: bool = False  # "auto" is allowed, too

    @property
    def kind(self) -> str:
        """Kind of number in words, for messages and documentation."""
        if isinstance(self.low, float):
            return "a number"
        return "an odd number" if self.step == 2 else "a whole number"

    def check(self, name: str, value: Any) -> Any:
        """Return `value` as a Python int or float, or "auto"; ValueError if it is not allowed."""
        low, high, step, has_auto = self
        if has_auto and isinstance(value, str) and value == AUTO:
            return AUTO
        is_float = isinstance(low, float)
        is_number = isinstance(value, Real if is_float else Integral)
        with contextlib.suppress(TypeError):  # a span of time of numpy counts as Integral
            if is_number and not isinstance(value, bool) and low <= value <= high:
                if is_float:
                    return float(value)
                if (value - low) % step == 0:
                    return int(value)
        kind = f"{AUTO} or {self.kind}" if has_auto else self.kind
        raise ValueError(f"{name} must be {kind} from {low:g} to {high:g}, got {shorten(value)}")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raise a ValueError unless `value` is one of `choices`."""
    if not (isinstance(value, str) and value in choices):
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {shorten(value)}")


def check_type(name: str, value: Any, kind: type) -> None:
    """Raise a ValueError unless `value` is a `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def as_numbers(name: str, values: Any) -> "np.ndarray":
    """Return `values` as an array of real numbers; ValueError if they are none."""
    import numpy as np

    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers in rows of one length, got others") from error
    if array.dtype.kind not in "buif":
        got = array.dtype if array.ndim else shorten(values)
        raise ValueError(f"{name} must be numbers, got {got}")
    return array


def as_mask(name: str, values: Any, shape: tuple[int, ...]) -> "np.ndarray":
    """Return `values` as an array; ValueError unless they are bool and have the shape `shape`."""
    mask = as_numbers(name, values)
    if mask.dtype != bool or mask.shape != shape:
        got = f"{mask.dtype} of shape {mask.shape}"
        raise ValueError(f"{name} must be a bool mask of shape {shape}, got {got}")
    return mask


def as_list(name: str, values: Any, of: str) -> list[Any]:
    """Return `values` as a list; ValueError, that they must be `of`, unless they can be iterated.

    Text and bytes are single values, and a mapping is none.
    """
    if not isinstance(values, str | bytes | bytearray | memoryview | Mapping | set):
        with contextlib.suppress(TypeError):
            return list(values)
    raise ValueError(f"{name} must be {of}, got {shorten(values)}")


def as_path(name: str, path: Any) -> Path:
    """Return `path` as a Path; ValueError if it is none that a file can have."""
    with contextlib.suppress(TypeError, ValueError):  # ValueError: half of a surrogate pair
        text = os.fspath(path)
        if isinstance(text, str) and text and b"\0" not in os.fsencode(text):
            return Path(text)
    raise ValueError(f"{name} must be a path, got {shorten(path)}")


def check_finite(name: str, values: "np.ndarray", where: str = "") -> None:
    """Raise a ValueError unless all `values` are finite and within ±`MAX_MAGNITUDE`."""
    import numpy as np

    if values.dtype.kind != "f" and values.dtype.itemsize <= 4:
        return
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low >= -MAX_MAGNITUDE and high <= MAX_MAGNITUDE:
        return
    if bad := np.count_nonzero(~np.isfinite(values)):
        raise ValueError(f"{name} must be finite, got {bad} NaN or infinite values{where}")
    limit, value = MAX_MAGNITUDE, max(high, low, key=abs)
    raise ValueError(f"{name} must be from {-limit:g} to {limit:g}, got {value:g}{where}")
