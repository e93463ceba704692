"""What all forms that compute share: background tasks, a status line, and tidy closing."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, ClassVar, TypeVar

from magicgui.widgets import Container, Widget
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from psygnal import Signal

from napari_dff.runtime.progress import Progress
from napari_dff.widgets.app.controls import call_when_closed, wrapping_label
from napari_dff.widgets.app.worker import BackgroundTask

W = TypeVar("W", bound="TaskWidget")


def show_errors(method: Callable[[W], None]) -> Callable[[W], None]:
    """Show a ValueError or OSError of a form's method in the form instead of raising it."""

    @wraps(method)
    def wrapper(self: W) -> None:
        try:
            method(self)
        except (ValueError, OSError) as error:
            self.show_failure(error)

    return wrapper


class TaskWidget(Container[Widget]):
    """A form with a status line that runs one background task at a time."""

    title: ClassVar[str]
    busyChanged = Signal(bool)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._task: BackgroundTask | None = None
        self._connections: list[tuple[Any, Callable[..., Any]]] = []
        self.status = wrapping_label("ready")
        super().__init__(labels=False)
        call_when_closed(self, self._close)

    @property
    def busy(self) -> bool:
        """Whether a task is running."""
        return self._task is not None

    def show_status(self, sentence: str) -> None:
        """Show a sentence in the status line."""
        self.status.value = sentence

    def show_failure(self, error: Exception) -> None:
        """Show an error in the status line and as a notification."""
        self.show_status(f"failed: {error}")
        show_error(f"{self.title}: {error}")

    def start_task(
        self,
        compute: Callable[[Progress], Any],
        done: Callable[[Any], Iterator[None] | None] = lambda _: None,
        *,
        quiet: bool = False,
    ) -> None:
        """Compute in a thread, then call `done` with the result; ignored while busy.

        See `BackgroundTask` for the arguments.
        """
        if self.busy:
            return
        self._task = BackgroundTask(
            self.title, compute, done, self.show_status, self._task_finished, quiet=quiet
        )
        self.busyChanged.emit(True)
        self._task.start()

    def cancel_task(self) -> None:
        """Cancel the running task, if any."""
        if self._task is not None:
            self._task.cancel()

    def _connect(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Connect a signal of napari until the form is closed."""
        signal.connect(slot)
        self._connections.append((signal, slot))

    def _task_finished(self) -> None:
        self._task = None
        self.busyChanged.emit(False)

    def _close(self) -> None:
        if self._task is not None:
            self._task.abandon()
        for signal, slot in self._connections:
            signal.disconnect(slot)
