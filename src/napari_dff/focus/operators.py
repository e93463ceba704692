"""Focus operators: the focus measure of one plane.

Every operator has the same signature:

plane : (Y, X) float32
    Luminance.
sigma : float
    Standard deviation in pixels of the Gaussian that precedes it.
window : float
    Width in pixels over which the measure is averaged, see `filters.windowed_mean`.
step : int
    Distance between samples of the result.

It returns (Y / step, X / step) float32. Names in brackets and sources are those of Pertuz, Puig &
Garcia 2013, doi:10.1016/j.patcog.2012.11.011.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, sqrt
from typing import get_args

import cv2
import numpy as np

from napari_dff.focus.filters import (
    correlate,
    cosine_bands,
    derivatives,
    gaussian_blur,
    ratio,
    ring_kernel,
    sobel_energy,
    sum_of,
    wavelet_bands,
    windowed_mean,
    windowed_variance,
)
from napari_dff.model.recipe import Operator

MIN_RELATIVE_GREY = np.float32(0.01)  # of its surroundings: the value of a black pixel in a ratio
TWO_WINDOWS: tuple[Operator, ...] = (
    "helmli",
    "third_moment",
    "vollath",
)  # operators that average over the window twice


def operator_radius(name: Operator, sigma: float, window: float) -> int:
    """Return how many pixels around a pixel the operator `name` depends on."""
    means = 2 if name in TWO_WINDOWS else 1
    return ceil(4 * max(sigma, 0.5)) + 3 + means * ceil(4 * sqrt((window**2 - 1) / 12) + 1)


def log(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the Laplacian of Gaussian: mean of (∇² G_σ * I)² [LAP1 after a Gaussian].

    Marr & Hildreth 1980, doi:10.1098/rspb.1980.0020.
    """
    response = cv2.Laplacian(gaussian_blur(plane, sigma), cv2.CV_32F)
    return windowed_mean(np.square(response), window, step)


