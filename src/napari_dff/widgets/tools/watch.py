"""Watch a folder: compute stacks while they are being taken, as the command watch does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, FileEdit, LineEdit
from napari.layers import Layer
from napari.utils.notifications import show_warning
from napari.viewer import Viewer
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QPlainTextEdit

from napari_dff.batch.job import Job
from napari_dff.batch.summary import Outcome
from napari_dff.batch.watch import PLANES, SECONDS, WatchSettings, messages_of, watch
from napari_dff.model.checks import AUTO
from napari_dff.model.recipe import Recipe
from napari_dff.runtime.progress import Progress
from napari_dff.widgets.app.background_task import CANCELLED, update_layers
from napari_dff.widgets.app.controls import labelled_column, push_button
from napari_dff.widgets.app.labels import SETTINGS
from napari_dff.widgets.app.preset_form import PresetForm
from napari_dff.widgets.app.recipe_form import RecipeForm
from napari_dff.widgets.app.spin_boxes import spin_box
from napari_dff.widgets.app.task_widget import TaskWidget, show_errors
from napari_dff.widgets.app.warm_up import COMPILING

PLUGIN = "napari-dff"
FOLDER = FileDialogMode.EXISTING_DIRECTORY
MAX_MESSAGES = 10_000
MESSAGES_HEIGHT_PX = 110
START, STOP = "Start", "Stop"
WATCHING = "waiting for stacks"
STOPPED = "stopped; Start continues"


class WatchWidget(TaskWidget):
    """Computes each stack in a folder when its last plane is written."""

    title = "Watch a folder"
    lasting_fields = ("folder", "out", "planes", "settle", "channel", "shows_results")

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._shown: list[Layer] = []  # of the result that was opened last
        folder = "Folder that the microscope writes stacks into, also in folders of folders."
        self.folder: Any = FileEdit(FOLDER, nullable=True, label="folder", tooltip=folder)
        out = "Folder for all results and summary.csv; by default beside the other folder."
        self.out: Any = FileEdit(FOLDER, nullable=True, label="results", tooltip=out)
        for field in (self.folder, self.out):
            field.choose_btn.text = "…"
        planes = (
            "Number of images of a complete stack, those of all channels together; "
            "automatic: that of its metadata, if they have it."
        )
        self.planes = spin_box("planes", AUTO, PLANES._replace(has_auto=True), planes)
        settle = "Seconds without a change, after which a stack is complete in any case."
        self.settle = spin_box("settle (s)", WatchSettings.settle_s, SECONDS, settle)
        channel = "Name or number of the channel from which depth is computed, if several."
        self.channel = LineEdit(label="focus channel", tooltip=channel)
        self.form = RecipeForm((), tuple(SETTINGS), ("detail", "smoothing"))
        self.presets = PresetForm(self.form, self.recipe, self.show_status)
        self.shows_results = CheckBox(
            text="show each result",
            value=True,
            tooltip="Open the layers of each result that is computed, in place of those before.",
        )
        run = "Compute each stack when its last plane is written."
        self.run = push_button(START, run, self._on_run)
        self.messages = QPlainTextEdit()
        self.messages.setReadOnly(True)
        self.messages.setMaximumBlockCount(MAX_MESSAGES)
        self.messages.setMinimumHeight(MESSAGES_HEIGHT_PX)
        conditions = self.folder, self.out, self.planes, self.settle, self.channel
        self._fields = labelled_column(*conditions, *self.presets.widgets, *self.form.widgets)
        self.extend([self._fields, self.presets.buttons, self.shows_results, self.run, self.status])
        self.add_plot(self.messages)
        self.form.expand(False)
        self.presets.refresh()
        self.folder.changed.connect(self._show_default)

    def fields_to_keep(self) -> dict[str, Any]:
        """Return the folders, the conditions and all settings."""
        return {**super().fields_to_keep(), **self.form.settings}

    def recipe(self) -> Recipe:
        """Return the settings of the form."""
        return Recipe.from_dict(self.form.value())

    def _folders(self) -> tuple[Path, Path]:
        """Return the folders of stacks and results; ValueError if none is chosen."""
        if self.folder.value is None:
            raise ValueError("choose the folder that stacks are written into")
        folder = self.folder.value.expanduser().absolute()
        out = self.out.value or folder.parent / f"{folder.name}_results"
        return folder, out.expanduser().absolute()

    def _show_default(self) -> None:
        default = str(self._folders()[1]) if self.folder.value else ""
        self.out.line_edit.native.setPlaceholderText(default)

    def _on_run(self) -> None:
        if self.busy:
            self.cancel_task()
        else:
            self._start()

    @show_errors
    def _start(self) -> None:
        folder, out = self._folders()
        planes = None if self.planes.value == AUTO else self.planes.value
        settings = WatchSettings(planes=planes, settle_s=self.settle.value)
        job = Job(self.recipe(), channel=self.channel.value.strip() or None)
        outcomes = watch(folder, out, job, settings)

        def compute(_: Progress) -> Iterator[Outcome]:
            with _extra_thread():
                yield from outcomes

        self.start_task(compute, show_item=self._on_outcome)
        self._show_fraction(None)
        self.show_status(WATCHING)
        self._fields.enabled = False
        self.run.text = STOP

    def _on_outcome(self, outcome: Outcome) -> None:
        """Show what has become of a stack, and its result."""
        if self._task is not None and self.status.value.startswith(COMPILING):
            self.show_status(WATCHING)
        for text, is_warning in messages_of(outcome):
            self.messages.appendPlainText(text)
            if is_warning:
                show_warning(text)
        bar: Any = self.messages.verticalScrollBar()
        bar.setValue(bar.maximum())
        if self.shows_results.value and outcome.state == "done":
            update_layers(self._show_result(outcome.folder))

    def _show_result(self, folder: str) -> Iterator[None]:
        """Open a result in place of the one before."""
        for layer in self._shown:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
                yield
        self._shown = self._viewer.open(folder, plugin=PLUGIN)

    def _task_finished(self) -> None:
        super()._task_finished()
        self._fields.enabled = True
        self.run.text = START
        if self.status.value == CANCELLED:
            self.show_status(STOPPED)


@contextmanager
def _extra_thread() -> Iterator[None]:
    """Let other tasks have as many threads as without this one, which mostly sleeps."""
    pool: Any = QThreadPool.globalInstance()
    pool.releaseThread()
    try:
        yield
    finally:
        pool.reserveThread()
