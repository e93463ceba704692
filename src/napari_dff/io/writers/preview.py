"""The preview of a result: image, depth and uncertainty side by side, drawn without matplotlib.

Importing matplotlib and drawing with it would take as long as the run of a small stack.
"""

import importlib.util
import math
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_dff.model.depth_map import DepthMap
from napari_dff.model.units import depth_unit_symbol

PANEL_PX, GAP_PX, TITLE_PX, FONT_PX = 440, 90, 35, 14
BAR_PX, TICK_PX, MAX_TICKS = 15, 4, 8  # width of a colour bar, length of its ticks
FONT = "mpl-data/fonts/ttf/DejaVuSans.ttf"  # in the folder of matplotlib
DISPLAY_PERCENTILES = 0.2, 99.8
UNCERTAINTY_PERCENTILE = 99  # that has the last colour
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def draw_preview(
    picture: np.ndarray,  # (Y, X[, 3]), reduced like the maps
    depth_map: DepthMap,
    positions: np.ndarray,  # (Z,) focus positions, in `unit`
    unit: str,
) -> np.ndarray:
    """Return image, depth and uncertainty, white where never in focus: (Y, X, 3) uint8."""
    in_focus = np.isfinite(depth_map.uncertainty)
    uncertainty = depth_map.uncertainty[in_focus]
    high = float(np.percentile(uncertainty, UNCERTAINTY_PERCENTILE)) if uncertainty.size else 1.0
    symbol, (height, width) = depth_unit_symbol(unit), in_focus.shape
    grey = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    panels = (
        ("all in focus", _scaled(grey, *np.percentile(grey, DISPLAY_PERCENTILES)), None, 0.0, 0.0),
        (f"depth ({symbol})", depth_map.depth, "viridis", positions.min(), positions.max()),
        (
            f"uncertainty, 1σ ({symbol}); {1 - in_focus.mean():.0%} never in focus",
            *(depth_map.uncertainty, "magma", 0.0, high),
        ),
    )
    size = PANEL_PX, max(round(PANEL_PX * height / width), 1)
    canvas = Image.new("RGB", (3 * PANEL_PX + 2 * GAP_PX, TITLE_PX + size[1]), "white")
    draw, font = ImageDraw.Draw(canvas), _load_font()
    for k, (title, values, colours, low, top) in enumerate(panels):
        left = k * PANEL_PX + max(k - 1, 0) * GAP_PX
        pixels = values
        if colours is not None:
            pixels = _coloured(_scaled(np.where(in_focus, values, low), low, top), colours)
            pixels[~in_focus] = 255
            _draw_bar(
                draw, font, (left + PANEL_PX + TICK_PX, TITLE_PX, size[1]), colours, (low, top)
            )
        panel = cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST)
        canvas.paste(Image.fromarray(panel), (left, TITLE_PX))
        draw.text((left + PANEL_PX / 2, TITLE_PX / 2), title, "black", font, anchor="mm")
    return np.asarray(canvas)


def _load_font() -> Font:
    """Return the font of matplotlib, or that of Pillow, which has no Greek letters."""
    spec = importlib.util.find_spec("matplotlib")  # imports nothing
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    try:
        return ImageFont.truetype(folder / FONT, FONT_PX)
    except OSError:
        return ImageFont.load_default(FONT_PX)


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return `values` as uint8: 0 at `low`, 255 at `high`."""
    share = (values.astype(np.float64) - low) / max(high - low, 1e-12)
    return np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)


def _coloured(values: np.ndarray, colours: str) -> np.ndarray:
    """Return the colours (…, 3) of (Y, X) uint8 values."""
    table = {"viridis": cv2.COLORMAP_VIRIDIS, "magma": cv2.COLORMAP_MAGMA}
    return np.ascontiguousarray(cv2.applyColorMap(values, table[colours])[..., ::-1])


def _draw_bar(
    draw: ImageDraw.ImageDraw,
    font: Font,
    place: tuple[int, int, int],  # left, top and height of the panel on its left
    colours: str,
    limits: tuple[float, float],
) -> None:
    """Draw a colour bar with its numbers, four fifths as high as the panel."""
    left, top, height = place
    low, high = limits
    rows = np.arange(top + height // 10, top + height - height // 10)
    bar = _coloured(_scaled(rows[::-1, None], rows[0], rows[-1]), colours) if rows.size else ()
    for row, colour in zip(rows.tolist(), bar, strict=True):
        draw.line([(left, row), (left + BAR_PX, row)], tuple(map(int, colour[0])))
    for value in nice_ticks(low, high) if rows.size else ():
        y = rows[-1] - (value - low) / (high - low) * (rows[-1] - rows[0])
        draw.line([(left + BAR_PX, y), (left + BAR_PX + TICK_PX, y)], "black")
        text = f"{value:.4g}"
        draw.text((left + BAR_PX + 2 * TICK_PX, y), text, "black", font, anchor="lm")


def nice_ticks(low: float, high: float) -> list[float]:
    """Return at most `MAX_TICKS` multiples of 1, 2 or 5 times a power of 10, `low` to `high`."""
    if not high > low:
        return []
    exact = (high - low) / (MAX_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(exact))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= exact * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]
