"""Retouch by hand: paint parts of one plane into the sharp image and the depth."""

from collections.abc import Generator
from typing import Any

import numpy as np
from magicgui.widgets import CheckBox, Slider
from napari.layers import Image
from napari.viewer import Viewer

from napari_dff.widgets.app import layers
from napari_dff.widgets.app.controls import button_row, labelled_column, push_button
from napari_dff.widgets.app.geometry import pixel_at, view_to_data
from napari_dff.widgets.app.result_view import show_planes
from napari_dff.widgets.app.strokes import AppliedStroke, Stroke, finish, painted_layers, undo
from napari_dff.widgets.app.task_widget import show_errors
from napari_dff.widgets.tools.tool import Tool

INSTRUCTION = (
    "Choose Planes and move the slider to the plane that is right. Then choose Sharp image, check "
    "Paint, and drag with the mouse where that plane should be seen."
)
PAINTING = "painting from plane {}: drag with the mouse"


class RetouchWidget(Tool):
    """Paints the plane in view into the sharp image, and its position into the depth."""

    title = "Retouch"
    lasting_fields = ("image", "depth", "brush")

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, "depth", "The depth layer of the result to retouch.")
        self._applied: list[AppliedStroke] = []
        self.planes = push_button("Planes", "Show the planes, to find the right one.", self._planes)
        self.sharp = push_button("Sharp image", "Show the all-in-focus image.", self._show_sharp)
        tooltip = "Diameter of the brush in pixels of the image."
        self.brush = Slider(label="brush (px)", value=20, min=1, max=300, tooltip=tooltip)
        self.brush.native.setToolTip(tooltip)  # magicgui leaves it out
        image = "Paint the pixels of the plane into the sharp image."
        self.image = CheckBox(value=True, text="into the sharp image", tooltip=image)
        depth = "Paint the position of the plane into the depth, with the plane index and σ."
        self.depth = CheckBox(value=True, text="into the depth", tooltip=depth)
        paint = "Paint with the mouse instead of moving the picture."
        self.paint = CheckBox(value=False, text="Paint", tooltip=paint)
        self.undo = push_button(
            "Undo stroke", "Restore what was before the last stroke.", self._undo
        )
        self.undo.enabled = False
        fields = labelled_column(self.input_layer, self.brush)
        views = button_row(self.planes, self.sharp)
        self.extend([views, fields, self.image, self.depth, self.paint, self.undo, self.status])
        self.update_choices()
        self.show_status(INSTRUCTION)
        self.paint.changed.connect(self._on_paint)
        viewer.mouse_drag_callbacks.append(self._on_mouse)
        self._connect(viewer.dims.events.current_step, self._show_plane)

    def _stack(self) -> Image:
        """Return the planes that the depth was computed from; ValueError if there are none."""
        depth = self.depth_layer()
        stack = layers.input_stack_of(self._viewer, depth)
        if stack is None:
            raise ValueError(f"the stack that {depth.name!r} was made from is gone")
        if not isinstance(stack, Image) or stack.ndim != 3:
            raise ValueError(f"retouching needs a stack with axes Z, Y, X, got {stack.ndim} axes")
        return stack

    def _plane(self, stack: Image) -> int:
        """Return the index of the plane at the slider."""
        plane = round(view_to_data(self._viewer, stack, self._viewer.dims.point)[-3])
        return min(max(plane, 0), layers.planes_of(stack).shape[0] - 1)

    @show_errors
    def _planes(self) -> None:
        stack = self._stack()
        source = layers.source_of(self._viewer, self.depth_layer()) or stack
        show_planes(self._viewer, source)
        stack.visible = True

    @show_errors
    def _show_sharp(self) -> None:
        depth = self.depth_layer()
        sharp = layers.related_layer(self._viewer, depth, "all in focus")
        if sharp is None:
            raise ValueError(f"{depth.name!r} has no sharp image beside it")
        depth.visible, sharp.visible = False, True

    @show_errors
    def _on_paint(self) -> None:
        """Let the mouse paint instead of moving the picture."""
        if not self.paint.value:
            self._viewer.scene.camera.mouse_pan = True
            self.show_status(INSTRUCTION)
            return
        self._viewer.layers.selection.active = self.depth_layer()  # not a layer to draw in
        self._viewer.scene.camera.mouse_pan = False
        self._show_plane()

    def _show_plane(self, _: Any = None) -> None:
        if self.paint.value and self.input_layer.value is not None:
            try:
                self.show_status(PAINTING.format(self._plane(self._stack())))
            except ValueError as error:  # the stack was removed
                self.show_status(str(error))

    def _on_mouse(self, viewer: Viewer, event: Any) -> Generator[None, None, None]:
        """Paint while the left button is pressed."""
        if not self.paint.value or event.button not in (None, 1):
            return
        viewer.scene.camera.mouse_pan = False  # napari sets it when another layer is selected
        stroke = self._begin()
        if stroke is None:
            return
        depth, event_type = self.depth_layer(), event.type
        while event_type in ("mouse_press", "mouse_move"):
            if (pixel := pixel_at(viewer, depth, event)) is not None:
                stroke.move_to(pixel)
            yield
            event_type = event.type
        if stroke.weight.any():
            self._applied.append(finish(stroke))
            self.undo.enabled = True
            self.show_status(f"painted {np.count_nonzero(stroke.weight)} pixels")

    def _begin(self) -> Stroke | None:
        """Return a new stroke with the plane at the slider; None, with a message, if impossible."""
        try:
            stack, depth = self._stack(), self.depth_layer()
            into = {"into_image": bool(self.image.value), "into_depth": bool(self.depth.value)}
            painted = painted_layers(self._viewer, stack, depth, self._plane(stack), **into)
        except ValueError as error:
            self.show_status(str(error))
            return None
        weight = np.zeros(layers.plane_shape(depth), np.float32)
        return Stroke(self._plane(stack), self.brush.value / 2, painted, weight)

    def _undo(self) -> None:
        applied = self._applied.pop()
        if applied.is_current(self._viewer):
            undo(applied)
            self.show_status("undone: the last stroke")
        else:
            self._applied.clear()
            self.show_status("not undone: a run has computed these layers since; undo it first")
        self.undo.enabled = bool(self._applied)

    def _close(self) -> None:
        super()._close()
        self._viewer.scene.camera.mouse_pan = True
        if self._on_mouse in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_mouse)
