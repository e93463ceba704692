"""How the command line finds the stack of a layer again, and what it can't know of it."""

from pathlib import Path

import numpy as np
from napari.layers import Image

from napari_dff.io import frames_in, sample_path
from napari_dff.widgets.axes import parse_axis_labels
from napari_dff.widgets.layers import leading_shape, planes_of, plugin_metadata

LETTERS = {"time": "T", "position": "P", "channel": "C", "ch": "C", "channels": "C"}


def stack_arguments(stack: Image) -> list[str]:
    """Words by which the command line finds a stack: its path, and what the file doesn't tell."""
    sample = stack.source.sample
    if sample is not None and sample[0] == "napari-dff":
        return [str(sample_path(sample[1]))]
    path = Path(stack.source.path or "STACK")
    if path.is_file() and len(frames_in(path.parent)) == planes_of(stack).shape[stack.ndim - 3]:
        path = path.parent  # a frame of it
    if _as_in_the_file(stack):
        return [str(path)]
    words = [str(path), *_axes(stack)]
    try:
        pairs = zip(stack.scale[-3:], stack.units[-3:], strict=True)
        steps = [abs(step) * (1 * unit).to("micrometer").m for step, unit in pairs]
    except TypeError:  # not in a unit of length
        return words
    return [*words, "--spacing", *(f"{step:.10g}" for step in steps)]


def command_line_caveat(stack: Image) -> str:
    """What the command line can't know of a stack; empty if nothing."""
    if stack.source.sample is not None:
        return ""
    if _as_in_the_file(stack):
        several = plugin_metadata(stack).get("input", {}).get("position")
        return "which of the positions in the file it is: all are done" if several else ""
    turned = stack.scale[-3] < 0 or stack.translate[-3] != 0
    return "where its positions begin and which way they go" if turned else ""


def _as_in_the_file(stack: Image) -> bool:
    """Whether our reader opened it, and nobody has calibrated it anew."""
    told = plugin_metadata(stack).get("in_file")
    if told is None:
        return False
    units = tuple(str(unit) for unit in stack.units)
    same = (np.allclose(getattr(stack, name), told[name]) for name in ("scale", "translate"))
    return all(same) and units == tuple(told["units"])


def _axes(stack: Image) -> list[str]:
    """The names of the axes, where the command line has letters for them."""
    names = parse_axis_labels(stack.axis_labels) if leading_shape(stack) else ()
    letters = [LETTERS.get(name, name.upper()) for name in names or ()]
    if not letters or not set(letters) <= set("PTC"):
        return []
    return ["--axes", "".join(letters) + "ZYX"]
