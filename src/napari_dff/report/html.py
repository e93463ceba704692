"""A report as one HTML file: pictures as data URIs, no scripts, nothing from elsewhere."""

import base64
import hashlib
import html
import io
from pathlib import Path
from urllib.parse import quote

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import napari_dff
from napari_dff.report.content import (
    MAP_SHARE,
    Link,
    Part,
    Picture,
    Pictures,
    Report,
    Sentences,
    Table,
)
from napari_dff.runtime.words import printable

PICTURE_IN, PICTURE_DPI = 4.6, 170  # width, with the colour bar
PADDING_IN = 0.08  # above and below: half of a number of the colour bar
JPEG_QUALITY = 88
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 1.5rem auto;
  padding: 0 1rem; color: #1d2329; background: #fff; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; border-bottom: 1px solid #ccd3d9; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .15rem 1rem .15rem 0;
  font-weight: normal; }
thead th, tbody th { color: #55606a; }
tbody tr + tr { border-top: 1px solid #e6eaed; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; flex: 1 1 27rem; max-width: 30rem; }
figure img { max-width: 100%; height: auto; }
figcaption, .note { color: #55606a; font-size: .9rem; }
@media print { h2, figure, tr { break-inside: avoid; } }
"""
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; img-src data:; style-src 'sha256-{STYLE_HASH}'"


def write_html(path: Path, report: Report) -> None:
    """Write a report as HTML in UTF-8."""
    title = escape(report.title)
    body = "\n".join(_part(part) for part in report.parts)
    text = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p class="note">Depth from focus, napari-dff {escape(napari_dff.__version__)}</p>
{body}
</body>
</html>
"""
    path.write_text(text, encoding="utf-8")


def escape(text: object) -> str:
    """Return text as HTML: markup and control characters are escaped."""
    return html.escape(printable(text))


def _part(part: Part) -> str:
    content = {Table: _table, Sentences: _sentences, Pictures: _pictures}[type(part)]
    return f"<section>\n<h2>{escape(part.title)}</h2>\n{content(part)}\n</section>"  # type: ignore[operator]


def _sentences(part: Sentences) -> str:
    items = "\n".join(f"<li>{escape(each)}</li>" for each in part.sentences)
    return f"<ul>\n{items}\n</ul>" if items else "<p>None.</p>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in table.columns)
    rows = []
    for first, *others in table.rows:
        cells = "".join(f"<td>{_cell(each)}</td>" for each in others)
        rows.append(f'<tr><th scope="row">{_cell(first)}</th>{cells}</tr>')
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f"<table>{head}<tbody>\n{chr(10).join(rows)}\n</tbody></table>{note}"


def _cell(cell: str | Link) -> str:
    return _link(escape(cell.text), cell.target) if isinstance(cell, Link) else escape(cell)


def _link(content: str, target: str) -> str:
    """Return a link to a file beside the report; a colon in its name would begin a scheme."""
    address = html.escape(quote(f"./{target}", safe="/", errors="surrogateescape"))
    return f'<a href="{address}">{content}</a>' if target else content


def _pictures(part: Pictures) -> str:
    figures = "\n".join(map(_figure, part.pictures))
    return f'<div class="pictures">\n{figures}\n</div>'


def _figure(picture: Picture) -> str:
    title, source = escape(picture.title), _data_uri(picture)
    image = _link(f'<img src="{source}" alt="{title}">', picture.target)
    return f"<figure>{image}<figcaption>{title}</figcaption></figure>"


def _data_uri(picture: Picture) -> str:
    """Return a picture as PNG, or as JPEG if it was drawn already."""
    content = io.BytesIO()
    if picture.pixel_size is None:
        kind = "jpeg"
        Image.fromarray(picture.pixels).save(content, "JPEG", quality=JPEG_QUALITY)
    else:
        kind, height_in = "png", max(PICTURE_IN * MAP_SHARE * picture.aspect, 0.3)
        total_in = height_in + 2 * PADDING_IN
        figure = Figure(figsize=(PICTURE_IN, total_in))
        FigureCanvasAgg(figure)
        place = 0.0, PADDING_IN / total_in, MAP_SHARE, height_in / total_in
        picture.draw(figure.add_axes(place, anchor="NW"))
        figure.savefig(content, dpi=PICTURE_DPI)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
