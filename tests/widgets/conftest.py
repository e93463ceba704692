"""A user at a napari window: opens the forms by the manifest, clicks and types."""

import gc
import importlib
import os

import numpy as np
import pytest

pytest.importorskip("napari")

import napari
from npe2 import PluginManifest
from qtpy.QtCore import QCoreApplication, QEvent, QPoint, Qt

from napari_dff.widgets.app.geometry import data_to_view
from napari_dff.widgets.app.layers import full_values, role_of

TIMEOUT_MS = 300_000  # on a busy machine
TITLES = {
    "align": "Align",
    "focus": "Focus measure",
    "depth": "Depth and all-in-focus",
    "refine": "Refine",
    "all": "Depth from focus, all steps",
    "two_surfaces": "Two surfaces",
    "inspector": "Why this plane? Focus curve",
    "retouch": "Retouch by hand",
    "reuse": "Use elsewhere",
    "project": "Slab projection",
    "surface": "3-D surface",
    "measure": "Measure heights",
    "figure": "Figure and movie",
    "watch": "Watch a folder",
}


class Person:
    """A user with a mouse and a keyboard."""

    def __init__(self, viewer, qtbot):
        self.viewer, self.qtbot = viewer, qtbot

    def show(self):
        """Show the window, which is needed for clicks on the canvas."""
        with self.qtbot.waitExposed(self.viewer.window._qt_window):
            self.viewer.window.show()

    def open(self, *names):
        forms = [
            self.viewer.window.add_plugin_dock_widget("napari-dff", TITLES[name])[1]
            for name in names
        ]
        return forms if len(forms) > 1 else forms[0]

    def stack(self, truth, **settings):
        look = {
            "name": "mine",
            "scale": (2.0, 0.5, 0.25),
            "translate": (10.0, 1.0, 2.0),
            "units": ("micrometer",) * 3,
            "axis_labels": ("z", "y", "x"),
        }
        return self.viewer.add_image(**{"data": truth.stack.planes, **look, **settings})

    def press(self, button):
        self.qtbot.mouseClick(button.native, Qt.MouseButton.LeftButton)

    def wait_until(self, condition):
        self.qtbot.waitUntil(condition, timeout=TIMEOUT_MS)

    def run(self, widget, button=None):
        self.press(button or widget.run)
        self.wait(widget)

    def wait(self, widget):
        self.wait_until(lambda: widget._task is None)

    def undo(self, widget):
        self.press(widget.undo)
        self.wait_until(lambda: widget.status.value.startswith("undone"))

    def layer(self, role):
        return next(each for each in self.viewer.layers if role_of(each) == role)

    def values(self, role):
        """Return the data of the layer of a role; of a depth layer, those filled in as well."""
        return full_values(self.layer(role))

    def roles(self):
        """Return the roles of all layers; the names of those without one."""
        return {role_of(each) or each.name for each in self.viewer.layers}

    def visible_roles(self):
        """Return the roles of the visible layers."""
        return {role_of(each) or each.name for each in self.viewer.layers if each.visible}

    def canvas_position(self, layer, row, column):
        """Return the canvas, and where a pixel of a layer lies on it."""
        canvas = self.viewer.window._qt_viewer.canvas
        world = data_to_view(self.viewer, layer, (*[0] * (layer.ndim - 2), row, column))[-2:]
        camera = self.viewer.scene.camera
        size = np.array([canvas.native.height(), canvas.native.width()])
        down, right = (world - np.array(camera.center)[-2:]) * camera.zoom + size / 2
        return canvas.native, QPoint(round(right), round(down))

    def click(self, layer, row, column, shift=False):
        keys = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
        canvas, at = self.canvas_position(layer, row, column)
        self.qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, keys, at)

    def drag(self, layer, start, end):
        """Drag the mouse over pixels, wherever these lie on a canvas that may change its size."""
        canvas, at = self.canvas_position(layer, *start)
        self.qtbot.mouseMove(canvas, at)
        self.qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=at)
        for share in (0.3, 0.7, 1.0):
            place = (1 - share) * np.array(start) + share * np.array(end)
            self.qtbot.mouseMove(canvas, self.canvas_position(layer, *place)[1])
            self.qtbot.wait(10)
        at = self.canvas_position(layer, *end)[1]
        self.qtbot.mouseMove(canvas, at)
        self.qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=at)


@pytest.fixture(scope="session", autouse=True)
def preloaded_modules():
    """Import large modules once, and exclude their objects from later garbage collections."""
    for module in (
        "napari._qt.qt_viewer",
        "napari_dff.pipeline.driver",
        "napari_dff.widgets.tools.measure",
    ):
        importlib.import_module(module)
    import napari_dff.widgets.app.task_widget as module

    module.start_warm_up = lambda: None  # compiles in another process
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def parsed_manifests():
    """Parse the manifests of all plugins once, and not for every viewer."""
    manifests = list(PluginManifest.discover())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PluginManifest, "discover", lambda **_: iter(manifests))
        yield


@pytest.fixture(autouse=True)
def freed_windows(request):
    """Free the windows of earlier tests, which napari's themes would keep: all tests got slower.

    What napari still keeps of them is excluded from later garbage collections.
    """
    if "make_napari_viewer" not in request.fixturenames:
        yield
        return
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    gc.freeze()
    emitters = [theme.events.canvas for theme in napari.utils.theme._themes.values()]
    callbacks = [set(emitter.callbacks) for emitter in emitters]
    yield
    for emitter, earlier in zip(emitters, callbacks, strict=True):
        for callback in set(emitter.callbacks) - earlier:
            emitter.disconnect(callback)


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def person(viewer, qtbot):
    viewer.window.resize(1280, 800)
    return Person(viewer, qtbot)


@pytest.fixture
def notifications(monkeypatch):
    """Return the list of the error notifications."""
    messages = []
    for module in ("background_task", "task_widget"):
        monkeypatch.setattr(f"napari_dff.widgets.app.{module}.show_error", messages.append)
    return messages


@pytest.fixture
def chosen_file(monkeypatch, tmp_path):
    """Return an object whose `path` the file dialogs return; `proposal` is what they propose."""
    folders = [str(tmp_path)]  # instead of those in napari's preferences

    class Chosen:
        path = tmp_path / "x"
        proposal = ""

    def answer(_parent, _title, proposal, *_):
        Chosen.proposal = proposal
        return str(Chosen.path), ""

    dialogs = "napari_dff.widgets.app.file_dialogs"
    for name in ("getSaveFileName", "getOpenFileName"):
        monkeypatch.setattr(f"{dialogs}.QFileDialog.{name}", answer)
    monkeypatch.setattr(f"{dialogs}.get_save_history", lambda: folders)
    monkeypatch.setattr(
        f"{dialogs}.update_save_history", lambda path: folders.insert(0, os.path.dirname(path))
    )
    return Chosen
