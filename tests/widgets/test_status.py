"""What a form says while it works and afterwards: step, time left, memory, cancelling."""

import time

import numpy as np
import pytest

from napari_dff import synthetic
from napari_dff.model.recipe import Recipe
from napari_dff.refinement import trws
from napari_dff.runtime.progress import Cancelled, cancelled_by, no_progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.widgets.app import warm_up
from napari_dff.widgets.app.time_left import TimeLeft, steps_of


@pytest.fixture
def slow(monkeypatch):
    """Make the focus measure wait for 25 items of 0.02 s."""

    def wait(recipe, stack, progress):
        for _ in progress(range(25), desc="Waiting"):
            time.sleep(0.02)
        return np.ones(stack.planes.shape, np.float32)

    monkeypatch.setattr("napari_dff.widgets.steps.focus.measure_by_recipe", wait)


def test_the_form_shows_step_and_progress_and_never_done_while_it_works(person, surface, slow):
    person.show()
    person.stack(surface)
    form = person.open("focus")
    bar = form.progress_bar
    for _ in range(2):
        person.press(form.run)
        assert form.status.value == "working…"
        person.qtbot.waitUntil(lambda: bar.value > 20, timeout=5000)
        assert bar.native.isVisible()
        assert form.status.value == "Waiting…"
        person.wait(form)
        assert form.status.value == "done"
        assert not bar.native.isVisible()


def test_sentences_about_a_stack_vanish_when_another_is_chosen(person, surface):
    first, bare = person.stack(surface), synthetic.bare_patch(size=96, planes=12)
    second = person.stack(bare, name="bare", translate=(0.0, 0.0, 0.0))
    form = person.open("all")
    form.form.settings["registration"].value = "none"
    assert form.stack.value is second
    person.run(form)
    assert form.status.value == "done"
    assert "never in focus" in form.advice.value
    person.viewer.layers.selection.active = first
    assert form.status.value == "ready"
    assert not form.advice.visible
    assert not form.freshness.visible


def test_cancel_answers_within_a_second_inside_a_window_of_refinement(person, monkeypatch):
    began, sweep = [], trws._sweep

    def slow_sweep(*terms):
        began.append(terms)
        time.sleep(0.3)
        return sweep(*terms)

    monkeypatch.setattr(trws, "_sweep", slow_sweep)
    monkeypatch.setattr("napari_dff.refinement.trws.RELATIVE_GAP", -1.0)  # takes all sweeps
    person.stack(synthetic.bare_patch(size=96, planes=12))
    form = person.open("all")
    form.form.settings["registration"].value = "none"
    person.press(form.run)
    person.qtbot.waitUntil(lambda: len(began) > 0, timeout=60_000)
    at = time.perf_counter()
    person.press(form.cancel)
    assert form.status.value == "cancelling…"
    person.wait(form)
    assert time.perf_counter() - at < 1
    assert form.status.value == "cancelled; nothing has changed"


def test_a_loop_without_progress_is_cancelled_too():
    done = []

    def work(i):
        done.append(i)
        time.sleep(0.01)

    with cancelled_by(lambda: len(done) > 4), pytest.raises(Cancelled):
        run_parallel(work, range(1000), no_progress, desc="")
    assert len(done) < 50
    run_parallel(work, range(3), no_progress, desc="")


class Compiler:
    """A process that compiles until `ends`."""

    ends = False

    def poll(self):
        return 0 if self.ends else None


def test_a_run_waits_until_kernels_are_compiled_and_says_so(person, surface, slow, monkeypatch):
    compiler = Compiler()
    monkeypatch.setattr(warm_up, "_processes", [compiler])
    person.stack(surface)
    form = person.open("focus")
    person.press(form.run)
    words = "Compiling, once per installation, for up to a minute…"
    person.qtbot.waitUntil(lambda: form.status.value == words, timeout=5000)
    person.press(form.cancel)
    person.qtbot.waitUntil(lambda: not form.busy, timeout=1000)
    person.press(form.run)
    person.qtbot.waitUntil(lambda: form.status.value == words, timeout=5000)
    compiler.ends = True
    person.wait(form)
    assert form.status.value == "done"


def test_the_first_form_starts_the_warm_up_once(monkeypatch):
    commands = []

    def popen(command, **_):
        commands.append(command[1:])
        compiler = Compiler()
        compiler.kill = lambda: None
        return compiler

    monkeypatch.setattr(warm_up, "_processes", [])
    monkeypatch.setattr(warm_up.subprocess, "Popen", popen)
    monkeypatch.setattr("napari_dff.pipeline.warm_up.is_warm", lambda: False)
    warm_up.start_warm_up()
    warm_up.start_warm_up()
    assert commands == [["-m", "napari_dff", "warm-up", "--quiet"]]
    assert warm_up.is_warming_up()


def simulated(steps, numbers=()):
    """Yield the time left in seconds and in words at each item of a run of 100 s a stack."""
    now = [0.0]
    time_left = TimeLeft(steps, clock=lambda: now[0])
    total = sum(duration for _, duration in steps)
    end = 100.0 * max(len(numbers), 1)
    for where in numbers or [""]:
        for name, duration in steps:
            for i in range(10):
                time_left.update(f"{name}{where}", i, 10)
                yield end - now[0], time_left
                now[0] += 10 * duration / total


@pytest.mark.parametrize("numbers", [[], [", time 1 of 3", ", time 2 of 3", ", time 3 of 3"]])
def test_the_time_left_is_right_where_steps_take_their_share(numbers):
    steps, words = steps_of(Recipe(), 1), []
    for left, time_left in simulated(steps, numbers):
        end = 100 * max(len(numbers), 1)
        assert time_left.fraction == pytest.approx(1 - left / end, abs=1e-6)
        words.append(time_left.in_words())
    assert words[0] == ""
    assert "about 50 s left" in words
    assert ("about 3 min left" in words) == bool(numbers)


def test_tiles_share_the_time_after_the_alignment():
    time_left = TimeLeft(steps_of(Recipe(), 1), clock=lambda: 0.0)
    time_left.update("Finding depth, tile 1 of 4", 0, 5)
    aligned = time_left.fraction
    assert 0.3 < aligned < 0.6
    time_left.update("Finding depth, tile 3 of 4", 0, 5)
    assert time_left.fraction == pytest.approx((1 + aligned) / 2)


def test_the_time_of_steps_of_unknown_duration_is_left_out():
    assert steps_of(Recipe(registration="ecc"), 1) == ()
    assert steps_of(Recipe(crop="common"), 2) == ()
    for left, time_left in simulated([("Waiting", 1.0)]):
        if left < 60:
            assert time_left.in_words().endswith("left")
    unknown = TimeLeft(clock=iter(range(0, 1000, 10)).__next__)
    unknown.update("Waiting", 2, 10)
    assert unknown.in_words() == "about 40 s left in this step"


def test_a_short_run_shows_no_time_left():
    clock = iter([0.0, 10.0]).__next__
    time_left = TimeLeft(steps_of(Recipe(), 1), clock=clock)
    time_left.update("Finding depth", 0, 1)
    assert time_left.fraction > 0.3
    assert time_left.in_words() == ""
