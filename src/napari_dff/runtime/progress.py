"""Progress and cancelling, in one argument.

Every long computation takes ``progress`` and wraps the items of its loop in it, as tqdm does. The
caller decides what the user sees: nothing, a bar in the terminal or a bar in napari. A progress
that raises `Cancelled` ends the computation. An item that takes long, and loops without a
description, call `raise_if_cancelled` besides.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Wraps the items of a long loop; may raise to cancel."""

    def __call__(self, items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        """Yield the items one by one, and show how many are done."""
        ...


class Cancelled(Exception):
    """The user cancelled; this is no error."""


_is_cancelled: ContextVar[Callable[[], bool]] = ContextVar("is_cancelled", default=lambda: False)


@contextmanager
def cancelled_by(is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Let `raise_if_cancelled` call this function within the block, on all threads of its loops."""
    token = _is_cancelled.set(is_cancelled)
    try:
        yield
    finally:
        _is_cancelled.reset(token)


def raise_if_cancelled() -> None:
    """Raise `Cancelled` if the user has cancelled the computation that this is part of."""
    if _is_cancelled.get()():
        raise Cancelled


def no_progress(items: Sequence[T], /, *, desc: str) -> Iterable[T]:
    """Return the items and show nothing."""
    return items


def with_location(progress: Progress, where: str) -> Progress:
    """Return a progress that adds `where`, as "time 3 of 20", to every description."""

    def located(items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        return progress(items, desc=f"{desc}, {where}")

    return located if where else progress
