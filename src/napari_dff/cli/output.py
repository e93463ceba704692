"""Text and progress bars on stdout and stderr.

Without control characters, and without an error if they are not read.
"""

import errno
import io
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from napari_dff.cli.log import LOGGER
from napari_dff.runtime.words import printable

if TYPE_CHECKING:
    from napari_dff.runtime.progress import Progress

UNREAD_ERRORS = {errno.EPIPE, errno.EBADF, errno.EIO}  # its reader ended, it or a terminal closed
if sys.platform == "win32":
    UNREAD_ERRORS.add(errno.EINVAL)  # of a pipe whose reader ended


def show(*lines: object) -> None:
    """Print lines to stdout."""
    for line in lines:
        print(printable(line))


def report(*lines: object) -> None:
    """Print lines to stderr."""
    for line in lines:
        print(printable(line), file=sys.stderr)


def progress_bar(quiet: bool) -> "Progress":
    """Return a progress that shows bars in the terminal; bars of finished tiles are removed.

    Without a terminal, or if `quiet`, tqdm is not used: its lock is shared by forked processes, and
    one that is killed while it holds the lock stops all others.
    """
    is_shown = not quiet and sys.stderr.isatty()

    def bar(items, /, *, desc):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        if is_shown:
            from tqdm import tqdm

            items = tqdm(items, desc=f"{desc:<24}", leave="tile" not in desc)
        yield from items
        LOGGER.debug("%s: %.2f s", desc, time.perf_counter() - start)

    return bar


def accept_unread_output() -> None:
    """Let all that is written to stdout and stderr be dropped where they are closed or unread.

    A descriptor that is closed is opened, as otherwise the next file to be opened would get its
    number, and what libraries print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            file = io.BufferedWriter(_UnreadableFile(stream.fileno(), "w", closefd=False))
            text = io.TextIOWrapper(file, stream.encoding, "backslashreplace")
            text.reconfigure(line_buffering=stream.line_buffering)
            setattr(sys, name, text)


class _UnreadableFile(io.FileIO):
    """A file that drops bytes that cannot be written, as it or its reader is closed."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in UNREAD_ERRORS:
                raise
            return memoryview(data).nbytes
