"""Preview: the part of the planes in view, computed at once whenever a setting changes."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from magicgui.widgets import ComboBox
from napari.layers import Image, Layer
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from napari_dff.pieces import MARGIN_PX
from napari_dff.progress import Progress
from napari_dff.widgets.geometry import placement, window_in_rectangle, window_in_view
from napari_dff.widgets.layers import (
    METADATA_KEY,
    plane_shape,
    plugin_metadata,
    role_of,
    stack_name_of,
)
from napari_dff.widgets.worker import Job, in_turns
from napari_dff.windows import Window

SIDE = 464 - 2 * MARGIN_PX  # pixels: what lies around is computed with it
LEAST = 16  # pixels: less isn't worth a look
PAUSE = 80  # ms without a change before it begins
OFF, VIEW, RECTANGLE = "off", "what is in view", "a rectangle that I draw"


class Picture(NamedTuple):
    """One layer of a preview: its role, its data and how it looks."""

    role: str
    data: np.ndarray
    look: dict[str, Any]


Look = Callable[[Window, Progress], Sequence[Picture]]


class Preview:
    """Computes a region in a thread when asked to, and shows it on the stack.

    Parameters
    ----------
    viewer : napari Viewer
    choice : ComboBox
        off, what is in view, or a rectangle.
    prepare : callable
        Gives the stack's layer, a function that computes the pictures of a window in the thread,
        and what must be said of them; None where nothing can be previewed yet.
    said : callable
        Gets a sentence.
    """

    def __init__(
        self,
        viewer: Viewer,
        choice: ComboBox,
        prepare: Callable[[], tuple[Image, Look, str] | None],
        said: Callable[[str], None],
    ) -> None:
        self._viewer, self._choice, self._prepare, self._said = viewer, choice, prepare, said
        self._job: Job | None = None
        self._again = False
        self._shown: list[Layer] = []
        self._source: Layer | None = None
        self._drawn_on: Layer | None = None
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(PAUSE)
        self._timer.timeout.connect(self._start)
        choice.changed.connect(self._switched)
        for event in (viewer.scene.camera.events.center, viewer.scene.camera.events.zoom):
            event.connect(self._moved)

    def ask(self, _: Any = None) -> None:
        """Compute it again, once nothing has been asked for a moment."""
        if self._choice.value != OFF:
            self._timer.start()

    def forget(self, source: Layer) -> None:
        """The stack is gone, and with it what was shown of it."""
        if source is self._source:
            self.clear()

    def clear(self) -> None:
        """Hide the preview.

        Its layers stay: napari's canvas can crash where one is removed that was seen in both 2-D
        and 3-D.
        """
        self._timer.stop()
        if self._job is not None:
            self._job.cancel()
        for layer in self._shown:
            layer.visible = False

    def _gone(self, layers: list[Layer]) -> Iterator[None]:
        for layer in layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
                yield

    def close(self) -> None:
        """Stop for good."""
        with contextlib.suppress(RuntimeError):  # Qt is gone already when napari itself closes
            self._timer.stop()
        if self._job is not None:
            self._job.leave()
        in_turns(self._gone(self._shown))
        for event in (
            self._viewer.scene.camera.events.center,
            self._viewer.scene.camera.events.zoom,
        ):
            event.disconnect(self._moved)

    def _switched(self) -> None:
        if self._choice.value == OFF:
            self.clear()
            if (drawn := self._rectangle()) is not None:
                drawn.visible = False
            self._said("preview off")
        elif self._choice.value == RECTANGLE:
            self._draw()
        self.ask()

    def _moved(self, _: Any) -> None:
        if self._choice.value == VIEW:
            self._timer.start()

    def _draw(self) -> None:
        """Let the person draw a rectangle."""
        shapes = self._rectangle()
        if shapes is None:
            prepared = self._prepare()
            if prepared is None:
                return
            source = prepared[0]
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

    def _rectangle(self) -> Layer | None:
        roles = {plugin_metadata(layer).get("role"): layer for layer in self._viewer.layers}
        shapes = roles.get("preview region")
        if shapes is not None and shapes is not self._drawn_on:
            shapes.events.data.connect(self.ask)
            self._drawn_on = shapes
        return shapes

    def _start(self) -> None:
        if self._job is not None:  # the one under way is for settings that are gone
            self._again = True
            self._job.cancel()
            return
        prepared = self._prepare() if self._choice.value != OFF else None
        if prepared is None:
            return
        source, look, caution = prepared
        if self._choice.value == VIEW:
            window = window_in_view(source, SIDE)
        else:
            window = window_in_rectangle(source, self._rectangle(), SIDE)
        if self._viewer.dims.ndisplay == 3:
            self._said("no preview in 3-D")
            return
        if window is None or min(window.shape) < LEAST:
            self._said(
                "no preview: nothing of the stack is "
                + ("in view" if self._choice.value == VIEW else "in the rectangle")
            )
            return
        began = time.perf_counter()

        def show(pictures: Sequence[Picture]) -> None:
            self._show(source, window, pictures)
            seconds = time.perf_counter() - began
            height, width = window.shape
            self._said(f"preview of {height} × {width} pixels in {seconds:.2f} s{caution}")

        def say(sentence: str) -> None:
            self._said(f"preview {sentence}")

        def compute(progress: Progress) -> Sequence[Picture]:
            return look(window, progress)

        self._job = Job("Preview", compute, show, say, self._ended, bar=False)
        self._job.start()

    def _ended(self) -> None:
        self._job = None
        if self._again:
            self._again = False
            self._start()

    def _show(self, source: Image, window: Window, pictures: Sequence[Picture]) -> None:
        if source not in self._viewer.layers or self._choice.value == OFF:
            return
        self._source = source
        active = self._viewer.layers.selection.active
        kept = {
            role_of(layer): layer
            for layer in self._viewer.layers
            if role_of(layer).startswith("preview ") and isinstance(layer, Image)
        }
        earlier = self._shown
        self._shown = []
        for role, data, look in pictures:
            rgb = bool(look.get("rgb", False))
            place = placement(source, data.ndim - rgb, window)
            layer = kept.pop(role, None)
            if layer is not None and layer.data.ndim == data.ndim and layer.rgb == rgb:
                layer.data, layer.name = data, f"{role} · {stack_name_of(source)}"
                layer.visible = True
                for name, value in {**place, **look}.items():
                    if name not in ("rgb", "colormap", "visible"):
                        setattr(layer, name, value)
            else:
                if layer is not None:
                    self._viewer.layers.remove(layer)
                settings = {
                    "name": f"{role} · {stack_name_of(source)}",
                    "metadata": {METADATA_KEY: {"role": role, "root": stack_name_of(source)}},
                    **look,
                }
                layer = Layer.create(data, {**place, "rgb": False, **settings}, "image")
                self._viewer.add_layer(layer)
            self._shown.append(layer)
        for layer in earlier:
            layer.visible = layer in self._shown
        drawn = self._rectangle()
        if drawn is not None and self._choice.value == RECTANGLE:  # on top, to be seen and moved
            self._viewer.layers.move(self._viewer.layers.index(drawn), len(self._viewer.layers))
            if drawn.mode == "add_rectangle":
                drawn.mode = "select"
        if active is not None and active in self._viewer.layers:
            self._viewer.layers.selection.active = active
