"""The bundled focal stacks."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dff.io.atomic import write_folder
from napari_dff.io.file_checks import compute_digest
from napari_dff.io.writing import write_image, write_stack

if TYPE_CHECKING:
    from napari_dff.synthetic import GroundTruth

SAMPLE_NAMES = ("rough_surface", "cell_sheet", "machined_part", "bare_patch")


def sample_path(name: str) -> Path:
    """Where the bundled focal stack `name` of `SAMPLE_NAMES` lies."""
    if name not in SAMPLE_NAMES:
        raise ValueError(f"name must be one of {', '.join(SAMPLE_NAMES)}, got {name!r}")
    return Path(str(files("napari_dff"))) / "sample_data" / f"{name}.ome.tif"


def write_sample(
    name: str, truth: GroundTruth, folder: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a rendered stack as a sample: stack, true depth and true sharp picture.

    FileExistsError where `folder` holds other files of these names, unless `overwrite`.
    """
    small: dict[str, Any] = {"compression": "zlib"}
    exact = {**small, "predictor": True}  # of integers only
    with _sample_folder(name, folder, overwrite) as place:
        write_stack(place / f"{name}.ome.tif", truth.stack, **exact)
        write_image(place / f"{name}.depth.tif", truth.depth, truth.stack, **small)
        write_image(place / f"{name}.sharp.tif", truth.sharp, truth.stack, **exact)


def copy_sample(name: str, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Copy a bundled stack with its truth into `folder`; errors as of `write_sample`."""
    source = sample_path(name).parent
    with _sample_folder(name, folder, overwrite) as place:
        for file in _names(name):
            shutil.copyfile(source / file, place / file)


def _names(name: str) -> list[str]:
    return [f"{name}.{kind}.tif" for kind in ("ome", "depth", "sharp")]


def _sample_folder(
    name: str, folder: str | os.PathLike[str], overwrite: bool
) -> AbstractContextManager[Path]:
    """Staging folder of a sample; only the bundled files themselves are replaced unasked."""
    bundled = Path(str(files("napari_dff"))) / "sample_data"

    def check(place: Path) -> None:
        present = [file for file in _names(name) if os.path.lexists(place / file)]
        for file in [] if overwrite else present:
            if not (bundled / file).is_file() or compute_digest(bundled / file) != compute_digest(
                place / file
            ):
                raise FileExistsError(
                    f"{place / file} is not the bundled file: write elsewhere, or add --overwrite "
                    "(overwrite=True in Python)"
                )

    return write_folder(Path(folder), _names(name), check)
