"""What the Measure form measures: roughness, profiles, step heights and volumes."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from napari_dff.model.units import depth_unit_symbol, unit_symbol
from napari_dff.surface import (
    Profile,
    Quantity,
    SurfalizeMissing,
    further_parameters,
    level,
    profile,
    roughness,
    step_height,
    volume,
)
from napari_dff.widgets.tools.heights import Heights


class Measurement(NamedTuple):
    """A result of the Measure form."""

    heights: Heights
    quantities: tuple[Quantity, ...]
    levelled: np.ndarray  # (Y, X) float32, NaN where never in focus
    profile: Profile | None = None


class MeasurementInput(NamedTuple):
    """Heights, the areas and lines that are drawn on them, and settings."""

    heights: Heights
    areas: list[np.ndarray]  # (Y, X) bool
    lines: list[np.ndarray]  # (N, 2) rows and columns
    levelling: dict[str, Any]  # arguments of `level`
    profile_width_px: int
    volume_level: float  # in the unit of the levelled heights

    @property
    def mask(self) -> np.ndarray | None:
        """All areas together, (Y, X) bool; None if there is none."""
        return np.any(self.areas, axis=0) if self.areas else None

    def levelled(self) -> np.ndarray:
        """Return the heights without the form that is fitted to the areas, (Y, X)."""
        return level(self.heights.heights, where=self.mask, **self.levelling).heights


def measure_roughness(inputs: MeasurementInput) -> Measurement:
    """Measure the roughness of the areas, or of everything, by ISO 25178."""
    heights, levelled = inputs.heights, inputs.levelled()
    surface = levelled, heights.pixel_size, heights.unit
    quantities = roughness(*surface, uncertainty=heights.uncertainty, where=inputs.mask)
    with contextlib.suppress(SurfalizeMissing, ValueError):  # further parameters are optional
        quantities += further_parameters(*surface, where=inputs.mask)
    return Measurement(heights, quantities, levelled)


def measure_profile(inputs: MeasurementInput) -> Measurement:
    """Measure the profile along the last line."""
    heights, levelled = inputs.heights, inputs.levelled()
    curve = profile(
        levelled,
        inputs.lines[-1],
        heights.pixel_size,
        uncertainty=heights.uncertainty,
        width=inputs.profile_width_px,
    )
    length_unit, height_unit = unit_symbol(heights.unit), depth_unit_symbol(heights.unit)
    length = float(curve.distance[-1])
    quantities = [Quantity("length", length, length_unit, None, "of the line")]
    finite = curve.height[np.isfinite(curve.height)]
    if finite.size:
        total = float(finite.max() - finite.min())
        mean = float(np.abs(finite - finite.mean()).mean())
        quantities += [
            Quantity(
                "Pt", total, height_unit, None, "from the lowest to the highest of the profile"
            ),
            Quantity("Pa", mean, height_unit, None, "arithmetic mean height of the profile"),
        ]
    return Measurement(heights, tuple(quantities), levelled, curve)


def measure_step_height(inputs: MeasurementInput) -> Measurement:
    """Measure how high the second area lies above the first one."""
    heights, areas = inputs.heights, inputs.areas
    quantities = step_height(
        heights.heights,
        areas[0],
        areas[1] & ~areas[0],
        heights.pixel_size,
        heights.unit,
        uncertainty=heights.uncertainty,
    )
    return Measurement(heights, quantities, heights.heights)


def measure_volume(inputs: MeasurementInput) -> Measurement:
    """Measure the volumes above and below a level, within the areas or everywhere."""
    heights, levelled = inputs.heights, inputs.levelled()
    quantities = volume(
        levelled,
        heights.pixel_size,
        heights.unit,
        level=inputs.volume_level,
        uncertainty=heights.uncertainty,
        where=inputs.mask,
    )
    return Measurement(heights, quantities, levelled)


MEASUREMENTS: dict[str, Callable[[MeasurementInput], Measurement]] = {
    "roughness": measure_roughness,
    "profile": measure_profile,
    "step height": measure_step_height,
    "volume": measure_volume,
}
