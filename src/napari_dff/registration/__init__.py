"""Bringing every plane onto the reference plane."""

from napari_dff.registration.alignment import (
    REGISTRATIONS,
    Alignment,
    align,
    align_lazily,
    estimate_transforms,
    resample,
)
from napari_dff.registration.estimation import Outcome, PlaneReport
from napari_dff.registration.exposure import estimate_gains
from napari_dff.registration.lazy_stack import LazyAlignedStack, load_aligned
from napari_dff.registration.motion import MOTIONS

__all__ = [
    "MOTIONS",
    "REGISTRATIONS",
    "Alignment",
    "LazyAlignedStack",
    "Outcome",
    "PlaneReport",
    "align",
    "align_lazily",
    "estimate_gains",
    "estimate_transforms",
    "load_aligned",
    "resample",
]
