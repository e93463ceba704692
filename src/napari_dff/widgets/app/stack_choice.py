"""The choice of the focal stack that a step works on."""

from typing import Any

from magicgui.widgets import ComboBox
from napari.layers import Layer
from napari.viewer import Viewer

from napari_dff.widgets.app.layers import is_stack, plugin_metadata, role_of


class StackComboBox(ComboBox):
    """A choice among the focal stacks in the viewer; the newest one at first.

    Parameters
    ----------
    viewer : napari Viewer
    prefer_aligned : bool
        Choose the aligned planes of the chosen stack as soon as there are any. Otherwise results of
        this plugin are not chosen at first.
    """

    def __init__(self, viewer: Viewer, *, prefer_aligned: bool) -> None:
        self._viewer, self._prefer_aligned = viewer, prefer_aligned
        super().__init__(
            label="stack",
            choices=self._stacks,
            nullable=True,
            tooltip="The focal stack: an image with axes Z, Y, X, or several stacks along axes "
            "before these.",
        )
        self.reset_choices()
        stacks = [each for each in self._stacks() if prefer_aligned or not role_of(each)]
        if stacks:
            self.value = stacks[-1]
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)

    def disconnect_viewer(self) -> None:
        """Stop following the layers."""
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def _stacks(self, _: Any = None) -> list[Layer]:
        return [layer for layer in self._viewer.layers if is_stack(layer)]

    def _on_inserted(self, event: Any) -> None:
        layer, chosen = event.value, self.value
        if not is_stack(layer):
            return
        self.reset_choices()
        is_aligned_chosen = (
            chosen is not None
            and role_of(layer) == "aligned"
            and plugin_metadata(layer)["source"] == str(chosen.unique_id)
        )
        if chosen is None or (self._prefer_aligned and is_aligned_chosen):
            self.value = layer

    def _on_removed(self, event: Any) -> None:
        if is_stack(event.value):
            self.reset_choices()
            stacks = self._stacks()
            if self.value is None and stacks:
                self.value = stacks[-1]
