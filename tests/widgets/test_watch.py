"""Stacks are computed and shown while they are being taken, and watching ends when it should."""

import time
from functools import partial

import pytest
import tifffile
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtTest import QTest

from napari_dff import synthetic
from napari_dff.batch.watch import WatchSettings

from .conftest import TIMEOUT_MS

PLANES = synthetic.rough_surface(size=48, planes=7, seed=1).stack.planes
RESULTS = {"refined depth", "refined uncertainty", "refined plane index", "refined all in focus"}


@pytest.fixture
def warnings(monkeypatch):
    messages = []
    monkeypatch.setattr("napari_dff.widgets.tools.watch.show_warning", messages.append)
    return messages


@pytest.fixture
def form(person, tmp_path, monkeypatch):
    """Return the form that watches a folder, which is typed in, with quick settings."""
    (tmp_path / "today").mkdir()
    person.show()
    form = person.open("watch")
    quick = partial(WatchSettings, interval_s=0.02)
    monkeypatch.setattr("napari_dff.widgets.tools.watch.WatchSettings", quick)
    QTest.keyClicks(form.folder.line_edit.native, str(tmp_path / "today"))
    for name in ("registration", "refinement"):
        form.form.settings[name].value = "none"
    yield form
    if form.busy:
        form.cancel_task()
    assert QThreadPool.globalInstance().waitForDone(TIMEOUT_MS)


def save_frames(folder, first, last):
    folder.mkdir(exist_ok=True)
    for z in range(first, last):
        tifffile.imwrite(folder / f"img_z{z:03d}.tif", PLANES[z])


def text(form):
    return form.messages.toPlainText()


def test_a_stack_is_computed_and_shown_when_its_last_plane_is_there(
    person, form, tmp_path, warnings
):
    form.planes.native.selectAll()
    QTest.keyClicks(form.planes.native, "7")
    assert form.planes.value == 7
    person.press(form.run)
    for z in range(6):
        save_frames(tmp_path / "today" / "s1", z, z + 1)
        person.qtbot.wait(30)
    assert not text(form)
    assert form.run.text == "Stop"
    save_frames(tmp_path / "today" / "s1", 6, 7)
    person.wait_until(lambda: person.roles() >= RESULTS)
    result = tmp_path / "today_results" / "s1"
    assert "s1: computed in" in text(form)
    assert str(result) in text(form)
    assert (result / "depth.ome.tif").is_file()
    assert (tmp_path / "today_results" / "summary.csv").is_file()
    shown = list(person.viewer.layers)
    save_frames(tmp_path / "today" / "s2", 0, 7)
    person.wait_until(lambda: "s2: computed in" in text(form) and len(person.viewer.layers) == 4)
    person.wait_until(lambda: not set(shown) & set(person.viewer.layers))
    person.press(form.run)
    person.wait(form)
    assert (form.run.text, form.status.value) == ("Start", "stopped; Start continues")
    assert not warnings


def test_a_stack_that_stops_too_early_should_be_taken_again(person, form, tmp_path, warnings):
    QTest.keyClick(form.shows_results.native, Qt.Key.Key_Space)
    form.settle.value = 0.1
    person.press(form.run)
    save_frames(tmp_path / "today" / "early", 0, 4)
    (tmp_path / "today" / "broken.ome.tif").write_bytes(b"no TIFF")
    person.wait_until(lambda: len(warnings) == 2)
    failed, early = sorted(warnings)  # either may be noticed first
    assert failed.startswith(f"failed: {tmp_path / 'today' / 'broken.ome.tif'}")
    again = f"take it again: {tmp_path / 'today' / 'early'}: The stack may stop too early"
    assert early.startswith(again)
    assert early in text(form)
    assert not person.viewer.layers
    person.viewer.window.remove_dock_widget(form.native)  # which ends it


def test_stop_ends_a_computation_and_start_continues(person, form, tmp_path, monkeypatch):
    from napari_dff.batch import tasks
    from napari_dff.runtime.progress import raise_if_cancelled

    began, computed = [], tasks.read_acquisitions

    def wait(*args, **settings):
        while True:
            began.append(True)
            raise_if_cancelled()
            time.sleep(0.01)

    monkeypatch.setattr(tasks, "read_acquisitions", wait)
    form.settle.value = 0.1
    person.press(form.run)
    save_frames(tmp_path / "today" / "s1", 0, 7)
    person.wait_until(lambda: bool(began))
    person.press(form.run)
    person.wait(form)
    assert not text(form)
    monkeypatch.setattr(tasks, "read_acquisitions", computed)
    person.press(form.run)
    person.wait_until(lambda: "s1: computed in" in text(form))


def test_a_folder_is_required_that_exists(person, form, notifications):
    for folder, sentence in (("", "choose the folder"), ("/nowhere", "folder must be one that")):
        form.folder.line_edit.value = folder
        person.press(form.run)
        assert sentence in notifications.pop()
        assert form.run.text == "Start"
