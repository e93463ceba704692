"""The public door of the focus measure."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_dff import checks
from napari_dff.curve import NOISE_RADIUS_PX, LazyFocusVolume, focus_windows
from napari_dff.focus import operators
from napari_dff.focus.aggregation import AGGREGATIONS, SCALES, spread
from napari_dff.focus.measurement import Measurement
from napari_dff.focus.operators import OPERATORS
from napari_dff.lazy import load_planes
from napari_dff.progress import Progress, no_progress
from napari_dff.recipe import SIGMA, WINDOW, Aggregation, Operator
from napari_dff.stack import NO_CONTRAST_MESSAGE, validate_planes
from napari_dff.threads import run_parallel
from napari_dff.windows import GRID_PX, Window


def focus_measure(
    planes: Any,  # (Z, Y, X[, 3])
    *,
    operator: Operator = "log",
    sigma: float = 1.0,
    window: int = 9,
    aggregation: Aggregation = "adaptive",
    progress: Progress = no_progress,
) -> np.ndarray:  # (Z, Y, X)
    """Focus volume of a stack: how sharp each pixel is in each plane.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type, read plane by plane; colour is measured on its luminance.
    operator : str
        A key of `OPERATORS`; `napari_dff.focus.operators` tells what each does, and its source.
    sigma : float
        Standard deviation in pixels, 0 to 32, of the Gaussian that precedes the operator (for
        ``ring_difference`` the radius of the inner disc; ``laplacian`` takes none).
    window : int
        Width in pixels, odd, 1 to 255, over which the measure is averaged.
    aggregation : {"adaptive", "balanced", "window", "guided"}
        How it is averaged: ``balanced`` moves each pixel's window so that the texture in it is
        centred on the pixel; ``adaptive`` does so at one, two and four times `sigma` and
        `window` and takes what the noise asks for; ``window`` is the plain average; ``guided``
        follows the edges. See `napari_dff.focus.aggregation`.
    progress : Progress
        Told of each window of pixels; may raise to cancel.

    Returns
    -------
    (Z, Y, X) float32
        At least 0, in the operator's unit, mostly squared grey levels. Curves of different pixels
        compare only roughly: each may come from a window of its own.

    Raises
    ------
    ValueError
        For a wrong argument, for values that aren't finite, and for planes without any contrast.

    References
    ----------
    Marr & Hildreth 1980, doi:10.1098/rspb.1980.0020 (Laplacian of Gaussian).
    Pertuz, Puig & Garcia 2013, doi:10.1016/j.patcog.2012.11.011 (survey of operators).
    """
    planes = load_planes(validate_planes(planes), progress)
    volume = lazy_focus_volume(planes, operator, sigma, window, aggregation)
    out = np.empty(volume.shape, np.float32)

    def fill(wanted: Window) -> None:
        out[(..., *wanted.slices)] = volume.measure(wanted)

    run_parallel(fill, focus_windows(volume), progress, desc="Measuring focus")
    if not out.any():
        raise ValueError(NO_CONTRAST_MESSAGE)
    return out


def lazy_focus_volume(
    planes: Any,
    operator: Operator,
    sigma: float,
    window: int,
    aggregation: Aggregation,
) -> LazyFocusVolume:
    """The focus volume of `focus_measure`, measured window by window as it is asked for.

    Of lazy planes nothing is read but what a window needs, anew for every window.
    """
    checks.check_choice("operator", operator, OPERATORS)
    checks.check_choice("aggregation", aggregation, AGGREGATIONS)
    SIGMA.check("sigma", sigma)
    WINDOW.check("window", window)
    measure = Measurement(planes, operator, sigma, window)
    shape = (planes.shape[0], *measure.shape)

    def curves(wanted: Window) -> np.ndarray:
        return AGGREGATIONS[aggregation](measure, wanted)

    return LazyFocusVolume(shape, curves, min(measure.step(), 2))


def focus_radius(operator: str, sigma: float, window: int, aggregation: str) -> int:
    """How far from a pixel, at most, its curve and its noise depend on the planes: pixels."""
    wide = SCALES[-1] if aggregation == "adaptive" else 1
    measure = Measurement(np.empty((1, 1, 1)), operator, sigma, window)
    looks = {"guided": 3 * window, "window": GRID_PX}.get(aggregation, spread(measure, wide))
    return (
        looks + wide * operators.reach(operator, sigma, window) + 2 * NOISE_RADIUS_PX + 6 * GRID_PX
    )
