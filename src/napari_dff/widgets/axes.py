"""What the axes of a stack layer are: told by their labels, or by a person; never guessed."""

import re
from collections.abc import Sequence

from napari.layers import Image, Layer

from napari_dff.widgets.layers import leading, ours

SPATIAL = ("z", "y", "x")
CHANNEL = ("c", "ch", "channel", "channels")
WORDS = {"t": "time", "p": "position", "c": "channel"}
EXAMPLE = ("p", "t", "c")
UNTOLD = re.compile(r"\s*(axis|dim)?[\s_]*-?\d*\s*")  # what napari calls an axis nobody has named


def names_of(layer: Image) -> tuple[str, ...]:
    """Names of the axes before Z of a stack layer; ValueError with a sentence if nobody told."""
    if layer.ndim == 3:
        return ()
    names = names_told(layer.axis_labels)
    if names is None:
        raise ValueError(asking(layer))
    return names


def names_told(labels: Sequence[str]) -> tuple[str, ...] | None:
    """Names of the axes before Z, in small letters, if the labels of all axes tell; else None."""
    names = tuple(re.sub(r"[\s,;]+", "_", label.strip().lower()) for label in labels)
    before, last = names[:-3], names[-3:]
    if any(UNTOLD.fullmatch(name) for name in before) or len(set(before)) < len(before):
        return None
    spatial = last == SPATIAL or all(UNTOLD.fullmatch(name) for name in last)
    if not spatial or set(before) & set(SPATIAL) or sum(n in CHANNEL for n in before) > 1:
        return None
    return before


def asking(layer: Layer) -> str:
    """What a person is asked who hasn't named the axes."""
    first = " ".join(EXAMPLE[-(layer.ndim - 3) :] if layer.ndim > 4 else "t").upper()
    return (
        f"name the {layer.ndim} axes of {layer.name!r} in their order, for example {first} Z Y X: "
        "T time, P position, C channel; the last three must be Z Y X"
    )


def written(labels: Sequence[str]) -> str:
    """The axes as a person writes them, "T C Z Y X"; empty where the labels don't tell."""
    names = names_told(labels)
    every = () if names is None else (*names, *SPATIAL)
    return " ".join(name.upper() if len(name) == 1 else name for name in every)


def labels_in(text: str, layer: Layer) -> tuple[str, ...]:
    """Labels for all axes of a layer, as a person writes them: "T C Z Y X", "tczyx", "time z y x".

    ValueError with a sentence where they can't be.
    """
    words = [word for word in re.split(r"[\s,;]+", text.lower()) if word]
    if len(words) == 1 and len(words[0]) == layer.ndim:
        words = list(words[0])
    if len(words) != layer.ndim or tuple(words[-3:]) != SPATIAL or names_told(words) is None:
        raise ValueError(asking(layer))
    return tuple(words)


def channel_axis(names: Sequence[str]) -> int | None:
    """Which of the axes before Z is that of the channels."""
    return next((i for i, name in enumerate(names) if name in CHANNEL), None)


def channel_names(layer: Image, axis: int) -> list[str]:
    """The channels by number and name, as far as they have names."""
    count = leading(layer)[axis]
    names = list(ours(layer).get("channels", ())) or [""] * count
    if len(names) != count:
        names = [""] * count
    return [f"{i} {name}".strip() for i, name in enumerate(names)]
