"""Save results of stacks as a run does: one folder each, with all that is needed to repeat them."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.utils.notifications import show_info

from napari_dff.io import ResultFiles, folder_names
from napari_dff.model.acquisition import AXIS_WORDS, Acquisition, channel_axis
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import Recipe
from napari_dff.model.stack import fractional_plane_index
from napari_dff.runtime.windows import full_window
from napari_dff.widgets.app.axes import leading_axis_names
from napari_dff.widgets.app.layer_data import RESULT_IMAGES, LayerData
from napari_dff.widgets.app.layers import (
    at_index,
    leading_shape,
    pixel_size_of,
    plane_shape,
    plugin_metadata,
    result_values,
    role_of,
    stack_name_of,
    unit_of,
)
from napari_dff.widgets.files.layer_writer import AXIS_LETTERS, as_save_error

Index = tuple[int, ...]  # along the leading axes


def write_results(path: str, layers: list[LayerData]) -> list[str]:
    """Write the results among `layers` as a run does, and return the paths of all files.

    Several stacks, and indices along axes other than time and channel, get a folder each.

    Raises
    ------
    SaveError
        If results of a stack are missing.
    """
    folder = Path(path)
    with as_save_error():
        images = [Layer.create(*each) for each in layers if each[2] in ("image", "labels")]
        stacks = _group_by_stack(images)
        parts = [(name, stack, at) for stack in stacks for name, at in _split_by_time(stack)]
        names = folder_names([name for name, *_ in parts])
        with ExitStack() as results:  # whose files move in when all of them are complete
            for name, (_, stack, indices) in zip(names, parts, strict=True):
                _write_result(results, folder / name, stack, indices)
    others = len(layers) - sum(map(len, stacks))
    if others:
        titles = ", ".join(repr(stack_name_of(stack["depth"])) for stack in stacks)
        show_info(f"saved the results of {titles}; {others} other layers are left out")
    return sorted(str(file) for file in folder.rglob("*") if file.is_file())


def _group_by_stack(layers: list[Layer]) -> list[dict[str, Layer]]:
    """Return the four layers of each result by the name of their image, refined ones if any."""
    stacks: dict[str, dict[str, Layer]] = {}
    for layer in layers:
        if role_of(layer).removeprefix("refined ") in RESULT_IMAGES.values():
            source = str(plugin_metadata(layer).get("source"))
            stacks.setdefault(source, {})[role_of(layer)] = layer
    if not stacks:
        raise ValueError(
            "there are no results among these layers: select depth, uncertainty, plane index and "
            "all-in-focus image of a stack"
        )
    return [_complete_result(by_role) for by_role in stacks.values()]


def _complete_result(by_role: dict[str, Layer]) -> dict[str, Layer]:
    prefix = "refined " if any(role.startswith("refined ") for role in by_role) else ""
    roles = {name: prefix + role for name, role in RESULT_IMAGES.items()}
    missing = [role for role in roles.values() if role not in by_role]
    if missing:
        title = stack_name_of(next(iter(by_role.values())))
        raise ValueError(f"select all results of {title!r}: {', '.join(missing)} are missing")
    return {name: by_role[role] for name, role in roles.items()}


def _split_by_time(stack: dict[str, Layer]) -> Iterator[tuple[str, list[Index]]]:
    """Yield name and indices of each result: one index for each time."""
    depth = stack["depth"]
    shape, names = leading_shape(depth), leading_axis_names(depth)
    time = next((i for i, name in enumerate(names) if AXIS_LETTERS.get(name) == "T"), None)
    times = [n if i == time else 1 for i, n in enumerate(shape)]
    others = [1 if i == time else n for i, n in enumerate(shape)]
    for index in np.ndindex(*others):
        axes = zip(names, index, others, strict=True)
        words = [f"{AXIS_WORDS.get(name, name)} {i}" for name, i, n in axes if n > 1]
        indices = [tuple(np.add(index, offset).tolist()) for offset in np.ndindex(*times)]
        yield " ".join([stack_name_of(depth), *words]), indices


def _write_result(
    results: ExitStack, folder: Path, stack: dict[str, Layer], indices: list[Index]
) -> None:
    """Write the folder of one result, `indices` being its times; it is complete with `results`."""
    depth, picture = stack["depth"], stack["all_in_focus"]
    metadata, names = plugin_metadata(depth), leading_axis_names(depth)
    if "positions" not in metadata:
        raise ValueError(f"{depth.name!r} has no focus positions of its planes")
    positions = np.stack([at_index(np.asarray(metadata["positions"]), i, 1) for i in indices])
    axis = channel_axis(names)
    channels = 1 if axis is None else picture.data.shape[axis]
    channel_names = tuple(map(str, metadata.get("channels", ())))
    shape = (*positions.shape[:1], channels, *positions.shape[1:], *plane_shape(depth))
    acquisition = Acquisition(
        np.broadcast_to(np.empty((), picture.data.dtype), shape + (3,) * bool(picture.rgb)),
        positions,
        pixel_size_of(depth),
        unit_of(depth),
        channel_names if len(channel_names) == channels else ("",) * channels,
        focus_channel=metadata.get("focus_channel") or 0,
    )
    files = ResultFiles(folder, acquisition, _recipe(depth), _inputs(depth))
    results.enter_context(files)
    for time, index in enumerate(indices):
        pictures = [
            result_values(picture, tuple(c if i == axis else n for i, n in enumerate(index)))
            for c in range(channels)
        ]
        depth_map = _depth_map(stack, index, positions[time])
        files.write_window(full_window(plane_shape(depth)), depth_map, pictures, time=time)
        if metadata.get("transforms") is not None:
            transforms = at_index(np.asarray(metadata["transforms"]), index, 3)
            files.set_transforms(transforms, time=time)


def _depth_map(stack: dict[str, Layer], index: Index, positions: np.ndarray) -> DepthMap:
    """Return the depth map at an index; the plane nearest to the depth where the label is 0."""
    images = ("index", "depth", "uncertainty")
    labels, depth, uncertainty = (result_values(stack[name], index) for name in images)
    nearest = np.rint(fractional_plane_index(depth, positions))
    planes = np.where(labels > 0, labels.astype(np.int64) - 1, nearest).astype(np.uint16)
    return DepthMap(planes, depth, uncertainty)


def _recipe(depth: Layer) -> Recipe:
    """Return the recipe of a result; of a result of single steps, that of its last step."""
    metadata = plugin_metadata(depth)
    recipe = metadata.get("recipe")
    if recipe is None:
        field_names = {field.name for field in fields(Recipe)}
        settings = {k: v for k, v in metadata.get("settings", {}).items() if k in field_names}
        recipe = asdict(Recipe(registration="none", refinement="none")) | settings
    return Recipe.from_dict(recipe)


def _inputs(depth: Layer) -> dict[str, Any]:
    """Return where the planes of a result are from, and what its layers have in common."""
    metadata = plugin_metadata(depth)
    layer = {
        "prefix": "refined " if role_of(depth).startswith("refined ") else "",
        "root": stack_name_of(depth),
        "step": metadata.get("step", ""),
        "translate": [float(v) for v in depth.translate[-2:]],
    }
    source = metadata.get("input", {})
    computed = ("axes", "shape", "dtype", "channels")
    return {**{k: v for k, v in source.items() if k not in computed}, "layer": layer}
