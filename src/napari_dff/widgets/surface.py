"""See it in 3-D: depth as a surface, the all-in-focus image over it, and as a mesh in a file."""

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from magicgui.widgets import CheckBox, FloatSlider, PushButton, SpinBox
from napari.layers import Layer
from napari.viewer import Viewer

from napari_dff.io.meshes import EXPORTS, save_mesh
from napari_dff.progress import Progress
from napari_dff.surface import Mesh, mesh, texture
from napari_dff.surface.mesh import FACE_COUNT
from napari_dff.widgets.controls import button_row, labelled_column
from napari_dff.widgets.heights import Heights, heights_of
from napari_dff.widgets.layers import find_layer, role_of, settings_of, source_of
from napari_dff.widgets.runs import Run
from napari_dff.widgets.tool import Tool

LARGEST = 2048  # pixels of the picture that is draped: what graphics cards take
ROOM = 0.75  # of the canvas that a surface fills when it is first shown
ANGLES = (-30.0, 25.0, 145.0)  # of the camera, degrees


class SurfaceWidget(Tool):
    """The depth as a Surface layer in true proportions, and its export as PLY, OBJ and STL."""

    title = "3-D surface"

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, "depth", "The depth layer to show.")
        self._hidden: list[Layer] = []
        self.drape = CheckBox(
            value=True, text="drape the all-in-focus image", tooltip="Else coloured by height."
        )
        self.exaggeration = FloatSlider(
            label="exaggeration",
            value=1.0,
            min=0.1,
            max=20.0,
            step=0.1,
            tooltip="How many times heights are stretched in the view; 1 is true. Files are true.",
        )
        self.exaggeration.native.setToolTip(self.exaggeration.tooltip)  # of the number beside it
        self.faces = SpinBox(
            label="triangles",
            value=200_000,
            min=int(FACE_COUNT.low),
            max=5_000_000,
            step=50_000,
            tooltip="At most so many, in the view and in files: fewer move more fluidly.",
        )
        self.run = PushButton(text="Show in 3-D", tooltip="Make the surface and look at it.")
        self.back = PushButton(text="Back to 2-D", tooltip="Show the layers as before.")
        self.export = PushButton(text="Export…", tooltip="Save as PLY, OBJ (with picture) or STL.")
        fields = labelled_column(self.chosen, self.exaggeration, self.faces)
        self.extend([fields, self.drape, button_row(self.run, self.back, self.export), self.status])
        self._follow()
        self.run.changed.connect(lambda: self._begin(self._put))
        self.back.changed.connect(self._on_back)
        self.export.changed.connect(self._on_export)
        self.exaggeration.changed.connect(self._stretch)

    def _begin(self, done: Callable[[Heights, Mesh], Iterator[None]]) -> None:
        """Make the mesh in a thread, then `done` with it."""
        try:
            heights = heights_of(self._viewer, self.chosen.value)
        except ValueError as error:
            self.fail(error)
            return
        faces, self.where = self.faces.value, heights.where
        self.work(
            lambda _: mesh(heights.heights, heights.pixel_size, faces=faces),
            lambda made: done(heights, made),
        )

    def _put(self, heights: Heights, made: Mesh) -> Iterator[None]:
        viewer, layer = self._viewer, heights.layer
        source = source_of(viewer, layer) or layer
        run = Run(viewer, source, settings_of(layer), [layer])
        look: dict[str, Any] = {"shading": "smooth", "colormap": "viridis"}
        data: tuple[np.ndarray, ...] = made.vertices, made.faces, made.vertices[:, 0]
        if self.drape.value and heights.picture is not None:
            picture = texture(_shrunk(heights.picture))
            data = made.vertices, made.faces
            look = {"texture": picture, "texcoords": made.texcoords, "shading": "none"}
        old = find_layer(viewer, "surface", source)
        if old is not None:
            viewer.layers.remove(old)
            yield
        corner = (0.0, *layer.translate[-2:])
        shown = run.put("surface", data, "surface", scale=(1, 1, 1), translate=corner, **look)
        if viewer.dims.ndisplay == 2:
            self._hidden = [each for each in viewer.layers if each.visible and each is not shown]
            for each in self._hidden:
                each.visible = False
            viewer.dims.ndisplay = 3
        self._stretch()
        viewer.reset_view()
        viewer.scene.camera.angles = ANGLES
        viewer.scene.camera.zoom *= ROOM
        yield

    def _stretch(self) -> None:
        """Stretch the surface about its median height, without making it anew."""
        layer = self.chosen.value
        source = None if layer is None else source_of(self._viewer, layer) or layer
        shown = None if source is None else find_layer(self._viewer, "surface", source)
        if shown is None:
            return
        times = self.exaggeration.value
        middle = float(np.median(shown.vertices[:, 0]))
        shown.scale = (times, *shown.scale[1:])
        shown.translate = (middle * (1 - times), *shown.translate[1:])

    def _on_back(self) -> None:
        self._viewer.dims.ndisplay = 2
        for layer in self._viewer.layers:
            if role_of(layer) == "surface":
                layer.visible = False
        for layer in self._viewer.layers:
            if layer in self._hidden:
                layer.visible = True
        self._hidden = []

    def _on_export(self) -> None:
        try:
            heights = heights_of(self._viewer, self.chosen.value)
        except ValueError as error:
            self.fail(error)
            return
        path = self.path("Save mesh", "surface.obj", tuple(EXPORTS))
        if path is None:
            return
        faces, picture = self.faces.value, heights.picture if self.drape.value else None
        self.where = heights.where

        def compute(_: Progress) -> None:
            made = mesh(heights.heights, heights.pixel_size, faces=faces)
            save_mesh(path, made, texture=picture)

        self.work(compute, lambda _: None)


def _shrunk(picture: np.ndarray) -> np.ndarray:
    """The picture, made smaller where it is larger than graphics cards take."""
    share = LARGEST / max(picture.shape[:2])
    if share >= 1:
        return picture
    size = (round(picture.shape[1] * share), round(picture.shape[0] * share))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
