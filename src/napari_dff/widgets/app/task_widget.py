"""What forms that compute share: a background task, its progress bar, a status line, closing."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import wraps
from typing import Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary

import psygnal
from magicgui.widgets import Container, ProgressBar, Widget
from magicgui.widgets.bases import ValueWidget
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_dff.runtime.progress import Progress
from napari_dff.widgets.app.background_task import DONE, BackgroundTask
from napari_dff.widgets.app.controls import wrapping_label
from napari_dff.widgets.app.dock import DockedForm, forms_button
from napari_dff.widgets.app.layers import without_proxy
from napari_dff.widgets.app.qt_binding import warn_of_binding
from napari_dff.widgets.app.time_left import Steps
from napari_dff.widgets.app.view_units import follow_units
from napari_dff.widgets.app.warm_up import start_warm_up

W = TypeVar("W", bound="TaskWidget")
_kept_values: WeakKeyDictionary[Viewer, dict[str, dict[str, Any]]] = WeakKeyDictionary()
READY, WORKING = "ready", "working…"


def show_errors(method: Callable[[W], None]) -> Callable[[W], None]:
    """Show a ValueError or OSError of a form's method in the form instead of raising it."""

    @wraps(method)
    def wrapper(self: W) -> None:
        try:
            method(self)
        except (ValueError, OSError) as error:
            self.show_status(f"failed: {error}")
            show_error(f"{self.title}: {error}")

    return wrapper


class TaskWidget(Container[Widget]):
    """A form with a status line that runs one background task at a time."""

    title: ClassVar[str]
    lasting_fields: ClassVar[tuple[str, ...]] = ()  # fields whose values outlive the dock
    busyChanged = psygnal.Signal(bool)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer = without_proxy(viewer)
        follow_units(viewer)
        self._task: BackgroundTask | None = None
        self._connections: list[tuple[Any, Callable[..., Any]]] = []
        self.status = wrapping_label(READY)
        self.progress_bar = ProgressBar(min=0, max=100)  # above the status, while a task runs
        super().__init__(labels=False, scrollable=True)
        self.native.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.native.setFrameShape(QFrame.Shape.NoFrame)
        self._column.addStretch()
        self._dock = DockedForm(viewer, self, self.title, self._close)
        self.append(forms_button(viewer))
        start_warm_up()
        warn_of_binding()

    @property
    def native(self) -> QScrollArea:
        """The scroll area around the widgets, which napari docks."""
        area: QScrollArea = self.root_native_widget
        return area

    @property
    def _column(self) -> QVBoxLayout:
        """The layout of the widgets."""
        column: QVBoxLayout = self.native.widget().layout()  # type: ignore[assignment, union-attr]
        return column

    def add_plot(self, plot: QWidget) -> None:
        """Add a plot below the widgets, that takes the free height."""
        self._column.insertWidget(self._column.count() - 1, plot, 1)

    @property
    def busy(self) -> bool:
        """Whether a task is running."""
        return self._task is not None

    def show_status(self, sentence: str) -> None:
        """Show a sentence in the status line."""
        self.status.value = sentence

    def start_task(
        self,
        compute: Callable[[Progress], Any],
        done: Callable[[Any], Iterator[None] | None] = lambda _: None,
        *,
        show_item: Callable[[Any], None] | None = None,
        quiet: bool = False,
        steps: Steps = (),
        end: str = DONE,
    ) -> None:
        """Compute in a thread, then call `done`; see `BackgroundTask`. Ignored while busy."""
        if self.busy:
            return
        if not quiet:
            self.show_status(WORKING)
            self._show_fraction(0.0)
        self._task = BackgroundTask(
            *(self.title, compute, done, self.show_status, self._task_finished),
            show_fraction=None if quiet else self._show_fraction,
            show_item=show_item,
            steps=steps,
            end=end,
        )
        self.busyChanged.emit(True)

    def _show_fraction(self, fraction: float | None) -> None:
        if self.progress_bar not in self:
            self.insert(self.index(self.status), self.progress_bar)
        self.progress_bar.visible = True
        self.progress_bar.native.setMaximum(0 if fraction is None else 100)  # 0: busy
        self.progress_bar.value = round(100 * (fraction or 0))

    def cancel_task(self) -> None:
        """Cancel the running task, if any."""
        if self._task is not None:
            self._task.cancel()

    def fields_to_keep(self) -> Mapping[str, ValueWidget[Any]]:
        """Return the fields, by a name, that have their values again when the form is reopened."""
        return {name: getattr(self, name) for name in self.lasting_fields}

    def keep_values(self) -> None:
        """Remember the values of the fields, because the form closes."""
        values = {name: field.value for name, field in self.fields_to_keep().items()}
        _kept_values.setdefault(self._viewer, {})[self.title] = values

    def restore_values(self) -> None:
        """Show the values that the form had when it was closed, as far as they are possible."""
        values = _kept_values.get(self._viewer, {}).pop(self.title, {})
        fields = self.fields_to_keep()
        for name, value in values.items():
            with suppress(ValueError):  # a layer that has gone
                fields[name].value = value

    def _connect(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Connect a signal of napari until the form is closed."""
        signal.connect(slot)
        self._connections.append((signal, slot))

    def _task_finished(self) -> None:
        self._task = None
        self.progress_bar.visible = False
        self.busyChanged.emit(False)

    def _close(self) -> None:
        if self._task is not None:
            self._task.abandon()
        for signal, slot in self._connections:
            signal.disconnect(slot)
