"""Focus measure: how sharp each pixel is in each plane."""

from napari_dff.focus.aggregation import AGGREGATIONS
from napari_dff.focus.automatic import choose_scale, largest_scale, sample_pixels
from napari_dff.focus.measure import focus_measure, focus_radius, lazy_focus_volume
from napari_dff.focus.operators import OPERATORS

__all__ = [
    "AGGREGATIONS",
    "OPERATORS",
    "choose_scale",
    "focus_measure",
    "focus_radius",
    "largest_scale",
    "lazy_focus_volume",
    "sample_pixels",
]
