"""How sharp is it here? One focus measure a pixel and plane."""

from napari_dff.focus.aggregation import AGGREGATIONS
from napari_dff.focus.measure import focus_measure, focus_radius, lazy_focus_volume
from napari_dff.focus.operators import OPERATORS

__all__ = ["AGGREGATIONS", "OPERATORS", "focus_measure", "focus_radius", "lazy_focus_volume"]
