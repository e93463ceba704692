"""Focus operators: one grey plane in, its focus map out.

Each takes a (Y, X) float32 plane, `sigma` (standard deviation in pixels of the Gaussian that comes
before it), `window` (width in pixels over which the measure is averaged) and `step`, and gives the
measure at every `step`-th pixel: (Y / step, X / step) float32. The families and the letters in
brackets are those of Pertuz, Puig & Garcia 2013, doi:10.1016/j.patcog.2012.11.011, where the
sources of all of them are found.

The average is a Gaussian with the variance of a box of that width: a box prints its corners on the
depth map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, sqrt
from typing import get_args

import cv2
import numpy as np

from napari_dff.images import block_means
from napari_dff.recipe import Operator

ROUNDING = 1e-6  # of a grey level: smaller differences are those of float32
DARKEST = np.float32(0.01)  # of its surroundings, that a black pixel is taken for
FAINT = np.float32(1e-9)  # of the light's square: contrast with less energy is none


def average(values: np.ndarray, window: float, step: int = 1) -> np.ndarray:
    """Mean of (Y, X) `values` over a Gaussian window with the variance of a box `window` wide.

    At every `step`-th pixel: means of step × step pixels, blurred by what is missing.
    """
    variance = (window**2 - 1) / 12
    if step == 1:
        return smooth(values, sqrt(variance))
    return smooth(block_means(values, step), sqrt((variance - (step**2 - 1) / 12) / step**2))


def smooth(plane: np.ndarray, sigma: float) -> np.ndarray:
    """(Y, X) `plane` blurred by a Gaussian of `sigma` pixels; unchanged where `sigma` is 0."""
    return plane if sigma == 0 else cv2.GaussianBlur(plane, (0, 0), sigma)


def spread(values: np.ndarray, window: float, step: int = 1) -> np.ndarray:
    """Variance of (Y, X) `values` within the window, at every `step`-th pixel."""
    exact = values.astype(np.float64)  # whose squares have digits left when they are subtracted
    squares = average(exact**2, window, step)
    variance = squares - average(exact, window, step) ** 2
    variance[variance < ROUNDING**2 * squares] = 0  # saturated or black: nothing to focus on
    return variance.astype(np.float32)


def reach(name: str, sigma: float, window: float) -> int:
    """How many pixels around a pixel the operator `name` looks at."""
    averages = 2 if name in ("helmli", "third_moment", "vollath") else 1
    return ceil(4 * max(sigma, 0.5)) + 3 + averages * ceil(4 * sqrt((window**2 - 1) / 12) + 1)


def filtered(plane: np.ndarray, down: Sequence[float], across: Sequence[float]) -> np.ndarray:
    """Correlation with the outer product of two short kernels."""
    return cv2.sepFilter2D(plane, cv2.CV_32F, np.array(across, float), np.array(down, float))


# Laplacian ---------------------------------------------------------------------------------------


def log(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the Laplacian of Gaussian: mean of (∇² G_σ * I)² [LAP1 after a Gaussian].

    Marr & Hildreth 1980, doi:10.1098/rspb.1980.0020.
    """
    return average(np.square(cv2.Laplacian(smooth(plane, sigma), cv2.CV_32F)), window, step)


