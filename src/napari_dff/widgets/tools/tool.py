"""Base of the tools that work on a chosen layer, most of them on a depth layer."""

from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox
from napari.layers import Image, Layer
from napari.viewer import Viewer
from qtpy.QtWidgets import QFileDialog

from napari_dff.widgets.app.controls import combo_box
from napari_dff.widgets.app.layers import role_of
from napari_dff.widgets.app.task_widget import DONE, TaskWidget
from napari_dff.widgets.tools.heights import Heights, heights_of


class Tool(TaskWidget):
    """A form with a choice of the layer to work on; the newest one after `update_choices`."""

    def __init__(self, viewer: Viewer, label: str, tooltip: str) -> None:
        super().__init__(viewer)
        self.input_layer = combo_box(label, self.input_choices, tooltip, nullable=True)
        self.stack_in_words = ""  # the stack that was used, of a layer with several
        self._connect(viewer.layers.events.inserted, self.update_choices)
        self._connect(viewer.layers.events.removed, self.update_choices)

    def input_choices(self, _: Any = None) -> list[Layer]:
        """Return the layers to choose from, the newest last."""
        roles = ("depth", "refined depth", "levelled depth")
        return [layer for layer in self._viewer.layers if role_of(layer) in roles]

    def depth_layer(self) -> Image:
        """Return the chosen depth layer; ValueError if there is none."""
        layer = self.input_layer.value
        if layer is None:
            raise ValueError("no depth layer: run 'Depth from focus, all steps' on a stack first")
        return layer

    def heights(self) -> Heights:
        """Return the heights in view; the status at the end of a task names their stack."""
        heights = heights_of(self._viewer, self.depth_layer())
        self.stack_in_words = heights.stack_in_words
        return heights

    def layer_box(self, kind: type, label: str, tooltip: str) -> ComboBox:
        """Return a choice among the layers of one class, none at first."""

        def choices(_: Any) -> list[Layer]:
            return [layer for layer in self._viewer.layers if isinstance(layer, kind)]

        return combo_box(label, choices, tooltip, nullable=True)

    def update_choices(self, _: Any = None) -> None:
        """Offer the layers that are in the viewer now."""
        chosen, layers = self.input_layer.value, self.input_choices()
        self.reset_choices()
        if layers and chosen not in layers:
            self.input_layer.value = layers[-1]

    def ask_save_path(self, title: str, name: str, suffixes: tuple[str, ...]) -> Path | None:
        """Ask the user for the path of a new file, with the suffix of a file type; or None."""
        filters = ";;".join(f"{suffix[1:].upper()} (*{suffix})" for suffix in suffixes)
        answer, chosen = QFileDialog.getSaveFileName(self.native, title, name, filters)
        if not answer:
            return None
        path = Path(answer)
        suffix = chosen.split("*")[-1].rstrip(")") if "*" in chosen else suffixes[0]
        return path if path.suffix else path.with_suffix(suffix)

    def _task_finished(self) -> None:
        super()._task_finished()
        if self.stack_in_words and self.status.value == DONE:
            self.show_status(f"{DONE}: {self.stack_in_words}")
