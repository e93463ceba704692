"""Runs, previews and docks in a row: memory, threads, layers and callbacks stay as many.

With `--effort 10` there are 200 runs.
"""

import gc
import threading
import tracemalloc
import weakref
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from napari_dff import synthetic
from napari_dff.widgets.preview import VIEW

from .conftest import TITLES

pytestmark = pytest.mark.endurance
WARM = 2  # times, before it is measured
SMALL = 24e3  # bytes a time that Python may hold more, besides 300 kB once: napari's workers
LARGE = 400e3  # bytes a time that the process may, besides 30 MB once


class Held(NamedTuple):
    traced: int  # bytes of Python objects
    resident: int  # bytes of the process
    threads: int  # of the process
    counts: dict[str, int]

    @classmethod
    def by(cls, viewer) -> "Held":
        gc.collect()
        layers = viewer.layers.events
        events = [layers.inserted, layers.removed, layers.reordered, viewer.events.theme]
        events += [viewer.dims.events.current_step, viewer.layers.selection.events.active]
        events += [viewer.scene.camera.events.zoom, *(each.events.data for each in viewer.layers)]
        return cls(
            tracemalloc.get_traced_memory()[0],
            psutil.Process().memory_info().rss,
            len(list(Path("/proc/self/task").iterdir())),
            {
                "layers": len(viewer.layers),
                "callbacks": sum(_alive(each) for event in events for each in event.callbacks),
                "mouse": len(viewer.mouse_drag_callbacks) + len(viewer.mouse_move_callbacks),
                "threads of Python": threading.active_count(),
            },
        )


def _alive(callback) -> bool:
    """napari keeps a weak reference, and forgets it only when it calls."""
    return not isinstance(callback, tuple) or callback[0]() is not None


@pytest.fixture
def tiny(person):
    return person.stack(synthetic.rough_surface(size=32, planes=6, seed=5))


@pytest.fixture
def grows(person, capsys, effort):
    """Checks that after `act` has been done `count` times no more is held than after the first.

    Python's own objects are counted from an effort of 2 on: that makes everything much slower.
    """

    def check(act, count):
        if effort > 1:
            tracemalloc.start()
        try:
            for _ in range(WARM):
                act()
            before = Held.by(person.viewer)
            for _ in range(count):
                act()
            after = Held.by(person.viewer)
        finally:
            tracemalloc.stop()
        python, process = after.traced - before.traced, after.resident - before.resident
        with capsys.disabled():
            if count > 50:
                print(
                    f"\n{count} times: Python {python / 1e6:+.2f}, process {process / 1e6:+.2f} MB"
                )
        assert after.counts == before.counts
        assert after.threads <= before.threads + 2
        assert python < 300e3 + SMALL * count
        assert process < 30e6 + LARGE * count

    return check


def test_runs_in_a_row(person, tiny, grows, effort):
    widget = person.open("focus")
    grows(lambda: person.run(widget), 20 * effort)


def test_whole_runs_in_a_row_are_undone(person, tiny, grows, effort):
    widget, gone = person.open("all"), []
    widget.form.settings["registration"].value = "none"

    def act():
        person.run(widget)
        gone.extend(weakref.ref(layer) for layer in person.viewer.layers if layer is not tiny)
        person.undo(widget)
        person.qtbot.wait(1)

    grows(act, 2 * effort)
    gc.collect()
    assert sum(layer() is not None for layer in gone) <= 4  # of the last


def test_docks_in_a_row(person, tiny, grows, effort):
    def act():
        for name in TITLES:
            person.open(name).native.parent().title.close_button.click()
            person.qtbot.wait(1)

    grows(act, effort)


def test_previews_in_a_row(person, tiny, grows, effort):
    person.show()
    widget = person.open("focus")
    widget.preview.value = VIEW

    def act():
        widget.status.value = ""
        widget._preview.request()
        person.qtbot.waitUntil(lambda: "preview of" in widget.status.value, timeout=20_000)

    grows(act, 6 * effort)
