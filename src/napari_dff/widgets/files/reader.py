"""Reader of focal stacks and results that napari's own reader cannot open; the sample data."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from napari import current_viewer
from napari.utils.notifications import show_error
from napari_builtins.io import napari_get_reader  # type: ignore[import-untyped]

from napari_dff.io import StackError, frames_in, read_acquisitions, sample_path
from napari_dff.io.readers import results
from napari_dff.io.readers.axes import reason
from napari_dff.io.readers.bioio_files import BIOIO_PLUGINS
from napari_dff.io.readers.height_maps import DECODERS, read_height_map
from napari_dff.io.readers.sequences import VIDEO_SUFFIXES
from napari_dff.io.readers.tiff import TIFF_SUFFIXES, find_dataset
from napari_dff.io.readers.tiff_opening import open_tiff
from napari_dff.io.readers.zarr_store import check_zarr_tree, is_zarr
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.stack import MIN_PLANES
from napari_dff.widgets.app import layer_data
from napari_dff.widgets.app.layer_data import LayerData, run_layers, stack_layer, stack_title
from napari_dff.widgets.app.layers import METADATA_KEY
from napari_dff.widgets.app.view_units import reconcile_units


def reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Return the function that reads `path`: napari's own, if it holds no stack and no result.

    napari offers this reader for single images as well, because their names end as those of stacks.
    """
    if not isinstance(path, str):  # several files, which napari stacks itself
        return napari_get_reader(path)
    if _is_result(Path(path)):
        return lambda path: _in_view_units(_result_layers(Path(str(path))))
    if Path(path).suffix.lower() in DECODERS:
        return lambda path: _in_view_units([_height_layer(Path(str(path)))])
    if _may_hold_stacks(Path(path)):
        return _read_stacks
    return None if Path(path).is_dir() else napari_get_reader(path)


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
    stacks = [stack_layer(each, stack_title(path, each.name), path) for each in acquisitions]
    return _in_view_units(stacks)


def _in_view_units(new_layers: list[LayerData]) -> list[LayerData]:
    """Return layers in units that napari draws beside those that are open."""
    viewer = current_viewer()
    if viewer is not None:
        reconcile_units(viewer, opened=new_layers)
    return new_layers


def _may_hold_stacks(path: Path) -> bool:
    """Return whether `path` looks like focal stacks, by its name and headers."""
    suffix = path.suffix.lower()
    if path.is_dir() and not is_zarr(path):
        return len(frames_in(path)) >= MIN_PLANES or find_dataset(path) is not None
    if path.is_dir():
        has_planes = _is_zarr_stack
    elif suffix in TIFF_SUFFIXES:
        has_planes = _is_tiff_stack
    else:
        return suffix in BIOIO_PLUGINS or suffix in VIDEO_SUFFIXES
    try:
        return has_planes(path)
    except Exception:  # damaged, in one of many ways: `read_acquisitions` raises why
        return path.exists()


def _is_tiff_stack(path: Path) -> bool:
    """Return whether a TIFF has planes along Z, or along axes without a name."""
    with open_tiff(path, []) as (tif, _):
        axes = [axis for each in tif.series for axis in zip(each.axes, each.shape, strict=True)]
    return not axes or any(n >= MIN_PLANES and name not in "TCYXSRP" for name, n in axes)


def _is_zarr_stack(path: Path) -> bool:
    """Return whether Zarr holds a bare array of planes, or an image with an axis z."""
    import zarr  # 0.3 s, needed only here

    check_zarr_tree(path)
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


def _is_result(path: Path) -> bool:
    if _is_plain_folder(path):
        return bool(_result_folders(path))
    record = results.read_image_record(path)
    return "layer" in record or ("recipe" in record and _image_name(path) is not None)


def _result_layers(path: Path) -> list[LayerData]:
    try:
        if _is_plain_folder(path):
            return [layer for folder in _result_folders(path) for layer in _folder_layers(folder)]
        record, image = results.read_image_record(path), _load(path)
        if "layer" in record:
            return [layer_data.saved_layer(image, record, path)]
        name = _image_name(path) or "depth"
        file = results.find_image(path.parent, "uncertainty") if name == "index" else None
        return run_layers({name: image}, record, path.parent, _load(file))
    except Exception as error:  # each decoder raises errors of its own
        raise StackError(f"{path.name} holds no result of a run: {reason(error)}") from error


def _folder_layers(folder: Path) -> list[LayerData]:
    record = results.read_provenance(folder)
    transforms = folder / "transforms.json"
    if transforms.exists():
        record["transforms"] = json.loads(transforms.read_text(encoding="utf-8"))["transforms"]
    files = {name: results.find_image(folder, name) for name in layer_data.RESULT_IMAGES}
    images = {name: _load(file) for name, file in files.items() if file}
    return run_layers(images, record, folder, images.get("uncertainty"))


def _height_layer(path: Path) -> LayerData:
    """Return a height map in a file of surface metrology as a layer that can be measured."""
    heights, pixel_size = read_height_map(path)
    low, high = np.nanpercentile(heights, (0.5, 99.5))
    own = {"role": "levelled depth", "root": path.stem, "input": {"path": str(path)}}
    look = {
        "name": f"heights · {path.stem}",
        "scale": pixel_size,
        "units": ("micrometer", "micrometer"),
        "axis_labels": ("y", "x"),
        "colormap": "viridis",
        "contrast_limits": (float(low), float(max(high, low + 1e-6))),
        "metadata": {METADATA_KEY: own},
    }
    return heights.astype(np.float32), look, "image"


def _load(path: Path | None) -> Any:
    return None if path is None else results.read_image(path, layer_data.MAX_LOADED_BYTES)


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and path.suffix != ".zarr"


def _result_folders(path: Path) -> list[Path]:
    """Return the folder itself if it is a result, or the results in it."""
    if results.is_result_folder(path):
        return [path]
    if frames_in(path) or (path / "summary.csv").exists():  # a stack with its results, or a batch
        return []
    return sorted(filter(results.is_result_folder, path.iterdir()))


def _image_name(path: Path) -> str | None:
    return next((name for name in layer_data.RESULT_IMAGES if name in path.name), None)


def sample(name: str) -> list[LayerData]:
    """Return the bundled focal stack `name` as an image layer with its scale and units."""
    path = sample_path(name)
    (acquisition,) = read_acquisitions(path)
    return _in_view_units([stack_layer(acquisition, name.replace("_", " "), str(path))])


rough_surface = partial(sample, "rough_surface")
cell_sheet = partial(sample, "cell_sheet")
machined_part = partial(sample, "machined_part")
bare_patch = partial(sample, "bare_patch")


def transparent_film() -> list[LayerData]:
    """Render a transparent film on a ground."""
    from napari_dff import synthetic

    stack = synthetic.transparent_film().stack
    planes = stack.planes[np.newaxis, np.newaxis]
    acquisition = Acquisition(planes, stack.positions, stack.pixel_size, stack.unit)
    return _in_view_units([stack_layer(acquisition, "transparent film")])
