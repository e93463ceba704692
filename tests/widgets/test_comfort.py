"""Size, keyboard, tooltips and theme of the forms, and a responsive window."""

import os
import time

import numpy as np
import pytest
from napari.settings import get_plugin_settings
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QSlider, QWidget

from napari_dff.runtime.threads import ThreadLimits, set_thread_limits, thread_count, thread_limits
from napari_dff.widgets.app.preview import VIEW

from .conftest import TITLES


def test_all_forms_fit_into_a_small_window_have_tooltips_and_do_not_react_when_closed(
    person, surface
):
    person.show()
    person.stack(surface)
    callbacks = len(person.viewer.mouse_drag_callbacks)
    window = person.viewer.window._qt_window
    for name in TITLES:
        widget = person.open(name)
        person.qtbot.wait(50)
        assert window.width() <= 1280, name
        assert window.height() <= 800, name
        assert widget.native.minimumSizeHint().height() <= 700, name
        assert widget.native.width() <= 480, name
        controls = [
            child
            for kind in (QAbstractButton, QComboBox, QAbstractSpinBox, QSlider)
            for child in widget.native.findChildren(kind)
            if child.isVisibleTo(widget.native) and child.isEnabled() and _own(child)
        ]
        assert controls
        for control in controls:
            assert control.focusPolicy() & Qt.FocusPolicy.TabFocus, control
            around = control
            while not around.toolTip() and around is not widget.native:
                around = around.parentWidget()
            assert around.toolTip(), (name, control)
        if getattr(widget, "has_preview", False):
            widget.preview.value = VIEW
        person.viewer.window.remove_dock_widget(widget.native)
        widget.native.deleteLater()
    person.wait_until(lambda: person.roles() == {"mine"})
    person.viewer.layers.clear()
    person.qtbot.wait(50)
    source = person.stack(surface)
    person.viewer.scene.camera.zoom *= 1.1
    person.qtbot.wait(20)
    person.click(source, 40, 40)
    source.data = source.data + 1
    person.qtbot.wait(20)
    assert list(person.viewer.layers) == [source]
    assert len(person.viewer.mouse_drag_callbacks) == callbacks
    person.viewer.layers.remove(source)
    person.qtbot.wait(20)
    assert not person.viewer.layers


def _own(control: QWidget) -> bool:
    """Return False for parts of other controls, such as the buttons of a spin box."""
    parent = control.parentWidget()
    inside = (QAbstractSpinBox, QComboBox)
    return not isinstance(parent, inside) and "qt_" not in control.objectName()


def test_a_step_can_be_run_and_unfolded_by_keyboard(person, surface):
    person.stack(surface)
    widget = person.open("focus")
    assert not widget.form.settings["aggregation"].native.isVisibleTo(widget.native)
    person.qtbot.keyClick(widget.form.more.native, Qt.Key.Key_Space)
    assert widget.form.settings["aggregation"].native.isVisibleTo(widget.native)
    for _ in range(6):
        person.qtbot.keyClick(widget.form.settings["window"].native, Qt.Key.Key_Up)
    assert widget.form.settings["window"].value == 11
    person.qtbot.keyClick(widget.run.native, Qt.Key.Key_Space)
    person.wait(widget)
    assert person.layer("focus").metadata["napari-dff"]["settings"]["window"] == 11


def test_plots_follow_the_theme(person):
    widget = person.open("inspector")
    dark = widget.plot.figure.get_facecolor()
    person.viewer.theme = "light"
    assert np.mean(widget.plot.figure.get_facecolor()[:3]) > 0.7 > np.mean(dark[:3])
    person.viewer.theme = "dark"


def test_preferences_limit_threads_and_memory(person, surface):
    chosen = get_plugin_settings("napari-dff").processing
    person.stack(surface)
    widget = person.open("focus")
    try:
        chosen.threads, chosen.memory = 1, 100
        person.run(widget)
        assert thread_count() == 1
        assert thread_limits().megabytes == 100
    finally:
        chosen.threads, chosen.memory = 0, 0
        set_thread_limits(ThreadLimits())


def test_a_closed_dock_removes_its_preview_and_restores_the_view(person, surface):
    person.stack(surface)
    all_, focus, figure = person.open("all", "focus", "figure")
    all_.form.settings["registration"].value = "none"
    person.run(all_)
    focus.preview.value = VIEW
    person.wait_until(lambda: "preview focus" in person.roles())
    person.press(figure.play)
    assert person.viewer.canvas.grid.enabled
    for widget in (focus, figure):
        person.viewer.window.remove_dock_widget(widget.native)
        widget.native.deleteLater()
    person.wait_until(lambda: "preview focus" not in person.roles())
    assert not person.viewer.canvas.grid.enabled
    assert person.layer("refined depth").visible


def test_the_main_thread_is_never_blocked_for_long(person):
    """On planes of the largest sample, by the processor time of the main thread alone.

    The layers exist already, because napari blocks for longer to show its first Labels layer.
    """
    person.show()
    (source,) = person.viewer.open_sample("napari-dff", "machined_part")
    source.data = source.data[::3]
    widget = person.open("all")
    person.run(widget)
    ticks, longest = [], []
    timer = QTimer()
    timer.setInterval(2)
    timer.timeout.connect(lambda: ticks.append(time.thread_time()))
    for _ in range(5):
        timer.start()
        person.qtbot.wait(20)
        ticks.clear()
        person.run(widget)
        person.qtbot.wait(50)
        timer.stop()
        longest.append(max(np.diff(ticks)))
        if longest[-1] < 0.1:
            break
    if min(longest) >= 0.1 and os.getloadavg()[0] > 3 * (os.cpu_count() or 1):
        pytest.skip("too much else runs on this machine, which makes processor time longer")
    assert min(longest) < 0.1
