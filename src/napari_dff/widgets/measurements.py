"""What the Measure form measures: roughness, profiles, step heights and volumes."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from napari_dff.surface import (
    Levelling,
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
from napari_dff.units import depth_unit_symbol, unit_symbol
from napari_dff.widgets.heights import Heights


class Measurement(NamedTuple):
    """A result of the Measure form.

    Attributes
    ----------
    heights : Heights
    quantities : tuple of Quantity
    levelled : (Y, X) float32
        The heights that were measured; NaN where never in focus.
    profile : Profile or None
    """

    heights: Heights
    quantities: tuple[Quantity, ...]
    levelled: np.ndarray
    profile: Profile | None = None


class MeasurementInput(NamedTuple):
    """Heights, the areas and lines that are drawn on them, and settings.

    Attributes
    ----------
    heights : Heights
    areas : list of (Y, X) bool
    lines : list of (N, 2) float64
        Rows and columns.
    levelling, degree, points
        As in `level`.
    width_px : int
        Pixels averaged across a profile.
    level : float
        Above and below which volumes are measured, in the unit of the levelled heights.
    """

    heights: Heights
    areas: list[np.ndarray]
    lines: list[np.ndarray]
    levelling: Levelling
    degree: int
    points: np.ndarray | None
    width_px: int
    level: float

    @property
    def mask(self) -> np.ndarray | None:
        """All areas together, (Y, X) bool; None if there is none."""
        return np.any(self.areas, axis=0) if self.areas else None

    def levelled(self) -> np.ndarray:
        """Return the heights without the form that is fitted to the areas, (Y, X)."""
        return level(
            self.heights.heights,
            where=self.mask,
            levelling=self.levelling,
            degree=self.degree,
            points=self.points,
        ).heights


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
        width=inputs.width_px,
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
        level=inputs.level,
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
