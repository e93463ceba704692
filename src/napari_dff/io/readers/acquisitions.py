"""Read focal stacks."""

import dataclasses
import importlib.util
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_dff.io.readers.axes import Source, StackError, check_axes, make_acquisitions
from napari_dff.io.readers.bioio_files import BIOIO_PLUGINS, bioio_sources
from napari_dff.io.readers.frames import FRAME_SUFFIXES, frames_sources, sources_of_frames
from napari_dff.io.readers.photos import PILLOW_SUFFIXES, RAW_SUFFIXES
from napari_dff.io.readers.regular_files import check_regular
from napari_dff.io.readers.sequences import VIDEO_SUFFIXES, animation_source, video_source
from napari_dff.io.readers.tiff import TIFF_SUFFIXES, find_dataset, tiff_sources
from napari_dff.io.readers.zarr_store import is_zarr, zarr_sources
from napari_dff.model.acquisition import Acquisition, find_index
from napari_dff.model.checks import as_list, as_numbers, as_path
from napari_dff.model.stack import FocalStack
from napari_dff.model.units import conversion_factor
from napari_dff.runtime.words import abbreviate, join_words, shorten

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
MICROSCOPE_SUFFIXES = {".ims", ".mrxs", ".oib", ".oif", ".sld", ".vsi", ".zvi"}


def read_acquisitions(
    path: Paths,
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
) -> tuple[Acquisition, ...]:
    """Return every position in a file or folder, with all times and channels, loaded on demand.

    Of uncompressed TIFF only the needed pixels are read; other files are decoded on access. Plane
    distance and pixel size are from the metadata of OME, ImageJ, OME-Zarr or bioio. If either is
    missing, focus positions are plane indices and the unit is "pixel".

    Axes are from the metadata too. A single unnamed axis, of a multi-page TIFF or a folder of
    frames, is the focus axis; several unnamed axes must be named with `axes`.

    Parameters
    ----------
    path : path or sequence of path
        A folder with one image per plane, in the order of the numbers in their names, or these
        images; a TIFF, ImageJ hyperstack, OME-TIFF, LSM, STK, MMStack or NDTiff; OME-Zarr 0.4 or
        0.5, including plates; an animated WebP, PNG or GIF, or a video; with bioio installed, what
        its plugins read, for example CZI, ND2 and LIF.
    axes : str, optional
        Letters for the axes of the array in the file, or for those longer than 1, in order:
        P (position), T, C, Z, Y, X and S (samples of colour). Overrides those in the file.
    spacing : float or (float, float, float), optional
        Distance of planes, or of planes, rows and columns, in micrometer; overrides the metadata.
        With one number and no pixel size in the file, depth is in micrometer and pixels are 1 × 1.

    Returns
    -------
    tuple of Acquisition

    Warns
    -----
    UserWarning
        If the file may be damaged, or its calibration is invalid and not used.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist.
    StackError
        If there is no focal stack, or its axes are ambiguous.
    ValueError
        If `axes` or `spacing` is invalid.
    """
    return _read_all(_as_paths(path), axes, spacing)


def read_stack(
    path: Paths,
    *,
    spacing: float | Sequence[float] | None = None,
    axes: str | None = None,
    position: str | int | None = None,
    time: int | None = None,
    channel: str | int | None = None,
) -> FocalStack:
    """Return one focal stack of a file or folder.

    Parameters
    ----------
    path, spacing, axes
        As in `read_acquisitions`.
    position : str or int, optional
        Name or index of the position, if there are several.
    time : int, optional
        Index of the time, if there are several.
    channel : str or int, optional
        Name or index of the channel, if there are several.

    Returns
    -------
    FocalStack
        Planes are a dask array; of uncompressed TIFF an array of which only the parts that are
        indexed are read, and of an animated image or video an array in memory.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist.
    StackError
        If it is not a focal stack, or there are several and none is selected.
    ValueError
        If there is no such position, time or channel, or an argument is invalid.
    """
    paths = _as_paths(path)
    acquisitions = _read_all(paths, axes, spacing)
    if position is not None:
        names = [each.name for each in acquisitions]
        index = find_index(position, names)
        if index is None:
            choices = abbreviate(names) if len(names) > 1 else "0"
            raise ValueError(f"position must be one of {choices}, got {shorten(position)}")
        acquisitions = (acquisitions[index],)
    _check_unique(paths[0], acquisitions, time, channel)
    acquisition = acquisitions[0]
    index = find_index(0 if time is None else time, [""] * acquisition.times)
    if index is None:
        raise ValueError(f"time must be 0 to {acquisition.times - 1}, got {shorten(time)}")
    return acquisition.stack(index, acquisition.channel(channel))


def _as_paths(path: Paths) -> list[Path]:
    """Return one or more paths; ValueError if there are none, or other things."""
    kinds = "a file, a folder or the frames of a stack"
    items = [path] if isinstance(path, str | os.PathLike) else as_list("path", path, kinds)
    paths = [as_path("path", item) for item in items]
    paths = [each if each.name else each.absolute() for each in paths]  # "." has no name
    if not paths:
        raise ValueError("path must be a file, a folder or the frames of a stack, got none")
    return paths


