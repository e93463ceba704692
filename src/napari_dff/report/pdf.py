"""A report as PDF: A4 pages, drawn with matplotlib from the top to the bottom."""

import functools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from matplotlib import rc_context
from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

import napari_dff
from napari_dff.report.content import MAP_SHARE, Part, Picture, Pictures, Report, Sentences, Table
from napari_dff.runtime.words import printable

WIDTH_IN, HEIGHT_IN, MARGIN_IN = 8.27, 11.69, 0.75
LINE_IN = WIDTH_IN - 2 * MARGIN_IN
TEXT_PT, TITLE_PT, HEADING_PT = 8.0, 14.0, 10.5
LINE_HEIGHT = 1.4  # times the size of the text
TITLE_IN = TEXT_PT * LINE_HEIGHT / 72  # of a picture
CHARACTER_EM = 0.62  # width of a wide character, so that lines fit
MAX_PICTURE_IN = 4.5  # height
MISSING_GLYPH = "□"


def write_pdf(path: Path, report: Report) -> None:
    """Write a report as PDF with text that can be searched."""
    with rc_context({"pdf.fonttype": 42}), _Pages(path, report.title) as pages:
        pages.write(report.title, TITLE_PT)
        pages.write(f"Depth from focus, napari-dff {napari_dff.__version__}")
        for part in report.parts:
            pages.write_part(part)


class _Pages:
    """Pages that are filled from the top; a context manager."""

    def __init__(self, path: Path, title: str) -> None:
        metadata = {"Title": _drawable(title), "Creator": "napari-dff"}
        self._pdf: Any = PdfPages(path, metadata=metadata)
        self._figure, self._used_in = _new_page(), MARGIN_IN
        self._style: dict[str, Any] = {"va": "top", "parse_math": False}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: Any, trace: TracebackType | None) -> None:
        if kind is None:
            self._pdf.savefig(self._figure)
        self._pdf.close()

    def write_part(self, part: Part) -> None:
        """Write a heading and what is below it."""
        self._used_in += 0.18
        pictures = part.pictures if isinstance(part, Pictures) else []
        rows = [pictures[k : k + 2] for k in range(0, len(pictures), 2)]
        below_in = _row_height(rows[0]) if rows else 0.5
        self._reserve(0.3 + below_in)  # not the heading alone
        self.write(part.title, HEADING_PT)
        for row in rows:
            self._draw_row(row)
        if isinstance(part, Sentences):
            for sentence in part.sentences or ["None."]:
                self.write(f"•  {sentence}")
        elif isinstance(part, Table):
            self._write_table(part)

    def write(self, text: str, size: float = TEXT_PT) -> None:
        """Write a paragraph over the whole width."""
        self._write_row([text], [_characters(size)], size)

    def _write_table(self, table: Table) -> None:
        rows = [
            [cell if isinstance(cell, str) else cell.text for cell in row] for row in table.rows
        ]
        rows = [list(table.columns), *rows] if table.columns else rows
        if rows:
            widths = _column_widths(rows, _characters(TEXT_PT))
            for row in rows:
                self._write_row(row, widths, TEXT_PT)
        if table.note:
            self.write(table.note)

    def _write_row(self, cells: Sequence[str], widths: Sequence[int], size: float) -> None:
        """Write texts side by side, in columns of so many characters; pages end between lines."""
        columns = [
            textwrap.wrap(_drawable(cell), width) or [""]
            for cell, width in zip(cells, widths, strict=True)
        ]
        for k in range(max(map(len, columns))):
            self._reserve(size * LINE_HEIGHT / 72)
            left_in = MARGIN_IN
            for lines, width in zip(columns, widths, strict=True):
                at = left_in / WIDTH_IN, 1 - self._used_in / HEIGHT_IN
                if k < len(lines):
                    self._figure.text(*at, lines[k], size=size, **self._style)
                left_in += width * CHARACTER_EM * size / 72
            self._used_in += size * LINE_HEIGHT / 72

    def _draw_row(self, pictures: Sequence[Picture]) -> None:
        """Draw pictures side by side, each with its title above."""
        self._reserve(_row_height(pictures))
        for k, picture in enumerate(pictures):
            width_in, height_in = _drawn_size(picture)
            left = (MARGIN_IN + k * LINE_IN / 2) / WIDTH_IN
            top = 1 - self._used_in / HEIGHT_IN
            title = textwrap.shorten(_drawable(picture.title), 50, placeholder=" …")
            self._figure.text(left, top, title, size=TEXT_PT, **self._style)
            bottom = top - (TITLE_IN + height_in) / HEIGHT_IN
            size = width_in / WIDTH_IN, height_in / HEIGHT_IN
            panel = self._figure.add_axes((left, bottom, *size), anchor="NW")
            with rc_context({"font.size": TEXT_PT - 1}):
                picture.draw(panel)
        self._used_in += _row_height(pictures)

    def _reserve(self, height_in: float) -> None:
        """Begin a new page unless so much is free on this one."""
        if self._used_in + height_in > HEIGHT_IN - MARGIN_IN:
            self._pdf.savefig(self._figure)
            self._figure, self._used_in = _new_page(), MARGIN_IN


def _new_page() -> Figure:
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN))
    FigureCanvasPdf(figure)
    return figure


def _drawn_size(picture: Picture) -> tuple[float, float]:
    """Return width and height of a picture, in inches; beside a map is its colour bar."""
    width = LINE_IN / 2 * (0.97 if picture.pixel_size is None else MAP_SHARE)
    return width, min(width * picture.aspect, MAX_PICTURE_IN)


def _row_height(pictures: Sequence[Picture]) -> float:
    """Return the height of pictures with titles above and a gap below, in inches."""
    return max(_drawn_size(picture)[1] for picture in pictures) + 2 * TITLE_IN


def _characters(size: float) -> int:
    """Return how many characters of a size fit into a line."""
    return int(LINE_IN * 72 / (CHARACTER_EM * size))


def _column_widths(rows: Sequence[Sequence[str]], total: int) -> list[int]:
    """Return widths in characters: those of the longest cells, less of the widest if too many."""
    widths = [min(max(map(len, column)) + 2, total) for column in zip(*rows, strict=True)]
    while sum(widths) > total:
        widths[widths.index(max(widths))] -= 1
    return widths


def _drawable(text: str) -> str:
    """Return text without control characters, and without those that the font does not have."""
    glyphs = _font_characters()
    return "".join(each if ord(each) in glyphs else MISSING_GLYPH for each in printable(text))


@functools.cache
def _font_characters() -> frozenset[int]:
    """Return the numbers of the characters in the font of matplotlib."""
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
