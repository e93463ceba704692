"""What the Measure form computes from heights and from what is drawn on them."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from napari_dff import surface
from napari_dff.model.units import unit_symbol
from napari_dff.surface import Profile, Quantity
from napari_dff.widgets.tools.tool import Heights


class Measurement(NamedTuple):
    """A result of the Measure form."""

    heights: Heights
    quantities: tuple[Quantity, ...]
    levelled: np.ndarray  # (Y, X) float32, NaN where never in focus
    profile: Profile | None = None
    levelling: str = "none"  # in words


class MeasurementInput(NamedTuple):
    """Heights, the areas and lines that are drawn on them, and settings."""

    heights: Heights
    areas: list[np.ndarray]  # (Y, X) bool
    lines: list[np.ndarray]  # (N, 2) rows and columns
    levelling: dict[str, Any]  # arguments of `level`
    profile_width_px: int
    volume_level: float  # in the unit of the levelled heights
    filters: dict[str, float | None]  # s_filter and l_filter, in the unit of length

    @property
    def mask(self) -> np.ndarray | None:
        """All areas together, (Y, X) bool; None if there is none."""
        return np.any(self.areas, axis=0) if self.areas else None

    def levelling_in_words(self) -> str:
        """Return the form that is subtracted, and the filters, as plots and files name it."""
        kind, degree = self.levelling["levelling"], self.levelling["degree"]
        words = {
            "polynomial": f"polynomial of degree {degree}",
            "three_points": "plane through three points",
        }
        indices = zip(("S-filter", "L-filter"), self.filters.values(), strict=True)
        filters = [f"{name} {index:g}" for name, index in indices if index]
        return ", ".join([words.get(kind, kind), *filters])

    def levelled(self) -> np.ndarray:  # (Y, X)
        """Return the heights without the form that is fitted to the areas."""
        return surface.level(self.heights.heights, where=self.mask, **self.levelling).heights


def _measure_roughness(inputs: MeasurementInput) -> Measurement:
    heights, levelled, mask = inputs.heights, inputs.levelled(), inputs.mask
    size, unit, filters = heights.pixel_size, heights.unit, inputs.filters
    quantities = surface.roughness(
        levelled, size, unit, uncertainty=heights.uncertainty, where=mask, **filters
    )
    sl_surface = surface.scale_limited_surface(levelled, size, **filters).astype(np.float32)
    with contextlib.suppress(surface.SurfalizeMissing, ValueError):  # these are optional
        quantities += surface.further_parameters(sl_surface, size, unit, where=mask)
    return Measurement(heights, quantities, sl_surface, None, inputs.levelling_in_words())


def _measure_profile(inputs: MeasurementInput) -> Measurement:
    heights, levelled, filters = inputs.heights, inputs.levelled(), inputs.filters
    line, width, uncertainty = inputs.lines[-1], inputs.profile_width_px, heights.uncertainty
    profile = surface.profile(
        levelled, line, heights.pixel_size, uncertainty=uncertainty, width=width
    )
    length, unit = float(profile.distance[-1]), unit_symbol(heights.unit)
    quantities = [Quantity("length", length, unit, None, "of the line")]
    if np.isfinite(profile.height).any():
        quantities += surface.profile_parameters(profile, heights.unit, **filters)
        profile = surface.scale_limited_profile(profile, **filters)
    words = inputs.levelling_in_words()
    return Measurement(heights, tuple(quantities), levelled, profile, words)


def _measure_step_height(inputs: MeasurementInput) -> Measurement:
    heights, (first, second, *_) = inputs.heights, inputs.areas
    arguments = heights.heights, first, second & ~first, heights.pixel_size, heights.unit
    quantities = surface.step_height(*arguments, uncertainty=heights.uncertainty)
    return Measurement(heights, quantities, heights.heights)


def _measure_volume(inputs: MeasurementInput) -> Measurement:
    heights, levelled = inputs.heights, inputs.levelled()
    arguments = levelled, heights.pixel_size, heights.unit
    settings: dict[str, Any] = {"uncertainty": heights.uncertainty, "where": inputs.mask}
    quantities = surface.volume(*arguments, level=inputs.volume_level, **settings)
    return Measurement(heights, quantities, levelled, None, inputs.levelling_in_words())


MEASUREMENTS: dict[str, Callable[[MeasurementInput], Measurement]] = {
    "roughness": _measure_roughness,
    "profile": _measure_profile,
    "step height": _measure_step_height,
    "volume": _measure_volume,
}
