"""Read results: folders that a run wrote, their images, and layers that were saved."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.io import StackError, frames_in
from napari_dff.io.moves import PROVENANCE_FILE
from napari_dff.io.readers.axes import reason
from napari_dff.io.readers.tiff import TIFF_SUFFIXES
from napari_dff.io.readers.tiff_opening import map_tiff, open_tiff
from napari_dff.io.readers.zarr_store import check_unpickled
from napari_dff.io.records import read_json
from napari_dff.widgets.app.layer_data import (
    MAX_LOADED_BYTES,
    RESULT_IMAGES,
    LayerData,
    run_layers,
    saved_layer,
)
from napari_dff.widgets.app.layers import METADATA_KEY

SUFFIXES = (".ome.zarr", ".tif")


def is_result(path: Path) -> bool:
    """Return whether a path is the folder of a result, one of its images, or a saved layer."""
    if _is_plain_folder(path):
        return bool(_result_folders(path))
    record = _read_record(path)
    return "layer" in record or ("recipe" in record and _image_name(path) is not None)


def result_layers(path: Path) -> list[LayerData]:
    """Return the layers of a result; StackError if a file of it is damaged."""
    try:
        if _is_plain_folder(path):
            return [layer for folder in _result_folders(path) for layer in _folder_layers(folder)]
        record = _read_record(path)
        if "layer" in record:
            return [saved_layer(_read_image(path), record, path)]
        name = _image_name(path) or "depth"
        uncertainty_file = _image_file(path.parent, "uncertainty") if name == "index" else None
        uncertainty = _read_image(uncertainty_file) if uncertainty_file else None
        return run_layers({name: _read_image(path)}, record, path.parent, uncertainty)
    except Exception as error:  # each decoder raises errors of its own
        raise StackError(f"{path.name} holds no result of a run: {reason(error)}") from error


def _folder_layers(folder: Path) -> list[LayerData]:
    record = read_json(folder / PROVENANCE_FILE, "the record of a run")
    transforms = folder / "transforms.json"
    if transforms.exists():
        record["transforms"] = json.loads(transforms.read_text(encoding="utf-8"))["transforms"]
    files = {name: _image_file(folder, name) for name in RESULT_IMAGES}
    images = {name: _read_image(file) for name, file in files.items() if file is not None}
    return run_layers(images, record, folder, images.get("uncertainty"))


def _read_record(path: Path) -> dict[str, Any]:
    """Return the record that the plugin wrote into an image; empty if there is none."""
    record: Any = None
    try:
        if path.suffix == ".zarr":
            import zarr  # 0.3 s, needed only here

            record = dict(zarr.open(path, mode="r").attrs).get(METADATA_KEY)
        elif path.suffix.lower() in TIFF_SUFFIXES:
            with open_tiff(path, []) as (_, root):
                pass
            text = "" if root is None else root.findtext("{*}Image/{*}Description") or ""
            record = json.loads(text) if "napari_dff" in text else None
    except Exception:  # the reader of the file raises it again
        return {}
    return dict(record) if isinstance(record, Mapping) and "napari_dff" in record else {}


def _read_image(path: Path) -> Any:
    """Return the array of an image, with colour last; lazy or mapped if it is large."""
    if path.suffix == ".zarr":
        return _read_zarr(path)
    if path.stat().st_size > MAX_LOADED_BYTES:
        return map_tiff(path)
    with open_tiff(path, []) as (tif, _):
        return np.asarray(tif.asarray())


def _read_zarr(path: Path) -> Any:
    import zarr

    array: Any = zarr.open_array(path / "0", mode="r")
    check_unpickled(path.name, array)
    if array.nbytes > MAX_LOADED_BYTES:
        import dask.array as da

        values: Any = da.from_array(array, chunks=array.chunks)  # type: ignore[no-untyped-call]
    else:
        values = np.asarray(array)
    attributes: Any = dict(zarr.open_group(path, mode="r").attrs)
    channels = attributes.get("omero", {}).get("channels", [])
    labels = [str(channel.get("label")).rpartition(" ")[2] for channel in channels[:3]]
    if labels != ["red", "green", "blue"]:
        return values
    # Each colour image is three channels: (…, 3 · C, …, Y, X) → (…, C, …, Y, X, 3).
    c = [axis["name"] for axis in attributes["multiscales"][0]["axes"]].index("c")
    values = values.reshape(*values.shape[:c], -1, 3, *values.shape[c + 1 :])
    values = np.moveaxis(values, c + 1, -1)
    return values.squeeze(c) if values.shape[c] == 1 else values


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and path.suffix != ".zarr"


def _result_folders(path: Path) -> list[Path]:
    """Return the folder itself if it is a result, or the results in it.

    Results beside frames of a stack, and those of a batch, are not opened together.
    """
    if _is_folder(path):
        return [path]
    if frames_in(path) or (path / "summary.csv").exists():
        return []
    return sorted(each for each in path.iterdir() if each.is_dir() and _is_folder(each))


def _is_folder(path: Path) -> bool:
    return (path / PROVENANCE_FILE).is_file() and _image_file(path, "depth") is not None


def _image_file(folder: Path, name: str) -> Path | None:
    """Return the file of an image, in either format; None if there is none."""
    files = (folder / f"{name}{suffix}" for suffix in SUFFIXES)
    return next((file for file in files if file.exists()), None)


def _image_name(path: Path) -> str | None:
    """Return which image of a result a file is, by its name; None for other files."""
    return next((name for name in RESULT_IMAGES if name in path.name), None)
