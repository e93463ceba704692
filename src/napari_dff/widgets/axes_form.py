"""What must be asked of a stack with axes before Z, Y, X: what they are, and the focus channel."""

from collections.abc import Callable

from magicgui.widgets import ComboBox, LineEdit, Widget
from napari.layers import Image

from napari_dff.acquisition import Acquisition, channel_axis
from napari_dff.widgets.axes import (
    axes_request,
    channel_names,
    format_axes,
    parse_axes,
    parse_axis_labels,
)
from napari_dff.widgets.layers import leading_shape, plugin_metadata
from napari_dff.widgets.series import acquisition_of


class AxesForm:
    """Names of the axes and the focus channel, shown only where there is something to ask.

    What a person writes becomes the labels of the layer, so that it is asked once.

    Parameters
    ----------
    said : callable
        Gets a sentence.
    changed : callable
        Called when something was answered.
    focus : bool
        Ask for the focus channel too.
    """

    def __init__(
        self, said: Callable[[str], None], changed: Callable[[], None], *, focus: bool
    ) -> None:
        self._said, self._changed, self._asks = said, changed, focus
        self._layer: Image | None = None
        self._filling = self._asked = False
        self.names = LineEdit(
            label="axes",
            tooltip="What the axes are, in their order, as T C Z Y X: T time, P position, C "
            "channel, or other words. Every stack along them is done on its own, but channels "
            "together: the depth of one of them holds for all.",
        )
        self.focus = ComboBox(
            label="focus channel",
            choices=self._channels,
            nullable=True,
            tooltip="The channel whose focus tells the depth; all get an all-in-focus image.",
        )
        self.names.native.setPlaceholderText("for example T C Z Y X")
        self.widgets: list[Widget] = [self.names, self.focus]
        self.names.changed.connect(self._named)
        self.focus.changed.connect(self._chosen)

    def show(self, layer: Image | None) -> None:
        """Ask what must be asked of this stack."""
        if layer is not self._layer:
            self.close()
            self._layer, self._filling = layer, True
            self.focus.value = None  # nobody has chosen one of this stack
            if layer is not None:
                layer.events.axis_labels.connect(self.refresh)
        self.refresh()
        unnamed = layer is not None and layer.ndim > 3 and not self.names.value
        if layer is not None and unnamed:
            self._said(axes_request(layer))
        elif self._asked:
            self._said("ready")
        self._asked = unnamed

    def refresh(self, _: object = None) -> None:
        """Show what is known of the stack."""
        layer, self._filling = self._layer, True
        several = layer is not None and layer.ndim > 3
        self.names.value = format_axes(layer.axis_labels) if layer is not None and several else ""
        self.focus.reset_choices()
        self.choose(None if layer is None else plugin_metadata(layer).get("focus_channel"))
        self.names.visible = several
        self.focus.visible = self.several
        self._filling = False

    @property
    def several(self) -> bool:
        """Whether there are channels to choose from."""
        return self._asks and len(self._channels()) > 1

    def choose(self, channel: int | None) -> None:
        """Choose a focus channel, if there is that one to choose."""
        if channel is not None and channel in self.focus.choices:
            self.focus.value = channel

    def acquisition(self, layer: Image, focus: int | None = None) -> Acquisition:
        """The stacks in the layer, by what was answered; ValueError with a sentence if not all is.

        `focus` is the focus channel where that is known already.
        """
        if layer.ndim > 3:
            parse_axes(self.names.value, layer)
        return acquisition_of(layer, self.focus.value if self._asks else focus)

    def close(self) -> None:
        """Stop following the stack."""
        if self._layer is not None:
            self._layer.events.axis_labels.disconnect(self.refresh)
        self._layer = None

    def _named(self, text: str) -> None:
        layer = self._layer
        if self._filling or layer is None or layer.ndim <= 3:
            return
        try:
            labels = parse_axes(text, layer)
        except ValueError as error:
            self._said(str(error))
            return
        if labels != tuple(layer.axis_labels):
            with layer.events.axis_labels.blocker(self.refresh):
                layer.axis_labels = labels
        self._filling = True
        self.focus.reset_choices()
        self.focus.visible = self.several
        self._filling = False
        self._asked = False
        self._said("ready")
        self._changed()

    def _chosen(self) -> None:
        if not self._filling:
            self._changed()

    def _channels(self, _: object = None) -> list[tuple[str, int]]:
        """Names and numbers of the channels, where there are several."""
        layer = self._layer
        names = None if layer is None or layer.ndim <= 3 else parse_axis_labels(layer.axis_labels)
        axis = None if names is None else channel_axis(names)
        if layer is None or axis is None or leading_shape(layer)[axis] < 2:
            return []
        return [(name, i) for i, name in enumerate(channel_names(layer, axis))]
