"""The command line program. Imports no Qt, no napari, and numerical libraries only when needed."""

import contextlib
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import napari_dff
from napari_dff.cli import commands as cli_commands
from napari_dff.cli.log import LOGGER, open_log
from napari_dff.cli.options import DEFAULT_LOG, current_arguments, read_recipe_option
from napari_dff.cli.output import accept_unread_output, report, show
from napari_dff.cli.parsing import PROGRAM, parse_command
from napari_dff.cli.project import project
from napari_dff.cli.repeats import repeats
from napari_dff.cli.report import write_report
from napari_dff.cli.two_surfaces import two_surfaces
from napari_dff.cli.watch import watch
from napari_dff.runtime.progress import Cancelled

NO_THREAD = "can't start new thread"  # the words of Python
COMMANDS: dict[str, Callable[..., int | None]] = {
    "run": cli_commands.run,
    "batch": cli_commands.batch,
    "watch": watch,
    "project": project,
    "repeats": repeats,
    "report": write_report,
    "two-surfaces": two_surfaces,
    "info": cli_commands.info,
    "sample": cli_commands.sample,
    "warm-up": cli_commands.warm_up,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    0 if it succeeded, 1 if some stacks of a batch failed, 2 with a message for bad input,
    128 + the number of the signal if it was interrupted.
    """
    arguments = current_arguments(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["--version"]:
        show(f"{PROGRAM} {napari_dff.__version__}")
        return 0
    with contextlib.ExitStack() as log:
        try:
            recipe = read_recipe_option(arguments)
            command = parse_command(COMMANDS, arguments, settings=recipe)
            log.enter_context(open_log(command.keywords.get("log", DEFAULT_LOG), arguments))
            with warnings.catch_warnings():
                warnings.showwarning = _print_warning
                return command() or 0
        except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and NO_THREAD not in str(error):
                raise  # a defect of the program
            report(f"{PROGRAM}: {_error_message(error)}")
            LOGGER.error("%s", _error_message(error), exc_info=error)
            return 2
        except (KeyboardInterrupt, Cancelled) as error:
            report(f"{PROGRAM}: cancelled; incomplete results were not written")
            LOGGER.warning("cancelled")
            return 128 + next(iter(error.args), signal.SIGINT)


def program() -> None:
    """Run `main` as a program and exit."""
    accept_unread_output()
    for name in ("SIGTERM", "SIGHUP"):  # sent by cluster schedulers and closed terminals
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        code: Any = main()
    except SystemExit as stop:  # of the help
        code = stop.code
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # nothing to flush at exit
            report(f"{PROGRAM}: the output can't be written: {error.strerror}")
            code = 2
    gc.freeze()  # skips the garbage collection at exit, which takes 0.3 s
    sys.exit(code)


def _interrupt(number: int, _: object) -> None:
    raise KeyboardInterrupt(number)


def _error_message(error: Exception) -> str:
    """Return the message of an error on one line."""
    if isinstance(error, MemoryError):
        return f"memory is full ({error}): give --memory 1GB, say, to work in tiles"
    if NO_THREAD in str(error):
        limits = "of memory (ulimit -v) or of processes (ulimit -u, cgroup pids)"
        return f"{NO_THREAD}: raise the limit {limits}, or give --threads 1"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).splitlines()) or repr(error)


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    report(f"{PROGRAM}: {message}")
    LOGGER.warning("%s", message)
