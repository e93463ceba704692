"""The command line: run, batch, info and sample. Knows no Qt and no napari."""

import argparse
import contextlib
import dataclasses
import functools
import gc
import io
import itertools
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from napari_dff.progress import Cancelled
from napari_dff.recipe import Recipe

if TYPE_CHECKING:
    from napari_dff.acquisition import Acquisition
    from napari_dff.job import Job
    from napari_dff.plan import Plan
    from napari_dff.progress import Progress

DEFAULTS = Recipe()
STARTING = 3.0  # seconds of a run for libraries, trying out and pictures
LONG = 30e6  # voxels, from which it is tried out how long a run takes
COMPILING = "napari-dff: the first run on this machine compiles its kernels: some 15 seconds"
DESCRIPTION = "Depth from focus: a focal stack becomes a depth map and an all-in-focus image."


def shown(value: str, hint: str = "") -> object:
    """How the help shows the value of a flag whose default is that it isn't given."""
    return tyro.conf.arg(metavar=value, help_behavior_hint=hint)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planes:
    """How to read the planes.

    Parameters
    ----------
    axes
        Names the axes where the file doesn't: letters from P (position), T, C, Z, Y, X, S (colour).
    spacing
        Distance of planes, or of planes, rows and columns, in µm; overrides the file's.
    """

    axes: Annotated[str, shown("LETTERS")] = ""
    spacing: Annotated[tuple[float, ...], shown("FLOAT [FLOAT FLOAT]")] = ()

    def read(self, path: Path) -> "tuple[Acquisition, ...]":
        """All positions of a file or folder."""
        from napari_dff.io import read_acquisitions

        return read_acquisitions(path, axes=self.axes or None, spacing=self.spacing or None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What to do beside the recipe.

    Parameters
    ----------
    focus_channel
        The channel whose focus tells the depth, by name or number, where there are several; all
        get an all-in-focus image.
    transforms
        transforms.json of another run of the same field: moves the planes as there, aligns nothing.
    depth_from
        Folder of another run of the same field: takes its plane map and its motion.
    memory
        What the program may hold, as 2GB or 500MB; what is free when not given. Planes that need
        more are done in tiles.
    threads
        How many work at a time; one for each core when not given.
    file_format
        Of the images.
    overwrite
        Replace files in the output folder that no run has written, or that were changed since, too.
    """

    focus_channel: Annotated[str, shown("NAME")] = ""
    transforms: Annotated[Path | None, shown("PATH")] = None
    depth_from: Annotated[Path | None, shown("PATH")] = None
    memory: Annotated[str, shown("SIZE")] = ""
    threads: Annotated[int | None, shown("INT")] = None
    file_format: Literal["ome-tiff", "ome-zarr"] = "ome-tiff"
    overwrite: bool = False

    def job(self, recipe: Recipe) -> "Job":
        """All of it together."""
        from napari_dff.io import read_transforms
        from napari_dff.job import Job

        moved = None if self.transforms is None else read_transforms(self.transforms)
        megabytes = _megabytes(self.memory) if self.memory else None
        channel = self.focus_channel or None
        known = None if self.depth_from is None else self.depth_from.absolute()
        return Job(recipe, channel, moved, known, megabytes, self.file_format, self.overwrite)

    def check_inputs(self, folders: Sequence[Path], recipe: Path | None) -> None:
        """Raise a ValueError where results in `folders` would replace transforms or recipe.

        The recipe of an earlier result may be replaced together with that.
        """
        from napari_dff.io.ownership import check_not_input, foreign_files
        from napari_dff.io.results import RESULT_NAMES

        if self.transforms is not None:
            check_not_input(folders, RESULT_NAMES, [self.transforms], "transforms")
        if recipe is not None and foreign_files(recipe.parent, [recipe.name]):
            check_not_input(folders, RESULT_NAMES, [recipe], "the recipe")


def run(
    stack: tyro.conf.Positional[Path],
    *,
    out: Path,
    settings: tyro.conf.OmitArgPrefixes[Recipe] = DEFAULTS,
    recipe: Annotated[Path | None, shown("PATH")] = None,
    planes: tyro.conf.OmitArgPrefixes[Planes] = Planes(),
    work: tyro.conf.OmitArgPrefixes[Work] = Work(),
    quiet: bool = False,
) -> None:
    """Align a focal stack, find its depth and write all results.

    Every time of a series, and every position of a file, is done on its own. Results of several
    times are one image with an axis T; several positions get a folder each.

    Parameters
    ----------
    stack
        Folder with one image a plane, TIFF, OME-TIFF or OME-Zarr.
    out
        Folder for depth, index, uncertainty and all_in_focus (.tif or .ome.zarr), recipe.json,
        provenance.json, transforms.json and preview.png.
    settings
        The recipe.
    recipe
        JSON file with settings, as a run writes it; flags given beside it win.
    planes
        How to read the planes.
    work
        What to do beside the recipe.
    quiet
        Show no progress.
    """
    from napari_dff.batch import WORKER_RANGE
    from napari_dff.compiled import notify_when_compiling
    from napari_dff.io import folder_names
    from napari_dff.io.ownership import earlier_input
    from napari_dff.quality import advice
    from napari_dff.threads import ThreadLimits, set_thread_limits

    if work.threads is not None:
        WORKER_RANGE.check("threads", work.threads)
    set_thread_limits(ThreadLimits(threads=work.threads))
    job, found = work.job(settings), planes.read(stack)
    names = folder_names([each.name for each in found])
    work.check_inputs([out / name for name in names], recipe)
    with notify_when_compiling(lambda: None if quiet else print(COMPILING, file=sys.stderr)):
        for acquisition, name in zip(found, names, strict=True):
            start, folder, mine = time.perf_counter(), out / name, job.at(name)
            plan = mine.plan(acquisition)
            if not quiet:
                if earlier := earlier_input(folder):
                    print(f"{folder}: replaces the result of {earlier}", file=sys.stderr)
                print(_foreseen(mine, acquisition, plan), file=sys.stderr)
            source = {"path": str(stack.absolute())}
            covered = mine.run(acquisition, folder, plan, source, _bar(quiet))
            if not quiet:
                pixels = acquisition.times * acquisition.data.shape[3] * acquisition.data.shape[4]
                seconds = time.perf_counter() - start
                print(f"{folder}: depth of {pixels:,} pixels in {seconds:.1f} s")
                print(*advice(covered), sep="\n")


def info(
    stack: tyro.conf.Positional[Path],
    *,
    planes: tyro.conf.OmitArgPrefixes[Planes] = Planes(),
) -> None:
    """Say what a focal stack is: planes, size, positions, units; times, channels and positions.

    Parameters
    ----------
    stack
        Folder with one image a plane, TIFF, OME-TIFF or OME-Zarr.
    planes
        How to read the planes.
    """
    from napari_dff.units import depth_unit_symbol, unit_symbol

    for i, found in enumerate(planes.read(stack)):
        if i:
            print()
        times, channels, count, *size = found.data.shape
        colour = ", colour" if len(size) == 3 else ""
        first, last = found.positions[0, [0, -1]]
        if found.name:
            print(f"position    {found.name}")
        if times > 1:
            print(f"times       {times}")
        if channels > 1:
            names = (f"{k} {name}".strip() for k, name in enumerate(found.channels))
            print(f"channels    {', '.join(names)}")
        print(f"planes      {count} of {size[0]} × {size[1]} pixels, {found.data.dtype}{colour}")
        print(f"positions   {first:g} to {last:g} {depth_unit_symbol(found.unit)}")
        height, width = found.pixel_size
        print(f"pixel size  {height:g} × {width:g} {unit_symbol(found.unit)}")
        print(f"memory      {found.data.nbytes / 1e6:.1f} MB")


def batch(
    stacks: Annotated[
        tyro.conf.Positional[tuple[str, ...]], shown("STACK [STACK ...]", "(required)")
    ],
    *,
    out: Path,
    settings: tyro.conf.OmitArgPrefixes[Recipe] = DEFAULTS,
    recipe: Annotated[Path | None, shown("PATH")] = None,
    planes: tyro.conf.OmitArgPrefixes[Planes] = Planes(),
    work: tyro.conf.OmitArgPrefixes[Work] = Work(),
    workers: Annotated[int | None, shown("INT")] = None,
    scheduler: Annotated[str, shown("ADDRESS")] = "",
    quiet: bool = False,
) -> int:
    """Do many stacks: every file, position and time on its own.

    Each gets a folder of its own in `out`, and summary.csv says what became of it. What is finished
    already, by the content of planes and settings, is not computed again: an interrupted batch goes
    on where it was.

    Parameters
    ----------
    stacks
        Files and folders, or patterns in quotes: "plates/*/*.ome.tif".
    out
        Folder for all results and summary.csv.
    settings
        The recipe.
    recipe
        JSON file with settings, as a run writes it; flags given beside it win.
    planes
        How to read the planes.
    work
        What to do beside the recipe. Memory is that of all workers here together, or of each on a
        cluster; threads are those of each worker, one when workers are given.
    workers
        Processes that work at a time on this machine; one for each core when not given.
    scheduler
        Address of a running Dask scheduler, tcp://…, to use its workers instead.
    quiet
        Show no progress.
    """
    from tqdm import tqdm

    from napari_dff import batch as many

    many.check_summary(out, work.overwrite)
    job = work.job(settings)
    axes, spacing = planes.axes or None, planes.spacing or None
    tasks, failed = many.make_tasks(stacks, out, job, axes=axes, spacing=spacing)
    work.check_inputs([task.folder for task in tasks], recipe)
    count, threads = many.worker_counts(workers, work.threads, len(tasks), scheduler)
    if not scheduler:
        job = dataclasses.replace(job, megabytes=many.memory_per_worker(job.megabytes, count))
    tasks = [dataclasses.replace(task, job=job, threads=threads) for task in tasks]
    start = time.perf_counter()
    told, code = [], 0
    with tqdm(total=len(tasks), desc="Stacks", unit="stack", disable=quiet) as bar:
        try:
            for outcome in itertools.chain(
                failed, many.run_tasks(tasks, workers=count, scheduler=scheduler)
            ):
                told.append(outcome)
                if outcome.state == "failed":
                    code = 1
                    bar.write(f"failed: {outcome.label}: {outcome.why}", file=sys.stderr)
                elif outcome.replaced and not quiet:
                    earlier = f"{outcome.folder}: replaced the result of {outcome.replaced}"
                    bar.write(earlier, file=sys.stderr)
                bar.update(outcome not in failed)
        except KeyboardInterrupt as error:
            code = 128 + getattr(error, "signal", signal.SIGINT)
            print("napari-dff: interrupted; the same command goes on from here", file=sys.stderr)
    many.write_summary(out, told, work.overwrite)
    states = [outcome.state for outcome in told]
    print(
        f"{out}: {states.count('done')} done, {states.count('found')} there already, "
        f"{states.count('failed')} failed, in {time.perf_counter() - start:.1f} s; see summary.csv"
    )
    return code


def sample(
    name: tyro.conf.Positional[
        Literal["all", "rough_surface", "cell_sheet", "machined_part", "bare_patch"]
    ],
    *,
    out: Path,
    render: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a sample focal stack with its true depth and its true sharp picture.

    Parameters
    ----------
    name
        Which one.
    out
        Folder to write into.
    render
        Render it anew instead of copying the bundled one.
    overwrite
        Replace other files of these names, too.
    """
    from napari_dff import synthetic
    from napari_dff.io import SAMPLE_NAMES, copy_sample, write_sample

    for each in SAMPLE_NAMES if name == "all" else (name,):
        if render:
            write_sample(each, synthetic.SCENES[each](), out, overwrite=overwrite)
        else:
            copy_sample(each, out, overwrite=overwrite)
        print(out / f"{each}.ome.tif")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when all went well, 2 with one sentence when the input is to blame.

    1 when some stacks of a batch failed, 128 + the number of the signal when it was interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        chosen = _named_recipe(words)
        commands: dict[str, Callable[..., int | None]] = {
            "run": functools.partial(run, settings=chosen),
            "batch": functools.partial(batch, settings=chosen),
            "info": info,
            "sample": sample,
        }
        with warnings.catch_warnings():
            warnings.showwarning = _warned
            code: int | None = tyro.extras.subcommand_cli_from_dict(
                commands, args=words, prog="napari-dff", description=DESCRIPTION
            )
    except (ValueError, OSError, ImportError, MemoryError) as error:
        print(f"napari-dff: {_sentence(error)}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Cancelled) as error:
        print("napari-dff: cancelled; what was under way was not written", file=sys.stderr)
        return 128 + getattr(error, "signal", signal.SIGINT)
    return code or 0


def program() -> None:
    """Run as a program: `main`, and out."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that it has no letters for
        sys.stdout.reconfigure(errors="backslashreplace")
    for name in ("SIGTERM", "SIGHUP"):  # what clusters and closed terminals send
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)
    code = main()
    gc.freeze()  # so that Python doesn't look through all it has loaded on its way out: 0.3 s
    sys.exit(code)


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal other than that of Ctrl-C."""

    def __init__(self, signal: int) -> None:
        super().__init__()
        self.signal = signal


def _terminate(number: int, _: object) -> None:
    raise Terminated(number)


def _sentence(error: Exception) -> str:
    """What an error says, on one line."""
    if isinstance(error, MemoryError):
        return f"memory is full ({error}): give --memory 1GB, say, to work in tiles"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).splitlines()) or repr(error)


