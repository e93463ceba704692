"""Validation of settings in public functions. Errors name the setting and its value."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, NamedTuple


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
