"""Memory and threads after repeated runs without napari."""

import gc
import threading
import tracemalloc

import psutil
import pytest

from napari_dff import depth_from_focus, synthetic

pytestmark = pytest.mark.endurance


def test_repeated_runs_do_not_increase_memory_or_threads(effort):
    stack, count = synthetic.rough_surface(size=32, planes=6, seed=5).stack, 20 * effort

    def usage():
        gc.collect()
        memory = tracemalloc.get_traced_memory()[0], psutil.Process().memory_info().rss
        return *memory, threading.active_count()

    tracemalloc.start()
    try:
        for _ in range(3):
            depth_from_focus(stack)
        python, process, threads = usage()
        for _ in range(count):
            depth_from_focus(stack)
        now = usage()
    finally:
        tracemalloc.stop()
    growth = now[0] - python, now[1] - process
    print(f"{count} runs: Python {growth[0] / 1e3:+.1f} kB, process {growth[1] / 1e6:+.2f} MB")
    assert growth[0] < 20e3 + 500 * count  # bytes
    assert growth[1] < 20e6 + 50e3 * count
    assert now[2] <= threads
