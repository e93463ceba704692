"""3-D surface: the depth with the all-in-focus image as its texture, and its export as a mesh."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np
from magicgui.widgets import CheckBox, FloatSlider
from napari.layers import Layer
from napari.viewer import Viewer

from napari_dff.io.writers.meshes import MESH_ENCODERS, save_mesh
from napari_dff.model.checks import Range
from napari_dff.surface import Mesh, mesh, texture
from napari_dff.surface.mesh import FACE_COUNT
from napari_dff.widgets.app.controls import button_row, labelled_column, push_button, spin_box
from napari_dff.widgets.app.layers import find_layer, role_of, source_of
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.app.task_widget import show_errors
from napari_dff.widgets.tools.tool import Heights, Tool

FACES = Range(int(FACE_COUNT.low), 5_000_000, 50_000)
FACES_TOOLTIP = "Maximum number in the view and in files; the view turns faster with fewer."
MAX_TEXTURE_SIDE_PX = 2048  # a limit of graphics cards
SURFACE_SHARE = 0.75  # of the canvas, when it is first shown
CAMERA_ANGLES_DEG = (-30.0, 25.0, 145.0)


class SurfaceWidget(Tool):
    """Shows the depth as a Surface layer in true proportions; exports it as PLY, OBJ and STL."""

    title = "3-D surface"

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, "depth", "The depth layer to show.")
        self._hidden_layers: list[Layer] = []  # while the surface is shown
        tooltip = "Use the image as texture. Otherwise the surface is coloured by height."
        self.drape = CheckBox(value=True, text="drape the all-in-focus image", tooltip=tooltip)
        self.exaggeration = FloatSlider(
            label="exaggeration",
            value=1.0,
            min=0.1,
            max=20.0,
            step=0.1,
            tooltip="Factor of the heights in the view; 1 is true. Files always have true heights.",
        )
        self.exaggeration.native.setToolTip(self.exaggeration.tooltip)  # magicgui leaves it out
        self.faces = spin_box("triangles", 200_000, FACES, FACES_TOOLTIP)
        self.run = push_button("Show in 3-D", "Compute the surface and show it.", self._on_run)
        self.back = push_button("Back to 2-D", "Show the layers as before.", self._on_back)
        self.export = push_button(
            "Export…", "Save as PLY, OBJ (with picture) or STL.", self._on_export
        )
        fields = labelled_column(self.input_layer, self.exaggeration, self.faces)
        self.extend([fields, self.drape, button_row(self.run, self.back, self.export), self.status])
        self.update_choices()
        self.exaggeration.changed.connect(self._exaggerate)

    @show_errors
    def _on_run(self) -> None:
        heights = self.heights()
        compute = partial(mesh, heights.heights, heights.pixel_size, faces=self.faces.value)
        self.start_task(lambda _: compute(), partial(self._show_surface, heights))

    def _show_surface(self, heights: Heights, surface: Mesh) -> Iterator[None]:
        viewer, depth = self._viewer, heights.layer
        source = source_of(viewer, depth) or depth
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
        look |= {"scale": (1, 1, 1), "translate": (0.0, *depth.translate[-2:])}
        run = RunLayers(viewer, source, {}, [depth])
        visible = [layer for layer in viewer.layers if layer.visible]
        run.show("surface", data, "surface", **look)
        if viewer.dims.ndisplay == 2:
            self._hidden_layers = visible
            for layer in self._hidden_layers:
                layer.visible = False
            viewer.dims.ndisplay = 3
        self._exaggerate()
        viewer.reset_view()
        viewer.scene.camera.angles = CAMERA_ANGLES_DEG
        viewer.scene.camera.zoom *= SURFACE_SHARE
        yield

    def _exaggerate(self) -> None:
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
        heights = self.heights()
        path = self.ask_save_path("Save mesh", "surface.obj", tuple(MESH_ENCODERS))
        if path is None:
            return
        image = heights.picture if self.drape.value else None
        compute_mesh = partial(mesh, heights.heights, heights.pixel_size, faces=self.faces.value)
        self.start_task(lambda _: save_mesh(path, compute_mesh(), texture=image))


def _fit_texture(image: np.ndarray) -> np.ndarray:
    factor = MAX_TEXTURE_SIDE_PX / max(image.shape[:2])
    if factor >= 1:
        return image
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
