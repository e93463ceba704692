"""The axes of a stack layer, named by its labels or by the user, and the acquisition in it."""

import re
from collections.abc import Sequence

import numpy as np
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.model.acquisition import CHANNEL_LABELS, Acquisition, channel_axis
from napari_dff.model.stack import FocalStack
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.geometry import index_in_view

# Letters of axes in OME-TIFF and OME-Zarr, by label.
FILE_AXES = {"t": "T", "time": "T", "z": "Z", **dict.fromkeys(CHANNEL_LABELS, "C")}
SPATIAL = ("z", "y", "x")
REORDER = "Put axes in order"  # a button
UNNAMED_AXIS = re.compile(r"\s*(axis|dim)?[\s_]*-?\d*\s*")  # napari's own labels


def check_axis_order(layer: Layer) -> None:
    """Raise a ValueError if the labels of a layer name Z, Y and X, but not as its last axes."""
    if ordered_axes(layer) is not None:
        labels = " ".join(layer.axis_labels)
        raise ValueError(
            f"the last axes of {layer.name!r} must be z y x, got {labels}: press {REORDER!r}"
        )


def ordered_axes(layer: Layer) -> list[int] | None:
    """Return the axes with Z, Y and X last; None if they are so, or are not named."""
    names = [label.strip().lower() for label in layer.axis_labels]
    if tuple(names[-3:]) == SPATIAL or any(names.count(name) != 1 for name in SPATIAL):
        return None
    others = [i for i, name in enumerate(names) if name not in SPATIAL]
    return [*others, *map(names.index, SPATIAL)]


def reorder_axes(layer: Image) -> None:
    """Transpose a layer in place, so that Z, Y and X are its last axes."""
    order = ordered_axes(layer)
    if order is None:
        return
    if layer.multiscale or not np.allclose(layer.affine.affine_matrix, np.eye(layer.ndim + 1)):
        raise ValueError(f"{layer.name!r} must have one scale and no rotation to be reordered")
    place = {key: getattr(layer, key) for key in ("scale", "translate", "units", "axis_labels")}
    colours = range(layer.ndim, layer.data.ndim)
    layer.data = layer.data.transpose([*order, *colours])
    for key, values in place.items():
        setattr(layer, key, tuple(values[i] for i in order))


def leading_axis_names(layer: Image) -> tuple[str, ...]:
    """Return the names of the leading axes of a stack layer; ValueError if they have none."""
    check_axis_order(layer)
    names = parse_axis_labels(layer.axis_labels) if layer.ndim > 3 else ()
    if names is None:
        raise ValueError(axes_request(layer))
    return names


def parse_axis_labels(labels: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names of the axes before Z, Y, X, in lower case; None if they have none."""
    names = tuple(re.sub(r"[\s,;]+", "_", label.strip().lower()) for label in labels)
    leading, last = names[:-3], names[-3:]
    if any(UNNAMED_AXIS.fullmatch(name) for name in leading) or len(set(leading)) < len(leading):
        return None
    spatial = last == SPATIAL or all(UNNAMED_AXIS.fullmatch(name) for name in last)
    if not spatial or set(leading) & set(SPATIAL) or sum(n in CHANNEL_LABELS for n in leading) > 1:
        return None
    return leading


def axes_request(layer: Layer) -> str:
    """Return the sentence that asks the user for the names of the axes."""
    example = " ".join("PTC"[-(layer.ndim - 3) :] if layer.ndim > 4 else "T")
    return (
        f"name the {layer.ndim} axes of {layer.name!r} in their order, for example {example} Z Y "
        "X: T time, P position, C channel; the last three must be Z Y X"
    )


def format_axes(labels: Sequence[str]) -> str:
    """Return the axes as a user writes them, "T C Z Y X"; "" if the labels do not name them."""
    names = parse_axis_labels(labels)
    axes = () if names is None else (*names, *SPATIAL)
    return " ".join(name.upper() if len(name) == 1 else name for name in axes)


def parse_axes(text: str, layer: Layer) -> tuple[str, ...]:
    """Return axis labels from "T C Z Y X" or "tczyx"; ValueError if they do not fit the layer."""
    words = [word for word in re.split(r"[\s,;]+", text.lower()) if word]
    if len(words) == 1 and len(words[0]) == layer.ndim:
        words = list(words[0])
    if len(words) != layer.ndim or tuple(words[-3:]) != SPATIAL or parse_axis_labels(words) is None:
        raise ValueError(axes_request(layer))
    return tuple(words)


def channel_titles(layer: Image) -> list[str]:
    """Return number and name of each channel, "0 DAPI"; none without a channel axis."""
    axis = channel_axis(parse_axis_labels(layer.axis_labels) or ())
    names = () if axis is None else layers.channel_names(layer, layers.leading_shape(layer)[axis])
    return [f"{i} {name}".strip() for i, name in enumerate(names)]


def acquisition_of(layer: Image | None, focus_channel: int | None = None) -> Acquisition:
    """Return the focal stacks in a layer; ValueError if axes or focus channel are missing."""
    layer = layers.require_stack(layer)
    axes = leading_axis_names(layer)
    axis = channel_axis(axes)
    count = 1 if axis is None else layers.leading_shape(layer)[axis]
    if count == 1:
        focus_channel = 0
    if focus_channel is None:
        raise ValueError(
            f"choose the focus channel of {layer.name!r}: which of its {count} channels the depth "
            "is computed from"
        )
    return Acquisition(
        layers.planes_of(layer),
        layers.positions_of(layer),
        layers.pixel_size_of(layer),
        layers.unit_of(layer),
        channels=("",) * count,
        axes=axes,
        focus_channel=focus_channel,
    )


def stack_in_view(viewer: Viewer, layer: Image, *, focus: bool = True) -> FocalStack:
    """Return the stack at the sliders; with `focus`, that of the focus channel, if known."""
    index = index_in_view(viewer, layers.require_stack(layer))
    axis = channel_axis(leading_axis_names(layer))
    channel = None if axis is None else index[axis]
    if focus:
        channel = layers.plugin_metadata(layer).get("focus_channel", channel)
    return acquisition_of(layer, channel).focus_stack(index)
