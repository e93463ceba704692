"""A computation in a thread, with progress, cancelling and errors: once, for every widget."""

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

from napari_dff.compiled import notify_when_compiling
from napari_dff.progress import Cancelled, Progress
from napari_dff.threads import ThreadLimits, set_thread_limits

T = TypeVar("T")
INTERVAL = 0.05  # seconds between two signs of progress
BREATH = 10  # ms for the window between two layers of a result
COMPILING = "Compiling, which only the first run on a machine does"
DONE, FAILED = "done", "failed"
LOGGER = logging.getLogger(__name__)
Turns = tuple[Iterator[None], Callable[[], None], Callable[[Exception], None] | None]
_waiting: deque[Turns] = deque()  # the first of them is under way


def in_turns(
    parts: Iterator[None],
    ended: Callable[[], None] = lambda: None,
    failed: Callable[[Exception], None] | None = None,
) -> None:
    """Go through `parts` with a breath for the window after each, and then call `ended`.

    Whatever adds or removes several layers is done like this: the window stays alive, and napari's
    canvas, which can crash where layers are removed and others added before it has drawn, draws.
    Whoever comes meanwhile waits.
    """
    _waiting.append((parts, ended, failed))
    if len(_waiting) == 1:
        _next_turn()


def _next_turn() -> None:
    parts, over, failed = _waiting[0]
    try:
        next(parts)
    except StopIteration:
        pass
    except Exception as error:
        if failed is None:
            LOGGER.exception("layers could not be changed")
        else:
            over = partial(failed, error)
    else:
        QTimer.singleShot(BREATH, _next_turn)
        return
    _waiting.popleft()
    if _waiting:
        QTimer.singleShot(BREATH, _next_turn)
    over()


class Job(QObject):
    """One computation in a thread.

    Parameters
    ----------
    title : str
        What a person calls it.
    compute : callable
        Gets a `Progress`; runs in the thread; must not touch layers.
    done : callable
        Gets what `compute` gave back; runs in the window's thread. May give back an iterator, which
        is then gone through with a breath for the window after each of its items.
    said : callable
        Gets a short sentence whenever there is something to say.
    ended : callable
        Called once at the end, however it ended.
    bar : bool
        Show a bar in the activity dock, with a button that cancels. Without it nothing is said but
        a failure, and that without a popup.
    """

    _step = Signal(str, int, int)
    _showing = False  # how far one of them is

    def __init__(
        self,
        title: str,
        compute: Callable[[Progress], T],
        done: Callable[[T], Iterator[None] | None],
        said: Callable[[str], None],
        ended: Callable[[], None],
        *,
        bar: bool = True,
    ) -> None:
        super().__init__()
        self._title = title
        self._calls: tuple[Callable[..., Any], ...] = compute, done, said, ended
        self._stop = threading.Event()
        self._bar = _Bar(self, total=1, desc=title) if bar else None
        self._over = False
        self._told = 0.0  # when there was a sign of progress
        self._step.connect(self._show)

        set_thread_limits(_limits())

        def run() -> tuple[Any, Exception | None]:
            try:
                with notify_when_compiling(lambda: self._step.emit(COMPILING, 0, 1)):
                    return self._calls[0](self._progress), None
            except Exception as error:  # a worker's own `errored` breaks napari with PySide6
                return None, error

        self.worker = create_worker(run)
        self.worker.returned.connect(self._returned)

    def start(self) -> None:
        """Begin."""
        self.worker.start()

    def cancel(self) -> None:
        """End at the next item of whatever loop is running."""
        self._stop.set()

    def leave(self) -> None:
        """End likewise, and say nothing of it: whoever asked is gone."""
        self.cancel()
        self._finish()

    def _progress(self, items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        """Runs in the thread; tells the window's thread by a signal."""
        for i, item in enumerate(items):
            if self._stop.is_set() or self.worker.abort_requested:  # which napari does as it quits
                raise Cancelled
            if time.monotonic() - self._told > INTERVAL:
                self._told = time.monotonic()
                self._step.emit(desc, i, len(items))
            yield item

    def _show(self, desc: str, i: int, count: int) -> None:
        bar = self._bar
        if bar is None or self._over or self._stop.is_set() or Job._showing:
            return
        Job._showing = True  # calls on a bar let other events run: its end, and signs like this
        try:
            self._calls[2](f"{desc}: {i + 1} of {count}")
            bar.total = count
            bar.set_description(f"{self._title}: {desc}")
            if self._bar is not None:
                bar.update(i - bar.n)
        finally:
            Job._showing = False

    def _returned(self, outcome: tuple[Any, Exception | None]) -> None:
        result, error = outcome
        if self._stop.is_set():
            error = Cancelled()
        if error is not None:
            self._errored(error)
            return
        in_turns(self._parts(result), lambda: self._end(DONE), self._errored)

    def _parts(self, result: Any) -> Iterator[None]:
        rest = self._calls[1](result)
        if rest is not None:
            yield from rest

    def _errored(self, error: Exception) -> None:
        if self._over:
            return
        if isinstance(error, Cancelled):
            self._end("cancelled; nothing has changed")
            return
        if not isinstance(error, ValueError | ImportError | OSError):
            LOGGER.error("%s failed", self._title, exc_info=error)
        loud = self._bar is not None
        sentence = str(error) or type(error).__name__
        self._end(f"{FAILED}: {sentence}")
        if loud:
            show_error(f"{self._title}: {sentence}")

    def _end(self, sentence: str) -> None:
        if self._over:
            return
        _, _, said, ended = self._calls
        if self._bar is not None or sentence.startswith(FAILED):
            said(sentence)
        ended()
        self._finish()

    def _finish(self) -> None:
        self._over, self._calls = True, (_nothing,) * 4  # lets go of what it worked on
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()


def _nothing(*_: Any) -> None:
    """Instead of what a job calls, once it is over: napari's window keeps workers, and they it."""


def _limits() -> ThreadLimits:
    """What the person allows on our page of napari's preferences; 0 leaves it to the machine."""
    try:
        chosen = get_plugin_settings("napari-dff").processing
        return ThreadLimits(chosen.threads or None, chosen.memory or None)
    except (AttributeError, KeyError):  # not opened through the plugin
        return ThreadLimits()


class _Bar(cancelable_progress):
    """Bar in the activity dock; its button cancels the job."""

    def __init__(self, job: Job, **settings: Any) -> None:
        super().__init__(**settings)
        self._job = job

    def cancel(self) -> None:
        super().cancel()
        self._job.cancel()
