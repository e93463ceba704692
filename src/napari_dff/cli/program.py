"""The command line program. Imports no Qt, no napari, and numerical libraries only when needed."""

import functools
import gc
import io
import signal
import sys
import warnings
from collections.abc import Callable, Sequence

import tyro

from napari_dff.cli import commands as cli_commands
from napari_dff.cli.options import current_arguments, read_recipe_option
from napari_dff.runtime.progress import Cancelled

DESCRIPTION = "Depth from focus: a focal stack becomes a depth map and an all-in-focus image."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    0 if it succeeded, 1 if some stacks of a batch failed, 2 with a message for bad input,
    128 + the number of the signal if it was interrupted.
    """
    arguments = current_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        recipe = read_recipe_option(arguments)
        commands: dict[str, Callable[..., int | None]] = {
            "run": functools.partial(cli_commands.run, settings=recipe),
            "batch": functools.partial(cli_commands.batch, settings=recipe),
            "info": cli_commands.info,
            "sample": cli_commands.sample,
        }
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            code: int | None = tyro.extras.subcommand_cli_from_dict(
                commands, args=arguments, prog="napari-dff", description=DESCRIPTION
            )
    except (ValueError, OSError, ImportError, MemoryError) as error:
        print(f"napari-dff: {_error_message(error)}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Cancelled) as error:
        print("napari-dff: cancelled; incomplete results were not written", file=sys.stderr)
        return 128 + next(iter(error.args), signal.SIGINT)
    return code or 0


def program() -> None:
    """Run `main` as a program and exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may not be encodable
        sys.stdout.reconfigure(errors="backslashreplace")
    for name in ("SIGTERM", "SIGHUP"):  # sent by cluster schedulers and closed terminals
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    code = main()
    gc.freeze()  # skips the garbage collection at exit, which takes 0.3 s
    sys.exit(code)


def _interrupt(number: int, _: object) -> None:
    raise KeyboardInterrupt(number)


def _error_message(error: Exception) -> str:
    """Return the message of an error on one line."""
    if isinstance(error, MemoryError):
        return f"memory is full ({error}): give --memory 1GB, say, to work in tiles"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).splitlines()) or repr(error)


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"napari-dff: {message}", file=sys.stderr)
