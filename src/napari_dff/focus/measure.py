"""The focus measure: its public function, and the lazy volume that the pipeline reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_dff.curve.noise import NOISE_RADIUS_PX
from napari_dff.curve.plane_mask import PlaneMaskReader
from napari_dff.curve.volume import LazyFocusVolume, focus_windows
from napari_dff.focus.aggregation import AGGREGATIONS, SCALES, balanced_radius
from napari_dff.focus.automatic import choose_scale
from napari_dff.focus.operators import OPERATORS, operator_radius
from napari_dff.focus.sampling import CONTRAST_RADIUS_PX, SampledOperator
from napari_dff.model.checks import AUTO, check_choice
from napari_dff.model.recipe import SIGMA, WINDOW, Aggregation, Operator, Sigma, WindowWidth
from napari_dff.model.stack import NO_CONTRAST_MESSAGE, validate_planes
from napari_dff.runtime.lazy import load_planes
from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.windows import GRID_PX, Window


def focus_measure(
    planes: Any,  # (Z, Y, X[, 3])
    *,
    operator: Operator = "log",
    sigma: Sigma = AUTO,
    window: WindowWidth = AUTO,
    aggregation: Aggregation = "adaptive",
    progress: Progress = no_progress,
) -> np.ndarray:  # (Z, Y, X)
    """Return the focus volume of a stack: how sharp each pixel is in each plane.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type, loaded if lazy; colour is measured on its luminance.
    operator : str
        A key of `OPERATORS`; `napari_dff.focus.operators` describes each, with its source.
    sigma : float or "auto"
        Standard deviation in pixels, 0 to 32, of the Gaussian that precedes the operator (for
        ``ring_difference`` the radius of the inner disc; ``laplacian`` takes none). ``auto``: 0.5,
        0.7 or 1, the smallest with which the peaks of a sample of the curves are several planes
        wide.
    window : int or "auto"
        Width in pixels, odd, 1 to 255, over which the measure is averaged. ``auto``: 5, 7 or 9,
        from the noise of these curves and the width of their peaks.
    aggregation : {"adaptive", "balanced", "window", "guided"}
        How it is averaged. ``balanced``: each window is shifted so that the focus energy in it is
        centred on the pixel. ``adaptive``: balanced windows at one, two and four times `sigma` and
        `window`, chosen for each pixel by its noise. ``window``: a fixed window. ``guided``: a
        guided filter along edges. See `napari_dff.focus.aggregation`.
    progress : Progress
        Wraps the loop over windows; may raise to cancel.

    Returns
    -------
    (Z, Y, X) float32
        At least 0, in the unit of the operator, for most of them squared grey levels. Values of
        different pixels compare only roughly, since their windows may differ in size.

    Raises
    ------
    ValueError
        For an invalid argument, values that are not finite, or planes without any contrast.

    References
    ----------
    Marr & Hildreth 1980, doi:10.1098/rspb.1980.0020 (Laplacian of Gaussian).
    Pertuz, Puig & Garcia 2013, doi:10.1016/j.patcog.2012.11.011 (survey of operators).
    """
    planes = load_planes(validate_planes(planes), progress)
    check_choice("operator", operator, OPERATORS)
    sigma, window = SIGMA.check("sigma", sigma), WINDOW.check("window", window)
    scale = choose_scale(planes, operator, sigma, window)
    volume = lazy_focus_volume(planes, operator, *scale, aggregation, at_pixels=True)
    out = np.empty(volume.shape, np.float32)

    def fill(where: Window) -> None:
        out[(..., *where.slices)] = volume.measure(where)

    run_parallel(fill, focus_windows(volume.shape, volume.step), progress, desc="Measuring focus")
    if not out.any():
        raise ValueError(NO_CONTRAST_MESSAGE)
    return out


def lazy_focus_volume(
    planes: Any,
    operator: Operator,
    sigma: float,
    window: int,
    aggregation: Aggregation,
    plane_mask: PlaneMaskReader = lambda window: None,
    *,
    at_pixels: bool = False,
) -> LazyFocusVolume:
    """Return a focus volume of which each window is computed when it is read.

    Its curves are those of `focus_measure` if `at_pixels`, else, where the window is wide, those at
    the centres of blocks.
    """
    check_choice("aggregation", aggregation, AGGREGATIONS)
    sampled, aggregate = SampledOperator(planes, operator, sigma, window), AGGREGATIONS[aggregation]
    has_blocks = aggregation in ("adaptive", "balanced") and not at_pixels
    step = sampled.grid if has_blocks else 1

    def measure(where: Window) -> np.ndarray:
        return aggregate(sampled, where, step)

    return LazyFocusVolume((planes.shape[0], *sampled.shape), measure, step, plane_mask, window)


def focus_radius(operator: Operator, sigma: float, window: int, aggregation: Aggregation) -> int:
    """Return how far from a pixel, in pixels, its curve and noise depend on the planes at most."""
    scale = SCALES[-1] if aggregation == "adaptive" else 1
    sampled = SampledOperator(None, operator, sigma, window)
    radii = {"guided": 3 * window, "window": GRID_PX}
    radius = radii.get(aggregation, balanced_radius(sampled, scale))
    radius += scale * (operator_radius(operator, sigma, window) + CONTRAST_RADIUS_PX)
    return radius + 2 * NOISE_RADIUS_PX + 6 * GRID_PX
