"""Pictures of a result, for a look and for print; nothing here touches the disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from napari_dff.depth import DepthMap
from napari_dff.stack import FocalStack
from napari_dff.surface import Profile, profile
from napari_dff.units import depth_unit_symbol, unit_symbol

WIDTH = 440  # pixels of a panel, which a picture twice as wide fills with every second pixel
PANEL, BAR, GAP, TITLE = 4.4, 0.15, 0.9, 0.35  # inches


def preview(picture: np.ndarray, found: DepthMap, positions: np.ndarray, unit: str) -> Figure:
    """All-in-focus image, depth with its scale, and uncertainty, side by side.

    Pixels that are never in focus are left blank in depth and uncertainty.

    Parameters
    ----------
    picture : (Y, X[, 3])
        The all-in-focus image, shrunk to about as many pixels as are seen.
    found : DepthMap
        Shrunk alike.
    positions : (Z,) array
        Focus position of each plane.
    unit : str
        Of the positions, as napari spells it.
    """
    doubt = np.ma.masked_invalid(found.uncertainty)
    depth = np.ma.array(found.depth, mask=doubt.mask)
    never = float(np.mean(np.ma.getmaskarray(doubt)))
    ends = float(np.min(positions)), float(np.max(positions))
    unit = depth_unit_symbol(unit)
    high = float(np.percentile(doubt.compressed(), 99)) if doubt.count() else 1.0

    height, width = depth.shape
    tall, wide = PANEL * height / width, 3 * PANEL + 2 * GAP
    figure = Figure(figsize=(wide, tall + TITLE))
    FigureCanvasAgg(figure)
    panels: tuple[tuple[str, np.ndarray, dict[str, Any], str], ...] = (
        ("all in focus", _displayed(picture, 1), {"cmap": "gray"}, ""),
        ("depth", depth, {"cmap": "viridis", "vmin": ends[0], "vmax": ends[1]}, f"depth ({unit})"),
        (
            f"uncertainty ({never:.0%} never in focus)",
            doubt,
            {"cmap": "magma", "vmin": 0, "vmax": high},
            f"one standard deviation ({unit})",
        ),
    )
    share = tall / (tall + TITLE)
    for k, (title, image, look, label) in enumerate(panels):
        left = k * PANEL + max(k - 1, 0) * GAP
        panel = figure.add_axes((left / wide, 0, 0.98 * PANEL / wide, share))
        shown = panel.imshow(image, interpolation="nearest", aspect="auto", **look)
        panel.set_title(title)
        panel.set_axis_off()
        if label:
            bar = figure.add_axes(((left + PANEL) / wide, 0.1 * share, BAR / wide, 0.8 * share))
            figure.colorbar(shown, cax=bar, label=label)
    return figure


class Plate(NamedTuple):
    """What goes into a figure for print.

    Attributes
    ----------
    picture : (Y, X[, 3])
        The all-in-focus image.
    depth : (Y, X) float
        In `unit`; NaN where never in focus.
    pixel_size : (float, float)
    unit : str
        As napari spells it.
    line : (N, 2) or None
        Row and column of a line; its profile becomes a third panel.
    uncertainty : (Y, X) float or None
        One standard deviation of depth, for the profile's band.
    """

    picture: np.ndarray
    depth: np.ndarray
    pixel_size: tuple[float, float]
    unit: str
    line: np.ndarray | None = None
    uncertainty: np.ndarray | None = None


def plate(given: Plate, *, colormap: str = "viridis", width: float = 7.0) -> Figure:
    """Image and depth with colour bar and scale bars, and the profile: for a paper.

    `width` in inches; text keeps its size.
    """
    fewer = max(1, given.depth.shape[1] // (2 * WIDTH))
    rows, columns = given.depth.shape
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    ratio = rows * given.pixel_size[0] / (columns * given.pixel_size[1])
    tall = width / 2 * ratio + (1.9 if given.line is not None else 0.0)
    figure = Figure(figsize=(width, tall + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    mosaic: list[Any] = [["picture", "depth"], ["profile", "profile"]][
        : 1 + (given.line is not None)
    ]
    heights = [width / 2 * ratio, 1.9][: len(mosaic)]
    panels: dict[str, Axes] = figure.subplot_mosaic(mosaic, height_ratios=heights)
    square: dict[str, Any] = {"extent": extent, "interpolation": "nearest"}
    panels["picture"].imshow(_displayed(given.picture, fewer), cmap="gray", **square)
    shown = np.ma.masked_invalid(given.depth[::fewer, ::fewer])
    image = panels["depth"].imshow(shown, cmap=colormap, **square)
    for name in ("picture", "depth"):
        panel = panels[name]
        panel.set_aspect(given.pixel_size[0] / given.pixel_size[1])
        panel.set_axis_off()
        _scale_bar(panel, columns, rows, given)
        if given.line is not None:
            panel.plot(given.line[:, 1], given.line[:, 0], color="yellow", lw=1)
        panel.set_xlim(extent[:2])
        panel.set_ylim(extent[2:])
    beside = panels["depth"].inset_axes((1.03, 0.0, 0.05, 1.0))  # as high as the panel
    figure.colorbar(image, cax=beside, label=f"depth ({depth_unit_symbol(given.unit)})")
    if given.line is not None:
        doubt = given.uncertainty
        found = profile(given.depth, given.line, given.pixel_size, uncertainty=doubt)
        draw_profile(panels["profile"], found, given.unit, "depth")
    return figure


def draw_profile(axes: Axes, found: Profile, unit: str, name: str, colour: str = "C0") -> None:
    """A profile of `name` with its uncertainty as a band; `unit` as napari spells it."""
    axes.plot(found.distance, found.height, color=colour, lw=1)
    if found.uncertainty is not None:
        ends = found.height - found.uncertainty, found.height + found.uncertainty
        axes.fill_between(found.distance, *ends, color=colour, alpha=0.3, lw=0)
    axes.set_xlabel(f"distance ({unit_symbol(unit)})")
    axes.set_ylabel(f"{name} ({depth_unit_symbol(unit)})")


def frames(stack: FocalStack, picture: np.ndarray, *, side: int = 480) -> Iterator[np.ndarray]:
    """A movie: every plane beside the all-in-focus image, 8 bits, at most `side` pixels each."""
    fewer = max(1, -(-max(stack.planes.shape[1:3]) // side))
    right = _displayed(picture, fewer)
    low, high = np.percentile(picture, (0.2, 99.8))
    span = max(float(high - low), 1e-12)
    size = right.shape[1::-1]
    for i in range(stack.planes.shape[0]):
        plane = cv2.resize(np.asarray(stack.planes[i]), size, interpolation=cv2.INTER_AREA)
        left = np.clip((plane.astype(np.float32) - low) / span, 0, 1)
        both = np.rint(255 * np.concatenate([left, right], axis=1)).astype(np.uint8)
        both = both if both.ndim == 3 else np.repeat(both[..., None], 3, axis=2)
        both = np.ascontiguousarray(both)
        text = f"{stack.positions[i]:.4g} {_ascii(depth_unit_symbol(stack.unit))}"
        for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(both, text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thick)
        yield both


def _ascii(unit: str) -> str:
    return unit.replace("µ", "u")  # OpenCV's letters have no Greek


def _scale_bar(panel: Axes, columns: int, rows: int, given: Plate) -> None:
    """A bar of a round length, about a fifth as long as the panel is wide."""
    across = given.pixel_size[1]
    wanted = columns * across / 5
    power = 10.0 ** np.floor(np.log10(wanted))
    length = max(step * power for step in (1, 2, 5) if step * power <= wanted)
    right, down = 0.96 * columns, 0.94 * rows
    ends = [right - length / across, right]
    panel.plot(ends, [down, down], color="black", lw=5, solid_capstyle="butt")
    panel.plot(ends, [down, down], color="white", lw=3, solid_capstyle="butt")
    text = f"{length:g} {unit_symbol(given.unit)}"
    dark = {"facecolor": "black", "alpha": 0.5, "edgecolor": "none", "pad": 1.5}
    at = float(np.mean(ends)), down - 0.03 * rows
    panel.text(*at, text, color="white", ha="center", va="bottom", bbox=dark)


def _displayed(image: np.ndarray, fewer: int) -> np.ndarray:
    """`image`, shrunk, stretched between percentiles common to all channels, 0 … 1."""
    size = tuple(-(-n // fewer) for n in image.shape[1::-1])
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    low, high = np.percentile(image, (0.2, 99.8))
    return np.asarray(np.clip((image - low) / max(high - low, 1e-12), 0, 1), dtype=np.float32)
