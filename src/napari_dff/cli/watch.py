"""The command watch of the command line."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from napari_dff.cli import options
from napari_dff.cli.log import LOGGER
from napari_dff.cli.output import report, show
from napari_dff.model.recipe import Recipe

if TYPE_CHECKING:
    from napari_dff.batch.summary import Outcome


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
    from napari_dff.batch.summary import check_summary, write_summary
    from napari_dff.batch.watch import WatchSettings
    from napari_dff.batch.watch import watch as watch_folder

    folder, out = folder.absolute(), out.absolute()
    if not folder.is_dir():
        raise ValueError(f"folder must be one that stacks are written into, got {str(folder)!r}")
    check_summary(out, processing.overwrite)
    conditions = WatchSettings(planes=planes, settle_s=settle, interval_s=interval, idle_s=idle)
    named: dict[str, Any] = {"threads": processing.threads, "check": processing.check_inputs}
    named |= {"axes": reading.axes or None, "spacing": reading.spacing or None}
    outcomes: dict[tuple[object, ...], Outcome] = {}
    try:
        if not log.quiet:
            _show_now(f"{folder}: waiting for stacks; Ctrl-C ends")
        for outcome in watch_folder(folder, out, processing.job(settings), conditions, **named):
            outcomes[outcome.stack, outcome.position, outcome.time] = outcome
            _show_outcome(outcome, log.quiet)
            write_summary(out, [*outcomes.values()], processing.overwrite, processing.record_paths)
            results = {each.stack for each in outcomes.values() if each.state != "failed"}
            if until is not None and len(results) >= until:
                break
    except KeyboardInterrupt as error:
        report("napari-dff: interrupted; the same command continues")
        return 128 + next(iter(error.args), signal.SIGINT)
    return int(any(each.state == "failed" for each in outcomes.values()))


def _show_outcome(outcome: "Outcome", quiet: bool) -> None:
    """Print what has become of a stack, and at once whether it should be taken again."""
    from napari_dff.io.readers.results import read_provenance
    from napari_dff.pipeline.quality import is_about_range

    LOGGER.info("%s: %s, %.2f s", outcome.label, outcome.state, outcome.seconds)
    if outcome.state == "failed":
        report(f"failed: {outcome.label}: {outcome.why}")
        return
    if not quiet:
        words = {"done": f"computed in {outcome.seconds:.1f} s", "found": "there already"}
        _show_now(f"{outcome.label}: {words[outcome.state]}: {outcome.folder}")
    if outcome.notes:
        report(f"{outcome.label}: {outcome.notes}")
    for sentence in read_provenance(Path(outcome.folder)).get("advice", []):
        if is_about_range(sentence):
            report(f"take it again: {outcome.label}: {sentence}")


def _show_now(text: str) -> None:
    """Print a line that a program which reads the output gets at once."""
    show(text)
    sys.stdout.flush()
