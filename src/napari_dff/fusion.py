"""The all-in-focus image: every pixel from where it is sharpest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from napari_dff import checks
from napari_dff.progress import Progress, silent
from napari_dff.stack import as_dtype, check_planes, checked_positions, read_plane

Fusion = Literal["noise_aware", "linear", "nearest", "pyramid"]
WIDTHS = (0.0, 0.7, 1.2)  # planes, standard deviations of the mixes of `noise_aware`; 0 is linear
DETAIL = 1.5  # pixels over which `noise_aware` compares detail with noise
STEADY = 8.0  # pixels over which noise is taken to be the same
LEVELS = 5  # of the pyramid
FINEST, GROWTH = 0.4, 1.5  # planes mixed at its finest level, and times more at each coarser one
TINY = np.float32(1e-12)


def all_in_focus(
    planes: Any,  # (Z, Y, X[, 3])
    depth: np.ndarray,  # (Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    fusion: Fusion = "noise_aware",
    progress: Progress = silent,
) -> np.ndarray:  # (Y, X[, 3])
    """All-in-focus image of a stack whose depth is known.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type, read plane by plane.
    depth : (Y, X) float array
        In the unit of `positions`; beyond the first or last plane that plane is taken.
    positions : (Z,) array, optional
        Focus position of each plane, strictly rising or falling; 0 … Z-1 when None.
    fusion : {"noise_aware", "linear", "nearest", "pyramid"}
        The two nearest planes mixed in proportion, and more planes where more of them gain more
        in noise than they lose in detail; just the two; the nearest plane alone; a Laplacian
        pyramid whose coarser levels mix more planes. All channels take the same planes.
    progress : Progress
        Told of each plane; may raise to cancel.

    Returns
    -------
    (Y, X) or (Y, X, 3), dtype of `planes`

    Raises
    ------
    ValueError
        For a wrong argument.

    References
    ----------
    Suwajanakorn et al. 2015, doi:10.1109/CVPR.2015.7298972 (mix by depth).
    Burt & Kolczynski 1993, doi:10.1109/ICCV.1993.378222 (pyramid fusion).
    Immerkær 1996, doi:10.1006/cviu.1996.0060 (noise of an image).
    """
    check_planes(planes)
    checks.one_of("fusion", fusion, FUSIONS)
    if depth.shape != tuple(planes.shape[1:3]):
        raise ValueError(
            f"depth must have the shape of a plane, {tuple(planes.shape[1:3])}, got {depth.shape}"
        )
    if not np.isfinite(depth).all():
        raise ValueError("depth must be finite everywhere, got NaN or infinite values")
    at = fractional_index(depth, checked_positions(positions, planes.shape[0]))
    pictures = (
        read_plane(planes, i).astype(np.float32)
        for i in progress(range(planes.shape[0]), desc="Fusing")
    )
    return as_dtype(FUSIONS[fusion](pictures, at), np.dtype(planes.dtype))


def fractional_index(depth: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Depth → plane number with fraction, (Y, X) float32, 0 … Z-1."""
    order = np.argsort(positions)
    return np.interp(depth, positions[order], order.astype(np.float64)).astype(np.float32)


def nearest(pictures: Iterable[np.ndarray], at: np.ndarray) -> np.ndarray:
    """Each pixel from the plane nearest to its depth."""
    return _mix(pictures, lambda i: (np.rint(at) == i).astype(np.float32))


def linear(pictures: Iterable[np.ndarray], at: np.ndarray) -> np.ndarray:
    """Each pixel from the two planes nearest to its depth, in proportion."""
    return _mix(pictures, lambda i: _weight(at, i, 0))


