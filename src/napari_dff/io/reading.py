"""Focal stacks, recipes and motions from the disk."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_dff.progress import silent
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.tiles import cores, on_all_cores
from napari_dff.units import UNITS

FRAMES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}
TIFFS = {".tif", ".tiff"}


class StackError(ValueError):
    """A file or folder that can't be read as a focal stack; the sentence says why."""


def read_stack(
    path: str | os.PathLike[str], *, spacing: float | Sequence[float] | None = None
) -> FocalStack:
    """Focal stack from a folder of frames, a multi-page TIFF or an OME-TIFF.

    Frames are taken in natural order (2 before 10). Physical sizes come from OME metadata or from
    ImageJ's; without any, positions count planes and the unit is "pixel".

    Parameters
    ----------
    path : path
        A folder with one image a plane, or a TIFF with one stack.
    spacing : float or (float, float, float), optional
        Distance of planes, or of planes, rows and columns, in micrometer; overrides the file's.

    Returns
    -------
    FocalStack

    Raises
    ------
    FileNotFoundError
        When nothing is at `path`.
    StackError
        When it isn't a focal stack, with one sentence that says why.
    """
    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"there is no file or folder {str(source)!r}")
    if source.is_dir():
        stack = FocalStack(_frames(source))
    elif source.suffix.lower() in TIFFS:
        stack = _tiff(source)
    else:
        raise StackError(
            f"{source.name} is neither a folder of frames nor a TIFF; "
            "put one image a plane in a folder, or save the stack as TIFF"
        )
    return stack if spacing is None else _spaced(stack, spacing)


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Recipe from a JSON file; ValueError with one sentence when it isn't one."""
    try:
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not a recipe: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is not a recipe: it holds no names with values")
    settings.pop("napari_dff", None)
    return Recipe.from_dict(settings)


def read_transforms(path: str | os.PathLike[str]) -> np.ndarray:
    """Motions that a run wrote, (Z, 3, 3); ValueError with one sentence if there are none."""
    try:
        matrices = np.array(json.loads(Path(path).read_text(encoding="utf-8"))["transforms"], float)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no transforms as a run writes them: {error}") from error
    if matrices.ndim != 3 or matrices.shape[1:] != (3, 3):
        raise ValueError(f"{path} must hold one 3 × 3 matrix a plane, got shape {matrices.shape}")
    return matrices


def frames_in(folder: Path) -> list[Path]:
    """The image files of a folder, in natural order."""
    names = [p for p in folder.iterdir() if p.suffix.lower() in FRAMES and p.name[0] != "."]
    return [Path(p) for p in tifffile.natural_sorted(str(p) for p in names)]


def _frames(folder: Path) -> np.ndarray:
    paths = frames_in(folder)
    if not paths:
        raise StackError(f"folder {folder.name} holds no image files ({', '.join(sorted(FRAMES))})")
    first = _frame(paths[0])
    planes = np.empty((len(paths), *first.shape), first.dtype)

    def read(i: int) -> None:
        frame = _frame(paths[i])
        if (frame.shape, frame.dtype) != (first.shape, first.dtype):
            raise StackError(
                f"all frames must be alike: {paths[0].name} is {_looks(first)}, "
                f"{paths[i].name} is {_looks(frame)}"
            )
        planes[i] = frame

    on_all_cores(read, range(len(paths)), silent, desc="Reading")
    return planes


def _frame(path: Path) -> np.ndarray:
    import imageio.v3 as iio  # 0.1 s, needed only here

    try:
        frame = np.asarray(iio.imread(path))
    except Exception as error:  # every reader has its own
        raise StackError(f"{path.name} can't be read as an image: {error}") from error
    if frame.ndim == 3 and frame.shape[2] in (2, 4):
        frame = frame[..., :-1].squeeze()  # without the alpha channel
    return frame


