"""Whether results still match the layers and settings that they were made from."""

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from magicgui.widgets import Label
from napari.layers import Layer
from napari.viewer import Viewer
from psygnal import SignalInstance

from napari_dff.widgets.app.controls import wrapping_label
from napari_dff.widgets.app.layers import layer_by_id, plugin_metadata

CHANGE_EVENTS = ("data", "paint", "features", "scale", "translate", "units")  # of a layer
_edit_counts: WeakKeyDictionary[Layer, int] = WeakKeyDictionary()

layers_changed = SignalInstance()
"""Emitted when a layer that `version` has seen was edited, or a result was added or undone."""


def version(layer: Layer) -> str:
    """Return a string that differs after each change of the layer's data or place."""
    return f"{plugin_metadata(layer).get('run', layer.unique_id)}#{edit_count(layer)}"


def edit_count(layer: Layer) -> int:
    """Return how often the layer was edited since it was added, or since the first call."""
    if layer not in _edit_counts:
        _edit_counts[layer] = 0
        for name in CHANGE_EVENTS:
            if hasattr(layer.events, name):
                getattr(layer.events, name).connect(_count_edit)
    return _edit_counts[layer]


def set_edit_count(layer: Layer, count: int) -> None:
    """Count edits of a layer from `count` on, as its data have just been set."""
    edit_count(layer)
    _edit_counts[layer] = count


def _count_edit(event: Any) -> None:
    layer = event.source
    if layer in _edit_counts:
        _edit_counts[layer] += 1
        layers_changed.emit()


def outdated_reason(viewer: Viewer, layer: Layer) -> str:
    """Return which input of a result has changed since, or an input of that; empty if none."""
    for unique_id, used_version in plugin_metadata(layer).get("inputs", {}).items():
        source = layer_by_id(viewer, unique_id)
        if source is None:
            continue
        if version(source) != used_version:
            return f"{source.name!r} has changed since"
        if reason := outdated_reason(viewer, source):
            return f"{source.name!r} is out of date itself ({reason})"
    return ""


class FreshnessLabel:
    """A label that warns when a result of a step is out of date.

    `results` returns the layers to check. `setting_changes` describes how the form differs from the
    settings of a layer; empty if it does not.
    """

    def __init__(
        self,
        viewer: Viewer,
        results: Callable[[], Iterable[Layer]],
        setting_changes: Callable[[Layer], str],
    ) -> None:
        self._viewer, self._results, self._setting_changes = viewer, results, setting_changes
        self.label: Label = wrapping_label()
        layers_changed.connect(self.update)

    def update(self) -> None:
        """Check the results."""
        warning = ""
        for layer in self._results():
            if reason := outdated_reason(self._viewer, layer) or self._setting_changes(layer):
                warning = f"⚠ {layer.name!r} is out of date: {reason}"
                break
        if self.label.value != warning:
            self.label.value = warning
        self.label.visible = bool(warning)

    def close(self) -> None:
        """Stop checking."""
        layers_changed.disconnect(self.update)
