"""The cache of compiled kernels: damage and lack of room cost time, never a run."""

import errno
import importlib.util
import itertools
import warnings

import numpy as np
import pytest
from numba.core import config
from numba.core.caching import IndexDataCacheFile

from napari_dff.runtime.jit import is_compiled

SOURCE = """
from napari_dff.runtime.jit import inline_kernel, kernel

@inline_kernel
def twice(value):
    return 2 * value

@kernel
def total(values):
    result = 0.0
    for value in values:
        result += twice(value)
    return result
"""
NUMBERS = itertools.count()


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """Import a module with kernels anew at each call; its cache lies beside it."""
    monkeypatch.setattr(config, "CACHE_DIR", "")
    path = tmp_path / "module_with_kernels.py"
    path.write_text(SOURCE)

    def load():
        name = f"module_with_kernels_{next(NUMBERS)}"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_a_kernel_is_compiled_after_its_first_call_also_in_another_process(kernels):
    assert not is_compiled(kernels().total)
    assert not is_from_cache(kernels())
    assert is_compiled(kernels().total)


def is_from_cache(module) -> bool:
    """Whether its kernel was loaded instead of compiled, and is right."""
    assert module.total(np.arange(5.0)) == 20.0
    return sum(module.total.stats.cache_hits.values()) == 1


def test_a_kernel_is_compiled_once_and_loaded_from_then_on(kernels):
    assert not is_from_cache(kernels())
    assert is_from_cache(kernels())


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", ["empty", "cut", "cut by one byte", "zeroed", "other bytes"])
def test_a_damaged_cache_entry_is_compiled_again(kernels, tmp_path, kind, damage):
    assert not is_from_cache(kernels())
    files = list((tmp_path / "__pycache__").glob(f"*total*.{kind}"))
    assert len(files) == 1
    content = files[0].read_bytes()
    files[0].write_bytes(
        {
            "empty": b"",
            "cut": content[: len(content) // 2],
            "cut by one byte": content[:-1],
            "zeroed": bytes(len(content)),
            "other bytes": content[:200] + bytes(64) + content[264:],
        }[damage]
    )
    assert not is_from_cache(kernels())
    assert is_from_cache(kernels())


def test_a_full_disk_under_the_cache_is_said_and_the_kernel_runs(kernels, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "_open_for_write", full)
    with pytest.warns(UserWarning, match=r"can't be cached in .* \(No space left on device\)"):
        assert not is_from_cache(kernels())


def test_without_a_folder_for_the_cache_kernels_run_uncached(kernels, monkeypatch):
    def nowhere(self, _):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr("napari_dff.runtime.jit.FunctionCache.__init__", nowhere)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not is_from_cache(kernels())
        assert not is_from_cache(kernels())
