"""Checks of settings at the public door: one sentence, naming the setting and its value."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, NamedTuple


class Range(NamedTuple):
    """Numbers a setting may have: from `low` to `high`; whole numbers in `step`s if `low` is one.

    Written once, beside the function that takes the setting; `Recipe` and the forms read it there.
    """

    low: float
    high: float
    step: float

    def check(self, name: str, value: Any) -> float:
        """`value` as a plain int or float; ValueError unless it is such a number."""
        whole = isinstance(self.low, int)
        right = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        if right and self.low <= value <= self.high:
            if not whole:
                return float(value)
            if (value - self.low) % self.step == 0:
                return int(value)
        kind = "a number" if not whole else "an odd number" if self.step == 2 else "a whole number"
        raise ValueError(f"{name} must be {kind} from {self.low:g} to {self.high:g}, got {value!r}")


def one_of(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise a ValueError unless `value` is one of `choices`."""
    names = list(choices)
    if not (isinstance(value, str) and value in names):
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}")


def instance(name: str, value: Any, kind: type) -> None:
    """Raise a ValueError unless `value` is a `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
