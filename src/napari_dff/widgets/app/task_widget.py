"""What forms that compute share: background tasks, changes of layers, a status line, closing."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any, ClassVar, TypeVar

import psygnal
from magicgui.widgets import Container, Widget
from napari.qt.threading import create_worker
from napari.settings import get_plugin_settings
from napari.utils import cancelable_progress
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtCore import QObject, Qt, QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_dff.runtime.jit import notify_when_compiling
from napari_dff.runtime.progress import Cancelled, Progress
from napari_dff.runtime.threads import ThreadLimits, set_thread_limits
from napari_dff.widgets.app.controls import wrapping_label
from napari_dff.widgets.app.dock import DockedForm, forms_button

T = TypeVar("T")
W = TypeVar("W", bound="TaskWidget")
PROGRESS_INTERVAL_S = 0.05
DRAWING_PAUSE_MS = 10  # between two changes of layers
COMPILING = "Compiling, which only the first run on a machine does"
DONE, FAILED = "done", "failed"
LOGGER = logging.getLogger(__name__)

_updates: deque[Iterator[None]] = deque()  # the first one is in progress


def update_layers(steps: Iterator[None]) -> None:
    """Run steps that add or remove layers, with a pause after each in which napari draws.

    The window stays responsive, and napari's canvas does not crash, as it can where layers are
    removed and others added before it has drawn. Updates run one after the other.
    """
    _updates.append(steps)
    if len(_updates) == 1:
        _run_next_step()


def _run_next_step() -> None:
    try:
        next(_updates[0])
    except StopIteration:
        _updates.popleft()
    except Exception:
        LOGGER.exception("layers could not be changed")
        _updates.popleft()
    if _updates:
        QTimer.singleShot(DRAWING_PAUSE_MS, _run_next_step)


class BackgroundTask(QObject):
    """One computation in a background thread, which starts at once."""

    _progressed = Signal(str, int, int)
    _updating_bar = False  # of any task

    def __init__(
        self,
        title: str,
        compute: Callable[[Progress], Any],  # runs in the thread and must not touch layers
        done: Callable[[Any], Iterator[None] | None],  # `update_layers` runs the iterator
        show_status: Callable[[str], None],
        finished: Callable[[], None],  # called at the end, also after an error or when cancelled
        *,
        quiet: bool = False,  # no progress bar and no notification, only the status of an error
    ) -> None:
        super().__init__()
        self._title, self._quiet = title, quiet
        self._compute, self._done = compute, done
        self._show_status, self._finished = show_status, finished
        self._stop = threading.Event()
        self._bar = None if quiet else cancelable_progress(total=1, desc=title)
        if self._bar is not None:
            self._bar.cancel = self.cancel
        self._is_over = False
        self._last_progress_s = 0.0
        self._progressed.connect(self._show_progress)
        set_thread_limits(_limits_in_preferences())
        self._worker = create_worker(self._run)
        self._worker.returned.connect(self._returned)
        self._worker.start()

    def cancel(self) -> None:
        """Stop at the next item of the running loop."""
        self._stop.set()

    def abandon(self) -> None:
        """Cancel without a message or any other call, because the widget is closed."""
        self.cancel()
        self._release()

    def _run(self) -> tuple[Any, Exception | None]:
        """Return the result or the error; in the thread."""
        try:
            with notify_when_compiling(lambda: self._progressed.emit(COMPILING, 0, 1)):
                return self._compute(self._progress), None
        except Exception as error:  # the `errored` signal of napari's worker fails with PySide6
            return None, error

    def _progress(self, items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        for i, item in enumerate(items):
            # napari requests the abort when it quits.
            if self._stop.is_set() or self._worker.abort_requested:
                raise Cancelled
            if time.monotonic() - self._last_progress_s > PROGRESS_INTERVAL_S:
                self._last_progress_s = time.monotonic()
                self._progressed.emit(desc, i, len(items))
            yield item

    def _show_progress(self, desc: str, i: int, count: int) -> None:
        bar = self._bar
        if bar is None or self._stop.is_set() or BackgroundTask._updating_bar:
            return
        # The bar processes Qt events: they can call this method again, or end the task.
        BackgroundTask._updating_bar = True
        try:
            self._show_status(f"{desc}: {i + 1} of {count}")
            bar.total = count
            bar.set_description(f"{self._title}: {desc}")
            if not self._is_over:
                bar.update(i - bar.n)
        finally:
            BackgroundTask._updating_bar = False

    def _returned(self, outcome: tuple[Any, Exception | None]) -> None:
        result, error = outcome
        if self._stop.is_set():
            error = Cancelled()
        if error is not None:
            self._fail(error)
        else:
            update_layers(self._add_result(result))

    def _add_result(self, result: Any) -> Iterator[None]:
        try:
            yield from self._done(result) or ()
        except Exception as error:
            self._fail(error)
        else:
            self._end(DONE)

    def _fail(self, error: Exception) -> None:
        if self._is_over:
            return
        if isinstance(error, Cancelled):
            self._end("cancelled; nothing has changed")
            return
        if not isinstance(error, ValueError | ImportError | OSError):
            LOGGER.error("%s failed", self._title, exc_info=error)
        sentence = str(error) or type(error).__name__
        self._end(f"{FAILED}: {sentence}")
        if not self._quiet:
            show_error(f"{self._title}: {sentence}")

    def _end(self, sentence: str) -> None:
        if not self._quiet or sentence.startswith(FAILED):
            self._show_status(sentence)
        self._finished()
        self._release()

    def _release(self) -> None:
        """Close the bar and drop all callbacks, because napari keeps the worker and their data."""
        self._is_over = True
        self._compute = self._done = self._show_status = self._finished = _do_nothing
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()


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
    busyChanged = psygnal.Signal(bool)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._task: BackgroundTask | None = None
        self._connections: list[tuple[Any, Callable[..., Any]]] = []
        self.status = wrapping_label("ready")
        super().__init__(labels=False, scrollable=True)
        self.native.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.native.setFrameShape(QFrame.Shape.NoFrame)
        self._column.addStretch()
        self._dock = DockedForm(self, self.title, self._close)
        self.append(forms_button(viewer))

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

    def add_plot(self, plot: QWidget, place: int | None = None) -> None:
        """Add a plot below the widgets, or at another place, that takes the free height."""
        self._column.insertWidget(self._column.count() - 1 if place is None else place, plot, 1)

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
        quiet: bool = False,
    ) -> None:
        """Compute in a thread, then call `done`; see `BackgroundTask`. Ignored while busy."""
        if not self.busy:
            self._task = BackgroundTask(
                self.title, compute, done, self.show_status, self._task_finished, quiet=quiet
            )
            self.busyChanged.emit(True)

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


def _do_nothing(*_: Any) -> Any:
    pass


def _limits_in_preferences() -> ThreadLimits:
    """Return the limits of napari's preferences, in which 0 means the default."""
    try:
        preferences = get_plugin_settings("napari-dff").processing
        return ThreadLimits(preferences.threads or None, preferences.memory or None)
    except (AttributeError, KeyError):  # napari has not loaded the manifest
        return ThreadLimits()
