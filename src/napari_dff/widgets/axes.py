"""What the axes of a stack layer are: told by their labels, or by a person; never guessed."""

import re
from collections.abc import Sequence

from napari.layers import Image, Layer

from napari_dff.acquisition import CHANNEL_LABELS
from napari_dff.widgets.layers import leading_shape, plugin_metadata

SPATIAL = ("z", "y", "x")
EXAMPLE_AXES = ("p", "t", "c")
UNNAMED_AXIS = re.compile(
    r"\s*(axis|dim)?[\s_]*-?\d*\s*"
)  # what napari calls an axis nobody has named


def leading_axis_names(layer: Image) -> tuple[str, ...]:
    """Names of the axes before Z of a stack layer; ValueError with a sentence if nobody told."""
    if layer.ndim <= 3:
        return ()
    names = parse_axis_labels(layer.axis_labels)
    if names is None:
        raise ValueError(axes_request(layer))
    return names


def parse_axis_labels(labels: Sequence[str]) -> tuple[str, ...] | None:
    """Names of the axes before Z, in small letters, if the labels of all axes tell; else None."""
    names = tuple(re.sub(r"[\s,;]+", "_", label.strip().lower()) for label in labels)
    before, last = names[:-3], names[-3:]
    if any(UNNAMED_AXIS.fullmatch(name) for name in before) or len(set(before)) < len(before):
        return None
    spatial = last == SPATIAL or all(UNNAMED_AXIS.fullmatch(name) for name in last)
    if not spatial or set(before) & set(SPATIAL) or sum(n in CHANNEL_LABELS for n in before) > 1:
        return None
    return before


def axes_request(layer: Layer) -> str:
    """What a person is asked who hasn't named the axes."""
    first = " ".join(EXAMPLE_AXES[-(layer.ndim - 3) :] if layer.ndim > 4 else "t").upper()
    return (
        f"name the {layer.ndim} axes of {layer.name!r} in their order, for example {first} Z Y X: "
        "T time, P position, C channel; the last three must be Z Y X"
    )


def format_axes(labels: Sequence[str]) -> str:
    """The axes as a person writes them, "T C Z Y X"; empty where the labels don't tell."""
    names = parse_axis_labels(labels)
    every = () if names is None else (*names, *SPATIAL)
    return " ".join(name.upper() if len(name) == 1 else name for name in every)


def parse_axes(text: str, layer: Layer) -> tuple[str, ...]:
    """Labels for all axes of a layer, as a person writes them: "T C Z Y X", "tczyx", "time z y x".

    ValueError with a sentence where they can't be.
    """
    words = [word for word in re.split(r"[\s,;]+", text.lower()) if word]
    if len(words) == 1 and len(words[0]) == layer.ndim:
        words = list(words[0])
    if len(words) != layer.ndim or tuple(words[-3:]) != SPATIAL or parse_axis_labels(words) is None:
        raise ValueError(axes_request(layer))
    return tuple(words)


def channel_names(layer: Image, axis: int) -> list[str]:
    """The channels by number and name, as far as they have names."""
    count = leading_shape(layer)[axis]
    names = list(plugin_metadata(layer).get("channels", ())) or [""] * count
    if len(names) != count:
        names = [""] * count
    return [f"{i} {name}".strip() for i, name in enumerate(names)]
