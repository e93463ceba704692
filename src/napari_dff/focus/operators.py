"""Focus operators: the focus measure of one plane.

Every operator is a function of `plane`, (Y, X) float32 luminance; `sigma`, the standard deviation
in pixels of the Gaussian that precedes it; `window`, the width in pixels over which the measure is
averaged, see `filters.windowed_mean`; and `step`, the distance in pixels between samples of the
result, (Y / step, X / step) float32. Names in brackets and sources are those of Pertuz, Puig &
Garcia 2013, doi:10.1016/j.patcog.2012.11.011.
"""

from __future__ import annotations

import inspect
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
    wavelet_bands,
    windowed_mean,
    windowed_variance,
)
from napari_dff.model.recipe import Operator

MIN_RELATIVE_GREY = np.float32(0.01)  # of its surroundings: the value of a black pixel in a ratio
TWO_WINDOWS = ("helmli", "third_moment", "vollath")  # operators that average over the window twice
NOT_MEANS = (  # of a measure of single pixels over the window: it cannot be divided into windows
    *TWO_WINDOWS,
    *("laplacian_variance", "tenengrad_variance", "wavelet_variance", "wavelet_ratio"),
    *("variance", "normalised_variance", "dct_reduced"),
)

Image = np.ndarray  # (Y, X) float32
Measure = Callable[[Image, float, float, int], Image]


def operator_radius(name: Operator, sigma: float, window: float) -> int:
    """Return how many pixels around a pixel the operator `name` depends on."""
    means = 2 if name in TWO_WINDOWS else 1
    return ceil(4 * max(sigma, 0.5)) + 3 + means * ceil(4 * sqrt((window**2 - 1) / 12) + 1)


def source(text: str) -> Callable[[Measure], Measure]:
    """Add the source of an operator to its docstring."""

    def add(measure: Measure) -> Measure:
        measure.__doc__ = f"{inspect.getdoc(measure)}\n\n{text}"
        return measure

    return add


