"""Focal stacks, recipes and motions from the disk."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import napari_dff
from napari_dff.acquisition import Acquisition
from napari_dff.io.axes import Source, StackError, acquisitions, check_axes
from napari_dff.io.bioio_reading import PLUGINS, bioio_sources
from napari_dff.io.frames_reading import FRAMES, frames_in, frames_source
from napari_dff.io.records import read_json
from napari_dff.io.tiff_reading import TIFFS, tiff_sources
from napari_dff.io.zarr_reading import is_zarr, zarr_sources
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.units import conversion_factor

__all__ = [
    "StackError",
    "frames_in",
    "read_acquisitions",
    "read_recipe",
    "read_stack",
    "read_transforms",
]
MICROSCOPES = {*PLUGINS, ".ims", ".lsm", ".mrxs", ".oib", ".oif", ".sld", ".stk", ".vsi", ".zvi"}


def read_acquisitions(
    path: str | os.PathLike[str],
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
) -> tuple[Acquisition, ...]:
    """Every position in a file or folder, with all its times and channels, unread.

    What can be mapped is; of anything else a plane is decoded when it is wanted. Lengths come from
    the metadata: OME's, ImageJ's, OME-Zarr's or bioio's. Where they don't tell the distance of
    planes and the size of a pixel, positions count planes and the unit is "pixel".

    Axes come from the metadata too. A single axis that nothing names, of a TIFF with many pages or
    a folder of frames, holds the focus positions; more than one must be named with `axes`.

    Parameters
    ----------
    path : path
        A folder with one image a plane, which are taken in natural order (2 before 10); a TIFF,
        ImageJ hyperstack or OME-TIFF; OME-Zarr 0.4 or 0.5, plates included; with bioio installed
        what its plugins read, as CZI, ND2 and LIF.
    axes : str, optional
        Letters for the axes of the array in the file, or for those longer than 1, in their order:
        P (position), T, C, Z, Y, X and S (samples of colour). Overrides the file's.
    spacing : float or (float, float, float), optional
        Distance of planes, or of planes, rows and columns, in micrometer; overrides the file's.

    Returns
    -------
    tuple of Acquisition

    Warns
    -----
    UserWarning
        Where the file is odd, or tells lengths that can't be meant: they count for nothing.

    Raises
    ------
    FileNotFoundError
        When nothing is at `path`.
    StackError
        When it holds no focal stack, or doesn't tell its axes, with one sentence that says why.
    ValueError
        When `axes` or `spacing` can't be meant.
    """
    return _found(Path(path), axes, spacing)


def read_stack(
    path: str | os.PathLike[str],
    *,
    spacing: float | Sequence[float] | None = None,
    axes: str | None = None,
    position: str | int | None = None,
    time: int | None = None,
    channel: str | int | None = None,
) -> FocalStack:
    """One focal stack of a file or folder.

    Parameters
    ----------
    path, spacing, axes
        As in `read_acquisitions`.
    position : str or int, optional
        Name or number of the position, where there are several.
    time : int, optional
        Number of the time, where there are several.
    channel : str or int, optional
        Name or number of the channel, where there are several.

    Returns
    -------
    FocalStack
        Its planes mapped where they lie uncompressed in a TIFF, else a dask array.

    Raises
    ------
    FileNotFoundError
        When nothing is at `path`.
    StackError
        When it isn't a focal stack, or there are several and none is chosen.
    ValueError
        When there is no such position, time or channel, or an argument can't be meant.
    """
    found = _found(Path(path), axes, spacing)
    if position is not None:
        found = (found[_number(position, [each.name for each in found])],)
    _check_chosen(Path(path), found, time, channel)
    chosen = found[0]
    if time is not None and not 0 <= time < chosen.times:
        raise ValueError(f"time must be 0 to {chosen.times - 1}, got {time}")
    return chosen.stack(time or 0, chosen.channel(channel))


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Recipe from a JSON file; ValueError with one sentence when it isn't one."""
    settings = read_json(path, "a recipe")
    version = str(settings.pop("napari_dff", ""))
    try:
        return Recipe.from_dict(settings)
    except ValueError as error:
        newer = f"; it was made by napari-dff {version}, a newer one" if _newer(version) else ""
        raise ValueError(f"{path}: {error}{newer}") from error


