"""Bringing every plane onto the reference plane."""

from napari_dff.registration.alignment import (
    REGISTRATIONS,
    Alignment,
    align,
    motions_of,
    resample,
)
from napari_dff.registration.estimation import STEADY, PlaneReport
from napari_dff.registration.exposure import equalised, gains_of
from napari_dff.registration.motion import MOTIONS
from napari_dff.registration.moved import Moved, gathered

__all__ = [
    "MOTIONS",
    "REGISTRATIONS",
    "STEADY",
    "Alignment",
    "Moved",
    "PlaneReport",
    "align",
    "equalised",
    "gains_of",
    "gathered",
    "motions_of",
    "resample",
]
