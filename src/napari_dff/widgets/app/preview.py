"""Preview: a part of the planes, computed again whenever a setting or the view changes."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from magicgui.widgets import ComboBox
from napari.layers import Image, Layer, Shapes
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from napari_dff.pipeline.tile import MARGIN_PX
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window
from napari_dff.widgets.app.background_task import BackgroundTask, update_layers
from napari_dff.widgets.app.geometry import placement, window_in_rectangle, window_in_view
from napari_dff.widgets.app.layer_data import ResultLayer, layer_on_stack
from napari_dff.widgets.app.layer_list import add_result, raise_result, rename_results
from napari_dff.widgets.app.layers import METADATA_KEY, find_layer, plane_shape, role_of
from napari_dff.widgets.app.view_units import draw_in_view_units

MAX_SIDE_PX = 464 - 2 * MARGIN_PX  # the margin is computed as well
MIN_SIDE_PX = 16
USER_ATTRIBUTES = ("rgb", "colormap", "visible", "name")  # which the user may have changed
START_DELAY_MS = 80  # without a further change
OFF, VIEW, RECTANGLE = "off", "what is in view", "a rectangle that I draw"


class PreviewRequest(NamedTuple):
    """The stack layer of a preview, its computation, and a note for the status."""

    source: Image
    compute: Callable[[Window, Progress], Sequence[ResultLayer]]  # in a thread
    note: str


class Preview:
    """A part of the planes, computed in the background and shown on the stack."""

    def __init__(
        self,
        viewer: Viewer,
        prepare: Callable[[], PreviewRequest | None],  # None if there is nothing to preview
        show_status: Callable[[str], None],
        *,
        offered: bool = True,
    ) -> None:
        self._viewer, self._prepare, self._show_status = viewer, prepare, show_status
        self.choice = ComboBox(
            label="preview",
            choices=[OFF, VIEW, RECTANGLE] if offered else [OFF],
            value=OFF,
            tooltip="Compute a part of the planes whenever a setting changes. Run gives the same "
            "result for all pixels.",
        )
        self._task: BackgroundTask | None = None
        self._restart = False  # when the running task ends
        self._layers: list[Layer] = []  # that show the preview on `_source`
        self._source: Layer | None = None
        self._timer = QTimer(singleShot=True, interval=START_DELAY_MS)  # type: ignore[call-arg]
        self._timer.timeout.connect(self._start)
        self.choice.changed.connect(self._on_choice)
        self._camera_events = viewer.scene.camera.events.center, viewer.scene.camera.events.zoom
        for event in self._camera_events:
            event.connect(self._on_camera)
        viewer.layers.events.removed.connect(self._on_removed)

    def request(self, _: Any = None) -> None:
        """Compute the preview, unless it is off, as soon as nothing changes for a moment."""
        if self.choice.value != OFF:
            self._timer.start()

    def hide(self) -> None:
        """Stop computing and hide the layers."""
        self._timer.stop()
        if self._task is not None:
            self._task.cancel()
        # Not removed: napari's canvas can crash without a layer that was visible in 2-D and 3-D.
        for layer in self._layers:
            layer.visible = False

    def close(self) -> None:
        """Stop computing and remove the layers."""
        with contextlib.suppress(RuntimeError):  # napari itself closes and Qt has deleted it
            self._timer.stop()
        if self._task is not None:
            self._task.abandon()
        update_layers(self._remove_layers())
        for event in self._camera_events:
            event.disconnect(self._on_camera)
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def _on_choice(self) -> None:
        if self.choice.value == OFF:
            self.hide()
            if (shapes := self._rectangle_layer()) is not None:
                shapes.visible = False
            self._show_status("preview off")
        elif self.choice.value == RECTANGLE:
            self._draw_rectangle()
        self.request()

    def _on_camera(self, _: Any) -> None:
        if self.choice.value == VIEW:
            self._timer.start()

    def _on_removed(self, event: Any) -> None:
        if event.value is self._source:
            self.hide()

    def _start(self) -> None:
        if self._task is not None:  # it computes with old settings
            self._restart = True
            self._task.cancel()
            return
        request = self._prepare() if self.choice.value != OFF else None
        if request is None:
            return
        if self._viewer.dims.ndisplay == 3:
            self._show_status("no preview in 3-D")
            return
        source = request.source
        if self.choice.value == VIEW:
            window, place = window_in_view(source, MAX_SIDE_PX), "in view"
        else:
            window = window_in_rectangle(source, self._rectangle_layer(), MAX_SIDE_PX)
            place = "in the rectangle"
        if window is None or min(window.shape) < MIN_SIDE_PX:
            self._show_status(f"no preview: nothing of the stack is {place}")
            return
        start_s = time.perf_counter()

        def show(images: Sequence[ResultLayer]) -> None:
            if source not in self._viewer.layers or self.choice.value == OFF:
                return
            self._show(source, window, images)
            seconds, (height, width) = time.perf_counter() - start_s, window.shape
            size = f"{height} × {width} pixels"
            self._show_status(f"preview of {size} in {seconds:.2f} s{request.note}")

        self._task = BackgroundTask(
            "Preview",
            lambda progress: request.compute(window, progress),
            show,
            lambda sentence: self._show_status(f"preview {sentence}"),
            self._task_finished,
        )

    def _task_finished(self) -> None:
        self._task = None
        if self._restart:
            self._restart = False
            self._start()

    def _show(self, source: Image, window: Window, images: Sequence[ResultLayer]) -> None:
        viewer_layers = self._viewer.layers
        active, shown = viewer_layers.selection.active, []
        self._source = source
        self._layers = [layer for layer in self._layers if layer in viewer_layers]
        for role, image, look, *_ in images:
            look |= self._limits_of_result(source, role)
            data, look, _ = layer_on_stack(source, role, image, window=window, **look)
            layer = next((each for each in viewer_layers if role_of(each) == role), None)
            if layer is not None and (layer.data.ndim, layer.rgb) != (data.ndim, look["rgb"]):
                viewer_layers.remove(layer)
                layer = None
            if layer is None:
                layer = Layer.create(data, look, "image")
                rename_results(self._viewer, layer)
                add_result(self._viewer, layer)
            else:
                layer.data, layer.visible = data, True
                for key, value in look.items():
                    if key not in USER_ATTRIBUTES:
                        setattr(layer, key, value)
                raise_result(self._viewer, layer)
            shown.append(layer)
            if layer not in self._layers:
                self._layers.append(layer)
        for layer in self._layers:
            layer.visible = layer in shown
        shapes = self._rectangle_layer()
        if shapes is not None and self.choice.value == RECTANGLE and shapes.mode == "add_rectangle":
            shapes.mode = "select"
        if active is not None and active in viewer_layers:
            viewer_layers.selection.active = active

    def _limits_of_result(self, source: Image, role: str) -> dict[str, Any]:
        """Return the contrast limits of the result that a preview lies over, to compare them."""
        name = role.removeprefix("preview ")
        for result_role in (f"refined {name}", name):
            layer = find_layer(self._viewer, result_role, source)
            if isinstance(layer, Image) and not layer.rgb:
                return {"contrast_limits": tuple(layer.contrast_limits)}
        return {}

    def _rectangle_layer(self) -> Shapes | None:
        """Return the layer with the rectangle to preview, which another form may have added."""
        shapes = {role_of(x): x for x in self._viewer.layers}.get("preview region")
        if shapes is not None:
            shapes.events.data.connect(self.request)  # once, however often it is connected
        return shapes

    def _draw_rectangle(self) -> None:
        shapes = self._rectangle_layer()
        if shapes is None:
            if (request := self._prepare()) is None:
                return
            source = request.source
            shapes = self._viewer.add_shapes(
                ndim=2,
                name="preview region",
                metadata={METADATA_KEY: {"role": "preview region"}},
                face_color="transparent",
                edge_color="yellow",
                edge_width=max(1, plane_shape(source)[0] // 200),
                **placement(source, 2),
            )
        shapes.visible = True
        draw_in_view_units(self._viewer, shapes)
        self._viewer.layers.selection.active = shapes
        shapes.mode = "add_rectangle"

    def _remove_layers(self) -> Iterator[None]:
        for layer in self._layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
                yield