def laplacian(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the five-point Laplacian, `sigma` ignored: mean of (∇² I)² [LAP1].

    Subbarao, Choi & Nikzad 1993, doi:10.1117/12.147706.
    """
    return log(plane, 0, window, step)


def modified_laplacian(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Sum-modified-Laplacian: mean of |∂²I/∂x²| + |∂²I/∂y²| [LAP2].

    Nayar & Nakagawa 1994, doi:10.1109/34.308479.
    """
    across, down = derivatives(gaussian_blur(plane, sigma), [-1, 2, -1])
    return windowed_mean(np.abs(across) + np.abs(down), window, step)


def diagonal_laplacian(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Modified Laplacian with both diagonals, these divided by √2 [LAP3].

    Thelen et al. 2009, doi:10.1109/TIP.2008.2007049.
    """
    blurred = gaussian_blur(plane, sigma)
    fall = np.diag([-1.0, 2.0, -1.0])
    rise = fall[:, ::-1].copy()
    total = np.abs(cv2.filter2D(blurred, cv2.CV_32F, fall))
    total += np.abs(cv2.filter2D(blurred, cv2.CV_32F, rise))
    crossed = windowed_mean(total, window, step) / np.float32(2**0.5)
    return modified_laplacian(plane, sigma, window, step) + crossed


def laplacian_variance(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Variance of the Laplacian within the window [LAP4].

    Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548.
    """
    return windowed_variance(cv2.Laplacian(gaussian_blur(plane, sigma), cv2.CV_32F), window, step)


def ring_difference(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the ring difference filter: mean of (inner disc - outer ring)².

    The disc has the radius `sigma` (at least the pixel itself), the ring twice to three times that:
    the gap between them separates sharp edges from slightly blurred ones. Surh et al. 2017,
    doi:10.1109/CVPR.2017.262.
    """
    return windowed_mean(
        np.square(cv2.filter2D(plane, cv2.CV_32F, ring_kernel(sigma))), window, step
    )


def tenengrad(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the Sobel gradient: mean of (∂I/∂x)² + (∂I/∂y)² [GRA6].

    Krotkov 1988, doi:10.1007/BF00127822.
    """
    return windowed_mean(sobel_energy(plane, sigma), window, step)


def tenengrad_variance(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Variance of the Sobel gradient's magnitude [GRA7].

    Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548.
    """
    return windowed_variance(np.sqrt(sobel_energy(plane, sigma)), window, step)


def gradient_energy(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Mean of the squared differences to the pixels below and to the right [GRA2].

    Subbarao, Choi & Nikzad 1993, doi:10.1117/12.147706.
    """
    across, down = derivatives(gaussian_blur(plane, sigma), [0, -1, 1])
    return windowed_mean(across**2 + down**2, window, step)


def gaussian_derivative(
    plane: np.ndarray, sigma: float, window: float, step: int = 1
) -> np.ndarray:
    """Energy of the first derivatives of a Gaussian, central differences [GRA1].

    Geusebroek et al. 2000, doi:10.1002/(SICI)1097-0320(20000101)39:1<1::AID-CYTO2>3.0.CO;2-J.
    """
    across, down = derivatives(gaussian_blur(plane, sigma), [-0.5, 0, 0.5])
    return windowed_mean(across**2 + down**2, window, step)


def brenner(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Mean of the squared differences to the pixels two below and two to the right [MIS2].

    Brenner et al. 1976, doi:10.1177/24.1.1254907.
    """
    across, down = derivatives(gaussian_blur(plane, sigma), [0, 0, -1, 0, 1])
    return windowed_mean(across**2 + down**2, window, step)


def wavelet_sum(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Mean of the absolute detail coefficients [WAV1].

    Undecimated db2 wavelet, one level. Yang & Nelson 2003, doi:10.1109/CVPR.2003.1211401.
    """
    return windowed_mean(sum_of([np.abs(d) for d in wavelet_bands(plane, sigma)[:3]]), window, step)


def wavelet_variance(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Sum of the variances of the detail coefficients [WAV2].

    Undecimated db2 wavelet, one level. Yang & Nelson 2003, doi:10.1109/CVPR.2003.1211401.
    """
    return sum_of([windowed_variance(d, window, step) for d in wavelet_bands(plane, sigma)[:3]])


def wavelet_ratio(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the details over that of the approximation about its mean [WAV3].

    Undecimated db2 wavelet, one level. Xie, Rong & Sun 2006, doi:10.1117/1.2205846.
    """
    *details, coarse = wavelet_bands(plane, sigma)
    energy = windowed_mean(sum_of([d**2 for d in details]), window, step)
    return ratio(
        energy, windowed_variance(coarse, window, step), windowed_mean(coarse**2, window, step)
    )


def variance(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Grey-level variance within the window [STA3].

    Krotkov & Martin 1986, doi:10.1109/ROBOT.1986.1087510.
    """
    return windowed_variance(gaussian_blur(plane, sigma), window, step)


def normalised_variance(
    plane: np.ndarray, sigma: float, window: float, step: int = 1
) -> np.ndarray:
    """Grey-level variance over the mean, independent of the brightness [STA5].

    Santos et al. 1997, doi:10.1046/j.1365-2818.1997.2630819.x.
    """
    blurred = gaussian_blur(plane, sigma)
    light = windowed_mean(np.abs(blurred), window, step)
    return ratio(windowed_variance(blurred, window, step), light, light)


def third_moment(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Mean of the cubed distance to the local mean.

    Few strong details count more than in the variance. Zhang et al. 2000, doi:10.1117/1.1289351.
    """
    blurred = gaussian_blur(plane, sigma)
    return windowed_mean(np.abs(blurred - windowed_mean(blurred, window)) ** 3, window, step)


def vollath(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Decrease of the autocorrelation from a shift of one pixel to two, both ways [MIS1].

    The local mean is subtracted first. Noise that is independent between pixels cancels. Vollath
    1987, doi:10.1111/j.1365-2818.1987.tb02839.x.
    """
    blurred = gaussian_blur(plane, sigma)
    centred = blurred - windowed_mean(blurred, window)
    across, down = derivatives(centred, [0, 0, 0, 1, -1])
    return windowed_mean(centred * (across + down), window, step)


def dct_energy(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the cosine transform of 4 × 4 pixels, without the mean.

    Baina & Dublet 1995, doi:10.1049/cp:19950657.
    """
    energy = sum_of([d**2 for (u, v), d in cosine_bands(plane, sigma).items() if u + v > 0])
    return windowed_mean(energy, window, step)


def dct_reduced(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the middle frequencies of 4 × 4 pixels over that of the lowest [DCT2].

    Lee et al. 2008, doi:10.1109/TCE.2008.4637583.
    """
    parts = cosine_bands(plane, sigma)
    middle = sum_of([d**2 for (u, v), d in parts.items() if 2 <= u + v <= 3])
    low = parts[0, 1] ** 2 + parts[1, 0] ** 2
    light = windowed_mean(parts[0, 0] ** 2, window, step)
    return ratio(windowed_mean(middle, window, step), windowed_mean(low, window, step), light)


def helmli(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Ratio of pixel and local mean, the larger over the smaller, minus 1 [MIS5].

    Helmli & Scherer 2001, doi:10.1109/ISPA.2001.938626.
    """
    blurred = gaussian_blur(plane, sigma)
    mean = np.maximum(windowed_mean(blurred, window), 1e-6)
    blurred = np.maximum(blurred, MIN_RELATIVE_GREY * mean)
    return windowed_mean(np.maximum(mean / blurred, blurred / mean) - 1, window, step)


def steerable(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Strongest response of an oriented Gaussian derivative, eight directions [MIS7].

    Minhas et al. 2009, doi:10.1007/978-3-642-02611-9_57.
    """
    across, down = derivatives(gaussian_blur(plane, sigma), [-0.5, 0, 0.5])
    best = np.zeros_like(plane)
    for angle in np.arange(8) * np.pi / 8:
        np.maximum(best, np.abs(np.cos(angle) * across + np.sin(angle) * down), out=best)
    return windowed_mean(best**2, window, step)


def contrast(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Mean absolute difference to the eight neighbours [MIS3].

    Nanda & Cutler 2001, Practical calibrations for a real-time digital omnidirectional camera.
    """
    blurred = gaussian_blur(plane, sigma)
    padded = np.pad(blurred, 1, mode="reflect")
    height, width = blurred.shape
    total = np.zeros_like(blurred)
    for v in range(3):
        for u in range(3):
            total += np.abs(blurred - padded[v : v + height, u : u + width])
    return windowed_mean(total / 8, window, step)


def curvature(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Sum of the absolute coefficients of a quadratic surface fitted to 3 × 3 pixels [MIS4].

    Helmli & Scherer 2001, doi:10.1109/ISPA.2001.938626.
    """
    blurred = gaussian_blur(plane, sigma)
    flat, slope, bend = [1, 1, 1], [-1, 0, 1], [1, -2, 1]
    kernels = ((flat, slope), (slope, flat), (flat, bend), (bend, flat))
    terms = [np.abs(correlate(blurred, down, across)) / 6 for down, across in kernels]
    return windowed_mean(sum_of(terms), window, step)


# Each operator is the function of its name.
OPERATORS: dict[Operator, Callable[[np.ndarray, float, float, int], np.ndarray]] = {
    name: globals()[name] for name in get_args(Operator)
}
