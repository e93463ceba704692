"""Focus curves: their noise, their peaks, and the focus volumes they are read from."""

from napari_dff.curve.noise import (
    NOISE_RADIUS_PX,
    NOISE_SIGMA_PX,
    Noise,
    compute_noise,
    detection_threshold,
    detection_z_score,
)
from napari_dff.curve.peak import CURVE_PEAK, PEAK_MODELS, evaluate_fitted_peak, locate_peak
from napari_dff.curve.search import (
    FIRST_PEAK,
    HIGHEST_PEAK,
    LAST_PEAK,
    argmax_in_row,
    find_peaks,
    find_strongest_peaks,
    peak_uncertainty,
)
from napari_dff.curve.volume import (
    FocusVolume,
    FocusVolumeView,
    LazyFocusVolume,
    QuantizedFocusVolume,
    as_focus_volume,
    focus_windows,
)

__all__ = [
    "CURVE_PEAK",
    "FIRST_PEAK",
    "HIGHEST_PEAK",
    "LAST_PEAK",
    "NOISE_RADIUS_PX",
    "NOISE_SIGMA_PX",
    "PEAK_MODELS",
    "FocusVolume",
    "FocusVolumeView",
    "LazyFocusVolume",
    "Noise",
    "QuantizedFocusVolume",
    "argmax_in_row",
    "as_focus_volume",
    "compute_noise",
    "detection_threshold",
    "detection_z_score",
    "evaluate_fitted_peak",
    "find_peaks",
    "find_strongest_peaks",
    "focus_windows",
    "locate_peak",
    "peak_uncertainty",
]
