"""Focus positions and pixel size from the metadata of a file."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from napari_dff.model.units import (
    SECONDS,
    conversion_factor,
    metric_unit,
    normalize_unit,
    unit_symbol,
)

MAX_STEP_RATIO = 1.5  # of the positions of planes and their distance; beyond, one is wrong
UNCALIBRATED_UNITS = ("None", "", "pixel", "pixels", "reference frame")  # as written in files


class Length(NamedTuple):
    """A length in a file: number, and unit in the spelling of the file."""

    size: Any = None  # None if the file has none
    unit: object = None

    @property
    def metric(self) -> tuple[str, float] | None:
        """The napari unit nearest to `unit`, and the length in it; None if it is no length."""
        unit = metric_unit(self.unit)
        if self.size is None or unit is None:
            return None
        name, factor = unit
        size = float(self.size) * factor
        return (name, size) if np.isfinite(size) and size else None

    def convert(self, unit: str | None) -> float | None:
        """Return the length in a napari unit, negative if it is; None if it is not a length."""
        if self.metric is None or unit is None:
            return None
        own_unit, size = self.metric
        return size * conversion_factor(own_unit, unit)

    @property
    def is_without_unit(self) -> bool:
        """Whether there is a number but no unit of length."""
        has_unit = str(self.unit).strip() not in UNCALIBRATED_UNITS
        return self.size is not None and not has_unit and bool(np.isfinite(float(self.size)))

    def warning(self, axis: str) -> str:
        """Return a message if this, the distance of planes, rows or columns, is invalid."""
        if self.size is None or str(self.unit).strip() in UNCALIBRATED_UNITS:
            return ""
        if metric_unit(self.unit) is None:
            hint = "give --spacing in µm"
            return f"distance of {axis} not used: {self.unit!r} is not a known unit; {hint}"
        if self.metric is None:
            return f"distance of {axis} not used: {self.size} {self.unit} is not a positive length"
        if self.metric[1] < 0 and axis == "planes":
            length = f"the distance of planes is {self.size} {self.unit}"
            return f"{length}: positions fall from plane to plane; give --spacing if they rise"
        if self.metric[1] < 0:
            return f"distance of {axis} is {self.size} {self.unit}: used without its sign"
        return ""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Lengths in `unit`, which is "pixel" for an uncalibrated file.

    If the file has numbers without unit, the pixel size is in distances of planes.
    """

    pixel_size: tuple[float, float] = (1.0, 1.0)  # height and width
    unit: str = "pixel"  # as napari spells it
    step: float | None = None  # distance between planes
    start: float = 0.0  # focus position of the first plane, used with `step`
    focus_positions: np.ndarray | None = None  # (T, Z), NaN where the file has none
    warning: str = ""  # on a length in the file that is invalid and not used
    has_pixel_size: bool = True  # False if only the positions have a unit of length
    time_increment: float | None = None  # seconds from one time to the next

    def acquisition_fields(self, times: int, planes: int) -> dict[str, Any]:
        """Return positions (T, Z), pixel size and unit, fields of an Acquisition.

        Focus positions are used if complete and strictly monotonic at every time, else the step.
        Without either, the pixel size is not used: depth and width would have two units.
        """
        indices = np.tile(np.arange(planes, dtype=np.float64), (times, 1))
        calibrated: dict[str, Any] = {"pixel_size": self.pixel_size, "unit": self.unit}
        calibrated["has_pixel_size"] = self.has_pixel_size
        positions = self.focus_positions
        if (
            positions is not None
            and positions.size == times * planes
            and (1 in positions.shape or positions.shape == (times, planes))
        ):
            positions = positions.reshape(times, planes)  # T in the file may be planes
            steps = np.diff(positions, axis=1)
            if ((steps > 0).all(axis=1) | (steps < 0).all(axis=1)).all():
                return {"positions": positions, **calibrated}
        if self.step is not None:
            return {"positions": self.start + self.step * indices, **calibrated}
        size = self.pixel_size if self.unit == "pixel" else (1.0, 1.0)
        return {"positions": indices, "pixel_size": size, "unit": "pixel"}

    def with_time_increment(self, size: Any, unit: object) -> Self:
        """Return a copy with the time from one time to the next; without it if it is invalid."""
        factor = SECONDS.get(str(unit).strip())
        try:
            seconds = float(size) * (factor or math.nan)
        except (TypeError, ValueError):
            return self
        is_valid = math.isfinite(seconds) and seconds > 0
        return dataclasses.replace(self, time_increment=seconds if is_valid else None)


UNCALIBRATED = Calibration()


def make_calibration(
    z: Length,  # distance of planes
    y: Length,  # height and width of a pixel
    x: Length,
    *,
    start: float = 0.0,  # focus position of the first plane, in the unit of `z`
    focus_positions: tuple[np.ndarray, object] | None = None,  # (T, Z), and their unit
) -> Calibration:
    """Return the Calibration in the unit of `x`; uncalibrated without a pixel size."""
    warning = z.warning("planes") or y.warning("rows") or x.warning("columns")
    if z.is_without_unit and y.is_without_unit and x.is_without_unit:
        distance, *sides = (abs(float(length.size)) for length in (z, y, x))
        if min(distance, *sides) > 0:
            return Calibration((sides[0] / distance, sides[1] / distance), warning=warning)
    unit = x.metric[0] if x.metric is not None else None
    step, height, width = (length.convert(unit) for length in (z, y, x))
    if unit is None or height is None or width is None:
        return Calibration(warning=warning)
    if step is not None and normalize_unit(z.unit) is None and z.unit != x.unit:
        length = f"{z.size} {z.unit}, read as {step:g} {unit_symbol(unit)}"
        hint = "give --spacing if that is wrong"
        warning = warning or f"the distance of planes is {length}; {hint}"
    if step is not None:
        start *= Length(1.0, z.unit).convert(unit) or 1.0
    measured = None
    if focus_positions is not None and (own := Length(1.0, focus_positions[1]).convert(unit)):
        measured = focus_positions[0] * own
        warning = _position_warning(measured, step, unit) or warning
    return Calibration((abs(height), abs(width)), unit, step, start, measured, warning)


def _position_warning(positions: np.ndarray, step: float | None, unit: str) -> str:
    """Return a message if positions (T, Z) are not monotonic, or contradict the distance."""
    steps = np.diff(positions, axis=1)
    if not steps.size or not np.isfinite(steps).all() or not steps.any():
        return ""  # incomplete, or the same for all planes: the distance is used
    if not (steps > 0).all() and not (steps < 0).all():
        t, z = np.argwhere(np.sign(steps) != np.sign(np.median(steps)))[0]
        pair = f"planes {z} and {z + 1} are at {positions[t, z]:g} and {positions[t, z + 1]:g}"
        problem = f"positions of planes not used: they are not monotonic, {pair}"
        return f"{problem} {unit_symbol(unit)}; give --spacing, or correct the order"
    measured = float(np.median(np.abs(steps)))
    if step is None or 1 / MAX_STEP_RATIO < measured / abs(step) < MAX_STEP_RATIO:
        return ""
    symbol = unit_symbol(unit)
    return (
        f"the positions of planes are {measured:g} {symbol} apart, but the distance of planes is "
        f"{abs(step):g} {symbol}: the positions are used; give --spacing if the distance is right"
    )
