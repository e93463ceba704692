"""Checks of arguments at public functions. Errors name the argument and its value.

numpy is imported where it is needed: `model.recipe` uses this module, and reading a recipe or
printing the help of the command line loads no numerical library.
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

MAX_MAGNITUDE = 1e12  # of a grey level or a length: float32 holds its cube


class Range(NamedTuple):
    """Allowed values of a numeric setting: `low` to `high`, both included.

    If `low` is an int, the values are integers at multiples of `step` above it. Otherwise `step` is
    only the increment of the form's spin box.
    """

    low: float
    high: float
    step: float

    @property
    def is_integer(self) -> bool:
        """Whether only integers are allowed."""
        return isinstance(self.low, int)

    @property
    def kind(self) -> str:
        """Kind of number in words, for messages and documentation."""
        if not self.is_integer:
            return "a number"
        return "an odd number" if self.step == 2 else "a whole number"

    def check(self, name: str, value: Any) -> float:
        """Return `value` as a Python int or float; raise ValueError if it is not allowed."""
        number = Integral if self.is_integer else Real
        valid = isinstance(value, number) and not isinstance(value, bool)
        if valid and self.low <= value <= self.high:
            if not self.is_integer:
                return float(value)
            if (value - self.low) % self.step == 0:
                return int(value)
        raise ValueError(
            f"{name} must be {self.kind} from {self.low:g} to {self.high:g}, got {value!r}"
        )


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise a ValueError unless `value` is one of `choices`."""
    names = list(choices)
    if not (isinstance(value, str) and value in names):
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}")


def check_type(name: str, value: Any, kind: type) -> None:
    """Raise a ValueError unless `value` is a `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def as_numbers(name: str, values: Any) -> np.ndarray:
    """Return `values` as an array of real numbers; ValueError if they are none."""
    import numpy as np

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
    import numpy as np

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
