"""The acquisition in an Image layer, and its stack in view."""

from napari.layers import Image
from napari.viewer import Viewer

from napari_dff.model.acquisition import Acquisition, channel_axis
from napari_dff.model.stack import FocalStack
from napari_dff.widgets.app.axes import leading_axis_names
from napari_dff.widgets.app.geometry import index_in_view
from napari_dff.widgets.app.layers import (
    leading_shape,
    pixel_size_of,
    planes_of,
    plugin_metadata,
    positions_of,
    require_stack,
    unit_of,
)


def acquisition_of(layer: Image | None, focus_channel: int | None = None) -> Acquisition:
    """Return the focal stacks in an Image layer.

    Raises
    ------
    ValueError
        If it has none, its axes have no names, or it has several channels and none is chosen.
    """
    layer = require_stack(layer)
    axes = leading_axis_names(layer)
    axis = channel_axis(axes)
    count = 1 if axis is None else leading_shape(layer)[axis]
    if count == 1:
        focus_channel = 0
    if focus_channel is None:
        raise ValueError(
            f"choose the focus channel of {layer.name!r}: the one of its {count} channels whose "
            "focus tells the depth"
        )
    return Acquisition(
        planes_of(layer),
        positions_of(layer),
        pixel_size_of(layer),
        unit_of(layer),
        channels=("",) * count,
        axes=axes,
        focus_channel=focus_channel,
    )


def stack_in_view(viewer: Viewer, layer: Image, *, focus: bool = True) -> FocalStack:
    """Return the stack of a layer at the position of the sliders.

    Of the focus channel if it is known and `focus`, else of the channel in view.
    """
    index = index_in_view(viewer, require_stack(layer))
    axis = channel_axis(leading_axis_names(layer))
    channel = None if axis is None else index[axis]
    if focus:
        channel = plugin_metadata(layer).get("focus_channel", channel)
    return acquisition_of(layer, channel).focus_stack(index)
