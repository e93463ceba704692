"""The layer list: short names of results, hidden results at the bottom, drawings on top."""

import re

from napari.layers import Layer, Points, Shapes
from napari.viewer import Viewer

from napari_dff.widgets.app.layers import plugin_metadata, role_of, units_of

SHORT_NAMES = {"all in focus": "sharp image", "uncertainty": "σ"}  # of roles
REFINED = "refined "  # how the roles of the last step begin
UNREFINED = "unrefined "  # how names of results begin that another step has refined
SURFACE_ROLES = ("depth", "refined depth", "first depth", "last depth")  # of depth layers
DEPTH_ROLES = (*SURFACE_ROLES, "levelled depth")
SCALED_ROLES = (*DEPTH_ROLES, "thickness")  # of layers with a colour bar
NUMBER = re.compile(r" \[\d+\]$")  # by which napari makes names unique


def short_name(role: str) -> str:
    """Return the name of the layers of a role, without that of their stack."""
    role = role.removeprefix(REFINED)
    for name, short in SHORT_NAMES.items():
        if role.endswith(name):
            return role.removesuffix(name) + short
    return role


def rename_results(viewer: Viewer, *new_layers: Layer) -> None:
    """Give results short names, with that of their stack where there are several stacks.

    Where a stack has refined results as well, the others are named unrefined. Layers that the user
    has renamed keep their names. New layers are not in the viewer yet.
    """
    every = (*viewer.layers, *new_layers)
    roots = {x: root for x in every if (root := plugin_metadata(x).get("root"))}
    several = len(set(roots.values())) > 1
    refined = {(root, role_of(x)) for x, root in roots.items() if role_of(x).startswith(REFINED)}
    for layer, root in roots.items():
        role, short = role_of(layer), short_name(role_of(layer))
        own_names = {short, f"{UNREFINED}{short}"}
        own_names |= {f"{name} · {root}" for name in own_names}
        if NUMBER.sub("", layer.name) not in own_names:
            continue
        name = f"{UNREFINED}{short}" if (root, f"{REFINED}{role}") in refined else short
        name = f"{name} · {root}" if several else name
        if layer.name != name:
            layer.name = name


def add_result(viewer: Viewer, layer: Layer) -> None:
    """Add a layer below all drawings on top; a hidden one at the bottom of the list."""
    viewer.layers.insert(_top(viewer) if layer.visible else 0, layer)
    if role_of(layer) in SCALED_ROLES:
        show_scales(viewer, layer)


def show_scales(viewer: Viewer, layer: Layer) -> None:
    """Show the scale bar if a layer is calibrated, and no colour bar of other depth layers."""
    for other in viewer.layers:
        if role_of(other) in SCALED_ROLES:
            other.colorbar.visible = other is layer
    viewer.canvas.overlays.scale_bar.visible = "pixel" not in units_of(layer)[-2:]


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


def lower_result(viewer: Viewer, layer: Layer) -> None:
    """Hide a layer, and move it to the bottom."""
    layer.visible = False
    viewer.layers.move(viewer.layers.index(layer), 0)


def is_drawing(layer: Layer) -> bool:
    """Return whether a user draws in a layer: points or shapes."""
    return isinstance(layer, Points | Shapes)
