"""Buttons that show the depth, the sharp image or the planes of a stack, and a blend."""

from collections.abc import Callable
from weakref import WeakSet

import numpy as np
from magicgui.widgets import CheckBox, Container, FloatSlider, Widget
from napari.layers import Image, Labels, Layer
from napari.viewer import Viewer

from napari_dff.widgets.app import layers
from napari_dff.widgets.app.controls import button_row, labelled_column, push_button
from napari_dff.widgets.app.layer_list import REFINED, raise_result, show_scales
from napari_dff.widgets.app.versions import edit_count, layers_changed, set_edit_count

STRIPES = 64  # per side of a picture, of filled-in depth
FILLED_TOOLTIP = (
    "Show depth that was filled in where nothing was in focus, in stripes. Measurements leave it "
    "out; saved results contain it, with infinite uncertainty."
)

_filled_shown: WeakSet[Viewer] = WeakSet()  # the same in all forms, which may show one layer


class ResultView:
    """Shows the results of the chosen stack: one at a click, or a blend of two."""

    def __init__(
        self,
        viewer: Viewer,
        stack: Callable[[], Image | None],
        select: Callable[[Layer], None],
    ) -> None:
        self._viewer, self._stack, self._select = viewer, stack, select
        self.depth = push_button("Depth", "Show the depth map.", self._show_depth)
        self.sharp = push_button("Sharp image", "Show the all-in-focus image.", self._show_sharp)
        planes = "Show the planes of the stack, to look through them with the slider."
        self.planes = push_button("Planes", planes, self._show_planes)
        blend = "Opacity of the depth over the sharp image."
        self.blend = FloatSlider(label="blend", value=1, min=0, max=1, step=0.01, tooltip=blend)
        self.blend.native.setToolTip(blend)  # magicgui leaves it out
        self.filled = CheckBox(text="show filled-in depth", tooltip=FILLED_TOOLTIP)
        self.blend.changed.connect(self._set_blend)
        self.filled.changed.connect(self._on_filled)
        buttons = button_row(self.depth, self.sharp, self.planes)
        self.widget: Container[Widget] = Container(
            widgets=[buttons, labelled_column(self.blend), self.filled], labels=False
        )
        self.widget.margins = (0, 0, 0, 0)

    def update(self, _: object = None) -> None:
        """Show the buttons if the stack has results, and filled-in depth as chosen."""
        depth, shown = self._result("depth"), self._viewer in _filled_shown
        with self.filled.changed.blocked():  # another form may have changed it
            self.filled.value = shown
        self.widget.visible = depth is not None
        if depth is not None:
            self.filled.visible = layers.plugin_metadata(depth).get("filled") is not None
            show_filled(depth, shown=shown)

    def _on_filled(self, shown: bool) -> None:
        (_filled_shown.add if shown else _filled_shown.discard)(self._viewer)
        layers_changed.emit()  # of which all forms update their view

    def follow_stack(self, stack: Image | None) -> None:
        """Show the buttons, the colour bar and the scale bar that belong to another stack."""
        self.update()
        if stack is not None:
            show_scales(self._viewer, self._result("depth") or stack)

    def show_result(self) -> None:
        """Show depth and sharp image, which may be hidden since an earlier run."""
        self.update()
        for role in ("all in focus", "depth"):
            if (layer := self._result(role)) is not None:
                layer.visible = True

    def _result(self, role: str) -> Image | None:
        """Return the topmost result of the stack with this role, refined or not."""
        stack = self._stack()
        results = [] if stack is None else layers.results_of(self._viewer, str(stack.unique_id))
        ends = {role, f"{REFINED}{role}"}
        matches = [each for each in results if layers.role_of(each) in ends]
        return matches[-1] if matches else None

    def _show(self, top: Layer | None, *below: Layer | None) -> None:
        """Show layers above all others, and select the first."""
        for layer in (*below, top):
            if layer is not None:
                layer.visible = True
                raise_result(self._viewer, layer)
        if top is not None:
            self._select(top)

    def _show_depth(self) -> None:
        depth = self._result("depth")
        self._show(depth, self._result("all in focus"))
        if depth is not None:
            show_scales(self._viewer, depth)
        self.blend.value = 1

    def _show_sharp(self) -> None:
        if (depth := self._result("depth")) is not None:
            depth.visible = False
        self._show(self._result("all in focus"))

    def _show_planes(self) -> None:
        if (stack := self._stack()) is not None:
            show_planes(self._viewer, stack)
            self._select(stack)

    def _set_blend(self, opacity: float) -> None:
        depth, sharp = self._result("depth"), self._result("all in focus")
        if depth is not None:
            depth.opacity = opacity
            self._show(depth, sharp)


def show_planes(viewer: Viewer, stack: Image) -> None:
    """Show the planes of a stack: hide the images that were computed from it."""
    for layer in layers.results_of(viewer, str(stack.unique_id)):
        if not layers.is_stack(layer) and isinstance(layer, Image | Labels):
            layer.visible = False
    stack.visible = True


def show_filled(depth: Image, *, shown: bool) -> None:
    """Show the depth of pixels that were never in focus in stripes, or leave it out."""
    filled = layers.plugin_metadata(depth).get("filled")
    if filled is None or filled.shape != depth.data.shape:
        return
    values = layers.full_values(depth)
    hidden = values == filled  # NaN where the depth was measured; the user may have edited others
    if shown:
        rows, columns = np.ogrid[: values.shape[-2], : values.shape[-1]]
        width = max(2, max(values.shape[-2:]) // (2 * STRIPES))
        hidden &= (rows + columns) // width % 2 == 0
    data = np.where(hidden, np.float32(np.nan), values)
    if not np.array_equal(data, depth.data, equal_nan=True):
        count = edit_count(depth)
        depth.data = data
        set_edit_count(depth, count)
