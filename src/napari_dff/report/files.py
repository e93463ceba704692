"""Write the reports of results into their folders, and an overview of several results."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from napari_dff.batch.summary import SUMMARY_RECORD
from napari_dff.io.atomic import write_file, write_folder
from napari_dff.io.file_checks import check_own, check_suffix, compute_digest, write_record
from napari_dff.io.readers.results import is_result_folder, read_provenance
from napari_dff.io.records import PROVENANCE_FILE, REPORT_FILES, read_json, write_json
from napari_dff.io.staging import STAGING_SUFFIX, recover
from napari_dff.io.writers.result_files import RESULT_NAMES
from napari_dff.report.content import Link, Part, Picture, Pictures, Report, Sentences, Table
from napari_dff.report.html import write_html
from napari_dff.report.parameters import DEFAULT_SETTINGS, ParameterSettings
from napari_dff.report.pdf import write_pdf
from napari_dff.report.result import read_report
from napari_dff.runtime.progress import Progress, iterate, no_progress

WRITERS: dict[str, Callable[[Path, Report], None]] = {".html": write_html, ".pdf": write_pdf}
OVERVIEW_RECORD = "report.json"  # by which a later overview recognizes its own files
OVERVIEW_NAMES = (*REPORT_FILES, OVERVIEW_RECORD)
THUMBNAIL_PX = 760  # width of preview.png in an overview


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Write a report as .html or .pdf, complete or not at all."""
    path = check_suffix(path, WRITERS)
    with write_file(path) as new:
        WRITERS[path.suffix.lower()](new, report)


def write_reports(
    folder: Path,
    settings: ParameterSettings = DEFAULT_SETTINGS,
    *,
    time: int = 0,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> list[str]:
    """Write report.html and report.pdf into a folder of results; return what has failed.

    In a folder with several results below it, each gets its own report, and the folder an overview
    with links to them. ValueError if there are no results.
    """
    if not folder.is_dir():
        raise ValueError(f"folder must be that of a result or of a batch, got {str(folder)!r}")
    if is_result_folder(folder):
        _add_report(folder, read_report(folder, settings, time=time), overwrite)
        return []
    folders = sorted(_result_folders(folder))
    if not folders:
        raise ValueError(f"{folder} holds no results of a run: name the folder after --out")
    check_own(folder, OVERVIEW_NAMES, overwrite, OVERVIEW_RECORD)
    reports: dict[Path, Report] = {}
    failures = _failed_stacks(folder)
    for each in iterate(progress, folders, desc="Reports"):
        name = each.relative_to(folder).as_posix()
        try:
            report = read_report(each, settings, time=time)
            _add_report(each, report, overwrite)
            reports[each] = _without_pictures(report)
        except (OSError, ValueError) as error:  # of one result; the others have their reports
            failures.append((name, str(error)))
    overview = _overview(folder, reports, failures)
    check = partial(check_own, names=OVERVIEW_NAMES, overwrite=overwrite, record=OVERVIEW_RECORD)
    with write_folder(folder, OVERVIEW_NAMES, check) as new:
        _write_both(new, overview)
        names = [each.relative_to(folder).as_posix() for each in reports]
        write_record(new, {"results": names}, OVERVIEW_RECORD)
    return [f"{name}: {why}" for name, why in failures]


def _result_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders of results below a folder."""
    for path in folder.rglob(PROVENANCE_FILE):
        is_staged = any(part.endswith(STAGING_SUFFIX) for part in path.parts)
        if not is_staged and is_result_folder(path.parent):
            yield path.parent


def _add_report(folder: Path, report: Report, overwrite: bool) -> None:
    """Write a report into the folder of its result, and its digests into the record of the result.

    So it belongs to the result: a later run into the folder removes it.
    """
    recover(folder, RESULT_NAMES)
    check = partial(check_own, names=REPORT_FILES, overwrite=overwrite)
    with write_folder(folder, {*REPORT_FILES, PROVENANCE_FILE}, check) as new:
        _write_both(new, report)
        record = read_provenance(folder)
        digests = {name: compute_digest(new / name) for name in REPORT_FILES}
        write_json(
            new / PROVENANCE_FILE, {**record, "files": {**record.get("files", {}), **digests}}
        )


def _write_both(folder: Path, report: Report) -> None:
    for name in REPORT_FILES:
        WRITERS[Path(name).suffix](folder / name, report)


def _without_pictures(report: Report) -> Report:
    """Return a report without its images, of which an overview keeps many."""
    return report._replace(parts=[])


def _failed_stacks(folder: Path) -> list[tuple[str, str]]:
    """Return the stacks of a batch that have failed, and why."""
    try:
        rows = read_json(folder / SUMMARY_RECORD, "the summary of a batch")["stacks"]
        return [(str(row["stack"]), str(row["why"])) for row in rows if row["state"] == "failed"]
    except (OSError, ValueError, KeyError, TypeError):  # no batch
        return []


def _overview(folder: Path, reports: dict[Path, Report], failures: list[tuple[str, str]]) -> Report:
    """Return the overview of several results, each with a link to its own report."""
    names = {each: each.relative_to(folder).as_posix() for each in reports}
    targets = {each: f"{name}/{REPORT_FILES[0]}" for each, name in names.items()}
    columns = list(dict.fromkeys(key for each in reports.values() for key in each.numbers))
    rows: list[tuple[str | Link, ...]] = [
        (Link(names[each], targets[each]), *(report.numbers.get(key, "") for key in columns))
        for each, report in reports.items()
    ]
    warnings = [
        f"{names[each]}: {sentence}"
        for each, report in reports.items()
        for sentence in report.warnings
    ]
    thumbnails = [
        Picture(names[each], pixels, target=targets[each])
        for each in reports
        if (pixels := _thumbnail(each)) is not None
    ]
    counts = f"{len(reports)} results, {len(warnings)} warnings, {len(failures)} failures"
    parts: list[Part] = [
        Table("Results", rows, ("result", *columns), counts),
        Sentences("Warnings", warnings),
        *([Table("Failed", [*failures], ("stack", "why"))] if failures else []),
        Pictures("Pictures: all in focus, depth, uncertainty", thumbnails),
    ]
    return Report(folder.absolute().name, parts)


def _thumbnail(folder: Path) -> np.ndarray | None:
    """Return the preview of a result, reduced; None if it is missing or damaged."""
    try:
        with Image.open(folder / "preview.png") as image:
            small = image.convert("RGB")
            small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
            return np.asarray(small)
    except OSError:
        return None
