"""Progress and cancelling, in one argument.

Every long computation takes ``progress`` and wraps the items of its loop in it, as tqdm does. What
is passed decides what is seen: nothing, a bar on the terminal, a bar in napari. Raising `Cancelled`
from it ends the computation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Wraps the items of a long loop; may raise to cancel."""

    def __call__(self, items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        """Give back the items one by one, telling whoever watches."""
        ...


class Cancelled(Exception):
    """The person cancelled; nothing is wrong."""


def no_progress(items: Sequence[T], /, *, desc: str) -> Iterable[T]:
    """Give back the items and tell nobody."""
    return items


def with_location(progress: Progress, where: str) -> Progress:
    """The same progress, saying where as well; just the same where there is nothing to say."""
    if not where:
        return progress

    def within(items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        return progress(items, desc=f"{desc}, {where}")

    return within
