"""Form for the focal stack that a step works on: which one, its axes and its focus channel."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from magicgui.widgets import ComboBox, LineEdit, Widget
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.model.acquisition import Acquisition
from napari_dff.widgets.app import axes
from napari_dff.widgets.app.controls import StableComboBox, push_button
from napari_dff.widgets.app.layers import is_stack, plugin_metadata, role_of, source_of


class StackComboBox(StableComboBox):
    """A choice of a focal stack: the one that was opened or selected last.

    If aligned planes are preferred, a new alignment of the chosen stack is chosen as well.
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
        stacks = [x for x in self._stacks() if prefer_aligned or not role_of(x)]
        self.value = stacks[-1] if stacks else None

    def _stacks(self, _: Any = None) -> list[Layer]:
        return [layer for layer in self._viewer.layers if is_stack(layer)]

    def on_inserted(self, event: Any) -> None:
        """Offer a new stack; choose it if none is chosen, or if it is preferred."""
        layer, chosen = event.value, self.value
        if not is_stack(layer):
            return
        self.reset_choices()
        chosen_id = None if chosen is None else str(chosen.unique_id)
        is_aligned = plugin_metadata(layer).get("source") == chosen_id  # planes of the chosen one
        if chosen is None or (self._prefer_aligned and is_aligned):
            self.value = layer

    def follow(self, layer: Layer, *, added: bool) -> None:
        """Choose a stack that was opened or selected, or the stack of a selected result."""
        if added and role_of(layer):  # a result, which no user has selected
            return
        is_own = is_stack(layer) and (self._prefer_aligned or not role_of(layer))
        source = layer if is_own else source_of(self._viewer, layer)
        if source is not None and source.ndim >= 3 and source in self.choices:
            self.value = source

    def on_removed(self, event: Any) -> None:
        """Choose the newest stack if the chosen one was removed."""
        if is_stack(event.value):
            self.reset_choices()
            if self.value is None and (stacks := self._stacks()):
                self.value = stacks[-1]


class AxesForm:
    """Names of the leading axes, kept as labels of the layer, and focus channel of a stack."""

    def __init__(
        self, show_status: Callable[[str], None], on_change: Callable[[], None], *, focus: bool
    ) -> None:
        self._show_status, self._on_change, self._asks_channel = show_status, on_change, focus
        self._layer: Image | None = None
        self.names = LineEdit(
            label="axes",
            tooltip="Names of the axes in their order, as T C Z Y X: T time, P position, C "
            "channel, or other words. Each stack along these axes is computed separately, but all "
            "channels together: the depth of one channel holds for all.",
        )
        self.focus = ComboBox(
            label="focus channel",
            choices=self._channels,
            nullable=True,
            tooltip="The channel that the depth is computed from. All channels get an all-in-focus "
            "image.",
        )
        self.names.native.setPlaceholderText("for example T C Z Y X")
        tooltip = "Transpose the layer, so that its planes are shown one after the other."
        self.reorder = push_button(axes.REORDER, tooltip, self._reorder)
        self.widgets: list[Widget] = [self.names, self.focus, self.reorder]
        self.names.changed.connect(self._apply_names)
        self.focus.changed.connect(lambda _: on_change())

    def show(self, layer: Image | None) -> None:
        """Show names and channel of a stack, and request the names if they are missing."""
        if layer is not self._layer:
            self.close()
            self._layer = layer
            with self._blocked_signals():
                self.focus.value = None
            if layer is not None:
                layer.events.axis_labels.connect(self.refresh)
        self.refresh()
        if layer is None:
            return
        if axes.ordered_axes(layer) is not None:
            self._show_status(f"axes {' '.join(layer.axis_labels)}: press {axes.REORDER!r}")
        elif layer.ndim > 3 and not self.names.value:
            self._show_status(axes.axes_request(layer))

    def refresh(self, _: object = None) -> None:
        """Show the names of the axes and the focus channel that the layer has."""
        layer = self._layer
        has_leading = layer is not None and layer.ndim > 3
        with self._blocked_signals():
            self.names.value = axes.format_axes(layer.axis_labels) if layer and has_leading else ""
            self.focus.reset_choices()
            self.choose(None if layer is None else plugin_metadata(layer).get("focus_channel"))
        self.names.visible, self.focus.visible = has_leading, self.has_channel_choice
        self.reorder.visible = layer is not None and axes.ordered_axes(layer) is not None

    @property
    def has_channel_choice(self) -> bool:
        """Whether there are several channels to choose from."""
        return self._asks_channel and bool(self._channels())

    def choose(self, channel: int | None) -> None:
        """Choose a focus channel, if the stack has it."""
        if channel is not None and channel in self.focus.choices:
            self.focus.value = channel

    def acquisition(self, layer: Image, focus: int | None = None) -> Acquisition:
        """Return the stacks in a layer; `focus` is for a form that does not ask for it."""
        if layer.ndim > 3:
            axes.parse_axes(self.names.value, layer)
        return axes.acquisition_of(layer, self.focus.value if self._asks_channel else focus)

    def close(self) -> None:
        """Stop following the stack."""
        if self._layer is not None:
            self._layer.events.axis_labels.disconnect(self.refresh)
        self._layer = None

    @contextlib.contextmanager
    def _blocked_signals(self) -> Iterator[None]:
        with self.names.changed.blocked(), self.focus.changed.blocked():
            yield

    def _reorder(self) -> None:
        if self._layer is None:
            return
        try:
            axes.reorder_axes(self._layer)
        except ValueError as error:
            self._show_status(str(error))
            return
        self._show_status("ready")
        self.refresh()
        self._on_change()

    def _apply_names(self, text: str) -> None:
        layer = self._layer
        if layer is None or layer.ndim <= 3:
            return
        try:
            labels = axes.parse_axes(text, layer)
        except ValueError as error:
            self._show_status(str(error))
            return
        if labels != tuple(layer.axis_labels):
            with layer.events.axis_labels.blocker(self.refresh):
                layer.axis_labels = labels
        with self._blocked_signals():
            self.focus.reset_choices()
        self.focus.visible = self.has_channel_choice
        self._show_status("ready")
        self._on_change()

    def _channels(self, _: object = None) -> list[tuple[str, int]]:
        titles = [] if self._layer is None else axes.channel_titles(self._layer)
        return [(title, i) for i, title in enumerate(titles)] if len(titles) > 1 else []
