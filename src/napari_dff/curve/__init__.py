"""The focus curve of a pixel: its noise, its peak and how well the peak is known."""

from napari_dff.curve.noise import NEIGHBOURHOOD, REACH, Noise, noise_of, significance
from napari_dff.curve.peak import (
    BEST_PEAK,
    PEAKS,
    deviations,
    fitted_peak,
    highest_in_row,
    peak_at,
    peaks,
    strongest,
)
from napari_dff.curve.volume import Computed, FocusVolume, Kept, Part, volume_of, windows_of

__all__ = [
    "BEST_PEAK",
    "NEIGHBOURHOOD",
    "PEAKS",
    "REACH",
    "Computed",
    "FocusVolume",
    "Kept",
    "Noise",
    "Part",
    "deviations",
    "fitted_peak",
    "highest_in_row",
    "noise_of",
    "peak_at",
    "peaks",
    "significance",
    "strongest",
    "volume_of",
    "windows_of",
]
