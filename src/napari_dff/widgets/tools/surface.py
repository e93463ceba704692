"""3-D surface: the depth with the all-in-focus image as its texture, and its export as a mesh."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from magicgui.widgets import CheckBox, FloatSlider, PushButton, SpinBox
from napari.layers import Layer
from napari.viewer import Viewer

from napari_dff.io.writers.meshes import MESH_ENCODERS, save_mesh
from napari_dff.runtime.progress import Progress
from napari_dff.surface import Mesh, mesh, texture
from napari_dff.surface.mesh import FACE_COUNT
from napari_dff.widgets.app.controls import button_row, labelled_column
from napari_dff.widgets.app.layers import find_layer, role_of, settings_of, source_of
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.app.task_widget import show_errors
from napari_dff.widgets.tools.heights import Heights, heights_of
from napari_dff.widgets.tools.tool import Tool

MAX_TEXTURE_SIDE_PX = 2048  # a limit of graphics cards
SURFACE_SHARE = 0.75  # of the canvas, when it is first shown
CAMERA_ANGLES_DEG = (-30.0, 25.0, 145.0)


class SurfaceWidget(Tool):
    """Shows the depth as a Surface layer in true proportions; exports it as PLY, OBJ and STL."""

    title = "3-D surface"

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, "depth", "The depth layer to show.")
        self._hidden_layers: list[Layer] = []  # while the surface is shown
        self.drape = CheckBox(
            value=True,
            text="drape the all-in-focus image",
            tooltip="Use the image as texture. Otherwise the surface is coloured by height.",
        )
        self.exaggeration = FloatSlider(
            label="exaggeration",
            value=1.0,
            min=0.1,
            max=20.0,
            step=0.1,
            tooltip="Factor of the heights in the view; 1 is true. Files always have true heights.",
        )
        self.exaggeration.native.setToolTip(self.exaggeration.tooltip)  # magicgui leaves it out
        self.faces = SpinBox(
            label="triangles",
            value=200_000,
            min=int(FACE_COUNT.low),
            max=5_000_000,
            step=50_000,
            tooltip="Maximum number in the view and in files; the view turns faster with fewer.",
        )
        self.run = PushButton(text="Show in 3-D", tooltip="Compute the surface and show it.")
        self.back = PushButton(text="Back to 2-D", tooltip="Show the layers as before.")
        self.export = PushButton(text="Export…", tooltip="Save as PLY, OBJ (with picture) or STL.")
        fields = labelled_column(self.input_layer, self.exaggeration, self.faces)
        self.extend([fields, self.drape, button_row(self.run, self.back, self.export), self.status])
        self.update_choices()
        self.run.changed.connect(self._on_run)
        self.back.changed.connect(self._on_back)
        self.export.changed.connect(self._on_export)
        self.exaggeration.changed.connect(self._exaggerate)

    @show_errors
    def _on_run(self) -> None:
        heights = heights_of(self._viewer, self.input_layer.value)
        faces, self.stack_in_words = self.faces.value, heights.stack_in_words
        self.start_task(
            lambda _: mesh(heights.heights, heights.pixel_size, faces=faces),
            lambda surface: self._show_surface(heights, surface),
        )

    def _show_surface(self, heights: Heights, surface: Mesh) -> Iterator[None]:
        """Add the Surface layer, hide all others, and look at it from the side."""
        viewer, depth = self._viewer, heights.layer
        source = source_of(viewer, depth) or depth
        run = RunLayers(viewer, source, settings_of(depth), [depth])
        data: tuple[np.ndarray, ...] = surface.vertices, surface.faces, surface.vertices[:, 0]
        look: dict[str, Any] = {"shading": "smooth", "colormap": "viridis"}
        if self.drape.value and heights.picture is not None:
            image = texture(_fit_texture(heights.picture))
            data = surface.vertices, surface.faces
            look = {"texture": image, "texcoords": surface.texcoords, "shading": "none"}
        old = find_layer(viewer, "surface", source)
        if old is not None:
            viewer.layers.remove(old)
            yield
        corner = (0.0, *depth.translate[-2:])
        layer = run.show("surface", data, "surface", scale=(1, 1, 1), translate=corner, **look)
        if viewer.dims.ndisplay == 2:
            self._hidden_layers = [
                each for each in viewer.layers if each.visible and each is not layer
            ]
            for each in self._hidden_layers:
                each.visible = False
            viewer.dims.ndisplay = 3
        self._exaggerate()
        viewer.reset_view()
        viewer.scene.camera.angles = CAMERA_ANGLES_DEG
        viewer.scene.camera.zoom *= SURFACE_SHARE
        yield

    def _exaggerate(self) -> None:
        """Scale the surface along Z about its median height."""
        depth = self.input_layer.value
        source = None if depth is None else source_of(self._viewer, depth) or depth
        layer = None if source is None else find_layer(self._viewer, "surface", source)
        if layer is None:
            return
        factor = self.exaggeration.value
        median = float(np.median(layer.vertices[:, 0]))
        layer.scale = (factor, *layer.scale[1:])
        layer.translate = (median * (1 - factor), *layer.translate[1:])

    def _on_back(self) -> None:
        self._viewer.dims.ndisplay = 2
        for layer in self._viewer.layers:
            if role_of(layer) == "surface":
                layer.visible = False
            if layer in self._hidden_layers:
                layer.visible = True
        self._hidden_layers = []

    @show_errors
    def _on_export(self) -> None:
        heights = heights_of(self._viewer, self.input_layer.value)
        path = self.ask_save_path("Save mesh", "surface.obj", tuple(MESH_ENCODERS))
        if path is None:
            return
        faces, image = self.faces.value, heights.picture if self.drape.value else None
        self.stack_in_words = heights.stack_in_words

        def compute(_: Progress) -> None:
            surface = mesh(heights.heights, heights.pixel_size, faces=faces)
            save_mesh(path, surface, texture=image)

        self.start_task(compute)


def _fit_texture(image: np.ndarray) -> np.ndarray:
    """Return an image, shrunk if it is larger than a texture may be."""
    factor = MAX_TEXTURE_SIDE_PX / max(image.shape[:2])
    if factor >= 1:
        return image
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
