"""Layers of results: of folders that a run wrote, of their images, and layers that were saved."""

import json
from pathlib import Path

from napari_dff.io import StackError, frames_in
from napari_dff.io.readers.axes import reason
from napari_dff.io.readers.results import (
    find_image,
    is_result_folder,
    read_image,
    read_image_record,
    read_provenance,
)
from napari_dff.widgets.app.layer_data import (
    MAX_LOADED_BYTES,
    RESULT_IMAGES,
    LayerData,
    run_layers,
    saved_layer,
)


def is_result(path: Path) -> bool:
    """Return whether a path is the folder of a result, one of its images, or a saved layer."""
    if _is_plain_folder(path):
        return bool(_result_folders(path))
    record = read_image_record(path)
    return "layer" in record or ("recipe" in record and _image_name(path) is not None)


def result_layers(path: Path) -> list[LayerData]:
    """Return the layers of a result; StackError if a file of it is damaged."""
    try:
        if _is_plain_folder(path):
            return [layer for folder in _result_folders(path) for layer in _folder_layers(folder)]
        record, image = read_image_record(path), read_image(path, MAX_LOADED_BYTES)
        if "layer" in record:
            return [saved_layer(image, record, path)]
        name = _image_name(path) or "depth"
        uncertainty_file = find_image(path.parent, "uncertainty") if name == "index" else None
        uncertainty = read_image(uncertainty_file, MAX_LOADED_BYTES) if uncertainty_file else None
        return run_layers({name: image}, record, path.parent, uncertainty)
    except Exception as error:  # each decoder raises errors of its own
        raise StackError(f"{path.name} holds no result of a run: {reason(error)}") from error


def _folder_layers(folder: Path) -> list[LayerData]:
    record = read_provenance(folder)
    transforms = folder / "transforms.json"
    if transforms.exists():
        record["transforms"] = json.loads(transforms.read_text(encoding="utf-8"))["transforms"]
    files = {name: find_image(folder, name) for name in RESULT_IMAGES}
    images = {name: read_image(file, MAX_LOADED_BYTES) for name, file in files.items() if file}
    return run_layers(images, record, folder, images.get("uncertainty"))


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and path.suffix != ".zarr"


def _result_folders(path: Path) -> list[Path]:
    """Return the folder itself if it is a result, or the results in it.

    Results beside frames of a stack, and those of a batch, are not opened together.
    """
    if is_result_folder(path):
        return [path]
    if frames_in(path) or (path / "summary.csv").exists():
        return []
    return sorted(each for each in path.iterdir() if each.is_dir() and is_result_folder(each))


def _image_name(path: Path) -> str | None:
    """Return which image of a result a file is, by its name; None for other files."""
    return next((name for name in RESULT_IMAGES if name in path.name), None)
