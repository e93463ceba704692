"""The results of stacks into folders, as a run writes them: enough to make them again."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from napari.layers import Layer
from napari.utils.notifications import show_info

from napari_dff.depth import DepthMap
from napari_dff.io import Layout, Record, ResultFiles, names_of
from napari_dff.io.folders import complete
from napari_dff.recipe import Recipe
from napari_dff.stack import fractional_plane_index
from napari_dff.widgets import axes
from napari_dff.widgets.axes import AXIS_WORDS, CHANNEL_LABELS
from napari_dff.widgets.layer_data import RESULT_IMAGES as ROLES
from napari_dff.widgets.layers import (
    at_index,
    leading_shape,
    pixel_size_of,
    plane_shape,
    plugin_metadata,
    role_of,
    stack_name_of,
    unit_of,
)
from napari_dff.widgets.saving import LETTERS, LayerData, as_save_error
from napari_dff.windows import full_window


def write_results(path: str, layers: list[LayerData]) -> list[str]:
    """Write the results among `layers` as a run writes them; the paths that were written.

    One folder, or one in it for each stack, and each place along axes other than time and channel.

    Raises
    ------
    SaveError
        Where not all results of a stack are there, with a sentence that says which are missing.
    """
    place = Path(path)
    with as_save_error():
        return _saved_results(place, layers)


def _saved_results(place: Path, layers: list[LayerData]) -> list[str]:
    made = [Layer.create(*each) for each in layers if each[2] in ("image", "labels")]
    stacks = _by_stack(made)
    wanted = [part for each in stacks for part in _parts(each)]
    folders = names_of([name for name, *_ in wanted])
    if len(wanted) == 1:
        _write_result(place, *wanted[0][1:])
    else:
        with complete(place) as inside:
            for folder, (_, four, where) in zip(folders, wanted, strict=True):
                _write_result(inside / folder, four, where)
    others = len(layers) - sum(len(each) for each in stacks)
    if others:
        names = [repr(stack_name_of(each["depth"])) for each in stacks]
        show_info(f"saved the results of {', '.join(names)}; {others} other layers are left out")
    return sorted(str(file) for file in place.rglob("*") if file.is_file())


def _by_stack(layers: list[Layer]) -> list[dict[str, Layer]]:
    """The four results of each stack by their role, refined ones if there are any."""
    found: dict[str, dict[str, Layer]] = {}
    for layer in layers:
        if role_of(layer).removeprefix("refined ") in ROLES.values():
            found.setdefault(str(plugin_metadata(layer).get("source")), {})[role_of(layer)] = layer
    if not found:
        raise ValueError(
            "there are no results among these layers: select depth, uncertainty, plane index and "
            "all-in-focus image of a stack"
        )
    return [_four(each) for each in found.values()]


def _four(layers: dict[str, Layer]) -> dict[str, Layer]:
    refined = any(role.startswith("refined ") for role in layers)
    roles = {name: ("refined " if refined else "") + role for name, role in ROLES.items()}
    missing = [role for role in roles.values() if role not in layers]
    if missing:
        name = stack_name_of(next(iter(layers.values())))
        raise ValueError(f"select all results of {name!r}: {', '.join(missing)} are not among them")
    return {name: layers[role] for name, role in roles.items()}


def _parts(
    layers: dict[str, Layer],
) -> Iterator[tuple[str, dict[str, Layer], list[tuple[int, ...]]]]:
    """Name, layers and places of each result: all times of one place along the other axes."""
    depth = layers["depth"]
    lengths, names = leading_shape(depth), _names(depth)
    time = next((i for i, name in enumerate(names) if LETTERS.get(name) == "T"), None)
    apart = [1 if i == time else n for i, n in enumerate(lengths)]
    for where in np.ndindex(*apart):
        every = range(1 if time is None else lengths[time])
        places = [tuple(k if i == time else n for i, n in enumerate(where)) for k in every]
        words = [
            f"{AXIS_WORDS.get(name, name)} {n}"
            for name, n, length in zip(names, where, apart, strict=True)
            if length > 1
        ]
        yield " ".join([stack_name_of(depth), *words]), layers, places


def _write_result(folder: Path, layers: dict[str, Layer], places: list[tuple[int, ...]]) -> None:
    """Write the folder of one result: of all times in `places`."""
    depth, picture = layers["depth"], layers["all_in_focus"]
    mine, unit = plugin_metadata(depth), unit_of(depth)
    if "positions" not in mine:
        raise ValueError(f"{depth.name!r} doesn't know the positions of its planes")
    positions = np.stack([at_index(np.asarray(mine["positions"]), place, 1) for place in places])
    channel = next((i for i, n in enumerate(_names(depth)) if n in CHANNEL_LABELS), None)
    count = 1 if channel is None else picture.data.shape[channel]
    names = tuple(map(str, mine.get("channels", ())))
    layout = Layout(
        plane_shape(depth),
        np.dtype(picture.data.dtype),
        positions,
        bool(picture.rgb),
        names if len(names) == count else ("",) * count,
        pixel_size_of(depth),
        unit,
    )
    with ResultFiles(folder, layout, _record_of(depth, layout)) as files:
        for time, place in enumerate(places):
            found = _depth_map(layers, place, positions[time])
            at = [
                tuple(c if i == channel else n for i, n in enumerate(place)) for c in range(count)
            ]
            pictures = [_values(picture, where) for where in at]
            files.put(full_window(layout.shape), found, pictures, time=time)
            if mine.get("transforms") is not None:
                motions = at_index(np.asarray(mine["transforms"]), place, 3)
                files.put_transforms(motions, time=time)


def _names(layer: Layer) -> tuple[str, ...]:
    """Names of the axes before Z of a result."""
    return axes.leading_axis_names(layer) if layer.ndim > 3 else ()


def _values(layer: Layer, place: tuple[int, ...]) -> np.ndarray:
    """The plane of a result at a place."""
    return np.asarray(layer.data[(*place, 0)] if place else layer.data)


def _depth_map(layers: dict[str, Layer], place: tuple[int, ...], positions: np.ndarray) -> DepthMap:
    """The depth map of one place; where never in focus the plane nearest to the depth filled in."""
    depth, doubts, labels = (
        _values(layers[name], place) for name in ("depth", "uncertainty", "index")
    )
    nearest = np.rint(fractional_plane_index(depth, positions))
    index = np.where(labels > 0, labels.astype(np.int64) - 1, nearest).astype(np.uint16)
    return DepthMap(index, depth, doubts)


def _record_of(depth: Layer, layout: Layout) -> Record:
    """What made a result."""
    mine = plugin_metadata(depth)
    settings = mine.get("recipe")
    if settings is None:
        known = {field.name for field in fields(Recipe)}
        skipped = asdict(Recipe(registration="none", refinement="none"))
        settings = skipped | {k: v for k, v in mine.get("settings", {}).items() if k in known}
    prefix = "refined " if role_of(depth).startswith("refined ") else ""
    shape = [layout.times, len(layout.channels), layout.positions.shape[1], *layout.shape]
    given = {
        **mine.get("input", {}),
        "axes": "TCZYXS"[: 5 + layout.colour],
        "shape": shape + [3] * layout.colour,
        "dtype": str(layout.dtype),
        "channels": list(layout.channels),
        "layer": {
            "prefix": prefix,
            "root": stack_name_of(depth),
            "step": mine.get("step", ""),
            "translate": [float(v) for v in depth.translate[-2:]],
        },
    }
    return Record(Recipe.from_dict(settings), given, mine.get("focus_channel") or 0)
