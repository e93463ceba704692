"""Reader of files in napari: focal stacks with their metadata, and results.

The reader declines files that napari's own reader opens as well.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error

from napari_dff.io import StackError, frames_in, read_acquisitions
from napari_dff.io.readers.bioio_files import BIOIO_PLUGINS
from napari_dff.io.readers.tiff import TIFF_SUFFIXES
from napari_dff.io.readers.tiff_opening import open_tiff
from napari_dff.io.readers.zarr_store import is_zarr
from napari_dff.model.stack import MIN_PLANES
from napari_dff.widgets.app.layer_data import LayerData, stack_layer, stack_title
from napari_dff.widgets.files.results import is_result, result_layers

Reader = Callable[[str | Sequence[str]], list[LayerData]]


def reader(path: str | Sequence[str]) -> Reader | None:
    """Return the function that reads `path`; None if it holds neither focal stack nor result."""
    if not isinstance(path, str):  # several files, which napari stacks itself
        return None
    if is_result(Path(path)):
        return _read_result
    return _read_stacks if _may_hold_stacks(Path(path)) else None


def _read_stacks(path: str | Sequence[str]) -> list[LayerData]:
    path = str(path)
    file = Path(path)
    try:
        acquisitions = read_acquisitions(file)
    except StackError as error:
        if file.suffix.lower() in BIOIO_PLUGINS:  # napari has no other reader and does not show why
            show_error(str(error))
        if "--axes" in str(error):
            raise StackError(
                f"{error}; in napari, open it with napari's own reader, and write the axes into "
                "the form of the step"
            ) from error
        raise
    if not acquisitions:
        raise StackError(f"{file.name} holds no images")
    return [stack_layer(each, stack_title(path, each.name), path) for each in acquisitions]


def _read_result(path: str | Sequence[str]) -> list[LayerData]:
    return result_layers(Path(str(path)))


def _may_hold_stacks(path: Path) -> bool:
    """Return whether `path` looks like focal stacks, by its name and headers."""
    if path.is_dir():
        return _may_be_zarr_stack(path) if is_zarr(path) else len(frames_in(path)) >= MIN_PLANES
    suffix = path.suffix.lower()
    return suffix in BIOIO_PLUGINS or (suffix in TIFF_SUFFIXES and _may_be_tiff_stack(path))


def _may_be_tiff_stack(path: Path) -> bool:
    """Return whether a TIFF has planes along Z, or along axes without a name."""
    try:
        with open_tiff(path, []) as (tif, _):
            axes = [axis for each in tif.series for axis in zip(each.axes, each.shape, strict=True)]
    except Exception:  # damaged, in one of many ways: `read_acquisitions` raises why
        return path.is_file()
    return not axes or any(n >= MIN_PLANES and name not in "TCYXSRP" for name, n in axes)


def _may_be_zarr_stack(path: Path) -> bool:
    """Return whether Zarr holds a bare array of planes, or an image with an axis z."""
    try:
        return _has_planes(path)
    except Exception:  # damaged, in one of many ways: `read_acquisitions` raises why
        return True


def _has_planes(path: Path) -> bool:
    import zarr  # 0.3 s, needed only here

    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        return node.ndim >= 3
    attributes = dict(node.attrs)
    ome: Any = attributes.get("ome", attributes)
    if "multiscales" not in ome:
        return any(name in ome for name in ("plate", "well", "bioformats2raw.layout"))
    axes = ome["multiscales"][0].get("axes", ["z"])
    names = [axis.get("name") if isinstance(axis, dict) else axis for axis in axes]
    return "z" in names or not set(names) <= set("tcyx")
