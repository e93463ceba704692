"""Write results, images and recipes, each complete or not at all."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.io.atomic import write_file
from napari_dff.io.file_checks import check_space
from napari_dff.io.image_metadata import ImageMetadata, write_planes
from napari_dff.io.records import Provenance, ResultLayout, write_json
from napari_dff.io.writers.result_files import FileFormat, ResultFiles
from napari_dff.io.writers.tiff import OmeTiffWriter, write_tiff
from napari_dff.io.writers.zarr_store import OmeZarrWriter
from napari_dff.model import checks
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.recipe import Recipe
from napari_dff.model.result import Reconstruction
from napari_dff.model.stack import FocalStack
from napari_dff.runtime.windows import full_window

__all__ = ["save_reconstruction", "write_image", "write_recipe", "write_stack"]


def save_reconstruction(
    result: Reconstruction,
    folder: str | os.PathLike[str],
    *,
    file_format: FileFormat = "ome-tiff",
    overwrite: bool = False,
    input: Mapping[str, Any] | None = None,
) -> None:
    """Write a result: depth, index, uncertainty, all-in-focus image, recipe, transforms, preview.

    All files are written to a staging folder and moved in when they are complete; an earlier result
    stays until then. Files of other names in the folder are left alone.

    Parameters
    ----------
    result : Reconstruction
    folder : path
        Created if missing. Gets ``depth.tif`` (float32, in the unit of the stack), ``index.tif``
        (uint16), ``uncertainty.tif`` (float32), ``all_in_focus.tif`` (dtype of the planes),
        ``recipe.json``, ``provenance.json``, ``transforms.json`` (for `read_transforms`) and
        ``preview.png``.
    file_format : {"ome-tiff", "ome-zarr"}
        File format of the images; those of OME-Zarr end in ``.ome.zarr``.
    overwrite : bool
        Replace files of these names that no run has written, or that were changed since, too. A
        result whose files ``provenance.json`` lists is always replaced.
    input : mapping, optional
        More information on the source of the stack, such as its ``path``, for ``provenance.json``.

    Raises
    ------
    ValueError
        If the format does not support the dtype of the planes.
    FileExistsError
        If the folder holds files of these names that do not belong to a result.
    OSError
        If the files cannot be written; nothing is changed then.
    """
    checks.check_type("result", result, Reconstruction)
    stack = result.stack
    # only shape and dtype of the planes are used: no need to load them
    planes = np.broadcast_to(np.empty((), stack.planes.dtype), (1, 1, *stack.planes.shape))
    acquisition = Acquisition(planes, stack.positions[np.newaxis], stack.pixel_size, stack.unit)
    layout = ResultLayout.from_acquisition(acquisition)
    provenance = Provenance.from_acquisition(result.recipe, acquisition)
    provenance = dataclasses.replace(provenance, input={**provenance.input, **(input or {})})
    files = ResultFiles(folder, layout, provenance, file_format=file_format, overwrite=overwrite)
    with files:
        files.write_window(full_window(layout.shape), result.refined, [result.all_in_focus])
        files.set_transforms(result.transforms)


def write_recipe(path: str | os.PathLike[str], recipe: Recipe) -> None:
    """Write a recipe as JSON, for `read_recipe`; an existing file stays until it is complete."""
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
    """Write a (Y, X[, 3]) image with the pixel size of `stack`, as OME-TIFF or ``.ome.zarr``.

    An existing file is replaced when the new one is complete; an existing Zarr is not replaced.

    Parameters
    ----------
    path : path
    image : (Y, X) or (Y, X, 3) array
    stack : FocalStack
    record : mapping, optional
        Provenance of the image, as JSON.
    **settings
        Passed to `tifffile.imwrite`, e.g. ``compression``.

    Raises
    ------
    ValueError
        If there are `settings` for an OME-Zarr.
    OSError
        If the file cannot be written; nothing is changed then.
    """
    _write(Path(path), image, ImageMetadata.from_image(image, stack, record), settings)


def write_stack(
    path: str | os.PathLike[str],
    stack: FocalStack,
    *,
    record: Mapping[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Write a focal stack with pixel size and focus positions; parameters as of `write_image`.

    Lazy planes are read one at a time, unless there are `settings`.
    """
    _write(Path(path), stack.planes, ImageMetadata.from_stack(stack, record), settings)


def _write(path: Path, data: Any, metadata: ImageMetadata, settings: dict[str, Any]) -> None:
    is_zarr = path.suffix == ".zarr"
    if settings and is_zarr:
        raise ValueError(f"settings must be none for OME-Zarr, got {', '.join(settings)}")
    with write_file(path) as new:
        if settings:
            write_tiff(new, np.asarray(data), metadata, **settings)
        else:
            check_space(path.parent, metadata.nbytes)
            file = OmeZarrWriter(new, metadata) if is_zarr else OmeTiffWriter(new, metadata)
            write_planes(file, data, metadata)
