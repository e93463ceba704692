"""Checks of settings at the public door: one sentence, naming the setting and its value."""

from __future__ import annotations

import math
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

    def check(self, name: str, value: Any) -> None:
        """Raise a ValueError unless `value` is such a number."""
        whole = isinstance(self.low, int)
        right = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        if right and math.isfinite(value) and self.low <= value <= self.high:
            on_step = not whole or (value - self.low) % self.step == 0
            if on_step:
                return
        kind = "a number" if not whole else "an odd number" if self.step == 2 else "a whole number"
        raise ValueError(f"{name} must be {kind} from {self.low:g} to {self.high:g}, got {value!r}")


def one_of(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise a ValueError unless `value` is one of `choices`."""
    names = list(choices)
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}")
