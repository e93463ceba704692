"""Random use of all forms: whatever a user does, in any order, the invariants of `Checks` hold.

A seed chooses among all widgets of all forms, changes of layers, the canvas and the window. With
`--effort 5` there are 20 seeds of 200 operations. By hand, for one seed:
``pytest tests/widgets/test_random_use.py -k "seed7-" --effort 20``.
"""

import contextlib
import ctypes
import gc
import importlib
import sys
import threading
import traceback
from dataclasses import dataclass, field

import numpy as np
import pytest
from magicgui.widgets import CheckBox, ComboBox, Container, LineEdit, ProgressBar, PushButton
from magicgui.widgets.bases import RangedWidget
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QCoreApplication, QEvent, QThreadPool
from qtpy.QtWidgets import QInputDialog, QMessageBox

from napari_dff import FocalStack, Recipe, depth_from_focus, focus_measure, synthetic
from napari_dff.registration import align_lazily
from napari_dff.runtime.progress import Cancelled
from napari_dff.widgets.app import background_task
from napari_dff.widgets.app import layers as plugin_layers
from napari_dff.widgets.app.background_task import BackgroundTask
from napari_dff.widgets.app.layers import full_values, is_stack, plugin_metadata, role_of
from napari_dff.widgets.app.versions import edit_count, outdated_reason

from .conftest import TITLES

pytestmark = [pytest.mark.endurance, pytest.mark.filterwarnings("default::UserWarning")]
OPERATIONS, FEW_OPERATIONS = 200, 40  # of each seed; of the only one without `--effort`
SETTLE_EVERY = 20  # operations
TIMEOUT_MS = 120_000
BLOCK_BYTES = 100  # of the average object of Python
GROWTH_BYTES = 20e6  # for each seed: 4 to 18 measured, of which napari keeps 0.5 for each window
_in_use: list[float] = []  # bytes at the end of each seed
MAX_STACKS, MAX_LAYERS = 3, 40
# The canvas of napari alone crashes where a layer is removed that was drawn in 2-D and in 3-D.
UNUSED_BUTTONS = "Steps and tools", "Play", "Show in 3-D", "…"
USED_WIDGETS = PushButton, CheckBox, ComboBox, RangedWidget, LineEdit


def pytest_generate_tests(metafunc):
    effort = metafunc.config.getoption("--effort")
    seeds = range(4 * effort) if effort > 1 else [4]  # a seed whose few operations include results
    metafunc.parametrize("seed", seeds, ids=[f"seed{seed}-" for seed in seeds])


def all_widgets(form):
    for widget in form:
        yield widget
        if isinstance(widget, Container):
            yield from all_widgets(widget)


@dataclass
class Checks:
    """What must hold after each operation, and more where all tasks have ended."""

    person: object
    exceptions: list  # that Qt has caught in slots
    errors: list = field(default_factory=list)  # that tasks have ended with
    direct_results: dict = field(default_factory=dict)  # by the id of a run
    compared: int = 0

    def after_each(self):
        assert not self.exceptions, "".join(traceback.format_exception(*self.exceptions[0]))
        for error in self.errors:  # sentences of the plugin, and none of NumPy
            frames = traceback.extract_tb(error.__traceback__)
            assert isinstance(error, ValueError | OSError), traceback.format_exception(error)
            assert "napari_dff" in frames[-1].filename, traceback.format_exception(error)
        messages = [each.message for each in notification_manager.records]
        assert not [text for text in messages if "Inconsistent units" in text]

    def settled(self, forms):
        assert QThreadPool.globalInstance().waitForDone(TIMEOUT_MS)
        viewer = self.person.viewer
        for layer in viewer.layers:
            self.compare_with_direct_call(layer)

    def compare_with_direct_call(self, layer):
        """Check that the data of a result equal those of the function with the same settings."""
        metadata, viewer = plugin_metadata(layer), self.person.viewer
        source = plugin_layers.source_of(viewer, layer)
        role, run = role_of(layer), metadata.get("run")
        if source in (None, layer) or not run or source.ndim != 3 or "recipe" not in metadata:
            return
        if edit_count(layer) or metadata.get("retouched") or outdated_reason(viewer, layer):
            return
        recipe = Recipe.from_dict(metadata["recipe"])
        stack = FocalStack(
            plugin_layers.planes_of(source),
            plugin_layers.positions_of(source),
            plugin_layers.pixel_size_of(source),
            plugin_layers.unit_of(source),
        )
        if metadata["step"] == "Depth from focus" and role.startswith("refined "):
            if run not in self.direct_results:
                self.direct_results[run] = depth_from_focus(stack, recipe)
            result = self.direct_results[run]
            values = {**result.refined._asdict(), "all in focus": result.all_in_focus}
            expected = values[role.removeprefix("refined ").replace("plane index", "index")]
            if role == "refined plane index":
                expected = np.where(np.isfinite(result.refined.uncertainty), expected + 1, 0)
        elif metadata["step"] == "Focus measure" and role == "focus":
            names = ("operator", "aggregation")
            settings = {name: getattr(recipe, name) for name in names} | metadata["focus_scale"]
            expected = focus_measure(stack.planes, **settings)
        elif metadata["step"] == "Align" and role == "aligned" and recipe.crop == "none":
            lazy = align_lazily(stack.planes, recipe)
            np.testing.assert_array_equal(np.squeeze(metadata["transforms"]), lazy.transforms)
            return
        else:
            return
        np.testing.assert_array_equal(np.squeeze(full_values(layer)), expected, err_msg=role)
        self.compared += 1


