"""Figure and movie: the planes beside the all-in-focus image, and a figure for print."""

import contextlib
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from napari.layers import Image, Layer, Shapes
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from napari_dff.io.writers import figure as figures
from napari_dff.model.checks import Range
from napari_dff.report.content import Report
from napari_dff.report.files import WRITERS, write_report
from napari_dff.report.result import read_report
from napari_dff.runtime.progress import Progress
from napari_dff.widgets.app import controls
from napari_dff.widgets.app.axes import stack_in_view
from napari_dff.widgets.app.controls import (
    combo_box,
    push_button,
)
from napari_dff.widgets.app.geometry import index_in_view
from napari_dff.widgets.app.layers import find_layer, input_stack_of, source_of
from napari_dff.widgets.app.result_files import Index, result_layers, write_result
from napari_dff.widgets.app.spin_boxes import spin_box
from napari_dff.widgets.app.task_widget import show_errors
from napari_dff.widgets.tools.tool import Tool, drawn_lines

COLORMAPS = ("viridis", "cividis", "magma", "turbo", "gray")
PLANE_DURATION_MS = 120


class FigureWidget(Tool):
    """Plays the planes beside the all-in-focus image; saves them as a movie, or a figure."""

    title = "Figure and movie"
    lasting_fields = ("line", "colormap", "inches")

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, "depth", "The depth layer to show.")
        self._timer = QTimer()
        self._timer.setInterval(PLANE_DURATION_MS)
        self._timer.timeout.connect(self._show_next_plane)
        self._restore = contextlib.ExitStack()  # the view as it was before playing
        tooltip = "Shapes layer with a line: its profile becomes a panel. None: no profile."
        self.line = self.layer_box(Shapes, "profile along", tooltip)
        self.colormap = combo_box("colormap", COLORMAPS, "Colormap of the depth in the figure.")
        self.inches = spin_box("width (inch)", 7.0, Range(2.0, 20.0, 0.5), "Width of the figure.")
        self.play = push_button(
            "Play", "Show the planes in turn beside the all-in-focus image.", self._on_play
        )
        kinds = "GIF, TIFF or MP4" if len(figures.movie_suffixes()) > 2 else "GIF or TIFF"
        self.movie = push_button("Save movie…", f"Save the planes as {kinds}.", self._on_movie)
        self.figure = push_button(
            "Save figure…", "Save image, depth and profile as PNG, SVG or PDF.", self._on_figure
        )
        self.report = push_button(
            "Save report…",
            "Save pictures, coverage, warnings, ISO 25178 parameters, recipe and provenance as "
            "HTML or PDF.",
            self._on_report,
        )
        fields = controls.labelled_column(self.input_layer, self.line, self.colormap, self.inches)
        buttons = controls.button_row(self.play, self.movie, self.figure, self.report)
        self.extend([fields, buttons, self.status])
        self.update_choices()

    def _close(self) -> None:
        super()._close()
        with contextlib.suppress(RuntimeError):  # napari itself closes and Qt has deleted it
            self._stop()

    def _content(self) -> figures.FigureContent:
        layer, heights, uncertainty, picture, pixel_size, unit, *_ = self.heights()
        if picture is None:
            raise ValueError(f"{layer.name!r} has no all-in-focus image beside it")
        lines = drawn_lines(self.line.value, layer)
        line = lines[-1] if lines else None
        return figures.FigureContent(picture, heights, pixel_size, unit, line, uncertainty)

    def _stack(self) -> Image:
        layer = self.depth_layer()
        stack = input_stack_of(self._viewer, layer)
        if stack is None:
            raise ValueError(f"the stack that {layer.name!r} was made from is gone")
        return stack

    @show_errors
    def _on_play(self) -> None:
        if self.play.text == "Stop":
            self.play.text = "Play"
            self._stop()
            return
        viewer, stack = self._viewer, self._stack()
        source = source_of(viewer, self.depth_layer())
        pictures = (find_layer(viewer, f"{p}all in focus", source) for p in ("refined ", ""))
        picture = next((layer for layer in pictures if layer is not None), None)
        camera, grid, dims = viewer.scene.camera, viewer.canvas.grid, viewer.dims
        view = (dims, "current_step"), (camera, "zoom"), (camera, "center"), (grid, "enabled")
        for owner, name in (*view, *((layer, "visible") for layer in viewer.layers)):
            self._restore.callback(setattr, owner, name, getattr(owner, name))
        for layer in viewer.layers:
            layer.visible = layer is stack or layer is picture
        dims.ndisplay, grid.enabled = 2, True
        viewer.reset_view()
        self.play.text = "Stop"
        self._timer.start()

    def _stop(self) -> None:
        self._timer.stop()
        self._restore.close()

    def _show_next_plane(self) -> None:
        dims = self._viewer.dims
        if dims.ndim < 3:
            self._timer.stop()
            return
        axis = dims.ndim - 3
        dims.set_current_step(axis, (dims.current_step[axis] + 1) % dims.nsteps[axis])

    @show_errors
    def _on_movie(self) -> None:
        picture = self._content().picture
        stack = stack_in_view(self._viewer, self._stack(), focus=False)
        path = self.ask_save_path("Save movie", "movie.gif", figures.movie_suffixes())
        if path is not None:
            frames = figures.movie_frames(stack, picture)
            self.start_task(lambda _: figures.write_movie(path, frames), end=f"saved as {path}")

    @show_errors
    def _on_figure(self) -> None:
        settings = {"colormap": self.colormap.value, "width": self.inches.value}
        draw = partial(figures.publication_figure, self._content(), **settings)
        path = self.ask_save_path("Save figure", "figure.png", figures.FIGURE_SUFFIXES)
        if path is not None:
            self.start_task(lambda _: figures.write_figure(path, draw()), end=f"saved as {path}")

    @show_errors
    def _on_report(self) -> None:
        layer = self.depth_layer()
        result, index = result_layers(self._viewer, layer), index_in_view(self._viewer, layer)
        words = self.heights().stack_in_words
        path = self.ask_save_path("Save report", "report.html", tuple(WRITERS))
        if path is not None:

            def save(_: Progress) -> None:
                write_report(path, _read_result(result, index, words))

            self.start_task(save, end=f"saved as {path}")


def _read_result(result: dict[str, Layer], index: Index, words: str) -> Report:
    """Return the report of a result in layers, from temporary files as a run writes them."""
    with TemporaryDirectory() as folder:
        with contextlib.ExitStack() as files:
            write_result(files, Path(folder, "result"), result, [index])
        report = read_report(Path(folder, "result"), is_saved=False)
    return report._replace(title=", ".join(filter(None, (report.title, words))))
