"""Bringing every plane onto the reference plane."""

from napari_dff.registration.alignment import (
    REGISTRATIONS,
    Alignment,
    Exposure,
    PlaneReport,
    Registration,
    align,
    resample,
)
from napari_dff.registration.motion import MOTIONS, Motion

__all__ = [
    "MOTIONS",
    "REGISTRATIONS",
    "Alignment",
    "Exposure",
    "Motion",
    "PlaneReport",
    "Registration",
    "align",
    "resample",
]
