"""Alignment of every plane to the reference plane."""

from napari_dff.registration.alignment import Alignment, align, align_lazily, resample
from napari_dff.registration.common_area import common_window
from napari_dff.registration.estimation import estimate_transforms
from napari_dff.registration.lazy_stack import LazyAlignedStack, load_aligned
from napari_dff.registration.report import Outcome, PlaneReport
from napari_dff.runtime.deprecation import deprecated_names

__all__ = [
    "Alignment",
    "LazyAlignedStack",
    "Outcome",
    "PlaneReport",
    "align",
    "align_lazily",
    "common_window",
    "estimate_transforms",
    "load_aligned",
    "resample",
]

__getattr__ = deprecated_names(globals(), __name__)
