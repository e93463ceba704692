"""How sharp is it here? One focus measure a pixel and plane.

Each operator takes one grey plane and gives its focus map, so that a stack of any length streams
through. What they measure is averaged over a window with a Gaussian of the same variance as a box
of that width: a box would print its corners on the depth map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np

from napari_dff import checks
from napari_dff.progress import Progress, silent
from napari_dff.stack import check_planes, grey, read_plane

Operator = Literal[
    "log", "laplacian", "modified_laplacian", "tenengrad", "variance", "ring_difference"
]
SIGMA = checks.Range(0.0, 32.0, 0.1)  # pixels
WINDOW = checks.Range(1, 255, 2)  # pixels


def focus_measure(
    planes: Any,  # (Z, Y, X[, 3])
    *,
    operator: Operator = "log",
    sigma: float = 1.0,
    window: int = 9,
    progress: Progress = silent,
) -> np.ndarray:  # (Z, Y, X)
    """Focus volume of a stack: how sharp each pixel is in each plane.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type, read plane by plane; colour is measured on its luminance.
    operator : str
        A key of `OPERATORS`.
    sigma : float
        Standard deviation in pixels, 0 to 32, of the Gaussian that precedes the operator (for
        ``ring_difference`` the radius of the inner disc; ``laplacian`` takes none).
    window : int
        Width in pixels, odd, 1 to 255, over which the measure is averaged.
    progress : Progress
        Told of each plane; may raise to cancel.

    Returns
    -------
    (Z, Y, X) float32
        At least 0, in squared grey levels (``modified_laplacian``: grey levels); never divided by
        anything, so that planes and pixels compare.

    Raises
    ------
    ValueError
        For a wrong argument, for values that aren't finite, and for planes without any contrast.

    References
    ----------
    Marr & Hildreth 1980, doi:10.1098/rspb.1980.0020 (Laplacian of Gaussian).
    Nayar & Nakagawa 1994, doi:10.1109/34.308479 (sum-modified-Laplacian).
    Pertuz, Puig & Garcia 2013, doi:10.1016/j.patcog.2012.11.011 (survey).
    Surh et al. 2017, doi:10.1109/CVPR.2017.262 (ring difference filter).
    """
    check_planes(planes)
    checks.one_of("operator", operator, OPERATORS)
    SIGMA.check("sigma", sigma)
    WINDOW.check("window", window)
    measure = OPERATORS[operator]
    volume = np.empty(tuple(planes.shape[:3]), dtype=np.float32)
    for i in progress(range(len(volume)), desc="Measuring focus"):
        np.maximum(measure(grey(read_plane(planes, i)), sigma, window), 0, out=volume[i])
    if not volume.any():
        raise ValueError("planes have no contrast anywhere: there is nothing to focus on")
    return volume


def average(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of (Y, X) `values` over a Gaussian window with the variance of a box `window` wide."""
    if window == 1:
        return values
    return smooth(values, float(np.sqrt((window**2 - 1) / 12)))


def smooth(plane: np.ndarray, sigma: float) -> np.ndarray:
    """(Y, X) `plane` blurred by a Gaussian of `sigma` pixels; unchanged where `sigma` is 0."""
    return plane if sigma == 0 else cv2.GaussianBlur(plane, (0, 0), sigma)


def log(plane: np.ndarray, sigma: float, window: int) -> np.ndarray:
    """Energy of the Laplacian of Gaussian: mean of (∇² G_σ * I)²."""
    return laplacian(smooth(plane, sigma), sigma, window)


def laplacian(plane: np.ndarray, sigma: float, window: int) -> np.ndarray:
    """Energy of the five-point Laplacian: mean of (∇² I)²."""
    return average(np.square(cv2.Laplacian(plane, cv2.CV_32F)), window)


def modified_laplacian(plane: np.ndarray, sigma: float, window: int) -> np.ndarray:
    """Sum-modified-Laplacian: mean of |∂²I/∂x²| + |∂²I/∂y²|."""
    second, none = np.array([-1.0, 2.0, -1.0]), np.array([0.0, 1.0, 0.0])
    blurred = smooth(plane, sigma)
    across = cv2.sepFilter2D(blurred, cv2.CV_32F, second, none)
    down = cv2.sepFilter2D(blurred, cv2.CV_32F, none, second)
    return average(np.abs(across) + np.abs(down), window)


def tenengrad(plane: np.ndarray, sigma: float, window: int) -> np.ndarray:
    """Energy of the Sobel gradient: mean of (∂I/∂x)² + (∂I/∂y)²."""
    blurred = smooth(plane, sigma)
    across = cv2.Sobel(blurred, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(blurred, cv2.CV_32F, 0, 1)
    return average(across**2 + down**2, window)


def variance(plane: np.ndarray, sigma: float, window: int) -> np.ndarray:
    """Grey-level variance within the window."""
    blurred = smooth(plane, sigma)
    # About the plane's mean: squares of raw 16-bit levels would eat float32's digits.
    centred = blurred - blurred.mean(dtype=np.float64).astype(np.float32)
    return average(centred**2, window) - average(centred, window) ** 2


def ring_difference(plane: np.ndarray, sigma: float, window: int) -> np.ndarray:
    """Energy of the ring difference filter: mean of (inner disc - outer ring)².

    The disc has the radius `sigma` (at least the pixel itself), the ring reaches from twice to
    three times that: the gap between them keeps the measure apart for slightly blurred edges.
    """
    return average(np.square(cv2.filter2D(plane, cv2.CV_32F, ring_kernel(sigma))), window)


def ring_kernel(sigma: float) -> np.ndarray:
    """Disc minus ring, each of sum 1, so that the kernel sums to 0."""
    inner = max(sigma, 0.5)
    half = int(np.ceil(3 * inner))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    radius = np.hypot(y, x)
    disc = (radius <= inner).astype(np.float64)
    ring = ((radius >= 2 * inner) & (radius <= 3 * inner)).astype(np.float64)
    return disc / disc.sum() - ring / ring.sum()


OPERATORS: dict[str, Callable[[np.ndarray, float, int], np.ndarray]] = {
    "log": log,
    "laplacian": laplacian,
    "modified_laplacian": modified_laplacian,
    "tenengrad": tenengrad,
    "variance": variance,
    "ring_difference": ring_difference,
}