def _warned(message: Warning | str, *_: object, **__: object) -> None:
    """What is doubtful, in its sentence alone."""
    print(f"napari-dff: {message}", file=sys.stderr)


def _bar(quiet: bool) -> "Progress":
    """A bar on the terminal; those of a tile vanish when they are done."""
    from tqdm import tqdm

    def bar(items, /, *, desc):  # type: ignore[no-untyped-def]
        return tqdm(items, desc=f"{desc:<24}", disable=quiet, leave="tile" not in desc)

    return bar


def _foreseen(job: "Job", acquisition: "Acquisition", plan: "Plan") -> str:
    """What a run will need, in a sentence."""
    tiles = "all at once" if plan.fits_in_memory else f"in {len(plan.windows)} tiles"
    told = f"foreseen: {plan.megabytes / 1000:.2f} GB of memory, {tiles}"
    if acquisition.data.size < LONG:
        return told
    seconds = job.seconds(acquisition, plan) + STARTING
    minutes = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
    return f"{told}, {minutes}"


def _megabytes(text: str) -> float:
    """Megabytes that a person means with 2GB or 500MB."""
    from dask.utils import parse_bytes

    try:
        megabytes = float(parse_bytes(text) / 1e6)
    except (ValueError, OverflowError):
        megabytes = 0.0
    if megabytes < 1:
        raise ValueError(f"memory must be a size as 2GB or 500MB, got {text!r}")
    return megabytes


def _named_recipe(words: Sequence[str]) -> Recipe:
    """Recipe of the file after --recipe, which the flags then start from; else the defaults."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--recipe")
    with contextlib.suppress(argparse.ArgumentError):
        path = finder.parse_known_args(words)[0].recipe
        if path is not None:
            from napari_dff.io import read_recipe

            return read_recipe(path)
    return DEFAULTS


if __name__ == "__main__":
    program()
