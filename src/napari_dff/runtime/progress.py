"""Progress and cancelling, in one argument.

Every long computation takes ``progress`` and wraps the items of its loop in it, as tqdm does. The
caller decides what the user sees: nothing, a bar in the terminal or a bar in napari. A progress
that raises `Cancelled` ends the computation.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Wraps the items of a long loop; may raise to cancel."""

    def __call__(self, items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        """Yield the items one by one, and show how many are done."""
        ...


class Cancelled(Exception):
    """The user cancelled; this is no error."""


def no_progress(items: Sequence[T], /, *, desc: str) -> Iterable[T]:
    """Return the items and show nothing."""
    return items


def with_location(progress: Progress, where: str) -> Progress:
    """Return a progress that adds `where`, as "time 3 of 20", to every description."""

    def located(items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        return progress(items, desc=f"{desc}, {where}")

    return located if where else progress
