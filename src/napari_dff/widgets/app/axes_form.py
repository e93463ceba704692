"""Questions about a stack with leading axes: the names of its axes, and the focus channel."""

import contextlib
from collections.abc import Callable, Iterator

from magicgui.widgets import ComboBox, LineEdit, Widget
from napari.layers import Image

from napari_dff.model.acquisition import Acquisition, channel_axis
from napari_dff.widgets.app.axes import (
    axes_request,
    channel_titles,
    format_axes,
    parse_axes,
    parse_axis_labels,
)
from napari_dff.widgets.app.layers import leading_shape, plugin_metadata
from napari_dff.widgets.app.series import acquisition_of


class AxesForm:
    """Names of the axes and focus channel of a stack; hidden for a stack without leading axes.

    The names become the labels of the layer, so that the user enters them once.

    Parameters
    ----------
    show_status : callable
        Called with a sentence for the user.
    on_change : callable
        Called when the user has changed an answer.
    focus : bool
        Ask for the focus channel too.
    """

    def __init__(
        self, show_status: Callable[[str], None], on_change: Callable[[], None], *, focus: bool
    ) -> None:
        self._show_status, self._on_change, self._asks_channel = show_status, on_change, focus
        self._layer: Image | None = None
        self._request_shown = False
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
        self.widgets: list[Widget] = [self.names, self.focus]
        self.names.changed.connect(self._apply_names)
        self.focus.changed.connect(lambda _: on_change())

    def show(self, layer: Image | None) -> None:
        """Show the answers for a stack, and ask for the names of its axes if they are missing."""
        if layer is not self._layer:
            self.close()
            self._layer = layer
            with self._blocked_signals():
                self.focus.value = None
            if layer is not None:
                layer.events.axis_labels.connect(self.refresh)
        self.refresh()
        unnamed = layer is not None and layer.ndim > 3 and not self.names.value
        if layer is not None and unnamed:
            self._show_status(axes_request(layer))
        elif self._request_shown:
            self._show_status("ready")
        self._request_shown = unnamed

    def refresh(self, _: object = None) -> None:
        """Show the names of the axes and the focus channel that the layer has."""
        layer = self._layer
        has_leading = layer is not None and layer.ndim > 3
        with self._blocked_signals():
            self.names.value = format_axes(layer.axis_labels) if layer and has_leading else ""
            self.focus.reset_choices()
            self.choose(None if layer is None else plugin_metadata(layer).get("focus_channel"))
        self.names.visible, self.focus.visible = has_leading, self.several

    @property
    def several(self) -> bool:
        """Whether there are several channels to choose from."""
        return self._asks_channel and len(self._channels()) > 1

    def choose(self, channel: int | None) -> None:
        """Choose a focus channel, if the stack has it."""
        if channel is not None and channel in self.focus.choices:
            self.focus.value = channel

    def acquisition(self, layer: Image, focus: int | None = None) -> Acquisition:
        """Return the stacks in a layer; ValueError if an answer is missing.

        `focus` is the focus channel for a form that does not ask for it.
        """
        if layer.ndim > 3:
            parse_axes(self.names.value, layer)
        return acquisition_of(layer, self.focus.value if self._asks_channel else focus)

    def close(self) -> None:
        """Stop following the stack."""
        if self._layer is not None:
            self._layer.events.axis_labels.disconnect(self.refresh)
        self._layer = None

    @contextlib.contextmanager
    def _blocked_signals(self) -> Iterator[None]:
        with self.names.changed.blocked(), self.focus.changed.blocked():
            yield

    def _apply_names(self, text: str) -> None:
        """Give the layer the labels that the user has entered."""
        layer = self._layer
        if layer is None or layer.ndim <= 3:
            return
        try:
            labels = parse_axes(text, layer)
        except ValueError as error:
            self._show_status(str(error))
            return
        if labels != tuple(layer.axis_labels):
            with layer.events.axis_labels.blocker(self.refresh):
                layer.axis_labels = labels
        with self._blocked_signals():
            self.focus.reset_choices()
        self.focus.visible = self.several
        self._request_shown = False
        self._show_status("ready")
        self._on_change()

    def _channels(self, _: object = None) -> list[tuple[str, int]]:
        """Return titles and numbers of the channels, if there are several."""
        layer = self._layer
        names = None if layer is None or layer.ndim <= 3 else parse_axis_labels(layer.axis_labels)
        axis = channel_axis(names or ())
        if layer is None or axis is None or leading_shape(layer)[axis] < 2:
            return []
        return [(title, i) for i, title in enumerate(channel_titles(layer, axis))]
