"""Pictures of a result, for a look and for print; nothing here touches the disk."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from napari_dff.pipeline import Reconstruction
from napari_dff.units import depth_symbol

WIDTH = 440  # pixels of a panel: a picture twice as wide is shown at every second pixel
PANEL, BAR, GAP, TITLE = 4.4, 0.15, 0.9, 0.35  # inches


def preview(result: Reconstruction) -> Figure:
    """All-in-focus image, depth with its scale, and uncertainty, side by side.

    Pixels that are never in focus are left blank in depth and uncertainty.
    """
    unit = depth_symbol(result.stack.unit)
    never = float(np.mean(~np.isfinite(result.refined.uncertainty)))
    fewer = max(1, result.refined.depth.shape[1] // WIDTH)
    every = (slice(None, None, fewer),) * 2
    doubt = np.ma.masked_invalid(result.refined.uncertainty[every])
    depth = np.ma.array(result.refined.depth[every], mask=doubt.mask)
    ends = float(result.stack.positions.min()), float(result.stack.positions.max())
    high = float(np.percentile(doubt.compressed(), 99)) if doubt.count() else 1.0

    height, width = depth.shape
    tall, wide = PANEL * height / width, 3 * PANEL + 2 * GAP
    figure = Figure(figsize=(wide, tall + TITLE))
    FigureCanvasAgg(figure)
    panels: tuple[tuple[str, np.ndarray, dict[str, Any], str], ...] = (
        ("all in focus", _displayed(result.all_in_focus, fewer), {"cmap": "gray"}, ""),
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


def _displayed(image: np.ndarray, fewer: int) -> np.ndarray:
    """`image`, shrunk, stretched between percentiles common to all channels, 0 … 1."""
    size = tuple(-(-n // fewer) for n in image.shape[1::-1])
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    low, high = np.percentile(image, (0.2, 99.8))
    return np.asarray(np.clip((image - low) / max(high - low, 1e-12), 0, 1), dtype=np.float32)
