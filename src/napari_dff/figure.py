"""Pictures of a result, for a look and for print; nothing here touches the disk."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from napari_dff.pipeline import Reconstruction

ABBREVIATIONS = {
    "micrometer": "µm",
    "millimeter": "mm",
    "nanometer": "nm",
    "centimeter": "cm",
    "meter": "m",
    "pixel": "planes",
}


def preview(result: Reconstruction) -> Figure:
    """All-in-focus image, depth with its scale, and uncertainty, side by side.

    Pixels that are never in focus are left blank in depth and uncertainty.
    """
    unit = ABBREVIATIONS.get(result.stack.unit, result.stack.unit)
    known = np.isfinite(result.refined.uncertainty)
    depth = np.where(known, result.refined.depth, np.nan)
    uncertainty = np.where(known, result.refined.uncertainty, np.nan)
    height, width = depth.shape
    ends = float(result.stack.positions.min()), float(result.stack.positions.max())
    high = float(np.nanpercentile(uncertainty, 99)) if known.any() else 1.0

    figure = Figure(figsize=(15, 0.8 + 4.4 * height / width), layout="constrained")
    FigureCanvasAgg(figure)
    picture, relief, doubt = figure.subplots(1, 3)
    picture.imshow(_displayed(result.all_in_focus), cmap="gray")
    picture.set_title("all in focus")
    shown = relief.imshow(depth, cmap="viridis", vmin=ends[0], vmax=ends[1])
    figure.colorbar(shown, ax=relief, label=f"depth ({unit})", shrink=0.85)
    relief.set_title("depth")
    shown = doubt.imshow(uncertainty, cmap="magma", vmin=0, vmax=high)
    figure.colorbar(shown, ax=doubt, label=f"one standard deviation ({unit})", shrink=0.85)
    doubt.set_title(f"uncertainty ({1 - known.mean():.0%} never in focus)")
    for panel in (picture, relief, doubt):
        panel.set_axis_off()
    return figure


def _displayed(image: np.ndarray) -> np.ndarray:
    """`image` stretched between percentiles common to all channels, 0 … 1."""
    low, high = np.percentile(image, (0.2, 99.8))
    return np.asarray(np.clip((image - low) / max(high - low, 1e-12), 0, 1), dtype=np.float32)
