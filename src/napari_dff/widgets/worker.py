"""A computation in a thread, with progress, cancelling and errors: once, for every widget."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from napari.qt.threading import create_worker
from napari.settings import get_plugin_settings
from napari.utils import cancelable_progress
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_dff.compiled import when_compiling
from napari_dff.progress import Cancelled, Progress
from napari_dff.tiles import Limits, limit

T = TypeVar("T")
INTERVAL = 0.05  # seconds between two signs of progress
BREATH = 10  # ms for the window between two layers of a result
COMPILING = "Compiling, which only the first run on a machine does"
DONE, FAILED = "done", "failed"
LOGGER = logging.getLogger(__name__)


def in_turns(
    parts: Iterator[None],
    ended: Callable[[], None] = lambda: None,
    failed: Callable[[Exception], None] | None = None,
) -> None:
    """Go through `parts` with a breath for the window after each, and then call `ended`.

    Whatever adds or removes several layers is done like this: the window stays alive, and napari's
    canvas, which can crash where layers are removed and others added before it has drawn, draws.
    """
    try:
        next(parts)
    except StopIteration:
        ended()
    except Exception as error:
        if failed is None:
            raise
        failed(error)
    else:
        QTimer.singleShot(BREATH, partial(in_turns, parts, ended, failed))


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
        self._title, self._done, self._said, self._ended = title, done, said, ended
        self._stop = threading.Event()
        self._bar = _Bar(self, total=1, desc=title) if bar else None
        self._over = False
        self._step.connect(self._show)

        limit(_limits())

        def run() -> T:
            with when_compiling(lambda: self._step.emit(COMPILING, 0, 1)):
                return compute(self._progress)

        self.worker = create_worker(run, _ignore_errors=True)
        self.worker.returned.connect(self._returned)
        self.worker.errored.connect(self._errored)

    def start(self) -> None:
        """Begin."""
        self.worker.start()

    def cancel(self) -> None:
        """End at the next item of whatever loop is running."""
        self._stop.set()

    def _progress(self, items: Sequence[T], /, *, desc: str) -> Iterable[T]:
        """Runs in the thread; tells the window's thread by a signal."""
        last = 0.0
        for i, item in enumerate(items):
            if self._stop.is_set():
                raise Cancelled
            if time.monotonic() - last > INTERVAL:
                last = time.monotonic()
                self._step.emit(desc, i, len(items))
            yield item

    def _show(self, desc: str, i: int, count: int) -> None:
        bar = self._bar
        if self._over or self._stop.is_set():
            return
        if bar is None:
            return
        self._said(f"{desc}: {i + 1} of {count}")
        bar.total = count
        bar.set_description(f"{self._title}: {desc}")
        if self._bar is not None:  # each call on a bar lets other events run, its end among them
            bar.update(i - bar.n)

    def _returned(self, result: Any) -> None:
        if self._stop.is_set():
            self._errored(Cancelled())
            return
        in_turns(self._parts(result), lambda: self._end(DONE), self._errored)

    def _parts(self, result: Any) -> Iterator[None]:
        rest = self._done(result)
        if rest is not None:
            yield from rest

    def _errored(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            self._end("cancelled; nothing has changed")
            return
        if not isinstance(error, ValueError | ImportError | OSError):
            LOGGER.error("%s failed", self._title, exc_info=error)
        loud = self._bar is not None
        self._end(f"{FAILED}: {error}")
        if loud:
            show_error(f"{self._title}: {error}")

    def _end(self, sentence: str) -> None:
        if self._over:
            return
        self._over = True
        bar, self._bar = self._bar, None
        if bar is not None or sentence.startswith(FAILED):
            self._said(sentence)
        self._ended()
        if bar is not None:
            bar.close()


def _limits() -> Limits:
    """What the person allows on our page of napari's preferences; 0 leaves it to the machine."""
    try:
        chosen = get_plugin_settings("napari-dff").processing
        return Limits(chosen.threads or None, chosen.memory or None)
    except (AttributeError, KeyError):  # not opened through the plugin
        return Limits()


class _Bar(cancelable_progress):
    """Bar in the activity dock; its button cancels the job."""

    def __init__(self, job: Job, **settings: Any) -> None:
        super().__init__(**settings)
        self._job = job

    def cancel(self) -> None:
        super().cancel()
        self._job.cancel()
