"""Cancelling, closing, deleting or changing during a run: all of a result is added, or nothing."""

import time

import pytest

from napari_dff.widgets.app.preview import VIEW
from napari_dff.widgets.app.runs import RunLayers

from .conftest import TITLES

pytestmark = [pytest.mark.endurance, pytest.mark.usefixtures("no_thread_left")]
REFINED = {f"refined {role}" for role in ("uncertainty", "plane index", "all in focus", "depth")}
STEPS = ("align", "focus", "depth", "refine", "all")


def layer_data(person):
    return {layer.unique_id: layer.data for layer in person.viewer.layers}  # names may change


def same(one, other):
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)


def test_cancelling_at_any_moment_leaves_all_of_a_result_or_nothing(person, tiny, effort, rng):
    person.stack(tiny)
    widgets = dict(zip(STEPS, person.open(*STEPS), strict=True))
    widgets["all"].form.settings["registration"].value = "none"
    whole = {}
    for name in (*STEPS[1:4], "align", "all"):
        widget = widgets[name]
        widget.stack.value = person.viewer.layers["mine"]
        before = layer_data(person)
        person.run(widget)
        now = layer_data(person)
        changed = {each for each in now if now[each] is not before.get(each)}
        assert changed
        began = time.perf_counter()
        person.run(widget)
        whole[name] = time.perf_counter() - began, changed
    ended = {"done": 0, "cancelled; nothing has changed": 0}
    for turn in range(2 * effort):
        for name, widget in widgets.items():
            widget.stack.value = person.viewer.layers["mine"]
            before = layer_data(person)
            widget.run.native.click()
            if turn:
                person.qtbot.wait(int(1000 * rng.uniform(0, 1.2) * whole[name][0]))
            widget.cancel.native.click()
            person.wait(widget)
            now = layer_data(person)
            assert now.keys() == before.keys()
            if widget.status.value.startswith("cancelled"):
                assert same(before, now)
            else:
                assert all(now[each] is not before[each] for each in whole[name][1])
            ended[widget.status.value] += 1
            assert widget.run.enabled
            assert not widget.cancel.enabled
    assert ended["cancelled; nothing has changed"] >= len(STEPS)


def replaced(layer):
    layer.data = layer.data + 1


def fewer(layer):
    layer.data = layer.data[1:]


def flat(layer):
    layer.data = layer.data[0]


def unimportant_changes(viewer, layer):
    """Make changes of which the result does not depend on any."""
    layer.name = "another"
    layer.visible = False
    viewer.dims.transpose()
    viewer.dims.roll()
    viewer.dims.ndisplay = 3
    layer.data[:] += 1  # in place, which nobody can see
    layer.refresh()


MEANWHILE = {  # change of the stack or the window → status and freshness
    "changed": (unimportant_changes, "done", ""),
    "replaced": (lambda viewer, layer: replaced(layer), "done", "has changed since"),
    "scaled": (lambda viewer, layer: setattr(layer, "scale", (3, 1, 1)), "done", "has changed"),
    "shortened": (lambda viewer, layer: fewer(layer), "got other planes meanwhile", ""),
    "flattened": (lambda viewer, layer: flat(layer), "got other planes meanwhile", ""),
    "removed": (lambda viewer, layer: viewer.layers.remove(layer), "was removed meanwhile", ""),
    "emptied": (lambda viewer, layer: viewer.layers.clear(), "was removed meanwhile", ""),
}


def test_the_stack_may_change_or_vanish_during_a_run(person, blocked, notifications, tiny):
    widget = person.open("focus")
    for name, (happens, status, fresh) in MEANWHILE.items():
        blocked.began.clear(), blocked.go.clear()
        layer = person.stack(tiny, data=tiny.stack.planes.copy())
        widget.stack.value = layer
        person.press(widget.run)
        person.wait_until(blocked.began.is_set)
        happens(person.viewer, layer)
        blocked.go.set()
        person.wait(widget)
        assert status in widget.status.value, name
        assert fresh in widget.freshness.value, name
        assert ("focus" in person.roles()) == (status == "done"), name
        assert len(notifications) == (status != "done"), name
        notifications.clear()
        person.viewer.dims.ndisplay = 2
        person.viewer.layers.clear()
        person.qtbot.wait(20)


