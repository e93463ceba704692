"""Threads: how many work at a time, and a parallel loop over them."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import NamedTuple, TypeVar

from napari_dff.runtime.progress import Progress, iterate, raise_if_cancelled

T = TypeVar("T")
R = TypeVar("R")


class ThreadLimits(NamedTuple):
    """Limits that the user sets; None is no limit."""

    threads: int | None = None  # that work at a time
    megabytes: float | None = None  # of memory that all windows in progress may fill
    has_small_windows: bool = False  # they may be smaller than is usual, to keep to `megabytes`


_limits = ThreadLimits()


def set_thread_limits(limits: ThreadLimits) -> None:
    """Apply `limits` to this process from now on."""
    global _limits
    _limits = limits
    if limits.threads is not None or "cv2" in sys.modules:
        import cv2  # has threads of its own

        cv2.setNumThreads(-1 if limits.threads is None else limits.threads)


def thread_limits() -> ThreadLimits:
    """Return the limits that hold now."""
    return _limits


def thread_count() -> int:
    """Return how many threads may work at a time: the limit, else the cores of this process."""
    if _limits.threads is not None:
        return _limits.threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def at_most_threads(count: int | None, megabytes: float | None = None) -> Iterator[None]:
    """Lower the limits to `count` threads and `megabytes` for a while; None: not.

    With `megabytes`, windows may be small.
    """
    limits = lowered = thread_limits()
    if count is not None and count < thread_count():
        lowered = lowered._replace(threads=count)
    if megabytes is not None:
        least = min(megabytes, limits.megabytes or megabytes)
        lowered = lowered._replace(megabytes=least, has_small_windows=True)
    if lowered == limits:
        yield
        return
    set_thread_limits(lowered)
    try:
        yield
    finally:
        set_thread_limits(limits)


def run_parallel(
    work: Callable[[T], R], items: Sequence[T], progress: Progress, *, desc: str
) -> list[R]:
    """Return the results of `work` for all items, computed on `thread_count` threads.

    The first error, or an exception from `progress`, ends the loop after the items in progress.
    """

    def work_unless_cancelled(item: T) -> R:
        raise_if_cancelled()
        return work(item)

    if len(items) == 1:
        return [work_unless_cancelled(item) for item in iterate(progress, items, desc=desc)]
    with ThreadPoolExecutor(thread_count()) as pool:
        # Each with the context of this thread, in which the computation may be cancelled.
        futures = [pool.submit(copy_context().run, work_unless_cancelled, item) for item in items]
        try:
            return [future.result() for future in iterate(progress, futures, desc=desc)]
        finally:
            for future in futures:
                future.cancel()