def laplacian(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the five-point Laplacian, `sigma` ignored: mean of (∇² I)² [LAP1].

    Subbarao, Choi & Nikzad 1993, doi:10.1117/12.147706.
    """
    return average(np.square(cv2.Laplacian(plane, cv2.CV_32F)), window, step)


def modified_laplacian(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Sum-modified-Laplacian: mean of |∂²I/∂x²| + |∂²I/∂y²| [LAP2].

    Nayar & Nakagawa 1994, doi:10.1109/34.308479.
    """
    blurred = smooth(plane, sigma)
    across = filtered(blurred, [0, 1, 0], [-1, 2, -1])
    down = filtered(blurred, [-1, 2, -1], [0, 1, 0])
    return average(np.abs(across) + np.abs(down), window, step)


def diagonal_laplacian(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Modified Laplacian with both diagonals, these divided by √2 [LAP3].

    Thelen et al. 2009, doi:10.1109/TIP.2008.2007049.
    """
    blurred = smooth(plane, sigma)
    fall = np.diag([-1.0, 2.0, -1.0])
    rise = fall[:, ::-1].copy()
    total = np.abs(cv2.filter2D(blurred, cv2.CV_32F, fall))
    total += np.abs(cv2.filter2D(blurred, cv2.CV_32F, rise))
    crossed = average(total, window, step) / np.float32(2**0.5)
    return modified_laplacian(plane, sigma, window, step) + crossed


def laplacian_variance(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Variance of the Laplacian within the window [LAP4].

    Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548.
    """
    return spread(cv2.Laplacian(smooth(plane, sigma), cv2.CV_32F), window, step)


def ring_difference(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the ring difference filter: mean of (inner disc - outer ring)².

    The disc has the radius `sigma` (at least the pixel itself), the ring reaches from twice to
    three times that: the gap between them tells sharp edges from slightly blurred ones. Surh et
    al. 2017, doi:10.1109/CVPR.2017.262.
    """
    return average(np.square(cv2.filter2D(plane, cv2.CV_32F, ring_kernel(sigma))), window, step)


def ring_kernel(sigma: float) -> np.ndarray:
    """Disc minus ring, each of sum 1, so that the kernel sums to 0."""
    inner = max(sigma, 0.5)
    half = int(np.ceil(3 * inner))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    radius = np.hypot(y, x)
    disc = (radius <= inner).astype(np.float64)
    ring = ((radius >= 2 * inner) & (radius <= 3 * inner)).astype(np.float64)
    return disc / disc.sum() - ring / ring.sum()


# Gradient ----------------------------------------------------------------------------------------


def tenengrad(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the Sobel gradient: mean of (∂I/∂x)² + (∂I/∂y)² [GRA6].

    Krotkov 1988, doi:10.1007/BF00127822.
    """
    return average(_sobel(plane, sigma), window, step)


def tenengrad_variance(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Variance of the Sobel gradient's magnitude [GRA7].

    Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548.
    """
    return spread(np.sqrt(_sobel(plane, sigma)), window, step)


def gradient_energy(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Mean of the squared differences to the next pixels [GRA2].

    Subbarao, Choi & Nikzad 1993, doi:10.1117/12.147706.
    """
    blurred = smooth(plane, sigma)
    across = filtered(blurred, [0, 1, 0], [0, -1, 1])
    down = filtered(blurred, [0, -1, 1], [0, 1, 0])
    return average(across**2 + down**2, window, step)


def gaussian_derivative(
    plane: np.ndarray, sigma: float, window: float, step: int = 1
) -> np.ndarray:
    """Energy of the first derivatives of a Gaussian, central differences [GRA1].

    Geusebroek et al. 2000, doi:10.1002/(SICI)1097-0320(20000101)39:1<1::AID-CYTO2>3.0.CO;2-J.
    """
    blurred = smooth(plane, sigma)
    across = filtered(blurred, [0, 1, 0], [-0.5, 0, 0.5])
    down = filtered(blurred, [-0.5, 0, 0.5], [0, 1, 0])
    return average(across**2 + down**2, window, step)


def brenner(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Mean of the squared differences to the pixels two on, both ways [MIS2].

    Brenner et al. 1976, doi:10.1177/24.1.1254907.
    """
    blurred = smooth(plane, sigma)
    across = filtered(blurred, [0, 0, 1, 0, 0], [0, 0, -1, 0, 1])
    down = filtered(blurred, [0, 0, -1, 0, 1], [0, 0, 1, 0, 0])
    return average(across**2 + down**2, window, step)


# Wavelet -----------------------------------------------------------------------------------------


def wavelet_sum(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Mean of the absolute detail coefficients [WAV1].

    Undecimated db2 wavelet, one level. Yang & Nelson 2003, doi:10.1109/CVPR.2003.1211401.
    """
    return average(_sum([np.abs(d) for d in _details(plane, sigma)[:3]]), window, step)


def wavelet_variance(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Sum of the variances of the detail coefficients [WAV2].

    Undecimated db2 wavelet, one level. Yang & Nelson 2003, doi:10.1109/CVPR.2003.1211401.
    """
    return _sum([spread(d, window, step) for d in _details(plane, sigma)[:3]])


def wavelet_ratio(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the details over that of the approximation about its mean [WAV3].

    Undecimated db2 wavelet, one level. Xie, Rong & Sun 2006, doi:10.1117/1.2205846.
    """
    *details, coarse = _details(plane, sigma)
    energy = average(_sum([d**2 for d in details]), window, step)
    return _ratio(energy, spread(coarse, window, step), average(coarse**2, window, step))


# Statistics --------------------------------------------------------------------------------------


def variance(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Grey-level variance within the window [STA3].

    Krotkov & Martin 1986, doi:10.1109/ROBOT.1986.1087510.
    """
    return spread(smooth(plane, sigma), window, step)


def normalised_variance(
    plane: np.ndarray, sigma: float, window: float, step: int = 1
) -> np.ndarray:
    """Grey-level variance over the mean: steady where the light isn't [STA5].

    Santos et al. 1997, doi:10.1046/j.1365-2818.1997.2630819.x.
    """
    blurred = smooth(plane, sigma)
    light = average(np.abs(blurred), window, step)
    return _ratio(spread(blurred, window, step), light, light)


def third_moment(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Mean of the cubed distance to the local mean.

    A central moment above the second weighs few strong details more. Zhang, Zhang & Wen 2000,
    doi:10.1117/1.1289351.
    """
    blurred = smooth(plane, sigma)
    return average(np.abs(blurred - average(blurred, window)) ** 3, window, step)


def vollath(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Loss of autocorrelation from one pixel's distance to two, both ways [MIS1].

    Of the difference to the local mean. Vollath 1987, doi:10.1111/j.1365-2818.1987.tb02839.x; noise
    between pixels cancels.
    """
    blurred = smooth(plane, sigma)
    centred = blurred - average(blurred, window)
    one, next_less_second = [0, 0, 1, 0, 0], [0, 0, 0, 1, -1]
    across = filtered(centred, one, next_less_second)
    down = filtered(centred, next_less_second, one)
    return average(centred * (across + down), window, step)


# Discrete cosine transform -----------------------------------------------------------------------


def dct_energy(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the cosine transform of 4 × 4 pixels without its mean.

    Baina & Dublet 1995, doi:10.1049/cp:19950657.
    """
    energy = _sum([d**2 for (u, v), d in _cosines(plane, sigma) if u + v > 0])
    return average(energy, window, step)


def dct_reduced(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Energy of the middle frequencies of 4 × 4 pixels over that of the lowest [DCT2].

    Lee et al. 2008, doi:10.1109/TCE.2008.4637583.
    """
    parts = dict(_cosines(plane, sigma))
    middle = _sum([d**2 for (u, v), d in parts.items() if 2 <= u + v <= 3])
    low = parts[0, 1] ** 2 + parts[1, 0] ** 2
    light = average(parts[0, 0] ** 2, window, step)
    return _ratio(average(middle, window, step), average(low, window, step), light)


# Miscellaneous -----------------------------------------------------------------------------------


def helmli(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Ratio of a pixel and its local mean, whichever is larger, above 1 [MIS5].

    Helmli & Scherer 2001, doi:10.1109/ISPA.2001.938626.
    """
    blurred = smooth(plane, sigma)
    mean = np.maximum(average(blurred, window), 1e-6)
    blurred = np.maximum(blurred, DARKEST * mean)
    return average(np.maximum(mean / blurred, blurred / mean) - 1, window, step)


def steerable(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Strongest response of an oriented Gaussian derivative, eight directions [MIS7].

    Minhas et al. 2009, doi:10.1007/978-3-642-02611-9_57.
    """
    blurred = smooth(plane, sigma)
    across = filtered(blurred, [0, 1, 0], [-0.5, 0, 0.5])
    down = filtered(blurred, [-0.5, 0, 0.5], [0, 1, 0])
    best = np.zeros_like(blurred)
    for angle in np.arange(8) * np.pi / 8:
        np.maximum(best, np.abs(np.cos(angle) * across + np.sin(angle) * down), out=best)
    return average(best**2, window, step)


def contrast(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Mean absolute difference to the eight neighbours [MIS3].

    Nanda & Cutler 2001, Practical calibrations for a real-time digital omnidirectional camera.
    """
    blurred = smooth(plane, sigma)
    padded = np.pad(blurred, 1, mode="reflect")
    height, width = blurred.shape
    total = np.zeros_like(blurred)
    for v in range(3):
        for u in range(3):
            total += np.abs(blurred - padded[v : v + height, u : u + width])
    return average(total / 8, window, step)


def curvature(plane: np.ndarray, sigma: float, window: float, step: int = 1) -> np.ndarray:
    """Coefficients of a quadratic surface fitted to 3 × 3 pixels, in sum [MIS4].

    Helmli & Scherer 2001, doi:10.1109/ISPA.2001.938626.
    """
    blurred = smooth(plane, sigma)
    flat, slope, bend = [1, 1, 1], [-1, 0, 1], [1, -2, 1]
    kernels = ((flat, slope), (slope, flat), (flat, bend), (bend, flat))
    terms = [np.abs(filtered(blurred, down, across)) / 6 for down, across in kernels]
    return average(_sum(terms), window, step)


def _sobel(plane: np.ndarray, sigma: float) -> np.ndarray:
    blurred = smooth(plane, sigma)
    return cv2.Sobel(blurred, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(blurred, cv2.CV_32F, 0, 1) ** 2


def _details(plane: np.ndarray, sigma: float) -> list[np.ndarray]:
    """Undecimated db2 coefficients of one level: three details, then the approximation."""
    root = np.sqrt(3.0)
    low = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * np.sqrt(2.0))
    high = low[::-1] * [1, -1, 1, -1]
    # A kernel of even length is padded, so that all four are centred alike.
    smooth_, detail = [0.0, *low], [0.0, *high]
    blurred = smooth(plane, sigma)
    pairs = ((smooth_, detail), (detail, smooth_), (detail, detail), (smooth_, smooth_))
    return [filtered(blurred, down, across) for down, across in pairs]


def _cosines(plane: np.ndarray, sigma: float) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Cosine transform of the 4 × 4 pixels around every pixel, by frequency down and across."""
    blurred = smooth(plane, sigma)
    n = np.arange(4)
    basis = [
        [0.0, *(np.sqrt((1 if k == 0 else 2) / 4) * np.cos(np.pi * (2 * n + 1) * k / 8))]
        for k in range(4)
    ]
    return [((u, v), filtered(blurred, basis[u], basis[v])) for u in range(4) for v in range(4)]


def _sum(parts: list[np.ndarray]) -> np.ndarray:
    return np.asarray(np.sum(parts, axis=0))


def _ratio(above: np.ndarray, below: np.ndarray, light: np.ndarray) -> np.ndarray:
    """`above` / `below`, held where that is nothing against the `light`."""
    return above / np.maximum(below, FAINT * light + np.float32(1e-30))


OPERATORS: dict[str, Callable[[np.ndarray, float, float, int], np.ndarray]] = {
    name: globals()[name] for name in get_args(Operator)
}
