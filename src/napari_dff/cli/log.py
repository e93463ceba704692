"""What a command did, for --verbose and --log-file."""

import contextlib
import logging
import platform
import sys
from collections.abc import Iterator, Sequence

import napari_dff
from napari_dff.cli.options import LogOptions
from napari_dff.runtime.words import printable

LOGGER = logging.getLogger("napari_dff")
LOGGER.addHandler(logging.NullHandler())
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
        handlers.append(logging.FileHandler(options.log_file, encoding="utf-8"))
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


def _make_printable(record: logging.LogRecord) -> bool:
    """Escape what is not printable in a message, and keep it in one line."""
    record.msg, record.args = printable(record.getMessage()), ()
    return True


LOGGER.addFilter(_make_printable)
