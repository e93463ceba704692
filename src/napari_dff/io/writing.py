"""Results, images and recipes to the disk: all of them, or none."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff import checks
from napari_dff.acquisition import Acquisition
from napari_dff.io.atomic import write_file
from napari_dff.io.file_checks import check_space
from napari_dff.io.image_metadata import ImageMetadata, write_planes
from napari_dff.io.records import Provenance, ResultLayout, write_json
from napari_dff.io.results import FileFormat, ResultFiles
from napari_dff.io.tiff_files import OmeTiffWriter, write_tiff
from napari_dff.io.zarr_files import OmeZarrWriter
from napari_dff.pipeline import Reconstruction
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.windows import full_window

__all__ = ["save_reconstruction", "write_image", "write_recipe", "write_stack"]


def save_reconstruction(
    result: Reconstruction,
    folder: str | os.PathLike[str],
    *,
    file_format: FileFormat = "ome-tiff",
    overwrite: bool = False,
    input: Mapping[str, Any] | None = None,
) -> None:
    """Write a result: depth, index, uncertainty, all-in-focus image, recipe, motions, preview.

    Everything is written beside the folder first and moved in when it is complete, so that what was
    there stays until then. Files of other names in the folder are left alone.

    Parameters
    ----------
    result : Reconstruction
    folder : path
        Made if missing. Gets ``depth.tif`` (float32, in the stack's unit), ``index.tif`` (uint16),
        ``uncertainty.tif`` (float32), ``all_in_focus.tif`` (dtype of the planes), ``recipe.json``,
        ``provenance.json`` (what made it), ``transforms.json`` (the motion of every plane, for
        `read_transforms`) and ``preview.png``.
    file_format : {"ome-tiff", "ome-zarr"}
        Of the images; OME-Zarr's end in ``.ome.zarr``.
    overwrite : bool
        Replace files of these names that no run has written, or that were changed since, too. A
        result that ``provenance.json`` lists with its files is always replaced.
    input : mapping, optional
        More on where the stack came from, as its ``path``, for ``provenance.json``.

    Raises
    ------
    ValueError
        When the format can't hold such planes.
    FileExistsError
        When the folder holds files of these names that are not those of a result.
    OSError
        When it can't be written; nothing is changed then.
    """
    checks.check_type("result", result, Reconstruction)
    stack, found = result.stack, result.refined
    # of its planes only the shape counts, and they needn't be in memory
    planes = np.broadcast_to(np.empty((), stack.planes.dtype), (1, 1, *stack.planes.shape))
    given = Acquisition(planes, stack.positions[np.newaxis], stack.pixel_size, stack.unit)
    record = Provenance.from_acquisition(result.recipe, given)
    record = dataclasses.replace(record, input={**record.input, **(input or {})})
    with ResultFiles(
        folder,
        ResultLayout.from_acquisition(given),
        record,
        file_format=file_format,
        overwrite=overwrite,
    ) as files:
        files.write_window(full_window(found.depth.shape), found, [result.all_in_focus])
        files.set_transforms(result.transforms)


def write_recipe(path: str | os.PathLike[str], recipe: Recipe) -> None:
    """Write a recipe as JSON, for `read_recipe`; what was there stays until it is complete."""
    with write_file(Path(path)) as new:
        write_json(new, Provenance(recipe).settings, indent=2)


def write_image(
    path: str | os.PathLike[str],
    image: np.ndarray,
    stack: FocalStack,
    *,
    record: Mapping[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Write one (Y, X[, 3]) image with the pixel size of `stack`, as OME-TIFF or ``.ome.zarr``.

    `record` is what made it, as JSON has it. `settings` are those of `tifffile.imwrite`, as
    ``compression``. A file that is there is replaced when all is written, a Zarr isn't.

    Raises
    ------
    ValueError
        For `settings` of an OME-Zarr.
    OSError
        When it can't be written; nothing is changed then.
    """
    _write(Path(path), image, ImageMetadata.from_image(image, stack, record), settings)


def write_stack(
    path: str | os.PathLike[str],
    stack: FocalStack,
    *,
    record: Mapping[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Write a focal stack with pixel size and the position of every plane, as `write_image` does.

    Planes that are lazy are read one at a time, unless there are `settings`.
    """
    _write(Path(path), stack.planes, ImageMetadata.from_stack(stack, record), settings)


def _write(path: Path, data: Any, metadata: ImageMetadata, settings: dict[str, Any]) -> None:
    zarr = path.suffix == ".zarr"
    if settings and zarr:
        raise ValueError(f"settings must be none for OME-Zarr, got {', '.join(settings)}")
    with write_file(path) as new:
        if settings:
            write_tiff(new, np.asarray(data), metadata, **settings)
        else:
            check_space(path.parent, metadata.nbytes)
            write_planes(
                OmeZarrWriter(new, metadata) if zarr else OmeTiffWriter(new, metadata),
                data,
                metadata,
            )
