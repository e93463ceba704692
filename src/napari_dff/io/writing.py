"""Results to the disk: all of them, or none."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

import napari_dff
from napari_dff.pipeline import Reconstruction
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.units import symbol


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
    with complete(Path(folder)) as place:
        write_image(place / "depth.tif", result.refined.depth, stack)
        write_image(place / "index.tif", result.refined.index, stack)
        write_image(place / "uncertainty.tif", result.refined.uncertainty, stack)
        write_image(place / "all_in_focus.tif", result.all_in_focus, stack)
        _put_recipe(place / "recipe.json", result.recipe)
        moved = json.dumps({"transforms": result.transforms.tolist()})
        (place / "transforms.json").write_text(moved + "\n", encoding="utf-8")
        look = {"compress_level": 1}
        preview(result).savefig(place / "preview.png", dpi=100, pil_kwargs=look)


def write_recipe(path: str | os.PathLike[str], recipe: Recipe) -> None:
    """Write a recipe as JSON, for `read_recipe`; what was there stays until it is complete."""
    path = Path(path).absolute()
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as place:
        _put_recipe(Path(place) / path.name, recipe)
        os.replace(Path(place) / path.name, path)


def _put_recipe(path: Path, recipe: Recipe) -> None:
    settings = {"napari_dff": napari_dff.__version__, **dataclasses.asdict(recipe)}
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


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
        short = symbol(stack.unit)
        metadata |= {
            "PhysicalSizeZ": abs(float(np.diff(stack.positions).mean())),
            "PhysicalSizeZUnit": short,
            "Plane": {
                "PositionZ": [float(z) for z in stack.positions],
                "PositionZUnit": [short] * len(stack.positions),
            },
        }
    _write_ome(path, np.asarray(stack.planes), metadata, **settings)


@contextlib.contextmanager
def complete(folder: Path) -> Iterator[Path]:
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


def _physical(stack: FocalStack) -> dict[str, Any]:
    if stack.unit == "pixel":
        return {}
    height, width = stack.pixel_size
    short = symbol(stack.unit)
    return {
        "PhysicalSizeX": width,
        "PhysicalSizeXUnit": short,
        "PhysicalSizeY": height,
        "PhysicalSizeYUnit": short,
    }


def _write_ome(path: Path, data: np.ndarray, metadata: dict[str, Any], **settings: Any) -> None:
    tifffile.imwrite(
        path,
        data,
        ome=True,
        photometric="rgb" if metadata["axes"].endswith("S") else "minisblack",
        metadata=metadata,
        **settings,
    )
