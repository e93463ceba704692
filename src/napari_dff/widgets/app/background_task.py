"""Computations in background threads, and changes of layers while the window draws."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from napari.qt.threading import create_worker
from napari.settings import get_plugin_settings
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_dff.runtime.jit import notify_when_compiling
from napari_dff.runtime.progress import Cancelled, Progress, cancelled_by
from napari_dff.runtime.threads import ThreadLimits, set_thread_limits
from napari_dff.widgets.app.time_left import Steps, TimeLeft
from napari_dff.widgets.app.warm_up import COMPILING, wait_for_warm_up

T = TypeVar("T")
PROGRESS_INTERVAL_S = 0.05
DRAWING_PAUSE_MS = 10  # between two changes of layers
DONE, FAILED, CANCELLED = "done", "failed", "cancelled; nothing has changed"
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
    _item_came = Signal(object)

    def __init__(
        self,
        title: str,
        compute: Callable[[Progress], Any],  # runs in the thread and must not touch layers
        done: Callable[[Any], Iterator[None] | None],  # `update_layers` runs the iterator
        show_status: Callable[[str], None],
        finished: Callable[[], None],  # called at the end, also after an error or when cancelled
        *,
        show_fraction: Callable[[float | None], None] | None = None,  # that is done, if it is
        # known; None: quiet, with no notification and no status but that of an error
        show_item: Callable[[Any], None] | None = None,  # called with each item at once, if
        # `compute` returns an iterator; it is the result, otherwise
        steps: Steps = (),  # whose durations are known
        end: str = DONE,  # status at the end
    ) -> None:
        super().__init__()
        self._title, self._compute, self._done = title, compute, done
        self._show_status, self._finished = show_status, finished
        self._show_fraction, self._quiet = show_fraction or _do_nothing, show_fraction is None
        self._show_item = show_item
        self._time_left = TimeLeft(steps)
        self._end_status = end
        self._stop = threading.Event()
        self._is_over = False
        self._last_progress_s = 0.0
        self._progressed.connect(self._show_progress)
        self._item_came.connect(self._receive)
        set_thread_limits(_limits_in_preferences())
        self._worker = create_worker(self._run)
        self._worker.returned.connect(self._returned)
        self._worker.start()

    def cancel(self) -> None:
        """Stop as soon as the running window or sweep ends."""
        self._stop.set()
        if not self._quiet:
            self._show_status("cancelling…")

    def abandon(self) -> None:
        """Cancel without a message or any other call, because the widget is closed."""
        self._stop.set()
        self._release()

    def _is_cancelled(self) -> bool:
        # napari requests the abort when it quits.
        return self._stop.is_set() or self._worker.abort_requested

    def _run(self) -> tuple[Any, Exception | None]:
        """Return the result or the error; in the thread."""
        try:
            with cancelled_by(self._is_cancelled), notify_when_compiling(self._show_compiling):
                wait_for_warm_up(self._show_compiling)
                result = self._compute(self._progress)
                for item in () if self._show_item is None else result:
                    self._item_came.emit(item)
                return result, None
        except Exception as error:  # the `errored` signal of napari's worker fails with PySide6
            return None, error

    def _show_compiling(self) -> None:
        self._progressed.emit(COMPILING, 0, 0)

    def _progress(self, items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        for i, item in enumerate(items):
            if self._is_cancelled():
                raise Cancelled
            if time.monotonic() - self._last_progress_s > PROGRESS_INTERVAL_S:
                self._last_progress_s = time.monotonic()
                self._progressed.emit(desc, i, len(items))
            yield item

    def _receive(self, item: Any) -> None:
        if self._show_item is not None:
            self._show_item(item)

    def _show_progress(self, desc: str, i: int, count: int) -> None:
        if self._quiet or self._stop.is_set() or self._is_over:
            return
        if not count:  # compiling, of which the duration is not known
            self._show_status(f"{desc}…")
            self._show_fraction(None)
            return
        self._time_left.update(desc, i, count)
        self._show_fraction(self._time_left.fraction)
        left = self._time_left.in_words()
        self._show_status(f"{desc}: {left}" if left else f"{desc}…")

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
            self._end(self._end_status)

    def _fail(self, error: Exception) -> None:
        if self._is_over:
            return
        if isinstance(error, Cancelled):
            self._end(CANCELLED)
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
        """Drop all callbacks, because napari keeps the worker and their data."""
        self._is_over = True
        self._compute = self._done = self._show_status = self._finished = _do_nothing
        self._show_fraction = self._show_item = _do_nothing


def _do_nothing(*_: Any) -> Any:
    pass


def _limits_in_preferences() -> ThreadLimits:
    """Return the limits of napari's preferences, in which 0 means the default."""
    try:
        preferences = get_plugin_settings("napari-dff").processing
        return ThreadLimits(preferences.threads or None, preferences.memory or None)
    except (AttributeError, KeyError):  # napari has not loaded the manifest
        return ThreadLimits()
