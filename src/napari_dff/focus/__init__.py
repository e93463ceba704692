"""How sharp is it here? One focus measure a pixel and plane."""

from napari_dff.focus.measure import (
    AGGREGATIONS,
    OPERATORS,
    SIGMA,
    WINDOW,
    Aggregation,
    Operator,
    focus_measure,
)

__all__ = [
    "AGGREGATIONS",
    "OPERATORS",
    "SIGMA",
    "WINDOW",
    "Aggregation",
    "Operator",
    "focus_measure",
]
