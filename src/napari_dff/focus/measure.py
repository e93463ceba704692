"""The public door of the focus measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from napari_dff import checks
from napari_dff.focus import operators
from napari_dff.focus.aggregation import AGGREGATIONS as AGGREGATIONS
from napari_dff.progress import Progress, silent
from napari_dff.stack import check_planes, grey, read_plane

Operator = Literal[
    "log",
    "laplacian",
    "modified_laplacian",
    "diagonal_laplacian",
    "laplacian_variance",
    "ring_difference",
    "tenengrad",
    "tenengrad_variance",
    "gradient_energy",
    "gaussian_derivative",
    "brenner",
    "wavelet_sum",
    "wavelet_variance",
    "wavelet_ratio",
    "variance",
    "normalised_variance",
    "third_moment",
    "vollath",
    "dct_energy",
    "dct_reduced",
    "helmli",
    "steerable",
    "contrast",
    "curvature",
]
OPERATORS: dict[str, Callable[[np.ndarray, float, int], np.ndarray]] = {
    name: getattr(operators, name)
    for name in Operator.__args__  # type: ignore[attr-defined]
}
Aggregation = Literal["adaptive", "balanced", "window", "guided"]
SIGMA = checks.Range(0.0, 32.0, 0.1)  # pixels
WINDOW = checks.Range(1, 255, 2)  # pixels


def focus_measure(
    planes: Any,  # (Z, Y, X[, 3])
    *,
    operator: Operator = "log",
    sigma: float = 1.0,
    window: int = 9,
    aggregation: Aggregation = "adaptive",
    progress: Progress = silent,
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
        Told of each plane; may raise to cancel.

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
    check_planes(planes)
    checks.one_of("operator", operator, OPERATORS)
    checks.one_of("aggregation", aggregation, AGGREGATIONS)
    SIGMA.check("sigma", sigma)
    WINDOW.check("window", window)
    of_plane = OPERATORS[operator]

    def measure(sigma: float, window: int) -> np.ndarray:
        volume = np.empty(tuple(planes.shape[:3]), dtype=np.float32)
        for i in progress(range(len(volume)), desc=f"Measuring focus, window {window}"):
            np.maximum(of_plane(grey(read_plane(planes, i)), sigma, window), 0, out=volume[i])
        if not volume.any():
            raise ValueError("planes have no contrast anywhere: there is nothing to focus on")
        return volume

    return AGGREGATIONS[aggregation](measure, sigma, window)