def _tiff(path: Path) -> FocalStack:
    try:
        with tifffile.TiffFile(path) as tif:
            series = tif.series[0]
            planes, axes = _pixels(path, tif), series.axes
            ome, imagej = tif.ome_metadata, tif.imagej_metadata
            resolution = tif.pages.first.get_resolution() if imagej else (1.0, 1.0)
    except Exception as error:  # tifffile raises many kinds for a broken file
        raise StackError(f"{path.name} can't be read as TIFF: {error}") from error
    extra = [a for a, n in zip(axes, planes.shape, strict=True) if n > 1 and a not in "YXS"]
    if len(extra) != 1:
        counts = ", ".join(f"{a} {n}" for a, n in zip(axes, planes.shape, strict=True))
        raise StackError(
            f"{path.name} must hold one stack with axes Z, Y, X; its axes are {counts}: "
            "save one channel, time and position by itself"
        )
    planes = planes.reshape(
        [n for a, n in zip(axes, planes.shape, strict=True) if n > 1 or a in "YX"]
    )
    if planes.ndim == 4 and planes.shape[3] == 4:
        planes = planes[..., :3]
    calibration: dict[str, Any] = {}
    if ome:
        calibration = _from_ome(ome, len(planes))
    elif imagej and imagej.get("unit") in UNITS and "spacing" in imagej:
        calibration = {
            "positions": float(imagej["spacing"]) * np.arange(len(planes)),
            "pixel_size": (1 / resolution[1], 1 / resolution[0]),
            "unit": UNITS[imagej["unit"]],
        }
    return FocalStack(planes, **calibration)


def _pixels(path: Path, tif: tifffile.TiffFile) -> np.ndarray:
    """Pixels of the first series: mapped where they lie in the file as they are, else decoded."""
    series, order = tif.series[0], "<" if sys.byteorder == "little" else ">"
    if series.dataoffset is not None and series.keyframe.is_memmappable and tif.byteorder == order:
        return np.memmap(path, series.dtype, "r", series.dataoffset, series.shape)
    return np.asarray(series.asarray(maxworkers=cores()))


def _from_ome(xml: str, count: int) -> dict[str, Any]:
    """Positions, pixel size and unit from OME metadata; nothing where it has no sizes."""
    image = tifffile.xml2dict(xml)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    if not {"PhysicalSizeX", "PhysicalSizeY"} <= set(pixels):
        return {}
    unit = UNITS.get(pixels.get("PhysicalSizeXUnit", "µm"))
    known = {pixels.get(f"PhysicalSize{a}Unit", "µm") for a in "XYZ"}
    if unit is None or len(known) > 1:
        return {}
    planes = pixels.get("Plane", [])
    positions = [p["PositionZ"] for p in planes if "PositionZ" in p] if count > 1 else []
    steps = np.diff(positions)
    if len(positions) != count or not ((steps > 0).all() or (steps < 0).all()):
        positions = list(float(pixels.get("PhysicalSizeZ", 1.0)) * np.arange(count))
    size = (float(pixels["PhysicalSizeY"]), float(pixels["PhysicalSizeX"]))
    return {"positions": np.array(positions, dtype=float), "pixel_size": size, "unit": unit}


def _spaced(stack: FocalStack, spacing: float | Sequence[float]) -> FocalStack:
    values = [float(s) for s in np.atleast_1d(np.asarray(spacing, dtype=float))]
    if len(values) not in (1, 3) or not all(np.isfinite(v) and v > 0 for v in values):
        raise ValueError(f"spacing must be one or three positive lengths in µm, got {spacing!r}")
    size = stack.pixel_size if len(values) == 1 else (values[1], values[2])
    if len(values) == 1 and stack.unit not in ("pixel", "micrometer"):
        raise ValueError(
            f"spacing must be three lengths in µm, since the file counts in {stack.unit}; "
            f"got {spacing!r}"
        )
    positions = values[0] * np.arange(len(stack.positions))
    return dataclasses.replace(stack, positions=positions, pixel_size=size, unit="micrometer")


def _looks(frame: np.ndarray) -> str:
    return f"{' × '.join(map(str, frame.shape))} {frame.dtype}"
