"""Kernels: loops over pixels in numba, compiled once a machine.

They release the interpreter, so that windows run on all cores (see `napari_dff.tiles`), and none
starts threads of its own. Compiled code is cached beside the source, or in the user's cache folder
where that can't be written. A damaged cache entry is compiled again. Where nothing can be cached,
kernels are compiled in every process.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core import event
from numba.core.caching import FunctionCache, IndexDataCacheFile

DIGEST_BYTES = hashlib.sha256().digest_size


class _CheckedCacheFile(IndexDataCacheFile):
    """Cache entries with a checksum: one that a power cut has truncated or zeroed is a miss."""

    def _load_index(self) -> dict[Any, str]:
        try:
            index: dict[Any, str] = super()._load_index()
        except Exception:  # pickle raises many kinds for a damaged file
            return {}
        return index if isinstance(index, dict) else {}

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        digest, data = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            raise OSError(f"{name} is damaged")  # which numba takes for a missing entry
        return pickle.loads(data)

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(content).digest() + content)


class _CheckedCache(FunctionCache):
    """A kernel's cache that can be damaged or unwritable without stopping a run."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp, base = self._impl.locator.get_source_stamp(), self._impl.filename_base
        self._cache_file = _CheckedCacheFile(self._cache_path, base, stamp)

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            warnings.warn(
                f"compiled code can't be cached in {self.cache_path} ({error.strerror or error}): "
                "until it can, every run compiles it again",
                stacklevel=2,
            )


def _jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function to be compiled at its first call, and cached."""
    # Sums may be reordered and nothing is NaN. Infinities stay what they are, but ask for them by
    # "< np.inf": numba makes a NaN to find out whether a number is finite.
    fast = {"contract", "reassoc", "nsz", "arcp", "nnan"}
    compiler = numba.njit(nogil=True, fastmath=fast, error_model="numpy", **options)

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = compiler(function)
        if dispatcher is not function:  # numba is not disabled by NUMBA_DISABLE_JIT
            with contextlib.suppress(RuntimeError):  # no cache folder can be written
                dispatcher._cache = _CheckedCache(function)
        return dispatcher

    return decorate


kernel = _jit()
# For what kernels call. Where LLVM left such a call standing, it went to whichever copy was loaded
# first, rounded a little differently, so that the run that compiled and the next gave other bits.
inlined = _jit(forceinline=True)


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
    event.register("numba:compile", notice)
    try:
        yield
    finally:
        event.unregister("numba:compile", notice)
