"""Bringing every plane onto the reference plane."""

from napari_dff.registration.alignment import (
    REGISTRATIONS,
    Alignment,
    align,
    resample,
)
from napari_dff.registration.estimation import STEADY, PlaneReport
from napari_dff.registration.exposure import equalised
from napari_dff.registration.motion import MOTIONS

__all__ = [
    "MOTIONS",
    "REGISTRATIONS",
    "STEADY",
    "Alignment",
    "PlaneReport",
    "align",
    "equalised",
    "resample",
]
