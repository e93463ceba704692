"""Closing the window or quitting napari during a run."""

import subprocess
import sys

import pytest

from .conftest import TIMEOUT_MS

pytestmark = [pytest.mark.endurance, pytest.mark.usefixtures("no_thread_left")]


@pytest.fixture
def viewer(own_viewer):
    return own_viewer


@pytest.mark.parametrize("moment", ["computing", "showing", "undoing"])
def test_the_viewer_may_be_closed_during_a_run(person, blocked, tiny, moment):
    person.stack(tiny)
    focus, all_ = person.open("focus", "all")
    all_.form.settings["registration"].value = "none"
    if moment == "computing":
        person.press(focus.run)
        person.press(all_.run)
    elif moment == "showing":
        person.press(all_.run)
        person.wait_until(lambda: len(person.viewer.layers) > 1)
    else:
        person.run(all_)
        person.press(all_.undo)
    person.viewer.close()
    blocked.go.set()
    person.settle()


QUIT = """
import time
import napari
from napari.qt import get_qapp
from qtpy.QtCore import QTimer
from napari_dff import synthetic
from napari_dff.widgets.steps import focus

def endless(recipe, stack, progress):
    for _ in progress(range(10**9), desc="Waiting"):
        time.sleep(0.01)

def leave():
    if "Waiting" in widget.status.value:
        print("running", flush=True)
        timer.stop()
        how()

focus.measure_by_recipe = endless
for how in {ways}:
    viewer = napari.Viewer()
    viewer.add_image(synthetic.rough_surface(size=32, planes=6, seed=5).stack.planes)
    _, widget = viewer.window.add_plugin_dock_widget("napari-dff", "Focus measure")
    timer = QTimer()
    timer.timeout.connect(leave)
    timer.start(20)
    QTimer.singleShot(1, widget.run.native.click)
    napari.run(force=True)
    print("left", flush=True)
"""
CLOSE, END = "lambda: viewer.close()", "get_qapp().quit"


def test_napari_quits_while_it_works(effort):
    """In both ways: in one process, as starting one takes 5 s, with `--effort` in one for each."""
    for ways in [(CLOSE, END)] if effort == 1 else [(CLOSE,), (END,)]:
        command = [sys.executable, "-c", QUIT.format(ways=f"[{', '.join(ways)}]")]
        timeout = TIMEOUT_MS / 1000  # its run never ends
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0
        assert done.stdout.split() == ["running", "left"] * len(ways)
        errors = done.stderr.splitlines()
        assert not [line for line in errors if "could not determine DPI" not in line]
