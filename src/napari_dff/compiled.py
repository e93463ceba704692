"""Kernels: loops over pixels in numba, compiled once a machine.

They release the interpreter, so that windows run on all cores (see `napari_dff.tiles`), and none
starts threads of its own. Compiled code is kept beside the source, or in the person's cache folder
where that can't be written to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numba
from numba.core import event

# Sums may be reordered and nothing is NaN. Infinities stay what they are, but ask for them by
# "< np.inf": numba makes a NaN to find out whether a number is finite.
_FAST = {"contract", "reassoc", "nsz", "arcp", "nnan"}
kernel = numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
# For what kernels call. Where LLVM left such a call standing, it went to whichever copy was loaded
# first, rounded a little differently, so that the run that compiled and the next gave other bits.
inlined = numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy", forceinline=True)


class _Notice(event.Listener):
    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell: Callable[[], None] | None = tell

    def on_start(self, event: Any) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


@contextlib.contextmanager
def when_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Within this, call `tell` once if a kernel has to be compiled: in a first run only."""
    notice = _Notice(tell)
    event.register("numba:compile", notice)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        event.unregister("numba:compile", notice)  # type: ignore[no-untyped-call]
