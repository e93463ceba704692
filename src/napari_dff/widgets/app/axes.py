"""The axes of a stack layer: named by the labels of the layer or by the user, never guessed.

The leading axes are those before Z, Y, X.
"""

import re
from collections.abc import Sequence

from napari.layers import Image, Layer

from napari_dff.model.acquisition import CHANNEL_LABELS
from napari_dff.widgets.app.layers import leading_shape, plugin_metadata

SPATIAL = ("z", "y", "x")
UNNAMED_AXIS = re.compile(r"\s*(axis|dim)?[\s_]*-?\d*\s*")  # napari's own labels


def leading_axis_names(layer: Image) -> tuple[str, ...]:
    """Return the names of the leading axes of a stack layer; ValueError if they have none."""
    if layer.ndim <= 3:
        return ()
    names = parse_axis_labels(layer.axis_labels)
    if names is None:
        raise ValueError(axes_request(layer))
    return names


def parse_axis_labels(labels: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names of the leading axes in lower case; None if the labels leave doubt.

    They do so if a leading axis has no name, two have the same or two are channels, or if the last
    axes have names other than z, y, x.
    """
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
    """Return the axes as a user writes them, "T C Z Y X"; "" if the labels leave doubt."""
    names = parse_axis_labels(labels)
    axes = () if names is None else (*names, *SPATIAL)
    return " ".join(name.upper() if len(name) == 1 else name for name in axes)


def parse_axes(text: str, layer: Layer) -> tuple[str, ...]:
    """Return labels for all axes of a layer from "T C Z Y X", "tczyx" or "time z y x".

    Raises
    ------
    ValueError
        If they do not fit the layer.
    """
    words = [word for word in re.split(r"[\s,;]+", text.lower()) if word]
    if len(words) == 1 and len(words[0]) == layer.ndim:
        words = list(words[0])
    if len(words) != layer.ndim or tuple(words[-3:]) != SPATIAL or parse_axis_labels(words) is None:
        raise ValueError(axes_request(layer))
    return tuple(words)


def channel_titles(layer: Image, axis: int) -> list[str]:
    """Return number and name of each channel: "0 DAPI"; the number alone if there are no names."""
    count = leading_shape(layer)[axis]
    names = list(plugin_metadata(layer).get("channels", ()))
    if len(names) != count:
        names = [""] * count
    return [f"{i} {name}".strip() for i, name in enumerate(names)]