def read_transforms(path: str | os.PathLike[str]) -> np.ndarray:
    """Motions that a run wrote, (Z, 3, 3), or (T, Z, 3, 3) where it had several times.

    Raises
    ------
    ValueError
        Where the file holds none, with one sentence.
    """
    told = read_json(path, "transforms")
    try:
        matrices = np.array(told["transforms"], float)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} holds no transforms as a run writes them: {error}") from error
    if matrices.ndim not in (3, 4) or matrices.shape[-2:] != (3, 3):
        raise ValueError(f"{path} must hold one 3 × 3 matrix a plane, got shape {matrices.shape}")
    if not (np.isfinite(matrices).all() and np.linalg.matrix_rank(matrices).min(initial=3) == 3):
        raise ValueError(f"{path} must hold matrices that are finite and can be inverted")
    return matrices


def _found(
    path: Path, axes: str | None, spacing: float | Sequence[float] | None
) -> tuple[Acquisition, ...]:
    """All positions; warns, whoever called the public function, of what is doubtful about them."""
    letters = None if axes is None else check_axes(axes)
    sources = _sources(path)
    found = acquisitions(sources, letters)
    if not found:
        raise StackError(f"{path.name} holds no images")
    doubts = [doubt for source in sources for doubt in source.doubts]
    files = (path.absolute(), *dict.fromkeys(file for source in sources for file in source.files))
    found = tuple(dataclasses.replace(each, files=files) for each in found)
    if spacing is not None:
        found = tuple(_spaced(each, spacing) for each in found)
    else:
        own = (source.calibration.doubt for source in sources)
        doubts += [f"{path.name}: {doubt}" for doubt in own if doubt]
    for doubt in dict.fromkeys(doubts):
        warnings.warn(doubt, stacklevel=3)
    return found


def _newer(version: str) -> bool:
    """Whether that version of napari-dff comes after this one."""
    there, here = (
        [int(number) for number in re.findall(r"[0-9]{1,9}", each)[:3]]
        for each in (version, napari_dff.__version__)
    )
    return there > here


def _sources(path: Path) -> list[Source]:
    suffix = path.suffix.lower()
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {str(path)!r}")
    if path.is_dir():
        return zarr_sources(path) if is_zarr(path) else [frames_source(path)]
    if suffix in TIFFS:
        return tiff_sources(path)
    if suffix in FRAMES:
        raise StackError(f"{path.name} is a single image: give the folder with one image a plane")
    if suffix in MICROSCOPES or importlib.util.find_spec("bioio") is not None:
        return bioio_sources(path)
    raise StackError(
        f"{path.name} is neither a folder of frames nor TIFF or OME-Zarr; "
        "put one image a plane in a folder, or save the stack as TIFF"
    )


def _spaced(found: Acquisition, spacing: float | Sequence[float]) -> Acquisition:
    values = [float(s) for s in np.atleast_1d(np.asarray(spacing, dtype=float))]
    if len(values) not in (1, 3) or not all(np.isfinite(v) and v > 0 for v in values):
        raise ValueError(f"spacing must be one or three positive lengths in µm, got {spacing!r}")
    planes = np.tile(np.arange(found.data.shape[2]), (found.times, 1))
    if len(values) == 3:
        return dataclasses.replace(
            found,
            positions=values[0] * planes,
            pixel_size=(values[1], values[2]),
            unit="micrometer",
        )
    if found.unit == "pixel":
        raise ValueError(
            "spacing must be three lengths in µm, of planes, rows and columns, since the file "
            f"doesn't say how large its pixels are; got {spacing!r}"
        )
    return dataclasses.replace(
        found, positions=values[0] * conversion_factor("micrometer", found.unit) * planes
    )


def _check_chosen(
    path: Path, found: tuple[Acquisition, ...], time: int | None, channel: str | int | None
) -> None:
    """StackError that says how many positions, times and channels there are, unless one is left."""
    first, counts, ways = found[0], [], []
    if len(found) > 1:
        counts.append(f"{len(found)} positions ({_shown([each.name for each in found])})")
        ways.append("position")
    if first.times > 1 and time is None:
        counts.append(f"{first.times} times")
        ways.append("time")
    if len(first.channels) > 1 and channel is None:
        names = f" ({_shown(first.channels)})" if any(first.channels) else ""
        counts.append(f"{len(first.channels)} channels{names}")
        ways.append("channel")
    if counts:
        raise StackError(f"{path.name} holds {_listed(counts)}: choose one with {_listed(ways)}")


def _number(position: str | int, names: list[str]) -> int:
    """Number of a position, by its name or its number."""
    if isinstance(position, str) and names.count(position) == 1:
        return names.index(position)
    if isinstance(position, int) or position.isdecimal():
        number = int(position)
        if 0 <= number < len(names):
            return number
    known = _shown(names) if len(names) > 1 else "0"
    raise ValueError(f"position must be one of {known}, got {position!r}")


def _shown(names: Sequence[str]) -> str:
    """Names with commas between, the first few where they are many."""
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")


def _listed(words: Sequence[str]) -> str:
    """Words as one says them: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
