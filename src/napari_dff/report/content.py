"""What stands in a report: texts, tables and pictures, apart from how they are laid out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from napari_dff.io.writers.figure import draw_image, draw_map

MAP_SHARE = 0.74  # of the width, beside a colour bar


class Link(NamedTuple):
    """A cell of a table that leads to another file."""

    text: str
    target: str  # path from the folder of the report, with slashes


class Table(NamedTuple):
    """A table of texts."""

    title: str
    rows: Sequence[tuple[str | Link, ...]]
    columns: tuple[str, ...] = ()  # their names; none where the first column names the rows
    note: str = ""


class Sentences(NamedTuple):
    """A list of sentences."""

    title: str
    sentences: list[str]


class Picture(NamedTuple):
    """An image or a map with its calibration, or a finished picture, which has none."""

    title: str
    pixels: np.ndarray  # (Y, X[, 3]); of a map (Y, X) float, blank where not finite
    pixel_size: tuple[float, float] | None = None  # None: drawn already, (Y, X, 3) uint8
    unit: str = "pixel"
    label: str = ""  # of the colour bar of a map; "" for an image
    colormap: str = "gray"
    limits: tuple[float | None, float | None] = (None, None)  # of the colours of a map
    target: str = ""  # of a link, as in `Link`

    @property
    def aspect(self) -> float:
        """Height over width as it is drawn."""
        height, width = (1.0, 1.0) if self.pixel_size is None else self.pixel_size
        return self.pixels.shape[0] * height / (self.pixels.shape[1] * width)

    def draw(self, panel: Axes) -> None:
        """Draw it, with a scale bar if it is calibrated and a colour bar if it is a map."""
        if self.pixel_size is None:
            panel.imshow(self.pixels)
            panel.set_axis_off()
        elif self.label:
            calibration = self.pixel_size, self.unit
            draw_map(panel, self.pixels, *calibration, self.label, self.colormap, self.limits)
        else:
            draw_image(panel, self.pixels, self.pixel_size, self.unit)


class Pictures(NamedTuple):
    """Pictures side by side."""

    title: str
    pictures: list[Picture]


Part = Table | Sentences | Pictures


class Report(NamedTuple):
    """The content of a report."""

    title: str
    parts: list[Part]
    numbers: dict[str, str] = {}  # noqa: RUF012  # for the row of a result in an overview
    warnings: tuple[str, ...] = ()  # sentences on what to do better
