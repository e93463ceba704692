"""The commands run, batch, info, sample and warm-up of the command line."""

import functools
import itertools
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from napari_dff.cli import options
from napari_dff.cli.log import LOGGER
from napari_dff.cli.output import progress_bar, report, show
from napari_dff.model.recipe import Recipe
from napari_dff.runtime.words import printable

if TYPE_CHECKING:
    from napari_dff.batch.job import Job
    from napari_dff.batch.summary import Outcome
    from napari_dff.batch.tasks import Task
    from napari_dff.model.acquisition import Acquisition
    from napari_dff.pipeline.planning import Plan

COMPILING = "napari-dff: compiling, once per installation: some 15 seconds"


def run(
    stack: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], options.metavar("STACK", "(required)")
    ],
    *,
    out: Path,
    settings: tyro.conf.OmitArgPrefixes[Recipe] = options.DEFAULT_RECIPE,
    reading: tyro.conf.OmitArgPrefixes[options.ReadingOptions] = options.DEFAULT_READING,
    processing: tyro.conf.OmitArgPrefixes[options.ProcessingOptions] = options.DEFAULT_PROCESSING,
    log: tyro.conf.OmitArgPrefixes[options.LogOptions] = options.DEFAULT_LOG,
) -> None:
    """Align a focal stack, compute its depth map and all-in-focus image, and write all results.

    The stacks of all times and positions of a file are computed one by one. The images of several
    times have an axis T; each of several positions gets its own folder.

    Parameters
    ----------
    stack
        Folder with one image per plane, or these images; TIFF, OME-TIFF, OME-Zarr, LSM, STK,
        NDTiff, animated image or video.
    out
        Folder for depth, index, uncertainty and all_in_focus (.ome.tif or .ome.zarr), recipe.json,
        provenance.json, transforms.json and preview.png.
    settings
        The recipe; overrides --recipe.
    reading
        How to read the planes.
    processing
        Recipe file, input from earlier runs, resources and output.
    log
        What the command reports.
    """
    # Read when numpy is imported. Threads of OpenBLAS would wait for work in loops beside ours.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from napari_dff.batch.executors import WORKER_RANGE
    from napari_dff.io import folder_names
    from napari_dff.runtime.jit import notify_when_compiling
    from napari_dff.runtime.threads import ThreadLimits, set_thread_limits

    if processing.threads is not None:
        WORKER_RANGE.check("threads", processing.threads)
    set_thread_limits(ThreadLimits(threads=processing.threads))
    job, acquisitions = processing.job(settings), reading.read(stack)
    names = folder_names([acquisition.name for acquisition in acquisitions])
    processing.check_inputs([out / name for name in names])
    source = stack[0].absolute() if len(stack) == 1 else stack[0].absolute().parent

    @functools.cache  # printed once
    def announce() -> None:
        report(COMPILING)

    with notify_when_compiling(announce):
        for acquisition, name in zip(acquisitions, names, strict=True):
            _run_position(job.at(name), acquisition, out / name, source, log.quiet)


def _run_position(
    job: "Job", acquisition: "Acquisition", folder: Path, source: Path, quiet: bool
) -> None:
    from napari_dff.io.readers.results import earlier_input

    start = time.perf_counter()
    plan = job.plan(acquisition)
    LOGGER.info("%s: %s", folder, _estimate(plan))
    if not quiet:
        if earlier := earlier_input(folder):
            report(f"{folder}: replaces the result of {earlier}")
        report(_estimate(plan))
    summary = job.run(acquisition, folder, plan, {"path": str(source)}, progress_bar(quiet))
    if not quiet:
        pixels = acquisition.times * acquisition.data.shape[3] * acquisition.data.shape[4]
        show(f"{folder}: depth of {pixels:,} pixels in {time.perf_counter() - start:.1f} s")
        show(*summary)


