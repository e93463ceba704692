"""The bundled focal stacks."""

from __future__ import annotations

import os
import shutil
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dff.io.folders import complete
from napari_dff.io.writing import write_image, write_stack

if TYPE_CHECKING:
    from napari_dff.synthetic import GroundTruth

SAMPLES = ("rough_surface", "cell_sheet", "machined_part", "bare_patch")


def sample_path(name: str) -> Path:
    """Where the bundled focal stack `name` of `SAMPLES` lies."""
    if name not in SAMPLES:
        raise ValueError(f"name must be one of {', '.join(SAMPLES)}, got {name!r}")
    return Path(str(files("napari_dff"))) / "sample_data" / f"{name}.ome.tif"


def write_sample(name: str, truth: GroundTruth, folder: str | os.PathLike[str]) -> None:
    """Write a rendered stack as a sample: stack, true depth and true sharp picture."""
    small: dict[str, Any] = {"compression": "zlib"}
    exact = {**small, "predictor": True}  # of integers only
    with complete(Path(folder)) as place:
        write_stack(place / f"{name}.ome.tif", truth.stack, **exact)
        write_image(place / f"{name}.depth.tif", truth.depth, truth.stack, **small)
        write_image(place / f"{name}.sharp.tif", truth.sharp, truth.stack, **exact)


def copy_sample(name: str, folder: str | os.PathLike[str]) -> None:
    """Copy a bundled stack with its truth into `folder`."""
    source = sample_path(name)
    with complete(Path(folder)) as place:
        for file in sorted(source.parent.glob(f"{name}.*")):
            shutil.copyfile(file, place / file.name)
