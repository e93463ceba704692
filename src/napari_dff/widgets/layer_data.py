"""Focal stacks and results as layer data, in the tuples that napari makes layers of.

The reader of files uses it, and the forms for what they have computed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from napari_dff.acquisition import Acquisition
from napari_dff.io import Record
from napari_dff.recipe import Recipe
from napari_dff.registration import LazyAlignedStack
from napari_dff.units import EXPONENTS
from napari_dff.widgets.geometry import constant_axes
from napari_dff.widgets.layers import METADATA_KEY, PluginMetadata, plane_spacing
from napari_dff.windows import full_window

RESULT_IMAGES = {  # role of each image in the folder of a result, from the lowest layer
    "uncertainty": "uncertainty",
    "index": "plane index",
    "all_in_focus": "all in focus",
    "depth": "depth",
}
RUN_STEP = "Depth from focus"  # the form that does what the command line does
MAX_LOADED_BYTES = 500e6  # smaller arrays are loaded, so that the sliders do not wait
SAMPLE_PX = 1 << 20  # enough for percentiles
LayerData = tuple[Any, dict[str, Any], str]


class ResultLayer(NamedTuple):
    """Data of one layer of a result, its role without prefix, and how it looks."""

    role: str
    data: np.ndarray
    kind: Literal["image", "labels"]
    look: dict[str, Any]


def result_layer(
    name: str,
    data: np.ndarray,
    positions: np.ndarray,
    *,
    uncertainty: np.ndarray | None = None,
    rgb: bool = False,
) -> ResultLayer:
    """Return the layer of one image of a result.

    Parameters
    ----------
    name : str
        A key of `RESULT_IMAGES`.
    data : (…, Y, X) or (…, Y, X, 3) array
    positions : (…, Z) array
        Focus positions, from which the contrast limits of the depth follow.
    uncertainty : (…, Y, X) array, optional
        For the plane index: where it is infinite, the label is 0. Label k + 1 is plane k.
    rgb : bool
        Whether the image has colour.
    """
    role = RESULT_IMAGES[name]
    if name == "index":
        in_focus = np.ones(data.shape, bool) if uncertainty is None else np.isfinite(uncertainty)
        labels = np.where(in_focus, data + np.uint16(1), np.uint16(0))
        return ResultLayer(role, labels, "labels", {"visible": False})
    if name == "all_in_focus":
        return ResultLayer(role, data, "image", picture_look(data, rgb=rgb))
    if name == "depth":
        limits = float(positions.min()), float(positions.max())
        return ResultLayer(role, data, "image", {"colormap": "gray", "contrast_limits": limits})
    values = subsample(data)
    values = values[np.isfinite(values)]
    limits = 0.0, max(float(np.percentile(values, 99)), 1e-6) if values.size else 1.0
    look = {"colormap": "magma", "contrast_limits": limits, "visible": False}
    return ResultLayer(role, data, "image", look)


def picture_look(pictures: np.ndarray, *, rgb: bool) -> dict[str, Any]:
    """Return how all-in-focus images, (…, Y, X) or (…, Y, X, 3), look."""
    if rgb:
        return {"rgb": True}
    low, high = (float(v) for v in np.percentile(subsample(pictures), (0.1, 99.9)))
    return {"contrast_limits": (low, max(high, low + 1e-6))}


def subsample(values: np.ndarray) -> np.ndarray:
    """Return about `SAMPLE_PX` pixels of (…, Y, X)."""
    step = max(1, round((values.size / SAMPLE_PX) ** 0.5))
    return values[..., ::step, ::step]


def stack_layer(acquisition: Acquisition, name: str, path: str = "") -> LayerData:
    """Return all times and channels of one position as an image layer ([t, ][c, ]z, y, x).

    Axes of length 1 are left out. Scale and translation are the mean distance of the planes and the
    first position; all positions are in the metadata.
    """
    axes = _leading_axes(*acquisition.data.shape[:2])
    kept = (slice(None) if axis in axes else 0 for axis in "tc")
    data = acquisition.data[tuple(kept)]
    if data.nbytes <= MAX_LOADED_BYTES:
        data = np.array(data)
    place = _stack_placement(axes, acquisition.positions, acquisition.pixel_size, acquisition.unit)
    metadata: PluginMetadata = {
        "positions": _positions_along(axes, acquisition.positions),
        "channels": acquisition.channels,
        "input": dict(Record.of(Recipe(), acquisition, path).input),
        "in_file": {key: place[key] for key in ("scale", "translate", "units")},
    }
    look = {"name": name, "rgb": acquisition.data.ndim == 6, "metadata": {METADATA_KEY: metadata}}
    return data, {**look, **place}, "image"


def stack_title(path: str, position: str = "") -> str:
    """Return the name of a stack: that of its file without endings, and that of its position."""
    file = Path(path)
    stem = file.name if file.is_dir() else file.stem
    return f"{stem.removesuffix('.zarr').removesuffix('.ome')} {position}".strip()


def run_layer(
    name: str,
    data: np.ndarray,
    record: Mapping[str, Any],
    folder: Path,
    uncertainty: np.ndarray | None,
) -> LayerData:
    """Return one image of the folder of a result as the layer that the form of all steps shows.

    Parameters
    ----------
    name, data, uncertainty
        As in `result_layer`.
    record : mapping
        `io.Record.of_result`, and "transforms" if they are known.
    folder : Path
    """
    stack, positions = record["input"], np.atleast_2d(np.asarray(record["positions"], float))
    layer = stack.get("layer", {})  # of a result that was saved from napari
    axes = _leading_axes(len(positions), len(stack["channels"]))
    picture = name == "all_in_focus"
    rgb = picture and len(stack["shape"]) == 6
    result = result_layer(name, data, positions, uncertainty=uncertainty, rgb=rgb)
    origin = layer.get("translate", (0.0, 0.0))
    place = _stack_placement(axes, positions, record["pixel_size"], record["unit"], origin)
    lengths = [n if axis == "t" or picture else 1 for axis, n in axes.items()]
    shape = (*lengths, 1, *data.shape[data.ndim - 2 - rgb :])
    extent, offset = constant_axes((*axes.values(), positions.shape[1], 0, 0), (*lengths, 1, 0, 0))
    place["translate"] += place["scale"] * offset
    place["scale"] *= extent
    ndim = len(axes) + 3 if axes else 2
    title = stack_title(stack.get("path", ""), stack.get("position", ""))
    root = layer.get("root") or title or folder.name
    role = layer.get("prefix", "refined ") + result.role
    metadata: PluginMetadata = {
        "role": role,
        "root": root,
        "step": layer.get("step", RUN_STEP),
        "source": f"file {folder.absolute()}",
        "settings": record["recipe"],
        "recipe": record["recipe"],
        "positions": _positions_along(axes, positions),
        "channels": stack["channels"],
        "input": stack,
    }
    if "c" in axes:
        metadata["focus_channel"] = record["focus_channel"]
    if "transforms" in record:
        transforms = np.asarray(record["transforms"], float)
        per_time = transforms.ndim == 4 and "c" in axes
        metadata["transforms"] = transforms[:, np.newaxis] if per_time else transforms
    look = {
        **({} if result.kind == "labels" else {"rgb": False}),
        **result.look,
        **{key: value[-ndim:] for key, value in place.items()},
        "name": f"{role} · {root}",
        "metadata": {METADATA_KEY: metadata},
    }
    return result.data.reshape(shape) if axes else result.data, look, result.kind


def saved_layer(data: np.ndarray, record: Mapping[str, Any], path: Path) -> LayerData:
    """Return a layer as it was before it was saved.

    Parameters
    ----------
    data : array
        In the order of axes of the file.
    record : mapping
        As `saving.layer_record` returns it.
    path : Path
        The file.
    """
    look = dict(record["layer"])
    kind, shape, order = look.pop("kind"), look.pop("shape"), look.pop("order")
    rgb = look.get("rgb", False)
    if order:
        data = data.transpose([*np.argsort(order), *range(len(order), data.ndim)])
    data = data.reshape(*shape, *data.shape[data.ndim - rgb :])
    metadata = look.pop("ours")
    for key in ("positions", "transforms"):
        if key in metadata:
            metadata[key] = np.asarray(metadata[key], float)
    if metadata.get("role") == "aligned" and "transforms" in metadata:
        metadata["valid"] = _valid_masks(metadata["transforms"], shape[-2:])
    if kind == "image" and path.suffix != ".zarr" and set(look["units"][-3:]) <= set(EXPONENTS):
        metadata["in_file"] = {key: look[key] for key in ("scale", "translate", "units")}
    if "root" in metadata:
        metadata["source"] = f"file {path.parent.absolute()} {metadata['root']}"
    return data, {**look, "metadata": {METADATA_KEY: metadata} if metadata else {}}, kind


def _leading_axes(times: int, channels: int) -> dict[str, int]:
    """Return names and lengths of the leading axes that are longer than 1."""
    return {axis: n for axis, n in (("t", times), ("c", channels)) if n > 1}


def _stack_placement(
    axes: Mapping[str, int],
    positions: np.ndarray,
    pixel_size: tuple[float, float],
    unit: str,
    origin: tuple[float, float] = (0.0, 0.0),
) -> dict[str, Any]:
    """Return scale, translation, units and names of the axes of a stack layer.

    `origin` is the position of its first row and column, in `unit`.
    """
    (step, first), leading = plane_spacing(positions), len(axes)
    return {
        "scale": np.array([1.0] * leading + [step, *pixel_size]),
        "translate": np.array([0.0] * leading + [first, *origin]),
        "units": ("pixel",) * leading + (unit,) * 3,
        "axis_labels": (*axes, "z", "y", "x"),
    }


def _positions_along(axes: Mapping[str, int], positions: np.ndarray) -> np.ndarray:
    """Return positions (T, Z) with the leading axes; (Z,) if they are the same at all times."""
    if (positions == positions[0]).all():
        return positions[0]
    values = positions[:, np.newaxis] if "c" in axes else positions
    return np.broadcast_to(values, (*axes.values(), positions.shape[1])).copy()


def _valid_masks(transforms: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels that have data in all planes of each stack, (…, Y, X)."""
    planes = np.broadcast_to(np.uint8(0), (transforms.shape[-3], *shape))
    each = transforms.reshape(-1, *transforms.shape[-3:])
    masks = np.stack([LazyAlignedStack(planes, stack).valid(full_window(shape)) for stack in each])
    return masks.reshape(*transforms.shape[:-3], *shape)
