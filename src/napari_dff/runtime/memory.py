"""Return freed memory to the operating system; glibc would keep it for later allocations."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from typing import Any

from napari_dff.runtime.threads import thread_count

# Parameters of mallopt(3)
M_ARENA_MAX, M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -8, -1, -3
MMAP_THRESHOLD_BYTES = 32 << 20  # larger blocks are mapped, and unmapped when they are freed


@functools.cache
def limit_malloc_arenas() -> None:
    """Make glibc keep less freed memory in this process; elsewhere do nothing.

    Every thread may get an arena of its own. Arenas of threads that have ended keep their memory,
    which can be several times what is in use.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = _libc()
        libc.mallopt(M_ARENA_MAX, thread_count())
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * MMAP_THRESHOLD_BYTES)


def trim_malloc() -> None:
    """Return free memory to the operating system, if malloc is glibc's."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        _libc().malloc_trim(0)


def _libc() -> Any:
    return ctypes.CDLL(None)
