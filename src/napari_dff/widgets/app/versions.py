"""Versions of layers: which results are out of date, because an input was edited since."""

from typing import Any
from weakref import WeakKeyDictionary

from napari.layers import Layer
from napari.viewer import Viewer
from psygnal import SignalInstance

from napari_dff.widgets.app import layers

CHANGE_EVENTS = ("data", "paint", "features", "scale", "translate", "units")  # of a layer
_edit_counts: WeakKeyDictionary[Layer, int] = WeakKeyDictionary()

layers_changed = SignalInstance()
"""Emitted when a layer that `version` has seen was edited, or a result was added or undone."""


def version(layer: Layer) -> str:
    """Return a string that differs after each change of the layer's data or place."""
    return f"{layers.plugin_metadata(layer).get('run', layer.unique_id)}#{edit_count(layer)}"


def edit_count(layer: Layer) -> int:
    """Return how often the layer was edited since it was added, or since the first call."""
    layer = layers.without_proxy(layer)
    if layer not in _edit_counts:
        _edit_counts[layer] = 0
        for name in CHANGE_EVENTS:
            if hasattr(layer.events, name):
                getattr(layer.events, name).connect(_count_edit)
    return _edit_counts[layer]


def set_edit_count(layer: Layer, count: int) -> None:
    """Count edits of a layer from `count` on, as its data have just been set."""
    edit_count(layer)
    _edit_counts[layers.without_proxy(layer)] = count


def _count_edit(event: Any) -> None:
    _edit_counts[event.source] += 1
    layers_changed.emit()


def outdated_reason(viewer: Viewer, layer: Layer) -> str:
    """Return which input of a result has changed since, or an input of that; empty if none."""
    for unique_id, used_version in layers.plugin_metadata(layer).get("inputs", {}).items():
        source = layers.layer_by_id(viewer, unique_id)
        if source is None:
            continue
        if version(source) != used_version:
            return f"{source.name!r} has changed since"
        if reason := outdated_reason(viewer, source):
            return f"{source.name!r} is out of date itself ({reason})"
    return ""
