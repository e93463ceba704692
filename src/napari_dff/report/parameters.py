"""Areal parameters of a report: how heights are levelled and filtered, and the numbers."""

from typing import Any, NamedTuple

import numpy as np

from napari_dff import surface
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.units import unit_symbol
from napari_dff.surface import Levelling, Quantity
from napari_dff.surface.filters import FilterType, check_filters
from napari_dff.surface.levelling import DEGREE, level_after_s_filter

LATERAL_PARAMETERS = "Sdq", "Sdr"  # that need the pixel size


class ParameterSettings(NamedTuple):
    """How heights are levelled and filtered before areal parameters are computed."""

    levelling: Levelling = "plane"
    degree: int = 2  # of a polynomial
    s_filter: float | None = None  # nesting index, in the unit of the stack
    l_filter: float | None = None
    filter_type: FilterType = "gaussian"

    def in_words(self, unit: str) -> str:
        """Return a sentence that names form and filters."""
        degree = f" of degree {self.degree}" if self.levelling == "polynomial" else ""
        indices = {"S-filter": self.s_filter, "L-filter": self.l_filter}
        filters = [f"{name} {each:g} {unit}" for name, each in indices.items() if each]
        filters += [self.filter_type] if filters else []
        form = f"Form subtracted: {self.levelling}{degree}"
        return f"{form}; {', '.join(filters) or 'no filters'}."


DEFAULT_SETTINGS = ParameterSettings()


def areal_parameters(
    depth_map: DepthMap,
    pixel_size: tuple[float, float],
    unit: str,
    settings: ParameterSettings,
    *,
    has_pixel_size: bool = True,  # False: lateral parameters are left out
) -> tuple[tuple[Quantity, ...], str]:
    """Return areal parameters of the pixels in focus, and a note on levelling and filters."""
    in_focus = np.isfinite(depth_map.uncertainty)
    heights = np.where(in_focus, depth_map.depth, np.float32(np.nan))
    if not in_focus.any():
        return (), "No pixel is in focus."
    s_filter, l_filter, filter_type = settings.s_filter, settings.l_filter, settings.filter_type
    filters: dict[str, Any] = {"s_filter": s_filter, "filter_type": filter_type}
    form: dict[str, Any] = {"levelling": settings.levelling, "degree": settings.degree}
    DEGREE.check("degree", settings.degree)
    check_filters(pixel_size, heights.shape, s_filter, l_filter, filter_type)
    try:
        quantities = surface.roughness(
            level_after_s_filter(heights, pixel_size, **filters, **form),
            pixel_size,
            unit,
            uncertainty=depth_map.uncertainty,
            l_filter=l_filter,
            **filters,
        )
    except ValueError as error:  # too few pixels in focus
        return (), f"Not computed: {error}."
    if not has_pixel_size:
        quantities = tuple(q for q in quantities if q.name not in LATERAL_PARAMETERS)
    noise = "± is one standard deviation, of the noise of the depth alone."
    return quantities, f"{settings.in_words(unit_symbol(unit))} {noise}"
