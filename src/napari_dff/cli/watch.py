"""The command watch of the command line."""

import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import tyro

from napari_dff.cli import options
from napari_dff.cli.log import LOGGER
from napari_dff.cli.output import report, show
from napari_dff.model.recipe import Recipe


def watch(
    folder: Annotated[tyro.conf.Positional[Path], options.metavar("FOLDER", "(required)")],
    *,
    out: Path,
    planes: Annotated[int | None, options.metavar("INT")] = None,
    settle: float = 10.0,
    interval: float = 1.0,
    until: Annotated[int | None, options.metavar("INT")] = None,
    idle: Annotated[float | None, options.metavar("FLOAT")] = None,
    settings: tyro.conf.OmitArgPrefixes[Recipe] = options.DEFAULT_RECIPE,
    reading: tyro.conf.OmitArgPrefixes[options.ReadingOptions] = options.DEFAULT_READING,
    processing: tyro.conf.OmitArgPrefixes[options.ProcessingOptions] = options.DEFAULT_PROCESSING,
    log: tyro.conf.OmitArgPrefixes[options.LogOptions] = options.DEFAULT_LOG,
) -> int:
    """Compute each stack in a folder when its last plane is written, until Ctrl-C.

    A sentence follows at once if a stack starts too late or stops too early, while it can be taken
    again. The same command continues after an interruption, as with batch; summary.csv and
    summary.json list the outcomes.

    Parameters
    ----------
    folder
        Folder that a microscope writes stacks into: files, or folders of frames or of
        Micro-Manager, also in folders of folders.
    out
        Folder for all results, summary.csv and summary.json.
    planes
        Number of images of a complete stack, those of all channels together; by default that of
        its metadata, if they have it.
    settle
        Seconds without a change, after which a stack is complete in any case.
    interval
        Seconds from one look at the folder to the next.
    until
        End when so many stacks have a result.
    idle
        End after so many seconds without anything new.
    settings
        The recipe; overrides --recipe.
    reading
        How to read the planes.
    processing
        Recipe file, input from earlier runs, resources and output.
    log
        What the command reports.
    """
    from napari_dff.batch.watch import WatchSettings, messages_of
    from napari_dff.batch.watch import watch as watch_folder

    folder, out = folder.absolute(), out.absolute()
    conditions = WatchSettings(
        planes=planes, settle_s=settle, interval_s=interval, idle_s=idle, until=until
    )
    named: dict[str, Any] = {"threads": processing.threads, "check": processing.check_inputs}
    named |= {"axes": reading.axes or None, "spacing": reading.spacing or None}
    outcomes = watch_folder(folder, out, processing.job(settings), conditions, **named)
    states: dict[str, str] = {}
    warnings.simplefilter("ignore", UserWarning)  # the outcomes have them
    try:
        if not log.quiet:
            _show_now(f"{folder}: waiting for stacks; Ctrl-C ends")
        for outcome in outcomes:
            states[outcome.label] = outcome.state
            LOGGER.info("%s: %s, %.2f s", outcome.label, outcome.state, outcome.seconds)
            for text, is_warning in messages_of(outcome):
                if is_warning:
                    report(text)
                elif not log.quiet:
                    _show_now(text)
    except KeyboardInterrupt as error:
        report("napari-dff: interrupted; the same command continues")
        return 128 + next(iter(error.args), signal.SIGINT)
    return int("failed" in states.values())


def _show_now(text: str) -> None:
    """Print a line that a program which reads the output gets at once."""
    show(text)
    sys.stdout.flush()