def close(person, widget):
    """Click on the close button of the dock."""
    widget.native.parent().title.close_button.click()
    person.qtbot.wait(1)


def mouse(viewer):
    return [*viewer.mouse_drag_callbacks, *viewer.mouse_move_callbacks]


def test_docks_may_be_closed_during_a_run(person, blocked, tiny):
    source = person.stack(tiny)
    all_ = person.open("all")
    all_.form.settings["registration"].value = "none"
    person.run(all_)
    close(person, all_)
    for name, widget in zip(TITLES, person.open(*TITLES), strict=True):
        if name in ("align", "focus", "all"):
            widget.stack.value = source
        if name in ("focus", "all"):
            widget.preview.value = VIEW
        if name == "inspector":
            widget.inspect(source, (20, 20))
        else:
            button = {"figure": "play", "retouch": "planes"}.get(name, "run")
            person.press(getattr(widget, button))
        close(person, widget)
    person.settle()
    # What was done before the docks were closed.
    quick = {"aligned", "matches", "surface", "axes", "inspected", "maximum projection"} | REFINED
    assert person.roles() <= {"mine"} | quick
    assert not person.viewer.canvas.grid.enabled
    assert not any(getattr(each, "__self__", None) for each in mouse(person.viewer))
    person.viewer.dims.set_current_step(0, 1)
    source.data = source.data + 1
    person.viewer.layers.remove(source)


def test_a_dock_may_be_closed_while_layers_are_added_or_undone(person, tiny):
    person.stack(tiny)
    for undo in (False, True):
        widget = person.open("all")
        widget.form.settings["registration"].value = "none"
        if undo:
            person.run(widget)
            person.press(widget.undo)
        else:
            person.press(widget.run)
            person.wait_until(lambda: len(person.viewer.layers) > 1)
        close(person, widget)
        person.settle()
        assert person.roles() in ({"mine"}, {"mine"} | REFINED)


def test_an_error_while_layers_are_added_undoes_all_of_them(
    person, notifications, tiny, monkeypatch
):
    """The earlier run can still be undone."""
    person.stack(tiny)
    widget = person.open("all")
    widget.form.settings["registration"].value = "none"
    person.run(widget)
    before, put = layer_data(person), RunLayers.show

    def failing(run, role, *args, **settings):
        if role == "refined depth":
            raise ValueError("no room for it")
        return put(run, role, *args, **settings)

    monkeypatch.setattr(RunLayers, "show", failing)
    widget.form.settings["window"].value = 15
    person.run(widget)
    assert notifications == ["Depth from focus: no room for it"]
    assert same(before, layer_data(person))
    person.undo(widget)
    assert person.roles() == {"mine"}


def test_two_forms_run_at_once_and_a_second_press_is_ignored(person, blocked, tiny):
    person.stack(tiny)
    focus, all_ = person.open("focus", "all")
    all_.form.settings["registration"].value = "none"
    person.press(focus.run)
    first = focus._task
    person.press(focus.run)
    focus._start()  # as a shortcut or a script might
    assert focus._task is first
    assert not focus.undo.enabled
    focus._controls.undo_last()
    person.run(all_)
    assert all_.status.value == "done"
    assert focus._task is first
    blocked.go.set()
    person.wait(focus)
    assert person.roles() >= {"mine", "focus", "refined depth"}
    for widget in (focus, all_):
        person.press(widget.run)
    for widget in (focus, all_):
        person.wait(widget)
        assert widget.status.value == "done"
    count = len(person.viewer.layers)
    for widget in (focus, all_):  # the next run waits for the undo
        person.press(widget.undo)
        person.press(widget.run)
    for widget in (focus, all_):
        person.wait(widget)
        assert widget.status.value == "done"
    assert len(person.viewer.layers) == count
