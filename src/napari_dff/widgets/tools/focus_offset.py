"""The focus offset of stacks to which a depth of another channel is applied."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import Container, Widget

from napari_dff.model import checks
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.checks import Range
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import Recipe
from napari_dff.model.result import FocusOffset
from napari_dff.model.units import depth_unit_symbol
from napari_dff.pipeline.channel_offsets import channel_offsets
from napari_dff.pipeline.tile import AlignedStack
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window
from napari_dff.widgets.app.controls import button_row, push_button
from napari_dff.widgets.app.spin_boxes import spin_box

if TYPE_CHECKING:
    from napari_dff.widgets.tools.reuse import AppliedResult

OFFSETS = Range(-1e6, 1e6, 0.1)
TOOLTIP = (
    "How much higher these stacks are in focus than the one of the depth: chromatic shift. It is "
    "added to the depth."
)
ESTIMATE_TOOLTIP = (
    "Estimate it from the first chosen stack, where both are in focus. They must show the same "
    "surface."
)


class FocusOffsetField:
    """A field for the focus offset, and a button that estimates it, in one `row`."""

    def __init__(self, on_estimate: Callable[[], None]) -> None:
        self.value = spin_box("", 0.0, OFFSETS, TOOLTIP)
        self.value.native.setDecimals(4)
        self.estimate = push_button("Estimate", ESTIMATE_TOOLTIP, on_estimate)
        self.row: Container[Widget] = button_row(self.value, self.estimate)
        self.row.label = "focus offset"

    def show_unit(self, unit: str | None) -> None:
        """Show the unit of a depth, a napari name; None: no depth is applied."""
        self.value.enabled = self.estimate.enabled = unit is not None
        if unit is not None:
            self.value.native.setSuffix(f" {depth_unit_symbol(unit)}")


def estimate_offset(
    result: "AppliedResult", planes: Any, number: int, progress: Progress
) -> FocusOffset:
    """Return how much higher a stack is in focus than the one of the depth."""
    depth, positions, uncertainty = result._replace(focus_offset=0.0).surface(number)
    error = np.zeros_like(depth) if uncertainty is None else uncertainty
    maps = np.zeros(depth.shape, np.uint16), depth, error
    aligned = result.align(planes, number)

    def read(window: Window) -> DepthMap:
        return DepthMap(*(values[window.slices] for values in maps))

    stack = AlignedStack(aligned, positions, known_depth=read)
    acquisition = Acquisition(aligned, positions, axes=())
    (offset,) = channel_offsets(stack, Recipe(), checks.AUTO, acquisition, progress)
    return offset
