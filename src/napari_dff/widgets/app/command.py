"""The arguments by which the command line reads the stack of a layer."""

from pathlib import Path

import numpy as np
from napari.layers import Image

from napari_dff.io import SAMPLE_NAMES, frames_in, sample_path
from napari_dff.model.acquisition import CHANNEL_LABELS
from napari_dff.model.units import conversion_factor
from napari_dff.widgets.app.axes import parse_axis_labels
from napari_dff.widgets.app.layers import planes_of, plugin_metadata, units_of

AXIS_LETTERS = {"time": "T", "position": "P", **dict.fromkeys(CHANNEL_LABELS, "C")}


def stack_arguments(stack: Image) -> list[str]:
    """Return the path of a stack, and its axes and spacing if its file does not have them."""
    sample = stack.source.sample
    if sample is not None and sample[0] == "napari-dff" and sample[1] in SAMPLE_NAMES:
        return [str(sample_path(sample[1]))]
    path = Path(stack.source.path or "STACK")
    if path.is_file() and len(frames_in(path.parent)) == planes_of(stack).shape[stack.ndim - 3]:
        path = path.parent  # napari stacked the frames of this folder
    if _is_as_in_file(stack):
        return [str(path)]
    names = parse_axis_labels(stack.axis_labels) or ()
    letters = [AXIS_LETTERS.get(name, name.upper()) for name in names]
    arguments = [str(path)]
    if letters and set(letters) <= set("PTC"):  # the command line has letters for all of them
        arguments += ["--axes", "".join(letters) + "ZYX"]
    try:
        axes = zip(stack.scale[-3:], units_of(stack)[-3:], strict=True)
        spacing = [abs(step) * conversion_factor(unit, "micrometer") for step, unit in axes]
    except KeyError:  # not a unit of length
        return arguments
    return [*arguments, "--spacing", *(f"{step:.10g}" for step in spacing)]


def command_line_caveat(stack: Image) -> str:
    """Return what the arguments cannot express about a stack; "" if nothing."""
    if stack.source.sample is not None:
        return ""
    if _is_as_in_file(stack):
        several = plugin_metadata(stack).get("input", {}).get("position")
        return "which of the positions in the file it is: all are done" if several else ""
    shifted = stack.scale[-3] < 0 or stack.translate[-3] != 0
    return "where its positions begin and which way they go" if shifted else ""


def _is_as_in_file(stack: Image) -> bool:
    """Return whether a stack has the calibration that the plugin read from its file."""
    in_file = plugin_metadata(stack).get("in_file")
    if in_file is None:
        return False
    same = (np.allclose(getattr(stack, name), in_file[name]) for name in ("scale", "translate"))
    return all(same) and units_of(stack) == tuple(in_file["units"])
