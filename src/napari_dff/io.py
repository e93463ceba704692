"""Everything that touches the disk: focal stacks in, results out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

import napari_dff
from napari_dff.pipeline import Reconstruction
from napari_dff.progress import silent
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.tiles import cores, on_all_cores

if TYPE_CHECKING:
    from napari_dff.synthetic import Truth

FRAMES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}
TIFFS = {".tif", ".tiff"}
UNITS = {
    "µm": "micrometer",
    "μm": "micrometer",  # the Greek letter, not the sign
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "\\u00b5m": "micrometer",
    "nm": "nanometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
}
SAMPLES = ("rough_surface", "cell_sheet", "machined_part", "bare_patch")


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


def save_reconstruction(result: Reconstruction, folder: str | os.PathLike[str]) -> None:
    """Write a result: depth, index, uncertainty, all-in-focus image, recipe, motions, preview.

    Everything is written beside the folder first and moved in when it is complete, so that what was
    there stays until then. Files of other names in the folder are left alone.

    Parameters
    ----------
    result : Reconstruction
    folder : path
        Made if missing. Gets ``depth.tif`` (float32, in the stack's unit), ``index.tif`` (uint16),
        ``uncertainty.tif`` (float32), ``all_in_focus.tif`` (dtype of the planes), ``recipe.json``,
        ``transforms.json`` (the motion of every plane, for `read_transforms`) and ``preview.png``.

    Raises
    ------
    OSError
        When it can't be written; nothing is changed then.
    """
    from napari_dff.figure import preview  # 0.6 s of matplotlib, needed only here

    stack = result.stack
    with _complete(Path(folder)) as place:
        write_image(place / "depth.tif", result.refined.depth, stack)
        write_image(place / "index.tif", result.refined.index, stack)
        write_image(place / "uncertainty.tif", result.refined.uncertainty, stack)
        write_image(place / "all_in_focus.tif", result.all_in_focus, stack)
        settings = {"napari_dff": napari_dff.__version__, **dataclasses.asdict(result.recipe)}
        (place / "recipe.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        moved = json.dumps({"transforms": result.transforms.tolist()})
        (place / "transforms.json").write_text(moved + "\n", encoding="utf-8")
        look = {"compress_level": 1}
        preview(result).savefig(place / "preview.png", dpi=100, pil_kwargs=look)


def write_image(path: Path, image: np.ndarray, stack: FocalStack, **settings: Any) -> None:
    """Write one (Y, X[, 3]) image as OME-TIFF with the pixel size of `stack`.

    `settings` are those of `tifffile.imwrite`, as ``compression``.
    """
    axes = "YXS" if image.ndim == 3 else "YX"
    _write_ome(path, image, {"axes": axes, **_physical(stack)}, **settings)


def write_stack(path: Path, stack: FocalStack, **settings: Any) -> None:
    """Write a focal stack as OME-TIFF with pixel size and the position of every plane.

    `settings` are those of `tifffile.imwrite`, as ``compression``.
    """
    axes = "ZYXS" if stack.planes.ndim == 4 else "ZYX"
    metadata = {"axes": axes, **_physical(stack)}
    if stack.unit != "pixel":
        symbol = _symbol(stack.unit)
        metadata |= {
            "PhysicalSizeZ": abs(float(np.diff(stack.positions).mean())),
            "PhysicalSizeZUnit": symbol,
            "Plane": {
                "PositionZ": [float(z) for z in stack.positions],
                "PositionZUnit": [symbol] * len(stack.positions),
            },
        }
    _write_ome(path, np.asarray(stack.planes), metadata, **settings)


def sample_path(name: str) -> Path:
    """Where the bundled focal stack `name` of `SAMPLES` lies."""
    if name not in SAMPLES:
        raise ValueError(f"name must be one of {', '.join(SAMPLES)}, got {name!r}")
    return Path(str(files("napari_dff"))) / "sample_data" / f"{name}.ome.tif"


def write_sample(name: str, truth: Truth, folder: str | os.PathLike[str]) -> None:
    """Write a rendered stack as a sample: stack, true depth and true sharp picture."""
    small: dict[str, Any] = {"compression": "zlib"}
    exact = {**small, "predictor": True}  # of integers only
    with _complete(Path(folder)) as place:
        write_stack(place / f"{name}.ome.tif", truth.stack, **exact)
        write_image(place / f"{name}.depth.tif", truth.depth, truth.stack, **small)
        write_image(place / f"{name}.sharp.tif", truth.sharp, truth.stack, **exact)


def copy_sample(name: str, folder: str | os.PathLike[str]) -> None:
    """Copy a bundled stack with its truth into `folder`."""
    source = sample_path(name)
    with _complete(Path(folder)) as place:
        for file in sorted(source.parent.glob(f"{name}.*")):
            shutil.copyfile(file, place / file.name)


def _frames(folder: Path) -> np.ndarray:
    names = [p for p in folder.iterdir() if p.suffix.lower() in FRAMES and p.name[0] != "."]
    if not names:
        raise StackError(f"folder {folder.name} holds no image files ({', '.join(sorted(FRAMES))})")
    paths = [Path(p) for p in tifffile.natural_sorted(str(p) for p in names)]
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


def _physical(stack: FocalStack) -> dict[str, Any]:
    if stack.unit == "pixel":
        return {}
    height, width = stack.pixel_size
    symbol = _symbol(stack.unit)
    return {
        "PhysicalSizeX": width,
        "PhysicalSizeXUnit": symbol,
        "PhysicalSizeY": height,
        "PhysicalSizeYUnit": symbol,
    }


def _symbol(unit: str) -> str:
    return next((short for short, long in UNITS.items() if long == unit), unit)


def _write_ome(path: Path, data: np.ndarray, metadata: dict[str, Any], **settings: Any) -> None:
    tifffile.imwrite(
        path,
        data,
        ome=True,
        photometric="rgb" if metadata["axes"].endswith("S") else "minisblack",
        metadata=metadata,
        **settings,
    )


@contextlib.contextmanager
def _complete(folder: Path) -> Iterator[Path]:
    """Write into a place of its own; what is there moves into `folder` when all went well."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give a folder to write into")
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield place
        if folder.exists():
            for file in sorted(place.iterdir()):
                os.replace(file, folder / file.name)
        else:
            place.chmod(0o755)
            os.replace(place, folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _looks(frame: np.ndarray) -> str:
    return f"{' × '.join(map(str, frame.shape))} {frame.dtype}"
