"""Movie and figure: the planes against the all-in-focus image, and what goes into the paper."""

import contextlib
from typing import Any

from magicgui.widgets import ComboBox, FloatSpinBox, PushButton
from napari.layers import Layer, Shapes
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from napari_dff.figure import FigureContent, movie_frames, publication_figure
from napari_dff.io.pictures import FIGURES, MOVIES, write_figure, write_movie
from napari_dff.widgets.controls import button_row, labelled_column
from napari_dff.widgets.heights import Heights, heights_of, lines
from napari_dff.widgets.layers import find_layer, input_stack_of, source_of
from napari_dff.widgets.series import stack_in_view
from napari_dff.widgets.tool import Tool

COLORMAPS = ("viridis", "cividis", "magma", "turbo", "gray")
PAUSE = 120  # ms a plane


class FigureWidget(Tool):
    """Step through the planes beside the all-in-focus image; save that, or a figure for print."""

    title = "Figure and movie"

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, "depth", "The depth layer to show.")
        self._timer = QTimer()
        self._timer.setInterval(PAUSE)
        self._timer.timeout.connect(self._step)
        self._shown: dict[Layer, bool] = {}
        self._before: tuple[Any, ...] = ()  # centre, zoom and step of the viewer
        self.line = self.layers_of(
            Shapes,
            "profile along",
            "Shapes layer with a line: its profile becomes a panel. None: no profile.",
        )
        self.colormap = ComboBox(
            label="colormap", choices=COLORMAPS, tooltip="Of the depth in the figure."
        )
        self.inches = FloatSpinBox(
            label="width (inch)", value=7.0, min=2.0, max=20.0, step=0.5, tooltip="Of the figure."
        )
        self.play = PushButton(
            text="Play", tooltip="Step through the planes beside the all-in-focus image."
        )
        self.movie = PushButton(text="Save movie…", tooltip="As GIF or TIFF.")
        self.figure = PushButton(text="Save figure…", tooltip="As PNG, SVG or PDF.")
        fields = labelled_column(self.chosen, self.line, self.colormap, self.inches)
        self.extend([fields, button_row(self.play, self.movie, self.figure), self.status])
        self._follow()
        self.play.changed.connect(self._on_play)
        self.movie.changed.connect(self._on_movie)
        self.figure.changed.connect(self._on_figure)

    def _close(self) -> None:
        super()._close()
        with contextlib.suppress(RuntimeError):  # Qt is gone already when napari itself closes
            self._timer.stop()
            if self._shown:
                self._stop()

    def content(self, heights: Heights) -> FigureContent:
        """What the figure shows."""
        if heights.picture is None:
            raise ValueError(f"{heights.layer.name!r} has no all-in-focus image beside it")
        drawn = lines(self.line.value, heights.layer)
        return FigureContent(
            heights.picture,
            heights.heights,
            heights.pixel_size,
            heights.unit,
            drawn[-1] if drawn else None,
            heights.uncertainty,
        )

    def _on_play(self) -> None:
        if self._shown:
            self.play.text = "Play"
            self._timer.stop()
            self._stop()
            return
        try:
            heights = heights_of(self._viewer, self.chosen.value)
            stack = self._stack(heights)
        except ValueError as error:
            self.fail(error)
            return
        viewer = self._viewer
        source = source_of(viewer, heights.layer)
        picture = next(
            (
                layer
                for role in ("refined all in focus", "all in focus")
                if (layer := find_layer(viewer, role, source)) is not None
            ),
            None,
        )
        self._shown = {layer: layer.visible for layer in viewer.layers}
        camera = viewer.scene.camera
        self._before = camera.center, camera.zoom, viewer.dims.current_step
        for layer in viewer.layers:
            layer.visible = layer is stack or layer is picture
        viewer.dims.ndisplay = 2
        viewer.canvas.grid.enabled = True
        viewer.reset_view()
        self.play.text = "Stop"
        self._timer.start()

    def _stop(self) -> None:
        """Show everything as it was before."""
        self._viewer.canvas.grid.enabled = False
        for layer, visible in self._shown.items():
            layer.visible = visible
        self._shown = {}
        camera, (centre, zoom, step) = self._viewer.scene.camera, self._before
        camera.center, camera.zoom = centre, zoom
        self._viewer.dims.current_step = step

    def _stack(self, heights: Heights) -> Any:
        stack = input_stack_of(self._viewer, heights.layer)
        if stack is None:
            raise ValueError(f"the stack that {heights.layer.name!r} was made from is gone")
        return stack

    def _step(self) -> None:
        dims = self._viewer.dims
        if not dims.nsteps or dims.ndim < 3:
            self._timer.stop()
            return
        axis = dims.ndim - 3
        dims.set_current_step(axis, (dims.current_step[axis] + 1) % dims.nsteps[axis])

    def _on_movie(self) -> None:
        try:
            heights = heights_of(self._viewer, self.chosen.value)
            stack = stack_in_view(self._viewer, self._stack(heights), focus=False)
            content, self.where = self.content(heights), heights.where
        except ValueError as error:
            self.fail(error)
            return
        path = self.path("Save movie", "movie.gif", MOVIES)
        if path is not None:
            self.work(
                lambda _: write_movie(path, movie_frames(stack, content.picture)), lambda _: None
            )

    def _on_figure(self) -> None:
        try:
            heights = heights_of(self._viewer, self.chosen.value)
            content, self.where = self.content(heights), heights.where
        except ValueError as error:
            self.fail(error)
            return
        path = self.path("Save figure", "figure.png", FIGURES)
        settings = {"colormap": self.colormap.value, "width": self.inches.value}
        if path is not None:
            self.work(
                lambda _: write_figure(path, publication_figure(content, **settings)),
                lambda _: None,
            )
