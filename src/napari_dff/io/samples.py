"""The bundled focal stacks."""

import os
import shutil
from contextlib import AbstractContextManager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dff.io.atomic import write_folder
from napari_dff.io.file_checks import compute_digest
from napari_dff.io.writers.images import write_image, write_stack
from napari_dff.model.checks import as_path, check_choice

if TYPE_CHECKING:
    from napari_dff.synthetic import GroundTruth

BUNDLED_FOLDER = Path(str(files("napari_dff"))) / "sample_data"
SAMPLE_NAMES = ("rough_surface", "cell_sheet", "machined_part", "bare_patch")


def sample_path(name: str) -> Path:
    """Return the path of the bundled focal stack `name` of `SAMPLE_NAMES`."""
    check_choice("name", name, SAMPLE_NAMES)
    return BUNDLED_FOLDER / f"{name}.ome.tif"


def write_sample(
    name: str, truth: "GroundTruth", folder: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a rendered focal stack, its true depth and its true all-in-focus image."""
    float_settings: dict[str, Any] = {"compression": "zlib"}
    integer_settings = {**float_settings, "predictor": True}
    stack_file, depth_file, image_file = _file_names(name)
    with _sample_folder(name, folder, overwrite) as staging:
        write_stack(staging / stack_file, truth.stack, **integer_settings)
        write_image(staging / depth_file, truth.depth, truth.stack, **float_settings)
        write_image(staging / image_file, truth.sharp, truth.stack, **integer_settings)


def copy_sample(name: str, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Copy the files of a bundled sample into `folder`."""
    check_choice("name", name, SAMPLE_NAMES)
    with _sample_folder(name, folder, overwrite) as staging:
        for file in _file_names(name):
            shutil.copyfile(BUNDLED_FOLDER / file, staging / file)


def _file_names(name: str) -> list[str]:
    return [f"{name}.{kind}.tif" for kind in ("ome", "depth", "sharp")]


def _sample_folder(
    name: str, folder: str | os.PathLike[str], overwrite: bool
) -> AbstractContextManager[Path]:
    """Return a staging folder; FileExistsError if it would replace other files than copies."""

    def check(target: Path) -> None:
        paths = () if overwrite else (target / file for file in _file_names(name))
        for path in filter(os.path.lexists, paths):
            bundled = BUNDLED_FOLDER / path.name
            if not bundled.is_file() or compute_digest(bundled) != compute_digest(path):
                hint = "write elsewhere, or add --overwrite (overwrite=True in Python)"
                raise FileExistsError(f"{path} is not the bundled file: {hint}")

    return write_folder(as_path("folder", folder), _file_names(name), check)
