"""Focus measure: how sharp each pixel is in each plane."""

from napari_dff.focus.aggregation import AGGREGATIONS
from napari_dff.focus.measure import focus_measure, focus_radius, lazy_focus_volume
from napari_dff.focus.operators import OPERATORS

__all__ = ["AGGREGATIONS", "OPERATORS", "focus_measure", "focus_radius", "lazy_focus_volume"]
