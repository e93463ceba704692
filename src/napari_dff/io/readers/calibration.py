"""Focus positions and pixel size from the metadata of a file."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from napari_dff.model.units import conversion_factor, normalize_unit

UNCALIBRATED_UNITS = ("None", "", "pixel", "pixels", "reference frame")  # as written in files


class Length(NamedTuple):
    """A length in a file: number, and unit in the spelling of the file."""

    size: Any = None  # None if the file has none
    unit: object = None

    def convert(self, unit: str | None) -> float | None:
        """Return the length in a napari unit; None if it is not a positive length."""
        own_unit = normalize_unit(self.unit)
        if self.size is None or own_unit is None or unit is None:
            return None
        size = float(self.size) * conversion_factor(own_unit, unit)
        return size if np.isfinite(size) and size > 0 else None

    def warning(self, axis: str) -> str:
        """Return a message if this, the distance of planes, rows or columns, is invalid."""
        if self.size is None or str(self.unit).strip() in UNCALIBRATED_UNITS:
            return ""
        if normalize_unit(self.unit) is None:
            return f"distance of {axis} not used: {self.unit!r} is not a known unit"
        if self.convert("micrometer") is None:
            return f"distance of {axis} not used: {self.size} {self.unit} is not a positive length"
        return ""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Lengths in `unit`, which is "pixel" for an uncalibrated file."""

    pixel_size: tuple[float, float] = (1.0, 1.0)  # height and width
    unit: str = "pixel"  # as napari spells it
    step: float | None = None  # distance between planes
    start: float = 0.0  # focus position of the first plane, used with `step`
    focus_positions: np.ndarray | None = None  # (T, Z), NaN where the file has none
    warning: str = ""  # on a length in the file that is invalid and not used

    def acquisition_fields(self, times: int, planes: int) -> dict[str, Any]:
        """Return the fields `positions` (T, Z), `pixel_size` and `unit` of an Acquisition.

        Focus positions are used if complete and strictly monotonic at every time, else the step.
        Without either, the pixel size is not used: depth and width would have two units.
        """
        indices = np.tile(np.arange(planes, dtype=np.float64), (times, 1))
        calibrated = {"pixel_size": self.pixel_size, "unit": self.unit}
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
        return {"positions": indices, "pixel_size": (1.0, 1.0), "unit": "pixel"}


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
    unit = normalize_unit(x.unit)
    step, height, width = (length.convert(unit) for length in (z, y, x))
    if unit is None or height is None or width is None:
        return Calibration(warning=warning)
    if step is not None:
        start *= Length(1.0, z.unit).convert(unit) or 1.0
    measured = None
    if focus_positions is not None and (own_unit := normalize_unit(focus_positions[1])) is not None:
        measured = focus_positions[0] * conversion_factor(own_unit, unit)
        signs = np.unique(np.sign(np.diff(measured, axis=1)))
        if np.isfinite(signs).all() and {-1, 1} <= set(signs):
            warning = warning or "positions of planes not used: they are not monotonic"
    return Calibration((height, width), unit, step, start, measured, warning)