class RandomUser:
    """Chooses operations by a seed."""

    def __init__(self, person, rng):
        self.person, self.viewer, self.rng = person, person.viewer, rng
        self.forms = {}
        self.log = []
        self.operations = {
            self.poke: 90,
            self.run_form: 30,
            self.cancel: 6,
            self.undo: 10,
            self.open_form: 14,
            self.close_form: 8,
            self.add_stack: 4,
            self.change_layer: 16,
            self.remove_layer: 5,
            self.move_view: 8,
            self.click_canvas: 6,
            self.draw: 5,
        }

    def step(self):
        weights = np.array([*self.operations.values()], float)
        operation = self.rng.choice(list(self.operations), p=weights / weights.sum())
        self.log.append(operation.__name__)
        operation()
        self.person.qtbot.wait(int(self.rng.choice([0, 1, 20])))

    def choose(self, items):
        items = list(items)
        return items[self.rng.integers(len(items))] if items else None

    def note(self, *words):
        self.log[-1] = " ".join(map(str, (self.log[-1], *words)))

    # Forms

    def open_form(self, name=None):
        name = name or self.choose(name for name in TITLES if name not in self.forms)
        if name and len(self.forms) < 5:
            self.note(name)
            self.forms[name] = self.person.open(name)

    def close_form(self, name=None):
        name = name or self.choose(self.forms)
        if name:
            self.note(name)
            self.forms.pop(name).native.parent().title.close_button.click()

    def poke(self):
        """Use any widget of any form."""
        name = self.choose(self.forms)
        if name is None:
            return
        widgets = [each for each in all_widgets(self.forms[name]) if each.enabled]
        widgets = [each for each in widgets if each.native.isVisibleTo(self.forms[name].native)]
        widgets = [each for each in widgets if not isinstance(each, ProgressBar)]
        widget = self.choose(each for each in widgets if isinstance(each, USED_WIDGETS))
        if widget is None:
            return
        self.note(name, type(widget).__name__, widget.label or getattr(widget, "text", ""))
        if isinstance(widget, PushButton):
            if widget.text not in UNUSED_BUTTONS:
                widget.native.click()
        elif isinstance(widget, CheckBox):
            widget.value = not widget.value
        elif isinstance(widget, ComboBox):
            if widget.choices:
                widget.value = self.choose(widget.choices)
        elif isinstance(widget, RangedWidget):
            low, high = widget.min, min(widget.max, widget.min + 12)
            value = self.rng.uniform(low, high)
            widget.value = int(value) // 2 * 2 + 1 if isinstance(widget.value, int) else value
        elif isinstance(widget, LineEdit):
            widget.value = self.choose(["", "2", "0.5", "x", "T Z Y X", "Z Y X", "-1", "1 µm"])
        self.note("→", getattr(widget, "value", ""))

    def runnable(self):
        return [form for form in self.forms.values() if hasattr(form, "cancel")]

    def run_form(self):
        form = self.choose(self.runnable())
        if form is None:
            self.open_form()
            return
        self.note(form.title)
        form.run.native.click()
        if self.rng.random() < 0.7:
            self.wait_for(form)

    def cancel(self):
        form = self.choose(self.runnable())
        if form is not None:
            form.run.native.click()
            self.person.qtbot.wait(int(self.rng.integers(200)))
            form.cancel.native.click()
            self.note(form.title)

    def undo(self):
        form = self.choose(self.runnable())
        if form is not None:
            self.note(form.title)
            form.undo.native.click()

    def wait_for(self, form):
        self.person.qtbot.waitUntil(lambda: not form.busy, timeout=TIMEOUT_MS)

    def settle(self):
        """Wait until all tasks and previews have ended."""
        for form in self.forms.values():
            self.wait_for(form)
            preview = getattr(form, "_preview", None)
            if preview is not None:
                idle = lambda p=preview: p._task is None and not p._timer.isActive()  # noqa: E731
                self.person.qtbot.waitUntil(idle, timeout=TIMEOUT_MS)
        self.wait_for_layers()

    def wait_for_layers(self):
        """Wait until all layers are added and removed, which napari draws one by one."""
        self.person.qtbot.waitUntil(lambda: not background_task._updates, timeout=TIMEOUT_MS)
        self.person.qtbot.wait(30)

    # Layers

    def add_stack(self):
        if sum(map(is_stack, self.viewer.layers)) >= MAX_STACKS:
            return
        seed = int(self.rng.integers(100))
        truth = synthetic.rough_surface(size=32, planes=6, seed=seed)
        planes = truth.stack.planes
        kinds = ["grey", "bytes", "colour", "times", "uncalibrated"]
        kind = "grey" if self.log[-1].startswith("start") else self.choose(kinds)
        self.note(kind)
        look = {"name": self.choose(["mine", "other", "<b>x</b>", "größe\n"])}
        if kind == "colour":
            planes = np.stack([planes] * 3, axis=-1)
            look["rgb"] = True
            planes = (planes / 256).astype(np.uint8)
        elif kind == "times":
            planes = np.stack([planes, planes[:, ::-1]])
            look |= {"scale": (1, 2.0, 0.5, 0.5), "translate": (0,) * 4}
            look |= {"units": ("micrometer",) * 4, "axis_labels": ("t", "z", "y", "x")}
        elif kind == "bytes":
            planes = (planes / 256).astype(np.uint8)
        elif kind == "uncalibrated":
            look |= {"scale": (1, 1, 1), "translate": (0, 0, 0), "units": ("pixel",) * 3}
        self.person.stack(truth, data=planes, **look)
        # napari draws a layer of the user, in another unit perhaps, before any plugin sees it.
        notification_manager.records.clear()

    def change_layer(self):
        layer = self.choose(self.viewer.layers)
        if layer is None:
            return
        change = self.choose(["name", "visible", "data", "scale", "move", "active", "opacity"])
        self.note(change, role_of(layer) or layer.name)
        if change == "name":
            layer.name = self.choose(["renamed", "mine", "sharp image", "depth", "<i>&amp;"])
        elif change == "visible":
            layer.visible = not layer.visible
        elif change == "data" and is_stack(layer) and not role_of(layer):
            layer.data = layer.data[..., ::-1].copy() if not layer.rgb else layer.data.copy()
        elif change == "scale" and not role_of(layer):
            layer.scale = np.array(layer.scale) * 2
        elif change == "move":
            self.viewer.layers.move(self.viewer.layers.index(layer), 0)
        elif change == "active":
            self.viewer.layers.selection.active = layer
        elif change == "opacity":
            layer.opacity = self.rng.random()

    def remove_layer(self):
        layer = self.choose(self.viewer.layers)
        if layer is not None:
            self.note(role_of(layer) or layer.name)
            self.viewer.layers.remove(layer)
            self.person.qtbot.wait(50)  # napari's canvas can crash if a layer is added before
        if len(self.viewer.layers) > MAX_LAYERS:
            self.viewer.layers.clear()

    # Window and canvas

    def move_view(self):
        viewer = self.viewer
        change = self.choose(["slider", "slider", "zoom"])
        self.note(change)
        if change == "slider" and viewer.dims.ndim:
            axis = int(self.rng.integers(viewer.dims.ndim))
            viewer.dims.set_current_step(axis, int(self.rng.integers(viewer.dims.nsteps[axis])))
        elif change == "zoom":
            viewer.scene.camera.zoom *= self.rng.uniform(0.5, 2)

    def click_canvas(self):
        layer = self.choose(each for each in self.viewer.layers if is_stack(each))
        if layer is None:
            return
        start, end = (tuple(self.rng.uniform(2, 30, 2)) for _ in range(2))
        if self.rng.random() < 0.5:
            self.person.click(layer, *start, shift=bool(self.rng.integers(2)))
        else:
            self.person.drag(layer, start, end)

    def draw(self):
        """Draw a shape or a point on a stack, as with napari's tools."""
        layer = self.choose(each for each in self.viewer.layers if is_stack(each))
        if layer is None:
            return
        place = plugin_layers_place(layer)
        corners = self.rng.uniform(0, 31, (2, 2))
        kind = self.choose(["line", "rectangle", "ellipse", "points"])
        self.note(kind)
        if kind == "points":
            self.viewer.add_points(corners, **place)
        else:
            self.viewer.add_shapes([corners], shape_type=kind, **place)


