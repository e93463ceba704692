"""Matplotlib plots in the colours of napari's theme."""

from contextlib import suppress
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari.utils.theme import get_theme
from napari.viewer import Viewer

COLOURS = ("#4c9be8", "#f2a33c", "#6cc27a", "#d678c4", "#e0605c", "#a08be0")


class Canvas(FigureCanvasQTAgg):
    """A canvas of `rows` plots that share the x-axis, in the colours of the viewer's theme."""

    def __init__(self, viewer: Viewer, rows: int = 1, height: int = 240) -> None:
        super().__init__(Figure(figsize=(3, 2), layout="constrained"))  # type: ignore[no-untyped-call]
        self._viewer = viewer
        self.figure.subplots(rows, 1, sharex=True)
        self.axes: list[Axes] = self.figure.axes
        self.setMinimumSize(240, height)
        viewer.events.theme.connect(self.follow_theme)
        self.destroyed.connect(lambda: viewer.events.theme.disconnect(self.follow_theme))
        self.follow_theme()

    def clear(self) -> None:
        """Empty all plots."""
        for axes in self.axes:
            axes.clear()

    def update(self) -> None:
        """Ask Qt to paint, unless the dock was closed and deleted while the figure was drawn."""
        with suppress(RuntimeError):
            super().update()

    def add_legend(self, axes: Axes, columns: int) -> None:
        """Add a legend above a plot, where it hides no curve."""
        place: dict[str, Any] = {
            "loc": "lower right",
            "bbox_to_anchor": (1.02, 1.0),
            "borderaxespad": 0.1,
        }
        axes.legend(ncols=columns, handlelength=1.2, columnspacing=1.0, **place)

    def follow_theme(self, _: object = None) -> None:
        """Apply the colours of the theme to everything in the plots, and draw."""
        theme = get_theme(self._viewer.theme)
        back, front = theme.background.as_hex(), theme.text.as_hex()
        self.figure.set_facecolor(back)
        for axes in self.axes:
            axes.set_facecolor(back)
            axes.tick_params(colors=front, labelsize=8)
            for label in (axes.xaxis.label, axes.yaxis.label):
                label.set(color=front, fontsize=9)
            title = axes.get_title(loc="left")
            axes.set_title(title, loc="left", color=front, fontsize=8, pad=2)
            axes.spines[:].set_color(front)
            if (legend := axes.get_legend()) is not None:
                legend.get_frame().set(facecolor=back, edgecolor="none", alpha=0.7)
                for text in legend.get_texts():
                    text.set(color=front, fontsize=8)
        self.draw_idle()  # type: ignore[no-untyped-call]
