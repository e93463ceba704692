"""Depth of every pixel, from its focus curve."""

from napari_dff.depth.estimation import depth_map
from napari_dff.depth.peaks import FocusPeaks, focus_peaks

__all__ = ["FocusPeaks", "depth_map", "focus_peaks"]