def _read_all(
    paths: list[Path], axes: str | None, spacing: float | Sequence[float] | None
) -> tuple[Acquisition, ...]:
    """Return all positions; warn, at the call of the public function, if content is doubtful."""
    letters = None if axes is None else check_axes(axes)
    path = paths[0] if len(paths) == 1 else paths[0].absolute().parent
    sources = _sources(path) if len(paths) == 1 else _sources_of_frames(paths)
    acquisitions = make_acquisitions(sources, letters)
    if not acquisitions:
        raise StackError(f"{path.name} holds no images")
    messages = [message for source in sources for message in source.warnings]
    files = (
        *(each.absolute() for each in paths),
        *dict.fromkeys(file for source in sources for file in source.files),
    )
    acquisitions = tuple(dataclasses.replace(each, files=files) for each in acquisitions)
    if spacing is None:
        calibrations = (source.calibration for source in sources)
        messages += [f"{path.name}: {each.warning}" for each in calibrations if each.warning]
    else:
        acquisitions = tuple(_with_spacing(each, spacing) for each in acquisitions)
        if not all(each.has_pixel_size for each in acquisitions):
            messages.append(
                f"{path.name} has no pixel size: depth is in µm, but a pixel is taken as 1 × 1 µm; "
                "give --spacing with three lengths, of planes, rows and columns"
            )
    for message in dict.fromkeys(messages):
        warnings.warn(message, stacklevel=3)
    return acquisitions


def _sources_of_frames(paths: list[Path]) -> list[Source]:
    """Return the frames of one stack; StackError if the paths are several stacks."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"there is no file or folder {str(path)!r}")
        if path.is_dir() or path.suffix.lower() not in (*FRAME_SUFFIXES, *RAW_SUFFIXES):
            first = f"{len(paths)} paths must be the frames of one stack, one image each"
            hint = "use batch for several stacks, or give one of them"
            raise StackError(f"{first}, and {path.name} is not an image: {hint}")
    return sources_of_frames(paths[0].absolute().parent.name, paths)


def _sources(path: Path) -> list[Source]:
    suffix = path.suffix.lower()
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {str(path)!r}")
    check_regular(path)
    if path.is_dir():
        if is_zarr(path):
            return zarr_sources(path)
        dataset = find_dataset(path)
        return frames_sources(path) if dataset is None else tiff_sources(dataset)
    if suffix in TIFF_SUFFIXES:
        return tiff_sources(path)
    if suffix in PILLOW_SUFFIXES:
        return [animation_source(path)]
    if suffix in VIDEO_SUFFIXES:
        return [video_source(path)]
    if suffix in RAW_SUFFIXES:
        raise StackError(f"{path.name} is a single image: give the folder with one image per plane")
    microscope = suffix in BIOIO_PLUGINS or suffix in MICROSCOPE_SUFFIXES
    if microscope or importlib.util.find_spec("bioio") is not None:
        return bioio_sources(path)  # its error names what to install
    hint = "put one image per plane in a folder, or save the stack as TIFF"
    raise StackError(f"{path.name} is neither a folder of frames nor TIFF or OME-Zarr; {hint}")


def _with_spacing(acquisition: Acquisition, spacing: float | Sequence[float]) -> Acquisition:
    values = [float(s) for s in np.atleast_1d(as_numbers("spacing", spacing)).ravel()]
    if len(values) not in (1, 3) or not all(np.isfinite(v) and v > 0 for v in values):
        raise ValueError(
            f"spacing must be one or three positive lengths in µm, got {shorten(spacing)}"
        )
    step, *pixel_size = values
    if pixel_size:
        size = pixel_size[0], pixel_size[1]
        acquisition = dataclasses.replace(
            acquisition, pixel_size=size, unit="micrometer", has_pixel_size=True
        )
    elif acquisition.unit == "pixel":
        height, width = acquisition.pixel_size  # 1 × 1, or in distances of planes
        is_known = acquisition.pixel_size != (1.0, 1.0)
        size = (height * step, width * step) if is_known else (1.0, 1.0)
        acquisition = dataclasses.replace(
            acquisition, pixel_size=size, unit="micrometer", has_pixel_size=is_known
        )
    else:
        step *= conversion_factor("micrometer", acquisition.unit)
    indices = np.tile(np.arange(acquisition.data.shape[2]), (acquisition.times, 1))
    return dataclasses.replace(acquisition, positions=step * indices)


def _check_unique(
    path: Path, acquisitions: tuple[Acquisition, ...], time: int | None, channel: str | int | None
) -> None:
    """Raise StackError if several positions, times or channels are left to choose from."""
    first, counts = acquisitions[0], {}
    if len(acquisitions) > 1:
        names = abbreviate([each.name for each in acquisitions])
        counts["position"] = f"{len(acquisitions)} positions ({names})"
    if first.times > 1 and time is None:
        counts["time"] = f"{first.times} times"
    if len(first.channels) > 1 and channel is None:
        labels = f" ({abbreviate(first.channels)})" if any(first.channels) else ""
        counts["channel"] = f"{len(first.channels)} channels{labels}"
    if counts:
        choice = f"choose one with {join_words(counts)}"
        raise StackError(f"{path.name} holds {join_words(counts.values())}: {choice}")
