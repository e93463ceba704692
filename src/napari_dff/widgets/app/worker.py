"""Computations in a background thread, and changes of several layers that leave time to draw."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from napari.qt.threading import create_worker
from napari.settings import get_plugin_settings
from napari.utils import cancelable_progress
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_dff.runtime.jit import notify_when_compiling
from napari_dff.runtime.progress import Cancelled, Progress
from napari_dff.runtime.threads import ThreadLimits, set_thread_limits

T = TypeVar("T")
PROGRESS_INTERVAL_S = 0.05
DRAWING_PAUSE_MS = 10  # between two changes of layers
COMPILING = "Compiling, which only the first run on a machine does"
DONE, FAILED = "done", "failed"
LOGGER = logging.getLogger(__name__)


LayerUpdate = tuple[Iterator[None], Callable[[], None], Callable[[Exception], None] | None]
_updates: deque[LayerUpdate] = deque()  # the first one is in progress


def update_layers(
    steps: Iterator[None],
    finished: Callable[[], None] = lambda: None,
    failed: Callable[[Exception], None] | None = None,
) -> None:
    """Run `steps`, with a pause after each in which napari draws, and then call `finished`.

    Everything that adds or removes several layers runs like this. The window stays responsive, and
    napari's canvas does not crash, as it can where layers are removed and others added before it
    has drawn. Updates run one after the other.
    """
    _updates.append((steps, finished, failed))
    if len(_updates) == 1:
        _run_next_step()


def _run_next_step() -> None:
    steps, at_end, failed = _updates[0]
    try:
        next(steps)
    except StopIteration:
        pass
    except Exception as error:
        if failed is None:
            LOGGER.exception("layers could not be changed")
        else:
            at_end = partial(failed, error)
    else:
        QTimer.singleShot(DRAWING_PAUSE_MS, _run_next_step)
        return
    _updates.popleft()
    if _updates:
        QTimer.singleShot(DRAWING_PAUSE_MS, _run_next_step)
    at_end()


class BackgroundTask(QObject):
    """One computation in a background thread.

    Parameters
    ----------
    title : str
        Title in messages and in the activity dock.
    compute : callable
        Takes a `Progress`; runs in the thread and must not touch layers.
    done : callable
        Takes the result of `compute`; runs in the main thread. An iterator that it returns is run
        by `update_layers`.
    show_status : callable
        Takes a short sentence.
    finished : callable
        Called once at the end, also after an error or when cancelled.
    quiet : bool
        Show no progress and no notification, only the status of an error. By default the activity
        dock has a progress bar with a button that cancels.
    """

    _progressed = Signal(str, int, int)
    _updating_bar = False  # of any task

    def __init__(
        self,
        title: str,
        compute: Callable[[Progress], T],
        done: Callable[[T], Iterator[None] | None],
        show_status: Callable[[str], None],
        finished: Callable[[], None],
        *,
        quiet: bool = False,
    ) -> None:
        super().__init__()
        self._title, self._quiet = title, quiet
        # Dropped by `_release`.
        self._compute: Callable[..., Any] = compute
        self._done: Callable[..., Any] = done
        self._show_status: Callable[..., Any] = show_status
        self._finished: Callable[..., Any] = finished
        self._stop = threading.Event()
        self._bar = None if quiet else _CancelBar(self, total=1, desc=title)
        self._is_over = False
        self._last_progress_s = 0.0
        self._progressed.connect(self._show_progress)
        set_thread_limits(_limits_in_preferences())
        self.worker = create_worker(self._run)
        self.worker.returned.connect(self._returned)

    def start(self) -> None:
        """Start the thread."""
        self.worker.start()

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
            if self._stop.is_set() or self.worker.abort_requested:
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
            return
        update_layers(self._steps(result), lambda: self._end(DONE), self._fail)

    def _steps(self, result: Any) -> Iterator[None]:
        steps = self._done(result)
        if steps is not None:
            yield from steps

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
        if self._is_over:
            return
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


def _do_nothing(*_: Any) -> None:
    pass


def _limits_in_preferences() -> ThreadLimits:
    """Return the limits of napari's preferences, in which 0 means the default."""
    try:
        preferences = get_plugin_settings("napari-dff").processing
        return ThreadLimits(preferences.threads or None, preferences.memory or None)
    except (AttributeError, KeyError):  # napari has not loaded the manifest
        return ThreadLimits()


class _CancelBar(cancelable_progress):
    """Progress bar in the activity dock whose button cancels the task."""

    def __init__(self, task: BackgroundTask, **settings: Any) -> None:
        super().__init__(**settings)
        self._task = task

    def cancel(self) -> None:
        super().cancel()
        self._task.cancel()
