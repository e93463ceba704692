"""Options of the command line that several commands share."""

import argparse
import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from napari_dff.model.recipe import Recipe, current_fusion

if TYPE_CHECKING:
    from napari_dff.batch.job import Job
    from napari_dff.model.acquisition import Acquisition

DEFAULT_RECIPE = Recipe()


def metavar(value: str, hint: str = "") -> object:
    """Return how the help shows the value of an option that has no default."""
    return tyro.conf.arg(metavar=value, help_behavior_hint=hint)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How to read the planes.

    Parameters
    ----------
    axes
        Axes of the data if the file does not name them: letters of P (position), T, C, Z, Y, X and
        S (colour).
    spacing
        Distance of planes, or distances of planes, rows and columns, in µm; replaces that of the
        file.
    """

    axes: Annotated[str, metavar("LETTERS")] = ""
    spacing: Annotated[tuple[float, ...], metavar("FLOAT [FLOAT FLOAT]")] = ()

    def read(self, paths: Sequence[Path]) -> "tuple[Acquisition, ...]":
        """Return the acquisitions of all positions in a file, a folder or a list of frames."""
        from napari_dff.io import read_acquisitions

        if not paths:
            hint = "name a folder, a file, or the frames of one stack"
            raise ValueError(f"no stack is given: {hint}")
        return read_acquisitions(paths, axes=self.axes or None, spacing=self.spacing or None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessingOptions:
    """Recipe file, input from earlier runs, resources and output.

    Parameters
    ----------
    recipe
        JSON file with settings, as a run writes it, or a preset: automatic, reflected_light,
        fluorescence, bright_field, macro, or one saved in napari; other options override it.
    focus_channel
        Name or number of the channel from which depth is computed; required if there are several.
        Every channel gets an all-in-focus image.
    focus_offset
        How much higher the other channels are in focus than the one of the depth, in the unit of
        the positions: a number for all of them, or auto to estimate it for each one.
    transforms
        transforms.json of another run of the same field: use its transforms instead of aligning.
    depth_from
        Folder of another run of the same field: use its depth map and its transforms.
    memory
        Maximum memory, such as 2GB or 500MB; by default the free memory. Larger stacks are computed
        in tiles.
    threads
        Number of threads; by default one for each core.
    file_format
        File format of the images. ome-zarr is version 0.5; older programs may need 0.4.
    overwrite
        Replace files in the output folder that no run has written, or that were changed since, too.
    record_paths
        Write paths in full into the results; by default only the names of files and folders.
    """

    recipe: Annotated[Path | None, metavar("PATH|PRESET")] = None
    focus_channel: Annotated[str, metavar("NAME")] = ""
    focus_offset: Annotated[str, metavar("auto|FLOAT")] = "0"
    transforms: Annotated[Path | None, metavar("PATH")] = None
    depth_from: Annotated[Path | None, metavar("PATH")] = None
    memory: Annotated[str, metavar("SIZE")] = ""
    threads: Annotated[int | None, metavar("INT")] = None
    file_format: Literal["ome-tiff", "ome-zarr", "ome-zarr-0.4"] = "ome-tiff"
    overwrite: bool = False
    record_paths: bool = False

    def job(self, settings: Recipe) -> "Job":
        """Return the job with these options and settings."""
        from napari_dff.batch.job import Job
        from napari_dff.io import read_transforms

        return Job(
            settings,
            channel=self.focus_channel or None,
            focus_offset=parse_offset(self.focus_offset),
            transforms=None if self.transforms is None else read_transforms(self.transforms),
            depth_from=None if self.depth_from is None else self.depth_from.absolute(),
            megabytes=parse_megabytes(self.memory) if self.memory else None,
            file_format=self.file_format,
            overwrite=self.overwrite,
            record_paths=self.record_paths,
        )

    def check_inputs(self, folders: Sequence[Path]) -> None:
        """Raise a ValueError if results in `folders` would replace transforms or recipe."""
        from napari_dff.io.file_checks import check_not_input, foreign_files
        from napari_dff.io.writers.result_files import RESULT_NAMES

        if self.transforms is not None:
            check_not_input(folders, RESULT_NAMES, [self.transforms], "transforms")
        # the recipe of an earlier result may be replaced together with that result
        if self.recipe is not None and foreign_files(self.recipe.parent, [self.recipe.name]):
            check_not_input(folders, RESULT_NAMES, [self.recipe], "the recipe")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogOptions:
    """What the command reports.

    Parameters
    ----------
    quiet
        Print no progress and no summary; warnings, errors and the first compilation are printed.
    verbose
        Print each step with its duration.
    log_file
        File to which everything is added that the command did, with times.
    """

    quiet: bool = False
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    log_file: Annotated[Path | None, metavar("PATH")] = None


DEFAULT_LOG = LogOptions()
DEFAULT_READING = ReadingOptions()
DEFAULT_PROCESSING = ProcessingOptions()


def current_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments, with former values of --fusion replaced."""
    words: list[str] = []
    for word in arguments:
        option, _, value = word.rpartition("=")
        if option == "--fusion":
            words.append(f"{option}={current_fusion(value)}")
        else:
            words.append(current_fusion(word) if words[-1:] == ["--fusion"] else word)
    return words


def read_recipe_option(arguments: Sequence[str]) -> Recipe:
    """Return the recipe in the file after --recipe, which sets the defaults of other options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--recipe")
    with contextlib.suppress(argparse.ArgumentError):
        path = parser.parse_known_args(arguments)[0].recipe
        if path is not None:
            from napari_dff.io import read_recipe

            return read_recipe(path)
    return DEFAULT_RECIPE


def parse_offset(text: str) -> float | Literal["auto"]:
    """Return the number of --focus-offset, or "auto"; ValueError if it is neither."""
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"focus_offset must be auto or a number, got {text!r}") from None


def parse_megabytes(text: str) -> float:
    """Return the megabytes of --memory; ValueError if it is no size."""
    from dask.utils import parse_bytes

    try:
        megabytes = float(parse_bytes(text) / 1e6)
    except (ValueError, OverflowError):
        megabytes = 0.0
    if megabytes < 1:
        raise ValueError(f"memory must be a size as 2GB or 500MB, got {text!r}")
    return megabytes
