"""Memory that is freed goes back to the system, where glibc would keep it for later."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from typing import Any

from napari_dff.threads import thread_count

ARENA_MAX, TRIM_THRESHOLD, MMAP_THRESHOLD = -8, -1, -3  # of mallopt(3)
LARGE = 32 << 20  # bytes: what is as large as this is asked of the system, and given back to it


@functools.cache
def limit_malloc_arenas() -> None:
    """From now on let this process keep less of what was freed; once, and only under glibc.

    Every thread that works on windows may get an arena of its own, and arenas of threads that have
    ended keep what they had: several times what is in use.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = _libc()
        library.mallopt(ARENA_MAX, thread_count())
        library.mallopt(MMAP_THRESHOLD, LARGE)
        library.mallopt(TRIM_THRESHOLD, 2 * LARGE)


def trim_malloc() -> None:
    """Give back what is free now."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        _libc().malloc_trim(0)


def _libc() -> Any:
    return ctypes.CDLL(None)
