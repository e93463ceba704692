"""Kernels: loops over pixels that numba compiles once on each machine.

They release the interpreter lock and start no threads of their own: windows run in parallel.
Compiled code is cached beside the source or, where that is read-only, in the user's cache folder.
"""

import contextlib
import hashlib
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numba
from numba.core import event
from numba.core.caching import FunctionCache, IndexDataCacheFile

DIGEST_BYTES = hashlib.sha256().digest_size


class _CheckedCacheFile(IndexDataCacheFile):
    """Cache entries with a checksum: one that a power cut has damaged is compiled again."""

    def _load_index(self) -> dict[Any, str]:
        with contextlib.suppress(Exception):  # of many kinds, for a damaged file
            index = super()._load_index()
            return index if isinstance(index, dict) else {}
        return {}

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        data, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            raise OSError(f"{name} is damaged")  # numba compiles again
        return super()._load_data(name)  # ignores the digest after the data

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(content + hashlib.sha256(content).digest())


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
            problem = f"can't be cached in {self.cache_path} ({error.strerror or error})"
            message = f"compiled code {problem}: until it can, every run compiles it again"
            warnings.warn(message, stacklevel=2)


def _jit(*, exact: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    # Sums may be reordered, and no value may be NaN. Infinities are allowed, but test for them by
    # "< np.inf": numba's isfinite computes a NaN.
    fast = False if exact else {"contract", "reassoc", "nsz", "arcp", "nnan"}
    compiler = numba.njit(nogil=True, fastmath=fast, error_model="numpy", **options)

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = compiler(function)
        if dispatcher is not function:  # numba is not disabled by NUMBA_DISABLE_JIT
            with contextlib.suppress(RuntimeError):  # no cache folder can be written
                dispatcher._cache = _CheckedCache(function)
        return dispatcher

    return decorate


kernel = _jit()
# For functions that kernels call: always inlined. LLVM could otherwise keep the call and link it to
# a copy from another kernel, compiled with other rounding: the run that compiles and the next run
# would then differ in their last bits.
inline_kernel = _jit(forceinline=True)
# For vectorized loops that must round alike at any place in a row, and for functions they call.
exact_kernel = _jit(exact=True, forceinline=True)


def is_compiled(dispatcher: Any) -> bool:
    """Return whether the cache has a kernel, for any types of its arguments."""
    if not isinstance(getattr(dispatcher, "_cache", None), _CheckedCache):
        return True  # numba is disabled, or no folder can be written
    return bool(dispatcher._cache._cache_file._load_index())


class _CompileListener(event.Listener):
    """Call `notify` when a compilation starts."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify

    def on_start(self, event: Any) -> None:
        self._notify()

    def on_end(self, event: Any) -> None:
        pass


def notify_when_compiling(notify: Callable[[], None]) -> AbstractContextManager[Any]:
    """Call `notify` for each kernel that has to be compiled within this block: in a first run."""
    return event.install_listener("numba:compile", _CompileListener(notify))
