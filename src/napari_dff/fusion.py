"""The all-in-focus image: every pixel from where it is sharpest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from napari_dff import checks
from napari_dff.compiled import kernel
from napari_dff.images import as_dtype
from napari_dff.lazy import load_planes, read_plane
from napari_dff.progress import Progress, no_progress
from napari_dff.recipe import Fusion
from napari_dff.stack import fractional_plane_index, validate_planes, validate_positions
from napari_dff.threads import run_parallel
from napari_dff.validation import as_numbers, check_finite
from napari_dff.windows import Window, full_window, plan_windows

WIDTHS = (0.0, 0.7, 1.2)  # planes, standard deviations of the mixes of `noise_aware`; 0 is linear
DETAIL = 1.5  # pixels over which `noise_aware` compares detail with noise
STEADY = 8.0  # pixels over which noise is taken to be the same
SHRUNK = 4  # times, for the map of the noise
DEPTH_STEPS_PER_PLANE = 256  # of a plane, to which the depth is rounded where planes are mixed
FARTHEST = 4  # planes from the depth that take part in a mix
REACHES = {"noise_aware": 36, "linear": 0, "nearest": 0, "pyramid": 0}  # pixels around a window
PICTURES = 20  # float32 pictures of a window that are held at a time
LEVELS = 5  # of the pyramid
FINEST, GROWTH = 0.4, 1.5  # planes mixed at its finest level, and times more at each coarser one
TINY = np.float32(1e-12)
COMPILED = (np.uint8, np.uint16, np.float32)  # pixels that planes are mixed from as they are


def all_in_focus(
    planes: Any,  # (Z, Y, X[, 3])
    depth: np.ndarray,  # (Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    fusion: Fusion = "noise_aware",
    progress: Progress = no_progress,
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
        Told of each window of pixels; may raise to cancel.

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
    planes, depth = validate_planes(planes), as_numbers("depth", depth)
    checks.check_choice("fusion", fusion, FUSIONS)
    if depth.shape != tuple(planes.shape[1:3]):
        raise ValueError(
            f"depth must have the shape of a plane, {tuple(planes.shape[1:3])}, got {depth.shape}"
        )
    check_finite("depth", depth)
    planes = load_planes(planes, progress)
    at = validate_positions(positions, len(planes))
    out = np.empty(planes.shape[1:], planes.dtype)
    shape = planes.shape[1:3]

    def fill(wanted: Window) -> None:
        around = wanted.expand(REACHES[fusion], shape)
        pictures = _Pictures(planes, around)
        picture = FUSIONS[fusion](pictures, fractional_plane_index(depth[around.slices], at))
        out[wanted.slices] = as_dtype(picture[wanted.slices_in(around)], out.dtype)

    held = PICTURES * int(np.prod(planes.shape[3:]))
    tiles = (
        [full_window(shape)] if fusion == "pyramid" else plan_windows(shape, held, REACHES[fusion])
    )
    run_parallel(fill, tiles, progress, desc="Fusing")
    return out


class _Pictures:
    """The planes of one window, read when they are needed."""

    def __init__(self, planes: np.ndarray, window: Window) -> None:
        self._planes, self._window = planes, window

    def __len__(self) -> int:
        return len(self._planes)

    def __getitem__(self, i: int) -> np.ndarray:
        """Plane `i`, (Y, X[, 3]) float32."""
        return read_plane(self._planes, i, self._window.slices).astype(np.float32)

    def raw(self) -> np.ndarray:
        """All of them as they are, (Z, Y, X, C)."""
        if self._planes.dtype.kind == "f":
            for i in range(len(self)):
                read_plane(self._planes, i, self._window.slices)  # tells what isn't finite
        cut: np.ndarray = self._planes[(slice(None), *self._window.slices)]
        return cut if cut.ndim == 4 else cut[..., None]

    def picked(self, which: np.ndarray) -> np.ndarray:
        """Each pixel from the plane `which`, (Y, X), says: (Y, X[, 3]), dtype of the planes."""
        picked = np.take_along_axis(self.raw(), which[None, ..., None], axis=0)[0]
        return picked.reshape(which.shape + self._planes.shape[3:])


def nearest(pictures: _Pictures, at: np.ndarray) -> np.ndarray:
    """Each pixel from the plane nearest to its depth."""
    return pictures.picked(np.rint(at).astype(np.intp))


def linear(pictures: _Pictures, at: np.ndarray) -> np.ndarray:
    """Each pixel from the two planes nearest to its depth, in proportion."""
    below = np.minimum(at.astype(np.intp), len(pictures) - 2)
    low, high = (pictures.picked(k).astype(np.float32) for k in (below, below + 1))
    return low + _spread(at - below, low) * (high - low)


def noise_aware(pictures: _Pictures, at: np.ndarray) -> np.ndarray:
    """Linear mix where there is detail, more and more planes mixed where there is only noise.

    From the widest mix to the narrowest, the difference to the next is added to the share in which
    its local variance exceeds what noise alone would give it (Wiener's rule). The noise is that
    of the plane in which a neighbourhood is least sharp.
    """
    noise = noise_variance(pictures[0])
    for i in range(1, len(pictures)):
        np.minimum(noise, noise_variance(pictures[i]), out=noise)
    noise = cv2.resize(noise, at.shape[::-1], interpolation=cv2.INTER_LINEAR)
    weights = mixing_weights()
    apart = np.sum(np.diff(weights, axis=0) ** 2, axis=2)  # by how much two mixes differ
    raw = pictures.raw()
    if raw.dtype not in COMPILED:  # numba doesn't know all of the others
        raw = raw.astype(np.float32)
    mixes, level = _mixes(raw, at, weights)
    squares = apart[:, level]
    mixes = mixes.reshape(-1, *noise.shape)
    result = mixes[-1]
    for j in range(len(WIDTHS) - 2, -1, -1):
        difference = mixes[j] - mixes[j + 1]
        energy = cv2.GaussianBlur(difference**2, (0, 0), DETAIL)
        expected = noise * _spread(squares[j], difference)
        result = result + difference * np.maximum(0, 1 - expected / np.maximum(energy, TINY))
    return result


@functools.cache
def mixing_weights() -> np.ndarray:
    """Weights of the planes around a depth, one row a mix.

    (M, `DEPTH_STEPS_PER_PLANE` + 1, 2 `FARTHEST` + 1).

    They fall to 0 within one plane (width 0) or like a Gaussian, and sum to 1; the second axis is
    how far the depth lies past a plane.
    """
    past = np.linspace(0, 1, DEPTH_STEPS_PER_PLANE + 1)[:, None]
    away = np.abs(np.arange(-FARTHEST, FARTHEST + 1) - past)
    rows = [
        np.maximum(1 - away, 0) if width == 0 else np.exp(-((away / width) ** 2) / 2)
        for width in WIDTHS
    ]
    weights = np.array([row / row.sum(axis=1, keepdims=True) for row in rows], np.float32)
    weights.flags.writeable = False
    return weights


@kernel
def _mixes(pictures, at, weights):  # type: ignore[no-untyped-def]
    """Mixes of the planes around `at`, one a row of `weights`: (M, Y, X, C); and the rows' place.

    Beyond the first and the last plane there is none: the weights of the others grow.
    """
    count, height, width, channels = pictures.shape
    number, _, size = weights.shape
    mixes = np.zeros((number, height, width, channels), np.float32)
    level = np.empty((height, width), np.int64)
    for y in range(height):
        for x in range(width):
            middle = min(int(at[y, x]), count - 1)
            place = int((at[y, x] - middle) * np.float32(DEPTH_STEPS_PER_PLANE) + np.float32(0.5))
            level[y, x] = place
            first, last = max(FARTHEST - middle, 0), min(size, count - middle + FARTHEST)
            for d in range(first, last):
                k = middle + d - FARTHEST
                for c in range(channels):
                    value = np.float32(pictures[k, y, x, c])
                    for j in range(number):
                        mixes[j, y, x, c] += weights[j, place, d] * value
            if last - first < size:
                for j in range(number):
                    total = np.float32(0)
                    for d in range(first, last):
                        total += weights[j, place, d]
                    for c in range(channels):
                        mixes[j, y, x, c] /= total
    return mixes, level


def pyramid(pictures: _Pictures, at: np.ndarray) -> np.ndarray:
    """Laplacian pyramid, each level mixed around the depth, coarser ones from more planes."""
    sums: list[np.ndarray] = []
    totals: list[np.ndarray] = []
    for i in range(len(pictures)):
        for level, band in enumerate(_bands(pictures[i])):
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
    """Variance of the noise, from second differences of second differences, at every `SHRUNK`."""
    kernel = np.array([1.0, -2.0, 1.0])
    residue = cv2.sepFilter2D(picture, cv2.CV_32F, kernel, kernel)
    size = tuple(-(-n // SHRUNK) for n in residue.shape[1::-1])
    energy = cv2.resize(residue**2, size, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(energy, (0, 0), STEADY / SHRUNK) / 36


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


def _weight(at: np.ndarray, i: int, width: float) -> np.ndarray:
    """Weight of plane `i`, falling like a Gaussian with the distance to `at`."""
    return np.exp(-(((at - np.float32(i)) / np.float32(width)) ** 2) / 2)


def _spread(weight: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """(…, Y, X) weight with the channels of `picture`."""
    return weight if picture.ndim == 2 else weight[..., None]


FUSIONS: dict[str, Callable[[_Pictures, np.ndarray], np.ndarray]] = {
    "noise_aware": noise_aware,
    "linear": linear,
    "nearest": nearest,
    "pyramid": pyramid,
}