def noise_aware(pictures: Iterable[np.ndarray], at: np.ndarray) -> np.ndarray:
    """Linear mix where there is detail, more and more planes mixed where there is only noise.

    From the widest mix to the narrowest, the difference to the next is added to the share in which
    its local variance exceeds what noise alone would give it (Wiener's rule). The noise is that
    of the plane in which a neighbourhood is least sharp.
    """
    sums: list[Any] = [0.0] * len(WIDTHS)
    totals: list[Any] = [0.0] * len(WIDTHS)
    products: list[Any] = [0.0] * (len(WIDTHS) - 1)
    own: list[Any] = [0.0] * len(WIDTHS)
    noise: Any = np.inf
    for i, picture in enumerate(pictures):
        noise = np.minimum(noise, noise_variance(picture))
        weights = [_weight(at, i, width) for width in WIDTHS]
        for j, weight in enumerate(weights):
            sums[j] = sums[j] + picture * _spread(weight, picture)
            totals[j] = totals[j] + weight
            own[j] = own[j] + weight**2
            if j:
                products[j - 1] = products[j - 1] + weight * weights[j - 1]
    mixes = [s / _spread(np.maximum(t, TINY), s) for s, t in zip(sums, totals, strict=True)]
    result = mixes[-1]
    for j in range(len(WIDTHS) - 2, -1, -1):
        narrow, wide = np.maximum(totals[j], TINY), np.maximum(totals[j + 1], TINY)
        # Σ (w_narrow - w_wide)²: how much of a plane's noise variance the difference has.
        squares = own[j] / narrow**2 + own[j + 1] / wide**2 - 2 * products[j] / (narrow * wide)
        difference = mixes[j] - mixes[j + 1]
        energy = cv2.GaussianBlur(difference**2, (0, 0), DETAIL)
        expected = noise * _spread(np.maximum(squares, 0), difference)
        result = result + difference * np.maximum(0, 1 - expected / np.maximum(energy, TINY))
    return result


def pyramid(pictures: Iterable[np.ndarray], at: np.ndarray) -> np.ndarray:
    """Laplacian pyramid, each level mixed around the depth, coarser ones from more planes."""
    sums: list[np.ndarray] = []
    totals: list[np.ndarray] = []
    for i, picture in enumerate(pictures):
        for level, band in enumerate(_bands(picture)):
            weight = _weight(at, i, FINEST * GROWTH**level)
            for _ in range(level):
                weight = cv2.pyrDown(weight)
            if i == 0:
                sums.append(np.zeros_like(band))
                totals.append(np.full(weight.shape, TINY))
            sums[level] += band * _spread(weight, band)
            totals[level] += weight
    bands = [s / _spread(t, s) for s, t in zip(sums, totals, strict=True)]
    result = bands[-1]
    for band in bands[-2::-1]:
        result = cv2.pyrUp(result, dstsize=(band.shape[1], band.shape[0])) + band
    return result


def noise_variance(picture: np.ndarray) -> np.ndarray:
    """Variance of the noise around each pixel, from second differences of second differences."""
    kernel = np.array([1.0, -2.0, 1.0])
    residue = cv2.sepFilter2D(picture, cv2.CV_32F, kernel, kernel)
    return cv2.GaussianBlur(residue**2, (0, 0), STEADY) / 36


def _bands(picture: np.ndarray) -> list[np.ndarray]:
    """Laplacian pyramid: differences from fine to coarse, then the coarsest picture."""
    bands = []
    for _ in range(LEVELS):
        if min(picture.shape[:2]) < 16:
            break
        coarse = cv2.pyrDown(picture)
        bands.append(picture - cv2.pyrUp(coarse, dstsize=(picture.shape[1], picture.shape[0])))
        picture = coarse
    return [*bands, picture]


def _mix(pictures: Iterable[np.ndarray], weight: Callable[[int], np.ndarray]) -> np.ndarray:
    total: Any = 0.0
    for i, picture in enumerate(pictures):
        total = total + picture * _spread(weight(i), picture)
    return np.asarray(total)


def _weight(at: np.ndarray, i: int, width: float) -> np.ndarray:
    """Weight of plane `i`: falls to 0 within one plane (`width` 0) or like a Gaussian."""
    away = np.abs(at - np.float32(i))
    return np.maximum(1 - away, 0) if width == 0 else np.exp(-((away / np.float32(width)) ** 2) / 2)


def _spread(weight: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """(Y, X) weight with the channels of `picture`."""
    return weight if picture.ndim == 2 else weight[..., None]


FUSIONS: dict[str, Callable[[Iterable[np.ndarray], np.ndarray], np.ndarray]] = {
    "noise_aware": noise_aware,
    "linear": linear,
    "nearest": nearest,
    "pyramid": pyramid,
}
