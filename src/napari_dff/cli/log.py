"""What a command did, for --verbose and --log-file."""

import contextlib
import logging
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import napari_dff
from napari_dff.cli.options import LogOptions
from napari_dff.runtime.words import printable

LOGGER = logging.getLogger("napari_dff")
LOGGER.addHandler(logging.NullHandler())
LOG_START, LOG_START_BYTES = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ "), 40
FORMAT = "%(asctime)s %(levelname)s %(message)s"


@contextlib.contextmanager
def open_log(options: LogOptions, arguments: Sequence[str]) -> Iterator[None]:
    """Log to stderr, to a file or to neither, as the options demand.

    Warnings and errors are printed in any case, and so are not repeated on stderr.
    """
    handlers: list[logging.Handler] = []
    if options.verbose:
        handlers.append(logging.StreamHandler(sys.stderr))
        handlers[0].addFilter(lambda record: record.levelno < logging.WARNING)
    if options.log_file is not None:
        handlers.append(_open_log_file(options.log_file))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
        LOGGER.addHandler(handler)
    level = LOGGER.level
    LOGGER.setLevel(logging.DEBUG if handlers else level)
    try:
        LOGGER.info("napari-dff %s: %s", napari_dff.__version__, " ".join(arguments))
        LOGGER.debug("Python %s, %s", platform.python_version(), platform.platform())
        yield
    finally:
        LOGGER.setLevel(level)
        for handler in handlers:
            LOGGER.removeHandler(handler)
            handler.close()


def _open_log_file(path: Path) -> logging.Handler:
    """Open a file to append to; an error for another file than a log, which would be spoilt."""
    if path.exists() and not path.is_file():
        raise ValueError(f"log-file must be a regular file, got {path}")
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            if not LOG_START.match(file.read(LOG_START_BYTES)):
                raise FileExistsError(f"{path} is no log of napari-dff: give another --log-file")
    return _LogFile(path, encoding="utf-8")


class _LogFile(logging.FileHandler):
    """A log whose errors, as of a full disk, are reported once and end nothing."""

    _has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self._has_failed:
            print(
                printable(f"napari-dff: the log can't be written: {sys.exc_info()[1]}"),
                file=sys.stderr,
            )
        self._has_failed = True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


def _make_printable(record: logging.LogRecord) -> bool:
    """Escape what is not printable in a message, and keep it in one line."""
    record.msg, record.args = printable(record.getMessage()), ()
    return True


LOGGER.addFilter(_make_printable)