def plugin_layers_place(layer):
    """Return scale, place and units of rows and columns of a layer."""
    names = ("scale", "translate", "units", "axis_labels")
    return {name: getattr(layer, name)[-2:] for name in names}


class _Mallinfo2(ctypes.Structure):
    """What glibc has allocated, in bytes; the names are those of `man mallinfo`."""

    _NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = tuple((name, ctypes.c_size_t) for name in _NAMES.split())


def bytes_in_use() -> float:
    """Return the memory that is allocated. What was freed stays resident, and is reused."""
    gc.collect()
    python = sys.getallocatedblocks() * BLOCK_BYTES
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, TypeError):  # another C library than glibc from 2.33 on
        return python
    mallinfo2.restype = _Mallinfo2
    return python + (info := mallinfo2()).uordblks + info.hblkhd


@pytest.fixture
def viewer(own_viewer):
    return own_viewer


@pytest.fixture
def answers(monkeypatch, chosen_file, tmp_path):
    """Answer all dialogs; settings of the user are in a folder of the test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("my preset", True))
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Yes)
    for module in ("steps.depth",):
        monkeypatch.setattr(f"napari_dff.widgets.{module}.ask_choice", lambda *_: "Paint again")
    chosen_file.path = tmp_path / "file"


@pytest.fixture
def checks(person, qtbot, monkeypatch, caplog):
    failed_threads = []
    monkeypatch.setattr(threading, "excepthook", failed_threads.append)
    notification_manager.records.clear()
    with qtbot.capture_exceptions() as exceptions:
        checks = Checks(person, exceptions)
        fail = BackgroundTask._fail

        def record(task, error):
            is_closed = task._is_over  # its form: the layers added so far are taken back
            if not isinstance(error, Cancelled) and not is_closed:
                checks.errors.append(error)
            fail(task, error)

        monkeypatch.setattr(BackgroundTask, "_fail", record)
        yield checks
    assert not failed_threads
    records = [each for each in caplog.records if each.name.startswith("napari_dff")]
    assert not [each for each in records if each.levelname in ("ERROR", "CRITICAL")]


def test_random_use(seed, person, checks, answers, capsys, effort):
    with contextlib.suppress(ImportError):
        importlib.import_module("surfalize")  # large, and else imported by whichever seed needs it
    user = RandomUser(person, np.random.default_rng(seed))
    # The window is not shown: drawing takes most of the time, and napari's canvas can crash where
    # a layer is removed and another added before it has drawn.
    callbacks = len(person.viewer.mouse_drag_callbacks)
    user.log.append("start")
    user.open_form("all")
    user.add_stack()
    try:
        for operation in range(OPERATIONS if effort > 1 else FEW_OPERATIONS):
            user.step()
            checks.after_each()
            if operation % SETTLE_EVERY == SETTLE_EVERY - 1:
                user.settle()
                checks.after_each()
                checks.settled(user.forms)
        for name in list(user.forms):
            user.close_form(name)
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)  # a form closes then
        assert QThreadPool.globalInstance().waitForDone(TIMEOUT_MS)
        user.wait_for_layers()
        checks.after_each()
    except BaseException:
        with capsys.disabled():
            print(f"\nseed {seed}:", *user.log[-30:], sep="\n  ")
        raise
    roles = {role_of(layer) for layer in person.viewer.layers}
    assert not {role for role in roles if role.startswith("preview ")} - {"preview region"}
    assert len(person.viewer.mouse_drag_callbacks) == callbacks
    checks.direct_results.clear()
    person.viewer.layers.clear()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    _in_use.append(bytes_in_use())
    with capsys.disabled():
        print(f"\nseed {seed}: compared {checks.compared}, {_in_use[-1] / 1e6:.1f} MB in use")
    if len(_in_use) > 3:  # after those that load and compile
        assert _in_use[-1] - _in_use[2] < GROWTH_BYTES * (len(_in_use) - 3)