def _estimate(plan: "Plan") -> str:
    """Return memory and tiles of a run in words."""
    count = len(plan.windows)
    tiles = "all at once" if count == 1 else f"in {count} tiles"
    tiles += ", planes in a temporary file" * plan.in_file
    threads = "" if plan.threads is None else f", threads limited to {plan.threads}"
    return f"estimate: {plan.megabytes / 1000:.2f} GB of memory, {tiles}{threads}"


def info(
    stack: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], options.metavar("STACK", "(required)")
    ],
    *,
    reading: tyro.conf.OmitArgPrefixes[options.ReadingOptions] = options.DEFAULT_READING,
    log: tyro.conf.OmitArgPrefixes[options.LogOptions] = options.DEFAULT_LOG,
) -> None:
    """Print number, size, type and positions of the planes, and times, channels and positions.

    Parameters
    ----------
    stack
        What run reads: a folder with one image per plane, TIFF, OME-TIFF, OME-Zarr, …
    reading
        How to read the planes.
    log
        What the command reports.
    """
    from napari_dff.model.units import depth_unit_symbol

    for i, acquisition in enumerate(reading.read(stack)):
        if i:
            show("")
        data, unit = acquisition.data, acquisition.unit
        times, channels, planes, rows, columns, *colour = data.shape
        names = (f"{k} {name}".strip() for k, name in enumerate(acquisition.channels))
        first, last = acquisition.positions[0, [0, -1]]
        kind = f"{data.dtype}, colour" if colour else data.dtype
        lines = {
            "position": acquisition.name,
            "times": times if times > 1 else "",
            "channels": ", ".join(names) if channels > 1 else "",
            "planes": f"{planes} of {rows} × {columns} pixels, {kind}",
            "positions": f"{first:g} to {last:g} {depth_unit_symbol(unit)}",
            "pixel size": _pixel_size(acquisition),
            "memory": f"{data.nbytes / 1e6:.1f} MB",
        }
        show(*(f"{label:<12}{text}" for label, text in lines.items() if text))


def _pixel_size(acquisition: "Acquisition") -> str:
    """Return the height and width of a pixel in words."""
    from napari_dff.model.units import unit_symbol

    height, width = acquisition.pixel_size
    if not acquisition.has_pixel_size:
        return "unknown"
    is_ratio = acquisition.unit == "pixel" and (height, width) != (1, 1)
    unit = "times the distance of planes" if is_ratio else unit_symbol(acquisition.unit)
    return f"{height:g} × {width:g} {unit}"


def batch(
    stacks: Annotated[
        tyro.conf.Positional[tuple[str, ...]], options.metavar("STACK [STACK ...]", "(required)")
    ],
    *,
    out: Path,
    settings: tyro.conf.OmitArgPrefixes[Recipe] = options.DEFAULT_RECIPE,
    reading: tyro.conf.OmitArgPrefixes[options.ReadingOptions] = options.DEFAULT_READING,
    processing: tyro.conf.OmitArgPrefixes[options.ProcessingOptions] = options.DEFAULT_PROCESSING,
    workers: Annotated[int | None, options.metavar("INT")] = None,
    scheduler: Annotated[str, options.metavar("ADDRESS")] = "",
    log: tyro.conf.OmitArgPrefixes[options.LogOptions] = options.DEFAULT_LOG,
) -> int:
    """Compute many stacks: each file, position and time separately.

    Each stack gets its own folder; summary.csv and summary.json list the outcomes. A stack is
    skipped if its result is complete and neither its planes nor the settings have changed, so that
    the same command continues an interrupted batch.

    Parameters
    ----------
    stacks
        Files and folders, or patterns in quotes: "plates/*/*.ome.tif".
    out
        Folder for all results, summary.csv and summary.json.
    settings
        The recipe; overrides --recipe.
    reading
        How to read the planes.
    processing
        Input from earlier runs, resources and output. Memory is that of all processes on this
        machine together, or of each worker of a cluster. Threads are those of each worker; by
        default the workers share all cores, or have one thread each if --workers is given.
    workers
        Number of processes on this machine; by default one for each core.
    scheduler
        Address of a running Dask scheduler, tcp://…, to use its workers instead.
    log
        What the command reports.
    """
    from napari_dff.batch.executors import share_resources
    from napari_dff.batch.summary import check_summary, write_summary
    from napari_dff.batch.tasks import make_tasks

    start = time.perf_counter()
    check_summary(out, processing.overwrite)
    job, axes, spacing = processing.job(settings), reading.axes or None, reading.spacing or None
    tasks, failures = make_tasks(stacks, out, job, axes=axes, spacing=spacing)
    processing.check_inputs([task.folder for task in tasks])
    tasks, workers = share_resources(tasks, workers, processing.threads, scheduler)
    outcomes, code = _run_batch(tasks, failures, workers, scheduler, log.quiet)
    write_summary(out, outcomes, processing.overwrite, processing.record_paths)
    states = [outcome.state for outcome in outcomes]
    show(
        f"{out}: {states.count('done')} done, {states.count('found')} there already, "
        f"{states.count('failed')} failed, in {time.perf_counter() - start:.1f} s; see summary.csv"
    )
    return code


