"""Focus positions and pixel size from the metadata of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from napari_dff.model.units import conversion_factor, normalize_unit

UNCALIBRATED_UNITS = ("None", "", "pixel", "pixels", "reference frame")  # as written in files


class Length(NamedTuple):
    """A length in a file: number, and unit in the spelling of the file."""

    size: Any
    unit: object


@dataclass(frozen=True, eq=False)
class Calibration:
    """Lengths in `unit`, which is "pixel" for an uncalibrated file.

    Parameters
    ----------
    pixel_size : (float, float)
        Height and width of a pixel.
    unit : str
        As napari spells it.
    step : float, optional
        Distance between planes.
    start : float
        Focus position of the first plane, used with `step`.
    focus_positions : (T, Z) array, optional
        Focus position of every plane, NaN where the file has none.
    warning : str
        Message on a length in the file that is invalid and not used.
    """

    pixel_size: tuple[float, float] = (1.0, 1.0)
    unit: str = "pixel"
    step: float | None = None
    start: float = 0.0
    focus_positions: np.ndarray | None = None
    warning: str = ""

    def acquisition_fields(self, times: int, planes: int) -> dict[str, Any]:
        """Return the fields `positions` (T, Z), `pixel_size` and `unit` of an Acquisition.

        Focus positions are used if complete and strictly monotonic at every time, else the step.
        Without either, the pixel size is not used: depth and width would have two units.
        """
        positions = self._valid_positions(times, planes)
        plane_indices = np.tile(np.arange(planes, dtype=np.float64), (times, 1))
        if positions is None and self.step is None:
            return {"positions": plane_indices, "pixel_size": (1.0, 1.0), "unit": "pixel"}
        if positions is None:
            positions = self.start + (self.step or 0.0) * plane_indices
        return {"positions": positions, "pixel_size": self.pixel_size, "unit": self.unit}

    def _valid_positions(self, times: int, planes: int) -> np.ndarray | None:
        positions = self.focus_positions
        if positions is None or positions.size != times * planes:
            return None
        if positions.shape != (times, planes) and 1 not in positions.shape:
            return None
        positions = positions.reshape(times, planes)  # T in the file may be planes
        steps = np.diff(positions, axis=1)
        monotonic = (steps > 0).all(axis=1) | (steps < 0).all(axis=1)
        return positions if monotonic.all() else None


UNCALIBRATED = Calibration()


def make_calibration(
    z: Length | None,
    y: Length | None,
    x: Length | None,
    *,
    start: float = 0.0,
    focus_positions: tuple[np.ndarray, object] | None = None,
) -> Calibration:
    """Return the Calibration in the unit of `x`; uncalibrated without a pixel size.

    Parameters
    ----------
    z, y, x : Length, optional
        Distance of planes, height and width of a pixel.
    start : float
        Focus position of the first plane, in the unit of `z`.
    focus_positions : ((T, Z) array, unit), optional
        Focus position of every plane.
    """
    warning = next(filter(None, map(_length_warning, ("planes", "rows", "columns"), (z, y, x))), "")
    uncalibrated = Calibration(warning=warning)
    unit = normalize_unit(x.unit) if x is not None else None
    if unit is None:
        return uncalibrated
    step, height, width = (_convert(length, unit) for length in (z, y, x))
    if height is None or width is None:
        return uncalibrated
    if z is not None and step is not None:
        start *= _convert(Length(1.0, z.unit), unit) or 1.0
    measured = None
    if focus_positions is not None and (own_unit := normalize_unit(focus_positions[1])) is not None:
        measured = focus_positions[0] * conversion_factor(own_unit, unit)
        signs = np.unique(np.sign(np.diff(measured, axis=1)))
        if np.isfinite(signs).all() and {-1, 1} <= set(signs):
            warning = warning or "positions of planes not used: they are not monotonic"
    return Calibration((height, width), unit, step, start, measured, warning)


def _length_warning(axis: str, length: Length | None) -> str:
    """Return a message if `length`, the distance of planes, rows or columns, is invalid."""
    if length is None or length.size is None or str(length.unit).strip() in UNCALIBRATED_UNITS:
        return ""
    if normalize_unit(length.unit) is None:
        return f"distance of {axis} not used: {length.unit!r} is not a known unit"
    if _convert(length, "micrometer") is None:
        return f"distance of {axis} not used: {length.size} {length.unit} is not a positive length"
    return ""


def _convert(length: Length | None, unit: str) -> float | None:
    """Return `length` in `unit`; None if it is not a positive length."""
    own_unit = None if length is None or length.size is None else normalize_unit(length.unit)
    if length is None or own_unit is None:
        return None
    size = float(length.size) * conversion_factor(own_unit, unit)
    return size if np.isfinite(size) and size > 0 else None
