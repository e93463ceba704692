"""Where planes were taken and how large their pixels are, as far as a file says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from napari_dff.units import conversion_factor, normalize_unit

UNMEASURED = ("None", "", "pixel", "pixels", "reference frame")  # what files write as unit


class Length(NamedTuple):
    """A length as a file gives it: a number, and a unit in the file's own spelling."""

    size: Any
    unit: object


@dataclass(frozen=True, eq=False)
class Calibration:
    """What is known of lengths, all of it in `unit`; the unit is "pixel" where nothing is.

    Parameters
    ----------
    pixel_size : (float, float)
        Height and width of a pixel.
    unit : str
        As napari spells it.
    step : float, optional
        Distance of one plane to the next.
    start : float
        Focus position of the first plane where only `step` tells the others.
    heights : (T, Z) array, optional
        Focus position of every plane, NaN where the file gives none.
    doubt : str
        What can't be meant among the lengths of the file, and so counts for nothing.
    """

    pixel_size: tuple[float, float] = (1.0, 1.0)
    unit: str = "pixel"
    step: float | None = None
    start: float = 0.0
    heights: np.ndarray | None = None
    doubt: str = ""

    def at(self, times: int, planes: int) -> dict[str, Any]:
        """Fields `positions` (T, Z), `pixel_size` and `unit` of an Acquisition.

        The heights count where there is one a plane and they rise, or fall, at every time; else the
        step does. Where neither is known nothing is calibrated, not even the pixels: depth and
        width of a surface in two units would be of no use.
        """
        positions = self._measured(times, planes)
        numbers = np.tile(np.arange(planes, dtype=np.float64), (times, 1))
        if positions is None and self.step is None:
            return {"positions": numbers, "pixel_size": (1.0, 1.0), "unit": "pixel"}
        if positions is None:
            positions = self.start + (self.step or 0.0) * numbers
        return {"positions": positions, "pixel_size": self.pixel_size, "unit": self.unit}

    def _measured(self, times: int, planes: int) -> np.ndarray | None:
        heights = self.heights
        if heights is None or heights.size != times * planes:
            return None
        if heights.shape != (times, planes) and 1 not in heights.shape:
            return None
        heights = heights.reshape(times, planes)  # what the file calls times may be planes
        steps = np.diff(heights, axis=1)
        monotonic = (steps > 0).all(axis=1) | (steps < 0).all(axis=1)
        return heights if monotonic.all() else None


UNCALIBRATED = Calibration()


def calibration(
    z: Length | None,
    y: Length | None,
    x: Length | None,
    *,
    start: float = 0.0,
    heights: tuple[np.ndarray, object] | None = None,
) -> Calibration:
    """Calibration in the unit of `x`; none where the size of a pixel isn't known.

    Parameters
    ----------
    z, y, x : Length, optional
        Distance of planes, height and width of a pixel.
    start : float
        Focus position of the first plane, in the unit of `z`.
    heights : ((T, Z) array, unit), optional
        Focus position of every plane.
    """
    doubt = next(filter(None, map(_doubt, ("planes", "rows", "columns"), (z, y, x))), "")
    uncalibrated = Calibration(doubt=doubt)
    unit = normalize_unit(x.unit) if x is not None else None
    if unit is None:
        return uncalibrated
    step, height, width = (_within(length, unit) for length in (z, y, x))
    if height is None or width is None:
        return uncalibrated
    if z is not None and step is not None:
        start *= _within(Length(1.0, z.unit), unit) or 1.0
    measured = None
    if heights is not None and (own := normalize_unit(heights[1])) is not None:
        measured = heights[0] * conversion_factor(own, unit)
        signs = np.unique(np.sign(np.diff(measured, axis=1)))
        if np.isfinite(signs).all() and {-1, 1} <= set(signs):
            doubt = doubt or "positions of planes not used: they neither rise nor fall"
    return Calibration((height, width), unit, step, start, measured, doubt)


def _doubt(what: str, length: Length | None) -> str:
    """What is wrong with the distance of `what` in a file, if anything."""
    if length is None or length.size is None or str(length.unit).strip() in UNMEASURED:
        return ""
    if normalize_unit(length.unit) is None:
        return f"distance of {what} not used: {length.unit!r} is no known unit"
    if _within(length, "micrometer") is None:
        return f"distance of {what} not used: {length.size} {length.unit} is no positive length"
    return ""


def _within(length: Length | None, unit: str) -> float | None:
    """`length` in `unit`; None where it is no positive length."""
    own = None if length is None or length.size is None else normalize_unit(length.unit)
    if length is None or own is None:
        return None
    size = float(length.size) * conversion_factor(own, unit)
    return size if np.isfinite(size) and size > 0 else None
