"""Save results of stacks as a run does: one folder each, with all that is needed to repeat them."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.utils.notifications import show_info
from napari.viewer import Viewer

from napari_dff.io import ResultFiles, folder_names
from napari_dff.io.records import without_folders
from napari_dff.model.acquisition import AXIS_WORDS, Acquisition, channel_axis
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import FocusScale, Recipe
from napari_dff.model.result import ImageQuality
from napari_dff.model.stack import fractional_plane_index
from napari_dff.runtime.windows import Window, full_window
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.axes import FILE_AXES, leading_axis_names
from napari_dff.widgets.app.layer_data import RESULT_IMAGES, LayerData

Index = tuple[int, ...]  # along the leading axes


def write_results(path: str, layer_data: list[LayerData]) -> list[str]:
    """Write a folder of results for each stack and position; ValueError if some are missing."""
    folder = Path(path)
    images = [Layer.create(*each) for each in layer_data if each[2] in ("image", "labels")]
    stacks = _group_by_stack(images)
    parts = [(name, stack, times) for stack in stacks for name, times in _split_by_time(stack)]
    names = folder_names([name for name, *_ in parts])
    with ExitStack() as results:  # whose files move in when all of them are complete
        for name, (_, stack, times) in zip(names, parts, strict=True):
            write_result(results, folder / name, stack, times)
    others = len(layer_data) - sum(map(len, stacks))
    if others:
        titles = ", ".join(repr(layers.stack_name_of(stack["depth"])) for stack in stacks)
        show_info(f"saved the results of {titles}; {others} other layers are left out")
    return sorted(str(file) for file in folder.rglob("*") if file.is_file())


def result_layers(viewer: Viewer, depth: Layer) -> dict[str, Layer]:
    """Return the four layers of the result of a depth layer; ValueError if they are not there."""
    source = layers.plugin_metadata(depth).get("source")
    images = [
        each for each in viewer.layers if layers.plugin_metadata(each).get("source") == source
    ]
    result = next(iter(_group_by_stack(images)))
    if result["depth"] is not depth:
        raise ValueError(f"{depth.name!r} is no result of its own: choose {result['depth'].name!r}")
    return result


def _group_by_stack(images: list[Layer]) -> list[dict[str, Layer]]:
    """Return the four layers of each result by the name of their image, refined ones if any."""
    stacks: dict[str, dict[str, Layer]] = {}  # the layers by their role
    for layer in images:
        if layers.role_of(layer).removeprefix("refined ") in RESULT_IMAGES.values():
            source = str(layers.plugin_metadata(layer).get("source"))
            stacks.setdefault(source, {})[layers.role_of(layer)] = layer
    if not stacks:
        raise ValueError(
            "there are no results among these layers: select depth, uncertainty, plane index and "
            "all-in-focus image of a stack"
        )
    results = []
    for by_role in stacks.values():
        prefix = "refined " if any(role.startswith("refined ") for role in by_role) else ""
        roles = {name: prefix + role for name, role in RESULT_IMAGES.items()}
        if missing := [role for role in roles.values() if role not in by_role]:
            title = layers.stack_name_of(next(iter(by_role.values())))
            raise ValueError(f"select all results of {title!r}: {', '.join(missing)} are missing")
        results.append({name: by_role[role] for name, role in roles.items()})
    return results


def _split_by_time(stack: dict[str, Layer]) -> Iterator[tuple[str, list[Index]]]:
    """Yield name and indices of each result: one index for each time."""
    depth = stack["depth"]
    shape, names = layers.leading_shape(depth), leading_axis_names(depth)
    is_time = [FILE_AXES.get(name) == "T" for name in names]
    others = [1 if time else n for time, n in zip(is_time, shape, strict=True)]
    for index in np.ndindex(*others):
        axes = zip(names, index, others, strict=True)
        words = [f"{AXIS_WORDS.get(name, name)} {i}" for name, i, n in axes if n > 1]
        ranges = [range(n) if t else [i] for t, n, i in zip(is_time, shape, index, strict=True)]
        yield " ".join([layers.stack_name_of(depth), *words]), list(itertools.product(*ranges))


def write_result(
    results: ExitStack, folder: Path, stack: dict[str, Layer], times: list[Index]
) -> None:
    """Write the folder of one result, of an index for each time; complete with `results`."""
    depth, picture = stack["depth"], stack["all_in_focus"]
    metadata, axis = layers.plugin_metadata(depth), channel_axis(leading_axis_names(depth))
    if "positions" not in metadata:
        raise ValueError(f"{depth.name!r} has no focus positions of its planes")
    positions = np.stack([layers.at_index(np.asarray(metadata["positions"]), i, 1) for i in times])
    channels = 1 if axis is None else picture.data.shape[axis]
    shape = (*positions.shape[:1], channels, *positions.shape[1:], *layers.plane_shape(depth))
    acquisition = Acquisition(
        np.broadcast_to(np.empty((), picture.data.dtype), shape + (3,) * bool(picture.rgb)),
        positions,
        layers.pixel_size_of(depth),
        layers.unit_of(depth),
        layers.channel_names(depth, channels),
        focus_channel=metadata.get("focus_channel") or 0,
        time_increment=metadata.get("input", {}).get("time_increment"),
    )
    files = ResultFiles(folder, acquisition, _recipe(metadata), _inputs(depth, picture))
    results.enter_context(files)
    if "window" in metadata:
        files.set_window(Window(*metadata["window"]))
    if "focus_scale" in metadata:
        files.set_scale(FocusScale(**metadata["focus_scale"]))
    for time, index in enumerate(times):
        pictures = [
            layers.result_values(picture, tuple(c if i == axis else n for i, n in enumerate(index)))
            for c in range(channels)
        ]
        depth_map = _depth_map(stack, index, positions[time])
        files.write_window(full_window(layers.plane_shape(depth)), depth_map, pictures, time=time)
        if metadata.get("transforms") is not None:
            transforms = layers.at_index(np.asarray(metadata["transforms"]), index, 3)
            files.set_transforms(transforms, time=time)
        if "quality" in metadata and not _strokes(depth, picture):
            quality = layers.at_index(np.asarray(metadata["quality"], float), index, 1)
            if np.isfinite(quality).all():
                files.set_quality(ImageQuality(*quality.tolist()), time=time)


def _depth_map(stack: dict[str, Layer], index: Index, positions: np.ndarray) -> DepthMap:
    """Return the depth map at an index; the plane nearest to the depth where the label is 0."""
    names = "index", "depth", "uncertainty"
    labels, depth, uncertainty = (layers.result_values(stack[name], index) for name in names)
    nearest = np.rint(fractional_plane_index(depth, positions))
    planes = np.where(labels > 0, labels.astype(np.int64) - 1, nearest).astype(np.uint16)
    return DepthMap(planes, depth, uncertainty)


def _recipe(metadata: layers.PluginMetadata) -> Recipe:
    """Return the recipe of a result; of a result of single steps, that of its last step."""
    recipe = metadata.get("recipe")
    if recipe is None:
        settings = metadata.get("settings", {}).items()
        fields = {name: value for name, value in settings if name in Recipe.__annotations__}
        recipe = {"registration": "none", "refinement": "none", **fields}
    return Recipe.from_dict(recipe)


def _strokes(depth: Layer, picture: Layer) -> list[dict[str, Any]]:
    """Return the strokes by hand on depth and all-in-focus image, each once."""
    first, second = (layers.plugin_metadata(x).get("retouched", ()) for x in (depth, picture))
    return [*first, *(each for each in second if each not in first)]


def _inputs(depth: Layer, picture: Layer) -> dict[str, Any]:
    """Return where the planes of a result are from, and what its layers have in common."""
    metadata = layers.plugin_metadata(depth)
    corner = np.zeros(2)  # of the results in the planes; `window` has it already
    if "window" in metadata:
        corner = np.array(metadata["window"])[[0, 2]] * depth.scale[-2:]
        corner = depth.rotate[-2:, -2:] @ corner
    layer: dict[str, Any] = {
        "prefix": "refined " if layers.role_of(depth).startswith("refined ") else "",
        "root": layers.stack_name_of(depth),
        "step": metadata.get("step", ""),
        "translate": [float(v) for v in depth.translate[-2:] - corner],
    }
    if strokes := _strokes(depth, picture):
        layer["retouched"] = strokes
    computed = ("axes", "shape", "dtype", "channels")
    source = {k: v for k, v in metadata.get("input", {}).items() if k not in computed}
    return {**without_folders(source), "layer": layer}
