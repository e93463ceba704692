"""A computation in a thread, with progress, cancelling and errors: once, for every widget."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from napari.qt.threading import create_worker
from napari.utils import cancelable_progress
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_dff.compiled import when_compiling
from napari_dff.progress import Cancelled, Progress

T = TypeVar("T")
INTERVAL = 0.05  # seconds between two signs of progress
COMPILING = "Compiling, which only the first run on a machine does"
LOGGER = logging.getLogger(__name__)


class Job(QObject):
    """One computation in a thread.

    Parameters
    ----------
    title : str
        What a person calls it.
    compute : callable
        Gets a `Progress`; runs in the thread; must not touch layers.
    done : callable
        Gets what `compute` gave back; runs in the window's thread.
    said : callable
        Gets a short sentence whenever there is something to say.
    ended : callable
        Called once at the end, however it ended.
    """

    _step = Signal(str, int, int)

    def __init__(
        self,
        title: str,
        compute: Callable[[Progress], T],
        done: Callable[[T], None],
        said: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        super().__init__()
        self._title, self._done, self._said, self._ended = title, done, said, ended
        self._stop = threading.Event()
        self._bar: _Bar | None = _Bar(self, total=1, desc=title)
        self._step.connect(self._show)

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
        if bar is None or self._stop.is_set():
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
        try:
            self._done(result)
        except Exception as error:
            self._errored(error)
        else:
            self._end("done")

    def _errored(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            self._end("cancelled; nothing has changed")
            return
        if not isinstance(error, ValueError | ImportError | OSError):
            LOGGER.error("%s failed", self._title, exc_info=error)
        self._end(f"failed: {error}")
        show_error(f"{self._title}: {error}")

    def _end(self, sentence: str) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            self._said(sentence)
            self._ended()
            bar.close()


class _Bar(cancelable_progress):
    """Bar in the activity dock; its button cancels the job."""

    def __init__(self, job: Job, **settings: Any) -> None:
        super().__init__(**settings)
        self._job = job

    def cancel(self) -> None:
        super().cancel()
        self._job.cancel()