@source("Marr & Hildreth 1980, doi:10.1098/rspb.1980.0020.")
def log(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Energy of the Laplacian of Gaussian: mean of (∇² G_σ * I)² [LAP1 after a Gaussian]."""
    return windowed_mean(cv2.Laplacian(gaussian_blur(plane, sigma), cv2.CV_32F) ** 2, window, step)


@source("Subbarao, Choi & Nikzad 1993, doi:10.1117/12.147706.")
def laplacian(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Energy of the five-point Laplacian, `sigma` ignored: mean of (∇² I)² [LAP1]."""
    return log(plane, 0, window, step)


@source("Nayar & Nakagawa 1994, doi:10.1109/34.308479.")
def modified_laplacian(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Sum-modified-Laplacian: mean of |∂²I/∂x²| + |∂²I/∂y²| [LAP2]."""
    across, down = derivatives(gaussian_blur(plane, sigma), [-1, 2, -1])
    return windowed_mean(np.abs(across) + np.abs(down), window, step)


@source("Thelen et al. 2009, doi:10.1109/TIP.2008.2007049.")
def diagonal_laplacian(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Modified Laplacian with both diagonals, these divided by √2 [LAP3]."""
    blurred, fall = gaussian_blur(plane, sigma), np.diag([-1.0, 2.0, -1.0])
    kernels = fall, np.fliplr(fall).copy()
    total = np.sum([np.abs(cv2.filter2D(blurred, cv2.CV_32F, k)) for k in kernels], axis=0)
    diagonals = windowed_mean(total, window, step) / np.float32(2**0.5)
    return modified_laplacian(plane, sigma, window, step) + diagonals


@source("Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548.")
def laplacian_variance(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Variance of the Laplacian within the window [LAP4]."""
    return windowed_variance(cv2.Laplacian(gaussian_blur(plane, sigma), cv2.CV_32F), window, step)


@source("Surh et al. 2017, doi:10.1109/CVPR.2017.262.")
def ring_difference(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Energy of the ring difference filter: mean of (inner disc - outer ring)².

    The disc has the radius `sigma` (at least the pixel itself), the ring twice to three times that:
    the gap between them separates sharp edges from slightly blurred ones.
    """
    return windowed_mean(cv2.filter2D(plane, cv2.CV_32F, ring_kernel(sigma)) ** 2, window, step)


@source("Krotkov 1988, doi:10.1007/BF00127822.")
def tenengrad(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Energy of the Sobel gradient: mean of (∂I/∂x)² + (∂I/∂y)² [GRA6]."""
    return windowed_mean(sobel_energy(plane, sigma), window, step)


@source("Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548.")
def tenengrad_variance(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Variance of the Sobel gradient's magnitude [GRA7]."""
    return windowed_variance(np.sqrt(sobel_energy(plane, sigma)), window, step)


@source("Subbarao, Choi & Nikzad 1993, doi:10.1117/12.147706.")
def gradient_energy(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Mean of the squared differences to the pixels below and to the right [GRA2]."""
    across, down = derivatives(gaussian_blur(plane, sigma), [0, -1, 1])
    return windowed_mean(across**2 + down**2, window, step)


@source(
    "Geusebroek et al. 2000, doi:10.1002/(SICI)1097-0320(20000101)39:1<1::AID-CYTO2>3.0.CO;2-J."
)
def gaussian_derivative(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Energy of the first derivatives of a Gaussian, central differences [GRA1]."""
    across, down = derivatives(gaussian_blur(plane, sigma), [-0.5, 0, 0.5])
    return windowed_mean(across**2 + down**2, window, step)


@source("Brenner et al. 1976, doi:10.1177/24.1.1254907.")
def brenner(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Mean of the squared differences to the pixels two below and two to the right [MIS2]."""
    across, down = derivatives(gaussian_blur(plane, sigma), [0, 0, -1, 0, 1])
    return windowed_mean(across**2 + down**2, window, step)


@source("Yang & Nelson 2003, doi:10.1109/CVPR.2003.1211401.")
def wavelet_sum(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Mean of the absolute details of the undecimated db2 wavelet, one level [WAV1]."""
    *details, _ = wavelet_bands(plane, sigma)
    return windowed_mean(np.sum(np.abs(details), axis=0), window, step)


@source("Yang & Nelson 2003, doi:10.1109/CVPR.2003.1211401.")
def wavelet_variance(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Sum of the variances of the details of the undecimated db2 wavelet, one level [WAV2]."""
    *details, _ = wavelet_bands(plane, sigma)
    return np.asarray(np.sum([windowed_variance(d, window, step) for d in details], axis=0))


@source("Xie, Rong & Sun 2006, doi:10.1117/1.2205846.")
def wavelet_ratio(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Energy of details over variance of the approximation, undecimated db2 wavelet [WAV3]."""
    *details, coarse = wavelet_bands(plane, sigma)
    energy = windowed_mean(np.sum(np.square(details), axis=0), window, step)
    light = windowed_mean(coarse**2, window, step)
    return ratio(energy, windowed_variance(coarse, window, step), light)


@source("Krotkov & Martin 1986, doi:10.1109/ROBOT.1986.1087510.")
def variance(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Grey-level variance within the window [STA3]."""
    return windowed_variance(gaussian_blur(plane, sigma), window, step)


@source("Santos et al. 1997, doi:10.1046/j.1365-2818.1997.2630819.x.")
def normalised_variance(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Grey-level variance over the mean, independent of the brightness [STA5]."""
    blurred = gaussian_blur(plane, sigma)
    light = windowed_mean(np.abs(blurred), window, step)
    return ratio(windowed_variance(blurred, window, step), light, light)


@source("Zhang et al. 2000, doi:10.1117/1.1289351.")
def third_moment(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Mean of the cubed distance to the local mean; strong details weigh more than in variance."""
    blurred = gaussian_blur(plane, sigma)
    return windowed_mean(np.abs(blurred - windowed_mean(blurred, window)) ** 3, window, step)


@source("Vollath 1987, doi:10.1111/j.1365-2818.1987.tb02839.x.")
def vollath(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Decrease of the autocorrelation from a shift of one pixel to two, both ways [MIS1].

    The local mean is subtracted first. Noise that is independent between pixels cancels.
    """
    blurred = gaussian_blur(plane, sigma)
    centred = blurred - windowed_mean(blurred, window)
    across, down = derivatives(centred, [0, 0, 0, 1, -1])
    return windowed_mean(centred * (across + down), window, step)


@source("Baina & Dublet 1995, doi:10.1049/cp:19950657.")
def dct_energy(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Energy of the cosine transform of 4 × 4 pixels, without the mean."""
    details = [d for (u, v), d in cosine_bands(plane, sigma).items() if u + v > 0]
    return windowed_mean(np.sum(np.square(details), axis=0), window, step)


@source("Lee et al. 2008, doi:10.1109/TCE.2008.4637583.")
def dct_reduced(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Energy of the middle frequencies of 4 × 4 pixels over that of the lowest [DCT2]."""
    bands = cosine_bands(plane, sigma)
    middle = np.sum([d**2 for (u, v), d in bands.items() if 2 <= u + v <= 3], axis=0)
    low = bands[0, 1] ** 2 + bands[1, 0] ** 2
    light = windowed_mean(bands[0, 0] ** 2, window, step)
    return ratio(windowed_mean(middle, window, step), windowed_mean(low, window, step), light)


@source("Helmli & Scherer 2001, doi:10.1109/ISPA.2001.938626.")
def helmli(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Ratio of pixel and local mean, the larger over the smaller, minus 1 [MIS5]."""
    blurred = gaussian_blur(plane, sigma)
    mean = np.maximum(windowed_mean(blurred, window), 1e-6)
    blurred = np.maximum(blurred, MIN_RELATIVE_GREY * mean)
    return windowed_mean(np.maximum(mean / blurred, blurred / mean) - 1, window, step)


@source("Minhas et al. 2009, doi:10.1007/978-3-642-02611-9_57.")
def steerable(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Strongest response of an oriented Gaussian derivative, eight directions [MIS7]."""
    across, down = derivatives(gaussian_blur(plane, sigma), [-0.5, 0, 0.5])
    best = np.zeros_like(plane)
    for angle in np.arange(8) * np.pi / 8:
        np.maximum(best, np.abs(np.cos(angle) * across + np.sin(angle) * down), out=best)
    return windowed_mean(best**2, window, step)


@source(
    "Nanda & Cutler 2001, Practical calibrations for a real-time digital omnidirectional camera."
)
def contrast(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Mean absolute difference to the eight neighbours [MIS3]."""
    blurred = gaussian_blur(plane, sigma)
    neighbours = np.lib.stride_tricks.sliding_window_view(
        np.pad(blurred, 1, mode="reflect"), plane.shape
    )
    total = sum(np.abs(blurred - each) for row in neighbours for each in row)
    return windowed_mean(total / 8, window, step)


@source("Helmli & Scherer 2001, doi:10.1109/ISPA.2001.938626.")
def curvature(plane: Image, sigma: float, window: float, step: int = 1) -> Image:
    """Sum of the absolute coefficients of a quadratic surface fitted to 3 × 3 pixels [MIS4]."""
    blurred = gaussian_blur(plane, sigma)
    flat, slope, bend = [1, 1, 1], [-1, 0, 1], [1, -2, 1]
    kernels = ((flat, slope), (slope, flat), (flat, bend), (bend, flat))
    terms = [np.abs(correlate(blurred, down, across)) / 6 for down, across in kernels]
    return windowed_mean(np.sum(terms, axis=0), window, step)


# Each operator is the function of its name.
OPERATORS: dict[Operator, Measure] = {name: globals()[name] for name in get_args(Operator)}
