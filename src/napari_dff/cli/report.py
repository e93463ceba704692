"""The command report of the command line."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from napari_dff.cli import options
from napari_dff.cli.output import progress_bar, report, show


def write_report(
    folder: Annotated[tyro.conf.Positional[Path], options.metavar("FOLDER", "(required)")],
    *,
    levelling: Literal["plane", "polynomial", "none"] = "plane",
    degree: int = 2,
    s_filter: Annotated[float | None, options.metavar("FLOAT")] = None,
    l_filter: Annotated[float | None, options.metavar("FLOAT")] = None,
    filter_type: Literal["gaussian", "spline"] = "gaussian",
    time: int = 0,
    overwrite: bool = False,
    log: tyro.conf.OmitArgPrefixes[options.LogOptions] = options.DEFAULT_LOG,
) -> int:
    """Write the report of a result, report.html and report.pdf, into its folder.

    In a folder of several results, as batch writes it, each result gets its report, and the folder
    an overview with thumbnails and links.

    Parameters
    ----------
    folder
        Folder of a run, or one with the folders of several runs below it.
    levelling
        Form that is subtracted from the heights before their parameters are computed.
    degree
        Degree of the polynomial, 1 to 5.
    s_filter
        Nesting index of the S-filter in the unit of the stack: shorter waves, and noise, are
        removed.
    l_filter
        Nesting index of the L-filter in the unit of the stack: longer waves are removed.
    filter_type
        Kind of both filters, by ISO 16610.
    time
        The time that is reported, of a result of several times.
    overwrite
        Replace a report.html or report.pdf that napari-dff has not written, or that was changed
        since, too.
    log
        What the command reports.
    """
    from napari_dff.report.files import write_reports
    from napari_dff.report.parameters import ParameterSettings

    settings = ParameterSettings(levelling, degree, s_filter, l_filter, filter_type)
    progress = progress_bar(log.quiet)
    failures = write_reports(folder, settings, time=time, overwrite=overwrite, progress=progress)
    report(*(f"failed: {each}" for each in failures))
    if not log.quiet:
        show(folder / "report.html", folder / "report.pdf")
    return 1 if failures else 0
