"""Repeated runs, previews and docks do not add memory, threads, layers or callbacks.

With `--effort 25` there are 200 runs, without it as few as can show growth by one in each.
"""

import gc
import threading
import tracemalloc
import weakref
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from qtpy.QtCore import QCoreApplication, QEvent

from napari_dff import synthetic
from napari_dff.widgets.app.preview import VIEW

from .conftest import TITLES

pytestmark = pytest.mark.endurance
WARM_UP_RUNS, FEW_WARM_UP_RUNS = 2, 1  # without `--effort`, by which only counts are compared
# Napari keeps its workers: Python may hold this many bytes more for each, and 300 kB in all.
PYTHON_BYTES_PER_RUN = 24e3
PROCESS_BYTES_PER_RUN = 400e3  # and 30 MB in all


class Usage(NamedTuple):
    traced: int  # bytes of Python objects
    resident: int  # bytes of the process
    threads: int  # of the process
    counts: dict[str, int]

    @classmethod
    def by(cls, viewer) -> "Usage":
        for _ in range(3):  # a deleted widget may own others, and Python objects keep widgets
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
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
    """Return whether a callback exists: napari drops dead references only when it calls them."""
    return not isinstance(callback, tuple) or callback[0]() is not None


@pytest.fixture
def viewer(own_viewer):
    return own_viewer


@pytest.fixture
def tiny(person):
    return person.stack(synthetic.rough_surface(size=32, planes=6, seed=5))


@pytest.fixture
def assert_no_growth(person, capsys, effort):
    """Return a function that checks that `count` calls of `act` hold no more than the first.

    Python objects are counted from an effort of 2 on, because that is slow.
    """

    def check(act, count):
        if effort > 1:
            tracemalloc.start()
        try:
            for _ in range(WARM_UP_RUNS if effort > 1 else FEW_WARM_UP_RUNS):
                act()
            before = Usage.by(person.viewer)
            for _ in range(count):
                act()
            after = Usage.by(person.viewer)
        finally:
            tracemalloc.stop()
        python, process = after.traced - before.traced, after.resident - before.resident
        with capsys.disabled():
            if count > 50:
                print(
                    f"\n{count} times: Python {python / 1e6:+.2f}, process {process / 1e6:+.2f} MB"
                )
        growth = {name: after.counts[name] - n for name, n in before.counts.items()}
        assert max(growth.values()) <= 0, growth
        assert after.threads <= before.threads + 2
        assert python < 300e3 + PYTHON_BYTES_PER_RUN * count
        assert process < 30e6 + PROCESS_BYTES_PER_RUN * count

    return check


def test_repeated_runs_hold_no_more_memory(person, tiny, assert_no_growth, effort):
    widget = person.open("focus")
    assert_no_growth(lambda: person.run(widget), 8 * effort if effort > 1 else 3)


def test_repeated_runs_and_undos_hold_no_more_memory(person, tiny, assert_no_growth, effort):
    widget, gone = person.open("all"), []
    widget.form.settings["registration"].value = "none"

    def act():
        person.run(widget)
        gone.extend(weakref.ref(layer) for layer in person.viewer.layers if layer is not tiny)
        person.undo(widget)
        person.qtbot.wait(1)

    assert_no_growth(act, effort)
    gc.collect()
    assert sum(layer() is not None for layer in gone) <= 4  # of the last


def test_docks_opened_and_closed_hold_no_more_memory(person, tiny, assert_no_growth, effort):
    def act():
        for name in TITLES:
            person.open(name).native.parent().title.close_button.click()
            person.qtbot.wait(1)

    assert_no_growth(act, effort)


def test_a_form_that_was_closed_after_a_run_is_freed(person, tiny):
    widget = person.open("focus")
    person.run(widget)
    gone = weakref.ref(widget)
    widget.native.parent().title.close_button.click()
    del widget
    person.qtbot.wait(1)
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    assert gone() is None


def test_repeated_previews_hold_no_more_memory(person, tiny, assert_no_growth, effort):
    person.show()
    widget = person.open("focus")
    widget.preview.value = VIEW

    def act():
        widget.status.value = ""
        widget._preview.request()
        person.wait_until(lambda: "preview of" in widget.status.value)

    assert_no_growth(act, 3 * effort if effort > 1 else 2)
