"""A user at a napari window: opens the forms by the manifest, clicks and types."""

import gc
import importlib
import os
import threading
from unittest.mock import patch

import numpy as np
import pytest

pytest.importorskip("napari")

import napari
from napari._app_model._app import NapariApplication, _napari_names
from napari._qt._qapp_model.qactions import init_qactions
from napari._qt.qt_viewer import QtViewer
from napari.plugins import _initialize_plugins
from napari.settings import get_settings
from napari.utils.events import EventedModel
from npe2 import PluginManifest
from qtpy.QtCore import QCoreApplication, QEvent, QPoint, Qt, QThreadPool
from qtpy.QtWidgets import QWidget

from napari_dff import synthetic
from napari_dff.widgets.app import background_task, result_view, task_widget
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

    def settle(self):
        """Wait until nothing is computed and no layers are added or removed."""
        assert QThreadPool.globalInstance().waitForDone(TIMEOUT_MS)
        self.qtbot.wait(20)
        self.wait_until(lambda: not background_task._updates)

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


def reset_settings():
    """Reset napari's settings, and let it not compile kernels for shapes, which takes 6 s."""
    get_settings().reset()
    get_settings().experimental.triangulation_backend = "pure python"


@pytest.fixture(scope="session", autouse=True)
def parsed_manifests():
    """Parse the manifests of all plugins once, and not for every viewer."""
    manifests = list(PluginManifest.discover())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PluginManifest, "discover", lambda **_: iter(manifests))
        yield


def collect_garbage():
    """Free what the last test left; exclude what napari still keeps from later collections."""
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def freed_layers(request):
    """Free the layers of earlier tests, which napari's themes would keep: all tests got slower."""
    if "viewer" not in request.fixturenames:
        yield
        return
    collect_garbage()
    emitters = [theme.events.canvas for theme in napari.utils.theme._themes.values()]
    callbacks = [set(emitter.callbacks) for emitter in emitters]
    yield
    for emitter, earlier in zip(emitters, callbacks, strict=True):
        for callback in set(emitter.callbacks) - earlier:
            emitter.disconnect(callback)


@pytest.fixture(scope="module")
def module_viewer(qapp):
    """A napari window for all tests of a file, as opening and closing one takes half a second.

    It is made and closed as by napari's fixture `make_napari_viewer`, for one test.
    """
    app = NapariApplication("test_app")
    app.injection_store.namespace = _napari_names
    console = QWidget()
    console._update_theme = lambda *_: None
    caches = _initialize_plugins, init_qactions
    with (
        patch.object(NapariApplication, "get_app_model", return_value=app),
        patch("napari._qt.threads.status_checker.StatusChecker.start"),
        patch("napari._qt.qt_viewer.QtViewer._get_console", return_value=console),
    ):
        for cache in caches:
            cache.cache_clear()
        reset_settings()
        yield (viewer := napari.Viewer(show=False, show_welcome_screen=False))
        with patch.object(viewer.window._qt_window, "_save_current_window_settings"):
            viewer.close()
        NapariApplication.destroy("test_app")
        for cache in caches:
            cache.cache_clear()
    del viewer
    gc.unfreeze()
    collect_garbage()
    assert not QtViewer._instances, "the plugin keeps a window that was closed"


def clear(viewer, kept_layers):
    """Remove what a test has added to the window, and undo what it has changed."""
    viewer.window._qt_window.hide()  # or it would be drawn while layers are removed
    for dock in list(viewer.window._wrapped_dock_widgets.values()):
        dock.destroyOnClose()  # as a user closes it
        dock.deleteLater()  # napari keeps an empty one
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    viewer.dims.ndisplay = 2
    with viewer.layers.batched_update():  # or the garbage is collected for each layer
        for layer in list(viewer.layers):
            if layer in kept_layers:
                layer.visible = kept_layers[layer]
            else:
                viewer.layers.remove(layer)
    if not kept_layers:
        EventedModel.reset(viewer.dims)
    overlays = (*viewer.canvas.overlays.values(), *viewer.scene.overlays.values())
    for model in (viewer.scene.camera, viewer.cursor, viewer.canvas.grid, *overlays):
        model.reset()
    viewer.reset_view()
    reset_settings()
    task_widget._kept_values.clear()
    result_view._filled_shown.clear()


@pytest.fixture
def own_viewer(make_napari_viewer):
    """A window of its own for each test."""
    reset_settings()  # as `make_napari_viewer` does as well
    return make_napari_viewer()


@pytest.fixture(scope="module")
def kept_layers():
    """Layers that stay for the next test that uses the fixture `scene`, and whether visible."""
    return {}


@pytest.fixture
def viewer(request, module_viewer, kept_layers):
    """The window of the file, without docks, and without layers but those that are kept."""
    if kept_layers and "scene" not in request.fixturenames:
        kept_layers.clear()
        clear(module_viewer, kept_layers)
    mouse = module_viewer.mouse_drag_callbacks, module_viewer.mouse_move_callbacks
    before = [list(callbacks) for callbacks in mouse]
    yield module_viewer
    clear(module_viewer, kept_layers)
    assert [list(callbacks) for callbacks in mouse] == before


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


@pytest.fixture(scope="session")
def tiny():
    return synthetic.rough_surface(size=32, planes=6, seed=5)


@pytest.fixture
def no_thread_left(monkeypatch, caplog, qtbot):
    """Check that no thread is left and none has failed."""
    failed = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    yield
    assert QThreadPool.globalInstance().waitForDone(TIMEOUT_MS)
    qtbot.wait(20)
    assert not failed
    assert not [each for each in caplog.records if each.name.startswith("napari_dff")]


class BlockedFunction:
    """A function that waits within its progress until `go` is set."""

    def __init__(self, function):
        self._function, self.began, self.go = function, threading.Event(), threading.Event()

    def __call__(self, recipe, stack, progress):
        self.began.set()
        for _ in progress(range(10**9), desc="Waiting"):
            if self.go.wait(0.01):
                break
        return self._function(recipe, stack, progress)


@pytest.fixture
def blocked(monkeypatch):
    """Block the computation of the focus measure."""
    from napari_dff.widgets.steps import focus

    blocked = BlockedFunction(focus.measure_by_recipe)
    monkeypatch.setattr(focus, "measure_by_recipe", blocked)
    yield blocked
    blocked.go.set()