def _run_batch(
    tasks: "list[Task]", failures: "list[Outcome]", workers: int, scheduler: str, quiet: bool
) -> "tuple[list[Outcome], int]":
    """Run tasks with a progress bar; return all outcomes and the exit code."""
    from tqdm import tqdm

    from napari_dff.batch.executors import run_tasks

    outcomes, code = [], 0
    with tqdm(total=len(tasks), desc="Stacks", unit="stack", disable=quiet or None) as bar:
        results = run_tasks(tasks, workers=workers, scheduler=scheduler)
        try:
            for outcome in itertools.chain(failures, results):
                outcomes.append(outcome)
                LOGGER.info("%s: %s, %.2f s", outcome.label, outcome.state, outcome.seconds)
                if outcome.state == "failed":
                    code = 1
                    bar.write(printable(f"failed: {outcome.label}: {outcome.why}"), file=sys.stderr)
                elif outcome.replaced and not quiet:
                    text = f"{outcome.folder}: replaced the result of {outcome.replaced}"
                    bar.write(printable(text), file=sys.stderr)
                if outcome.notes:
                    LOGGER.warning("%s: %s", outcome.label, outcome.notes)
                if outcome.notes and not quiet:
                    bar.write(printable(f"{outcome.label}: {outcome.notes}"), file=sys.stderr)
                bar.update(outcome not in failures)
        except KeyboardInterrupt as error:
            report("napari-dff: interrupted; the same command continues the batch")
            code = 128 + next(iter(error.args), signal.SIGINT)
    return outcomes, code


def sample(
    name: tyro.conf.Positional[
        Literal["all", "rough_surface", "cell_sheet", "machined_part", "bare_patch"]
    ],
    *,
    out: Path,
    render: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a sample focal stack with its true depth and its true all-in-focus image.

    Parameters
    ----------
    name
        Name of the sample.
    out
        Folder for the files.
    render
        Render the sample again instead of copying the bundled files.
    overwrite
        Replace other files of these names, too.
    """
    from napari_dff import synthetic
    from napari_dff.io import SAMPLE_NAMES, copy_sample, write_sample

    for sample_name in SAMPLE_NAMES if name == "all" else (name,):
        if render:
            write_sample(sample_name, synthetic.SCENES[sample_name](), out, overwrite=overwrite)
        else:
            copy_sample(sample_name, out, overwrite=overwrite)
        show(out / f"{sample_name}.ome.tif")


def warm_up(*, log: tyro.conf.OmitArgPrefixes[options.LogOptions] = options.DEFAULT_LOG) -> None:
    """Compile all kernels, once per installation, so that the first run does not wait for it.

    Parameters
    ----------
    log
        What the command reports.
    """
    from napari_dff.pipeline.warm_up import warm_up

    start = time.perf_counter()
    warm_up(progress_bar(log.quiet))
    if not log.quiet:
        show(f"all kernels are compiled, in {time.perf_counter() - start:.1f} s")
