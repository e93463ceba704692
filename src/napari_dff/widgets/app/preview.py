"""Preview: a part of the planes, computed again whenever a setting or the view changes."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from magicgui.widgets import ComboBox
from napari.layers import Image, Layer, Shapes
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from napari_dff.pipeline.tile import MARGIN_PX
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window
from napari_dff.widgets.app.geometry import placement, window_in_rectangle, window_in_view
from napari_dff.widgets.app.layers import METADATA_KEY, plane_shape, role_of, stack_name_of
from napari_dff.widgets.app.worker import BackgroundTask, update_layers

MAX_SIDE_PX = 464 - 2 * MARGIN_PX  # the margin is computed as well
MIN_SIDE_PX = 16
START_DELAY_MS = 80  # without a further change
OFF, VIEW, RECTANGLE = "off", "what is in view", "a rectangle that I draw"


class PreviewImage(NamedTuple):
    """Data of one preview layer, its role, and attributes of the layer."""

    role: str
    data: np.ndarray
    look: dict[str, Any]


class PreviewRequest(NamedTuple):
    """The stack layer of a preview, the computation in a thread, and a note for the status."""

    source: Image
    compute: Callable[[Window, Progress], Sequence[PreviewImage]]
    note: str


class Preview:
    """Computes a part of the planes in the background and shows it on the stack.

    `choice` is the widget that turns it on; `prepare` returns None if there is nothing to preview.
    """

    def __init__(
        self,
        viewer: Viewer,
        prepare: Callable[[], PreviewRequest | None],
        show_status: Callable[[str], None],
    ) -> None:
        self._viewer, self._prepare, self._show_status = viewer, prepare, show_status
        self.choice = ComboBox(
            label="preview",
            choices=[OFF, VIEW, RECTANGLE],
            value=OFF,
            tooltip="Compute a part of the planes whenever a setting changes. Run gives the same "
            "result for all pixels.",
        )
        self._task: BackgroundTask | None = None
        self._restart = False  # when the running task ends
        self._layers = PreviewLayers(viewer)
        self._rectangle = PreviewRectangle(viewer, self.request)
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(START_DELAY_MS)
        self._timer.timeout.connect(self._start)
        self.choice.changed.connect(self._on_choice)
        self._camera_events = viewer.scene.camera.events.center, viewer.scene.camera.events.zoom
        for event in self._camera_events:
            event.connect(self._on_camera)

    def request(self, _: Any = None) -> None:
        """Compute the preview, unless it is off, as soon as nothing changes for a moment."""
        if self.choice.value != OFF:
            self._timer.start()

    def hide(self) -> None:
        """Stop computing and hide the layers."""
        self._timer.stop()
        if self._task is not None:
            self._task.cancel()
        self._layers.hide()

    def hide_if_of(self, source: Layer) -> None:
        """Hide the preview if it lies on this layer, which was removed."""
        if source is self._layers.source:
            self.hide()

    def close(self) -> None:
        """Stop computing and remove the layers."""
        with contextlib.suppress(RuntimeError):  # napari itself closes and Qt has deleted it
            self._timer.stop()
        if self._task is not None:
            self._task.abandon()
        update_layers(self._layers.remove())
        for event in self._camera_events:
            event.disconnect(self._on_camera)

    def _on_choice(self) -> None:
        if self.choice.value == OFF:
            self.hide()
            self._rectangle.hide()
            self._show_status("preview off")
        elif self.choice.value == RECTANGLE:
            request = None if self._rectangle.layer() is not None else self._prepare()
            self._rectangle.draw(None if request is None else request.source)
        self.request()

    def _on_camera(self, _: Any) -> None:
        if self.choice.value == VIEW:
            self._timer.start()

    def _start(self) -> None:
        if self._task is not None:  # it computes with old settings
            self._restart = True
            self._task.cancel()
            return
        request = self._prepare() if self.choice.value != OFF else None
        if request is None:
            return
        source, in_view = request.source, self.choice.value == VIEW
        if self._viewer.dims.ndisplay == 3:
            self._show_status("no preview in 3-D")
            return
        window = (
            window_in_view(source, MAX_SIDE_PX)
            if in_view
            else window_in_rectangle(source, self._rectangle.layer(), MAX_SIDE_PX)
        )
        if window is None or min(window.shape) < MIN_SIDE_PX:
            place = "in view" if in_view else "in the rectangle"
            self._show_status(f"no preview: nothing of the stack is {place}")
            return
        start_s = time.perf_counter()

        def show(images: Sequence[PreviewImage]) -> None:
            self._show(source, window, images)
            seconds = time.perf_counter() - start_s
            height, width = window.shape
            self._show_status(
                f"preview of {height} × {width} pixels in {seconds:.2f} s{request.note}"
            )

        self._task = BackgroundTask(
            "Preview",
            lambda progress: request.compute(window, progress),
            show,
            lambda sentence: self._show_status(f"preview {sentence}"),
            self._task_finished,
            quiet=True,
        )
        self._task.start()

    def _task_finished(self) -> None:
        self._task = None
        if self._restart:
            self._restart = False
            self._start()

    def _show(self, source: Image, window: Window, images: Sequence[PreviewImage]) -> None:
        if source not in self._viewer.layers or self.choice.value == OFF:
            return
        active = self._viewer.layers.selection.active
        self._layers.show(source, window, images)
        if self.choice.value == RECTANGLE:
            self._rectangle.raise_to_top()
        if active is not None and active in self._viewer.layers:
            self._viewer.layers.selection.active = active


class PreviewRectangle:
    """The Shapes layer in which the user draws the rectangle to preview."""

    def __init__(self, viewer: Viewer, changed: Callable[[Any], None]) -> None:
        self._viewer, self._changed = viewer, changed
        self._connected: Shapes | None = None

    def layer(self) -> Shapes | None:
        """Return the layer, which another form may have added."""
        roles = {role_of(layer): layer for layer in self._viewer.layers}
        shapes = roles.get("preview region")
        if shapes is not None and shapes is not self._connected:
            shapes.events.data.connect(self._changed)
            self._connected = shapes
        return shapes

    def draw(self, source: Image | None) -> None:
        """Let the user draw a rectangle, in a new layer on `source` if there is none yet."""
        shapes = self.layer()
        if shapes is None:
            if source is None:
                return
            shapes = self._viewer.add_shapes(
                ndim=2,
                name=f"preview region · {stack_name_of(source)}",
                metadata={METADATA_KEY: {"role": "preview region"}},
                face_color="transparent",
                edge_color="yellow",
                edge_width=max(1, plane_shape(source)[0] // 200),
                **placement(source, 2),
            )
        shapes.visible = True
        self._viewer.layers.selection.active = shapes
        shapes.mode = "add_rectangle"

    def hide(self) -> None:
        """Hide the layer, if there is one."""
        shapes = self.layer()
        if shapes is not None:
            shapes.visible = False

    def raise_to_top(self) -> None:
        """Move the layer above all others, so that it stays visible, and select shapes in it."""
        shapes, layers = self.layer(), self._viewer.layers
        if shapes is not None:
            layers.move(layers.index(shapes), len(layers))
            if shapes.mode == "add_rectangle":
                shapes.mode = "select"


class PreviewLayers:
    """The image layers of a preview, and the stack layer that they lie on."""

    def __init__(self, viewer: Viewer) -> None:
        self.source: Layer | None = None
        self._viewer = viewer
        self._layers: list[Layer] = []

    def show(self, source: Image, window: Window, images: Sequence[PreviewImage]) -> None:
        """Update the layers, or add them, so that they lie on a window of `source`."""
        earlier, self._layers, self.source = self._layers, [], source
        existing = {
            role_of(layer): layer
            for layer in self._viewer.layers
            if role_of(layer).startswith("preview ") and isinstance(layer, Image)
        }
        name = stack_name_of(source)
        for role, data, look in images:
            rgb = bool(look.get("rgb", False))
            settings = {"name": f"{role} · {name}", **placement(source, data.ndim - rgb, window)}
            layer = existing.get(role)
            if layer is not None and (layer.data.ndim != data.ndim or layer.rgb != rgb):
                self._viewer.layers.remove(layer)
                layer = None
            if layer is None:
                metadata = {METADATA_KEY: {"role": role, "root": name}}
                settings |= {"rgb": False, "metadata": metadata, **look}
                layer = Layer.create(data, settings, "image")
                self._viewer.add_layer(layer)
            else:
                layer.data = data
                layer.visible = True
                for key, value in {**settings, **look}.items():
                    if key not in ("rgb", "colormap", "visible"):  # the user may have changed them
                        setattr(layer, key, value)
            self._layers.append(layer)
        for layer in earlier:
            layer.visible = layer in self._layers

    def hide(self) -> None:
        """Hide the layers.

        They are not removed: napari's canvas can crash where a layer is removed that was visible
        both in 2-D and in 3-D.
        """
        for layer in self._layers:
            layer.visible = False

    def remove(self) -> Iterator[None]:
        """Remove the layers, one at each step of the iterator."""
        for layer in self._layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
                yield
