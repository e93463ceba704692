"""What the Measure form computes from heights and from what is drawn on them."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from napari_dff import surface
from napari_dff.model.units import conversion_factor, unit_symbol
from napari_dff.surface import Profile, Quantity
from napari_dff.surface.levelling import level_after_s_filter
from napari_dff.surface.quantity import COLUMNS, table_rows
from napari_dff.widgets.tools.tool import Heights


class Measurement(NamedTuple):
    """A result of the Measure form."""

    heights: Heights
    quantities: tuple[Quantity, ...]
    levelled: np.ndarray  # (Y, X) float32, NaN where never in focus
    profile: Profile | None = None
    levelling: str = "none"  # in words
    kind: str = ""  # "difference": `levelled` is one; "repeats": it is their mean


class MeasurementInput(NamedTuple):
    """Heights, the areas and lines that are drawn on them, and settings."""

    heights: Heights
    areas: list[np.ndarray]  # (Y, X) bool
    lines: list[np.ndarray]  # (N, 2) rows and columns
    levelling: dict[str, Any]  # arguments of `level`
    profile_width_px: int
    volume_level: float  # in the unit of the levelled heights
    filters: dict[str, Any]  # s_filter, l_filter and filter_type; in the unit of length
    reference: Heights | None = None  # of a difference
    repeats: Sequence[Heights] = ()  # of one field

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
        names = {"S-filter": "s_filter", "L-filter": "l_filter"}
        filters = [f"{k} {self.filters[v]:g}" for k, v in names.items() if self.filters[v]]
        spline = ["splines"] if filters and self.filters["filter_type"] == "spline" else []
        return ", ".join([words.get(kind, kind), *filters, *spline])

    def levelled(self) -> np.ndarray:  # (Y, X)
        """Return the heights without the form that is fitted to the areas."""
        return surface.level(self.heights.heights, where=self.mask, **self.levelling).heights

    def levelled_after_s_filter(self) -> np.ndarray:  # (Y, X)
        """Return the heights without the form that is fitted to the S-filtered heights."""
        return level_after_s_filter(
            self.heights.heights,
            self.heights.pixel_size,
            s_filter=self.filters["s_filter"],
            filter_type=self.filters["filter_type"],
            where=self.mask,
            **self.levelling,
        )


def _measure_roughness(inputs: MeasurementInput) -> Measurement:
    heights, levelled, mask = inputs.heights, inputs.levelled_after_s_filter(), inputs.mask
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


def _measure_difference(inputs: MeasurementInput) -> Measurement:
    heights, reference = inputs.heights, inputs.reference
    assert reference is not None
    if "pixel" in (heights.unit, reference.unit) and heights.unit != reference.unit:
        raise ValueError("heights and reference must both have a unit of length, or none")
    factor = 1.0
    if heights.unit != reference.unit:
        factor = conversion_factor(heights.unit, reference.unit)
    height, width = heights.pixel_size
    uncertainty = None if heights.uncertainty is None else heights.uncertainty * factor
    result = surface.compare(
        heights.heights * factor,
        reference.heights,
        (height * factor, width * factor),
        reference.unit,
        reference_pixel_size=reference.pixel_size,
        uncertainty=uncertainty,
        reference_uncertainty=reference.uncertainty,
    )
    return Measurement(reference, result.quantities, result.difference, kind="difference")


def _measure_repeats(inputs: MeasurementInput) -> Measurement:
    heights, maps = inputs.heights, inputs.repeats
    if len(maps) < 2:
        raise ValueError("repeats need at least two: select other depth layers of the same field")
    for each in maps:
        if (each.unit, each.pixel_size) != (heights.unit, heights.pixel_size):
            names = f"{heights.layer.name!r} and {each.layer.name!r} differ"
            raise ValueError(f"repeats must have one unit and pixel size, those of {names}")
    errors = [each.uncertainty for each in maps if each.uncertainty is not None]
    result = surface.repeats(
        [each.heights for each in maps],
        heights.pixel_size,
        heights.unit,
        uncertainties=errors if len(errors) == len(maps) else (),
        s_filter=inputs.filters["s_filter"],
    )
    return Measurement(heights, result.quantities, result.mean, kind="repeats")


def table(quantities: tuple[Quantity, ...]) -> dict[str, list[str]]:
    """Return quantities as the columns of a table."""
    columns = map(list, zip(*table_rows(quantities), strict=True))
    return dict(zip(COLUMNS, columns, strict=True))


LEVELLING_TOOLTIP = (
    "The form that is subtracted first: a plane or a polynomial, fitted to the areas or to "
    "everything, or the plane through three points."
)
SAVE_TOOLTIP = (
    "Save the table or the profile (CSV), or the levelled and filtered heights for other programs "
    "of surface metrology (X3P, SDF, SUR), or a picture of the difference (PNG, SVG, PDF)."
)
OTHERS_TOOLTIP = "Depth of other stacks of the same field. All times of each layer count."
FILTER_TOOLTIP = (
    "Gaussian by ISO 16610-21 and -61, or smoothing spline by ISO 16610-22, which follows a slope "
    "up to the border."
)
FILTERS = (  # label and tooltip of s_filter and l_filter
    (
        "S-filter, λs",
        "Nesting index, in the unit of length: shorter waves, and noise, are removed. ISO 16610.",
    ),
    (
        "L-filter, λc",
        "Nesting index, in the unit of length: longer waves are removed. Ra, Rz and the like need "
        "it; without it a profile has Pa, Pt. Choose it from ISO 21920-3, such as 80 or 800 µm.",
    ),
)
INSTRUCTIONS = {
    "roughness": "Of the drawn areas, or of everything if none is drawn; ISO 25178.",
    "profile": "Draw a line or a path; the last one is used. The plot follows it.",
    "step height": "Draw two areas: how high area 2 lies over area 1.",
    "volume": "Above and below the level, within the drawn areas or everywhere if none is drawn.",
    "repeats": "Of several stacks of one field: noise and flatness, ISO 25178-700.",
    "difference": "Of all pixels, after registration in z, tilt, y and x to the reference.",
}
MEASUREMENTS: dict[str, Callable[[MeasurementInput], Measurement]] = {
    "roughness": _measure_roughness,
    "profile": _measure_profile,
    "step height": _measure_step_height,
    "volume": _measure_volume,
    "difference": _measure_difference,
    "repeats": _measure_repeats,
}
