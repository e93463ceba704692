"""The axes of a stack layer, named by its labels or by the user, and the acquisition in it."""

import re
from collections.abc import Sequence

from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.model.acquisition import CHANNEL_LABELS, Acquisition, channel_axis
from napari_dff.model.stack import FocalStack
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.geometry import index_in_view

# Letters of axes in OME-TIFF and OME-Zarr, by label.
FILE_AXES = {"t": "T", "time": "T", "z": "Z", **dict.fromkeys(CHANNEL_LABELS, "C")}
SPATIAL = ("z", "y", "x")
UNNAMED_AXIS = re.compile(r"\s*(axis|dim)?[\s_]*-?\d*\s*")  # napari's own labels


def leading_axis_names(layer: Image) -> tuple[str, ...]:
    """Return the names of the leading axes of a stack layer; ValueError if they have none."""
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
