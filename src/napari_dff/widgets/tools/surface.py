"""3-D surface: the depth with the all-in-focus image as its texture, and its export as a mesh."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np
from magicgui.widgets import CheckBox, FloatSlider
from napari.layers import Layer
from napari.viewer import Viewer

from napari_dff.io.writers.meshes import MESH_ENCODERS, save_mesh
from napari_dff.model.checks import Range
from napari_dff.model.units import depth_unit_symbol, unit_symbol
from napari_dff.surface import Mesh, mesh, texture
from napari_dff.surface.mesh import FACE_COUNT
from napari_dff.widgets.app.controls import (
    button_row,
    labelled_column,
    push_button,
)
from napari_dff.widgets.app.layers import METADATA_KEY, find_layer, role_of, source_of
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.app.spin_boxes import spin_box
from napari_dff.widgets.app.task_widget import show_errors
from napari_dff.widgets.tools.tool import Heights, Tool
from napari_dff.widgets.tools.view_3d import axis_ticks, is_mirrored, look_from_above, text_colour

FACES = Range(int(FACE_COUNT.low), 5_000_000, 50_000)
FACES_TOOLTIP = "Maximum number in the view and in files; the view turns faster with fewer."
MAX_TEXTURE_SIDE_PX = 2048  # a limit of graphics cards
SURFACE, AXES = "surface", "axes"  # roles
SURFACE_SHARE = 0.65  # of the canvas, when it is first shown
TICK_SHARE = 0.004  # size of the ticks of the axes, of the height of the field


class SurfaceWidget(Tool):
    """Shows the depth as a Surface layer in true proportions; exports it as PLY, OBJ and STL."""

    title = "3-D surface"
    lasting_fields = ("exaggeration", "faces")

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, "depth", "The depth layer to show.")
        self._hidden_layers: list[Layer] = []  # while the surface is shown
        self._view_2d: Any = None  # orientation and sliders in 2-D, while the surface is shown
        self._middle = 0.0  # median height of the surface
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
        self.drape.changed.connect(self._on_drape)
        self._connect(viewer.dims.events.ndisplay, self._on_ndisplay)

    @show_errors
    def _on_run(self) -> None:
        self._compute(self._show_new)

    def _compute(self, show: Callable[[Heights, Mesh], Iterator[None]]) -> None:
        heights = self.heights()
        compute = partial(mesh, heights.heights, heights.pixel_size, faces=self.faces.value)
        self.start_task(lambda _: compute(), partial(show, heights))

    def _show_new(self, heights: Heights, surface: Mesh) -> Iterator[None]:
        """Show the surface from above, and hide the other layers until `_on_back`."""
        viewer = self._viewer
        visible = [layer for layer in viewer.layers if layer.visible]
        yield from self._show(heights, surface)
        if viewer.dims.ndisplay == 2:
            self._hidden_layers = visible
            for layer in self._hidden_layers:
                layer.visible = False
            self._view_2d = viewer.scene.camera.orientation, viewer.dims.point
            viewer.dims.ndisplay = 3
        viewer.reset_view()
        look_from_above(viewer)
        viewer.scene.camera.zoom *= SURFACE_SHARE
        yield

    def _show(self, heights: Heights, surface: Mesh) -> Iterator[None]:
        """Show the surface and its axes, in place of older ones."""
        viewer, depth = self._viewer, heights.layer
        source = source_of(viewer, depth) or depth
        for role in (SURFACE, AXES):
            if (old := find_layer(viewer, role, source)) is not None:
                viewer.layers.remove(old)
                yield
        # Z counts planes, so that the slider of the planes keeps its steps.
        first, step = _planes(source)
        vertices = surface.vertices.copy()
        vertices[:, 0] = (vertices[:, 0] - first) / step
        place: dict[str, Any] = {"scale": (step, 1, 1), "translate": (first, *depth.translate[-2:])}
        self._middle = float(np.median(surface.vertices[:, 0]))
        # Where the view mirrors one axis, the light would come from below.
        faces = surface.faces[:, ::-1] if is_mirrored(viewer) else surface.faces
        data: tuple[np.ndarray, ...] = vertices, faces, surface.vertices[:, 0]
        look: dict[str, Any] = {"colormap": "viridis"}
        picture = heights.picture if self.drape.value else None
        if picture is not None:
            image = texture(_fit_texture(picture))
            data, look = data[:2], {"texture": image, "texcoords": surface.texcoords}
        run = RunLayers(viewer, source, {}, [depth])
        layer = run.show(SURFACE, data, "surface", shading="smooth", **place, **look)
        layer.colorbar.visible = picture is None
        self._show_axes(source, surface, heights.unit, place)
        viewer.layers.selection.active = layer
        self._exaggerate()
        yield

    def _show_axes(self, source: Layer, surface: Mesh, unit: str, place: dict[str, Any]) -> None:
        low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
        length = "pixels" if unit == "pixel" else unit_symbol(unit)
        points, texts = axis_ticks(low, high, (depth_unit_symbol(unit), length, length))
        points[:, 0] = (points[:, 0] - place["translate"][0]) / place["scale"][0]
        colour = text_colour(self._viewer)
        metadata = {"role": AXES, "source": str(source.unique_id)}
        self._viewer.add_points(
            points,
            name=AXES,
            size=max(high[1:] - low[1:]) * TICK_SHARE,
            face_color=colour,
            border_width=0,
            text={"string": "{text}", "color": colour, "size": 9, "anchor": "center"},
            features={"text": texts},
            units=source.units[-3:] if source.ndim >= 3 else None,
            metadata={METADATA_KEY: metadata},
            **place,
        )

    def _exaggerate(self) -> None:
        """Scale the heights of the surface about their median, in 3-D."""
        depth = self.input_layer.value
        source = None if depth is None else source_of(self._viewer, depth) or depth
        if source is None:
            return
        first, step = _planes(source)
        factor = self.exaggeration.value if self._viewer.dims.ndisplay == 3 else 1.0
        for role in (SURFACE, AXES):
            if (layer := find_layer(self._viewer, role, source)) is not None:
                layer.scale = (step * factor, *layer.scale[1:])
                shift = first * factor + self._middle * (1 - factor)
                layer.translate = (shift, *layer.translate[1:])

    def _on_ndisplay(self, _: Any) -> None:
        self._exaggerate()

    @show_errors
    def _on_drape(self) -> None:
        """Show the surface anew, from where the camera is."""
        depth = self.input_layer.value
        source = None if depth is None else source_of(self._viewer, depth) or depth
        layer = None if source is None else find_layer(self._viewer, SURFACE, source)
        if layer is not None and layer.visible:
            self._compute(self._show)

    def _on_back(self) -> None:
        self._viewer.dims.ndisplay = 2
        if self._view_2d is not None:
            self._viewer.scene.camera.orientation, point = self._view_2d
            self._viewer.dims.point = point
        for layer in self._viewer.layers:
            if role_of(layer) in (SURFACE, AXES):
                layer.visible = False
            if layer in self._hidden_layers:
                layer.visible = True
        self._hidden_layers, self._view_2d = [], None

    @show_errors
    def _on_export(self) -> None:
        heights = self.heights()
        path = self.ask_save_path("Save mesh", "surface.obj", tuple(MESH_ENCODERS))
        if path is None:
            return
        image = heights.picture if self.drape.value else None
        compute_mesh = partial(mesh, heights.heights, heights.pixel_size, faces=self.faces.value)
        self.start_task(
            lambda _: save_mesh(path, compute_mesh(), texture=image), end=f"saved {path.name}"
        )


def _planes(source: Layer) -> tuple[float, float]:
    """Return position and distance of the planes of a stack; 0 and 1 of a picture."""
    if source.ndim < 3:
        return 0.0, 1.0
    return float(source.translate[-3]), float(source.scale[-3])


def _fit_texture(image: np.ndarray) -> np.ndarray:
    factor = MAX_TEXTURE_SIDE_PX / max(image.shape[:2])
    if factor >= 1:
        return image
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
