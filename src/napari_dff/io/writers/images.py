"""Write images and focal stacks, each complete or not at all."""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile

from napari_dff.io.atomic import write_file
from napari_dff.io.file_checks import check_space
from napari_dff.io.image_metadata import ImageMetadata
from napari_dff.io.writers.tiff import OmeTiffWriter, imwrite_settings
from napari_dff.io.writers.zarr_store import OmeZarrWriter
from napari_dff.model.checks import as_numbers, as_path, check_type
from napari_dff.model.stack import FocalStack
from napari_dff.runtime.windows import full_window

FileFormat = Literal["ome-tiff", "ome-zarr", "ome-zarr-0.4"]
ImageWriter = OmeTiffWriter | OmeZarrWriter
FORMATS: dict[str, tuple[str, Callable[[Path, ImageMetadata], ImageWriter]]] = {
    "ome-tiff": (".ome.tif", OmeTiffWriter),
    "ome-zarr": (".ome.zarr", OmeZarrWriter),
    "ome-zarr-0.4": (".ome.zarr", functools.partial(OmeZarrWriter, version="0.4")),
}


def write_stack(
    path: str | os.PathLike[str],
    stack: FocalStack,
    *,
    record: Mapping[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Write a focal stack with pixel size and focus positions, as OME-TIFF or ``.ome.zarr``.

    An existing file is replaced when the new one is complete; an existing Zarr is not replaced.

    Parameters
    ----------
    path : path
    stack : FocalStack
        Lazy planes are read one at a time, unless there are `settings`.
    record : mapping, optional
        Provenance of the stack, as JSON.
    **settings
        Passed to `tifffile.imwrite`, e.g. ``compression``.

    Raises
    ------
    ValueError
        If there are `settings` for an OME-Zarr.
    OSError
        If the file cannot be written; nothing is changed then.
    """
    check_type("stack", stack, FocalStack)
    path = as_path("path", path)
    planes, axes = stack.planes, "ZYXS"[: len(stack.planes.shape)]
    calibration = stack.pixel_size, stack.unit, stack.positions
    metadata = ImageMetadata(axes, tuple(planes.shape), planes.dtype, *calibration, record=record)
    write_array(path, planes, metadata, **settings)


def write_image(
    path: str | os.PathLike[str],
    image: np.ndarray,  # (Y, X[, 3])
    stack: FocalStack,
    *,
    record: Mapping[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Write an image with the pixel size of `stack`; other parameters as of `write_stack`."""
    path, image = as_path("path", path), as_numbers("image", image)
    check_type("stack", stack, FocalStack)
    if image.ndim != 2 and image.shape[2:] != (3,):
        raise ValueError(f"image must have axes (Y, X[, 3]), got shape {image.shape}")
    axes, calibration = "YXS"[: image.ndim], (stack.pixel_size, stack.unit)
    metadata = ImageMetadata(axes, image.shape, image.dtype, *calibration, record=record)
    write_array(path, image, metadata, **settings)


def write_array(
    path: Path,
    data: Any,
    metadata: ImageMetadata,
    *,
    display_range: tuple[float, float] | None = None,  # of all channels
    **settings: Any,
) -> None:
    """Write an array that `metadata` describes, plane by plane unless there are `settings`."""
    is_zarr = path.suffix == ".zarr"
    if settings and is_zarr:
        raise ValueError(f"settings must be none for OME-Zarr, got {', '.join(settings)}")
    with write_file(path) as new:
        if settings:
            tifffile.imwrite(new, np.asarray(data), **imwrite_settings(path, metadata), **settings)
            return
        check_space(path.parent, metadata.nbytes)
        file = (OmeZarrWriter if is_zarr else OmeTiffWriter)(new, metadata)
        for index in np.ndindex(metadata.leading_shape):
            plane = np.asarray(data[index]).astype(metadata.dtype, copy=False)
            file.write(plane, full_window(metadata.plane_shape), index)
        count = metadata.shape[metadata.axes.index("C")] if display_range is not None else 0
        file.finish([display_range] * count if display_range is not None else ())
