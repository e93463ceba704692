"""Run, Cancel and Undo: the buttons of forms whose results are layers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from magicgui.widgets import PushButton

from napari_dff.runtime.progress import Progress
from napari_dff.widgets.app.controls import button_row
from napari_dff.widgets.app.runs import RunLayers, add_or_undo, undo_runs
from napari_dff.widgets.app.task_widget import TaskWidget


class RunControls:
    """Run, Cancel and Undo of a form, which itself connects the signal of Run.

    `undone` is called when Undo undoes something.
    """

    def __init__(
        self, form: TaskWidget, tooltip: str, undone: Callable[[], None] = lambda: None
    ) -> None:
        self._form, self._undone = form, undone
        self._runs: Sequence[RunLayers] = ()  # the newest, which Undo takes back
        self.run = PushButton(text="Run", tooltip=tooltip)
        self.cancel = PushButton(text="Cancel", enabled=False, tooltip="Stop; no layer changes.")
        self.undo = PushButton(
            text="Undo", enabled=False, tooltip="Restore the layers as they were before Run."
        )
        self.buttons = self.run, self.cancel, self.undo
        self.row = button_row(*self.buttons)
        form.busyChanged.connect(self._enable)
        self.cancel.changed.connect(form.cancel_task)
        self.undo.changed.connect(self.undo_last)

    def start(
        self,
        runs: Sequence[RunLayers],
        compute: Callable[[Progress], Any],
        add_layers: Callable[[Any], Iterator[None]],
    ) -> None:
        """Compute in the background, then add the layers of the result to `runs`."""

        def done(result: Any) -> Iterator[None]:
            yield from add_or_undo(add_layers(result), runs)
            self._runs = runs

        self._form.start_task(compute, done)

    def undo_last(self) -> None:
        """Undo the newest run, unless another form has changed its layers since."""
        if self._form.busy or not self._runs:
            return
        if any(run.is_superseded() for run in self._runs):
            self._form.show_status(
                "not undone: a newer run has changed these layers; undo that first"
            )
            return
        runs, self._runs = self._runs, ()
        self.undo.enabled = False
        self._undone()
        undo_runs(runs, self._form.show_status)

    def _enable(self, busy: bool) -> None:
        self.run.enabled, self.cancel.enabled = not busy, busy
        self.undo.enabled = bool(self._runs) and not busy
