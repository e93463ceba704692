"""The layer list: short names of results, hidden results at the bottom, drawings on top."""

import re
from collections import Counter

from napari.layers import Layer, Points, Shapes
from napari.viewer import Viewer

from napari_dff.widgets.app.layers import plugin_metadata, role_of

RUN_STEP = "Depth from focus"  # the form that does what the command line does
SHORT_NAMES = {"all in focus": "sharp image", "uncertainty": "σ"}  # of roles
REFINED = "refined "  # how the roles of the last step begin
DEPTH_ROLES = ("depth", "refined depth", "levelled depth")
NUMBER = re.compile(r" \[\d+\]$")  # by which napari makes names unique


def short_name(role: str, step: str = "") -> str:
    """Return the name of the layers of a role; without "refined" in a run of all steps."""
    if step == RUN_STEP:
        role = role.removeprefix(REFINED)
    for name, short in SHORT_NAMES.items():
        if role.endswith(name):
            return role.removesuffix(name) + short
    return role


def rename_results(viewer: Viewer, *new_layers: Layer) -> None:
    """Give results short names, with that of their stack where there are several stacks.

    Layers that the user has renamed keep their names. New layers are not in the viewer yet.
    """
    every = (*viewer.layers, *new_layers)
    results = [layer for layer in every if plugin_metadata(layer).get("root")]
    several = len({plugin_metadata(layer)["root"] for layer in results}) > 1
    shorts = {layer: short_name(role_of(layer), _step(layer)) for layer in results}
    counts = Counter((plugin_metadata(layer)["root"], name) for layer, name in shorts.items())
    for layer, short in shorts.items():
        root, long = plugin_metadata(layer)["root"], short_name(role_of(layer))
        own_names = {short, long, f"{short} · {root}", f"{long} · {root}"}
        if NUMBER.sub("", layer.name) not in own_names:
            continue
        name = long if counts[root, short] > 1 else short
        name = f"{name} · {root}" if several else name
        if layer.name != name:
            layer.name = name


def _step(layer: Layer) -> str:
    return plugin_metadata(layer).get("step", "")


def add_result(viewer: Viewer, layer: Layer) -> None:
    """Add a layer below all drawings on top; a hidden one at the bottom of the list."""
    viewer.layers.insert(_top(viewer) if layer.visible else 0, layer)
    if role_of(layer) in DEPTH_ROLES:
        layer.colorbar.visible = True
        in_pixels = "pixel" in map(str, layer.units[-2:])
        viewer.canvas.overlays.scale_bar.visible = not in_pixels


def raise_result(viewer: Viewer, layer: Layer) -> None:
    """Move a layer to the top, below the drawings there."""
    index, top = viewer.layers.index(layer), _top(viewer)
    if index != top - 1:
        viewer.layers.move(index, top)


def _top(viewer: Viewer) -> int:
    """Return the index above all layers but the drawings on top."""
    top = len(viewer.layers)
    while top and is_drawing(viewer.layers[top - 1]):
        top -= 1
    return top


def is_drawing(layer: Layer) -> bool:
    """Return whether a user draws in a layer: points or shapes."""
    return isinstance(layer, Points | Shapes)
