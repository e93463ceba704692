"""Return freed memory to the operating system; glibc would keep it for later allocations."""

import contextlib
import ctypes
import functools
from collections.abc import Iterable, Sequence
from typing import TypeVar

from napari_dff.runtime.progress import Progress, with_location
from napari_dff.runtime.threads import thread_count

T = TypeVar("T")
# Parameters of mallopt(3)
M_ARENA_MAX, M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -8, -1, -3
IGNORE_MISSING_GLIBC = contextlib.suppress(OSError, AttributeError, TypeError)
# Larger blocks are mapped one by one, and unmapped when freed: their pages are cleared each time.
MMAP_THRESHOLD_BYTES = 64 << 20


@functools.cache
def configure_malloc() -> None:
    """Let glibc map large blocks only, and have at most one arena a thread: they keep memory."""
    with IGNORE_MISSING_GLIBC:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, thread_count())
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * MMAP_THRESHOLD_BYTES)


def trim_malloc() -> None:
    """Return free memory to the operating system, if malloc is glibc's."""
    with IGNORE_MISSING_GLIBC:
        ctypes.CDLL(None).malloc_trim(0)


def with_trimming(progress: Progress, where: str) -> Progress:
    """Return free memory to the system, and a progress that names the tile and does so, too."""
    trim_malloc()
    located = with_location(progress, where)

    def wrap(items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        trim_malloc()
        return located(items, desc=desc)

    return wrap
