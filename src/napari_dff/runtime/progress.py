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

from napari_dff.runtime.words import shorten

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


def check_progress(progress: Progress) -> None:
    """Raise a ValueError unless `progress` can be called."""
    if not callable(progress):
        raise ValueError(f"progress must be a function of items and desc, got {shorten(progress)}")


def iterate(progress: Progress, items: Sequence[T], *, desc: str) -> Iterator[T]:
    """Yield all items through `progress`; ValueError unless it is a progress and yields them all.

    A progress that ended early would leave a part of the result uncomputed.
    """
    check_progress(progress)
    shown, count, total = progress(items, desc=desc), 0, len(items)
    if not isinstance(shown, Iterable):
        raise ValueError(f"progress must return the items that it was given, got {shorten(shown)}")
    for item in shown:
        count += 1
        yield item
    if count != total:
        raise ValueError(f"progress must yield all {total} items of {desc!r}, got {count}")


def with_location(progress: Progress, where: str) -> Progress:
    """Return a progress that adds `where`, as "time 3 of 20", to every description."""
    check_progress(progress)

    def located(items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        return progress(items, desc=f"{desc}, {where}")

    return located if where else progress
