"""Comparison of an all-in-focus image with its planes: edges that no plane has, and sharpness.

Strategy
--------
Of the luminance I of the image and P_k of its aligned planes,

    seams = Σ min_k |∇I - ∇P_k|² / Σ |∇I|²,    sharpness = median (E(I) / max_k E(P_k)),

with Sobel gradients ∇, and E the mean squared Laplacian in a window. White noise of variance s² in
a plane has the Laplacian energy 20 s² and the gradient energy 0.375 s², the sums of the squared
weights of both filters. Noise that was averaged is missing in I, so it counts as a seam: up to
0.375 / 20 min_k E(P_k) at each pixel.

Rows are computed in bands around every 16th row of the plane, and sharpness is sampled in the
middle row of each. A band stays in the cache of the processor for all planes. Bands lie at the same
rows in every tile, so the numbers hardly depend on the tiles. All of it takes about 2 % of a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np

from napari_dff.curve.plane_mask import PlaneMaskReader, has_enough_planes
from napari_dff.imaging.images import luminance
from napari_dff.model.result import ImageQuality
from napari_dff.runtime.jit import kernel
from napari_dff.runtime.lazy import release_mapped_pages
from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.windows import Window, full_window

MARGIN_PX = 8  # around a window: half of `WINDOW_PX`, and one for the Laplacian
WINDOW_PX = 15  # of the mean squared Laplacian
BAND_STEP_PX, FIRST_BAND_PX = 16, 4  # rows between the middles of bands, and the first of them
SAMPLE_STEP_PX = 8  # columns between samples of the sharpness
NOISE_GRADIENT = np.float32(0.375 / 20)  # gradient energy of noise over its Laplacian energy
TINY = 1e-300


class ImageComparison(NamedTuple):
    """Comparison of a part of an all-in-focus image with its planes; see `ImageQuality`."""

    seams: float = 0.0  # gradient energy that is in no plane
    noise: float = 0.0  # of it: what noise in the planes explains
    energy: float = 0.0  # of all gradients
    sharpness: np.ndarray = np.empty(0, np.float32)  # of samples, over that of the sharpest plane

    @property
    def quality(self) -> ImageQuality | None:
        """The quality of the image; None if its values are too large to be squared."""
        if not np.isfinite(self.energy):
            return None
        energy = max(self.energy, TINY)
        sharpness = np.median(self.sharpness) if self.sharpness.size else 1.0
        return ImageQuality(self.seams / energy, self.noise / energy, float(sharpness))


def merge_comparisons(parts: Iterable[ImageComparison]) -> ImageComparison:
    """Return the comparison of all parts together."""
    seams, noise, energy, sharpness = zip(ImageComparison(), *parts, strict=True)
    return ImageComparison(sum(seams), sum(noise), sum(energy), np.concatenate(sharpness))


def image_quality(
    image: np.ndarray,  # (Y, X[, 3])
    planes: np.ndarray,  # (Z, Y, X[, 3]), aligned
    plane_mask: PlaneMaskReader = lambda window: None,
    progress: Progress = no_progress,
) -> ImageQuality | None:
    """Compare an all-in-focus image with the planes that have data, where enough of them have."""
    window = full_window((image.shape[0], image.shape[1]))
    return compare_with_planes(image, planes, plane_mask, window, window, progress).quality


def compare_with_planes(
    image: np.ndarray,  # (h, w[, 3])
    planes: np.ndarray,  # (Z, h, w[, 3])
    plane_mask: PlaneMaskReader,
    window: Window,
    outer: Window,
    progress: Progress,
) -> ImageComparison:
    """Compare one window of an image with the planes that have data, where enough of them have.

    Image and planes cover `outer`: the window with `MARGIN_PX` around it, as far as the plane
    extends.
    """
    columns = slice(window.left - outer.left, window.right - outer.left)
    samples = slice(columns.start + -window.left % SAMPLE_STEP_PX, columns.stop, SAMPLE_STEP_PX)

    def compare(middle: int) -> ImageComparison:
        band, inner = (
            outer._replace(
                top=max(middle - reach, outer.top), bottom=min(middle + reach + 1, outer.bottom)
            )
            for reach in (MARGIN_PX, WINDOW_PX // 2)
        )
        rows, mask = inner.slices_in(band)[0], plane_mask(band)
        arrays = image[band.slices_in(outer)], planes[(slice(None), *band.slices_in(outer))]
        with np.errstate(all="ignore"):  # values too large to be squared have no quality
            energies = _compare_band(*arrays, mask, rows, middle - band.top)
        release_mapped_pages(planes)
        least, gradient, low, ratio = energies
        valid = np.ones(band.shape, bool) if mask is None else has_enough_planes(mask)
        where, noise = valid[rows, columns], np.minimum(least, NOISE_GRADIENT * low)
        seams, averaged, energy = (
            float(each[:, columns][where].sum(dtype=float)) for each in (least, noise, gradient)
        )
        textured = valid[middle - band.top, samples] & np.isfinite(ratio[samples])
        return ImageComparison(seams, averaged, energy, ratio[samples][textured])

    first = window.top + (FIRST_BAND_PX - window.top) % BAND_STEP_PX
    middles = range(first, window.bottom, BAND_STEP_PX)
    return merge_comparisons(run_parallel(compare, middles, progress, desc="Comparing"))


def _compare_band(
    image: np.ndarray, planes: np.ndarray, mask: np.ndarray | None, rows: slice, middle: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compare a band of rows of an image with that of the planes, where these have data.

    Returns
    -------
    (h, w) float32
        Energy of the gradients that are in no plane, of `rows` of the band.
    (h, w) float32
        Energy of all gradients.
    (w,) float32
        Sharpness of the least sharp plane in windows around row `middle`.
    (w,) float32
        That of the image over that of the sharpest plane; not finite where no plane has any.
    """
    grey, everywhere = luminance(image), np.ones(image.shape[:2], bool)
    least = np.full(grey[rows].shape, np.inf, np.float32)
    energy = np.empty((len(planes) + 1, grey.shape[1]), np.float32)  # of planes and image
    for k, plane in enumerate(planes):
        where = everywhere if mask is None else mask[k]
        compare_plane(grey, luminance(plane), where, rows.start, least, energy[k])
    energy[-1] = np.square(cv2.Laplacian(grey, cv2.CV_32F)[rows]).mean(axis=0)
    *sharpness, own = cv2.blur(energy, (WINDOW_PX, 1))
    has_data = [True] * len(planes) if mask is None else mask[:, middle]
    low, high = np.full_like(own, np.inf), np.zeros_like(own)
    for each, where in zip(sharpness, has_data, strict=True):
        np.minimum(low, each, out=low, where=where)
        np.maximum(high, each, out=high, where=where)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *axes, scale=1 / 8) for axes in ((1, 0), (0, 1)))
    return least, (across * across + down * down)[rows], low, own / high


# The difference of the gradients is the gradient of the difference.
@kernel
def compare_plane(image, plane, where, top, least, energy):  # type: ignore[no-untyped-def]
    """Lower `least` to |∇I - ∇P|² where the plane P has data, and write the energy of ∇² P.

    `image`, `plane` and bool `where` are (h, w), `least` (rows, w) of the rows from `top` on. The
    (w,) `energy` is the mean of (∇² P)² over these rows. Outside, all are mirrored.
    """
    height, width = image.shape
    count, last = len(least), 1 if width == 1 else width - 1
    total, change = np.empty(width + 2, np.float32), np.empty(width + 2, np.float32)
    row = np.empty(width + 2, np.float32)
    energy[:] = 0
    for i in range(count):
        y = top + i
        up = y - 1 if y > 0 else min(1, height - 1)
        down = y + 1 if y < height - 1 else max(height - 2, 0)
        for x in range(width):
            above, below = image[up, x] - plane[up, x], image[down, x] - plane[down, x]
            total[x + 1] = above + 2 * (image[y, x] - plane[y, x]) + below
            change[x + 1] = below - above
            row[x + 1] = plane[y, x]
        for line in (total, change, row):
            line[0], line[width + 1] = line[min(width, 2)], line[last]
        for x in range(width):
            rise = (total[x + 2] - total[x]) / 8
            fall = (change[x] + 2 * change[x + 1] + change[x + 2]) / 8
            square = np.float32(rise * rise + fall * fall)
            if where[y, x] and square < least[i, x]:
                least[i, x] = square
            bend = row[x] + row[x + 2] - 4 * row[x + 1] + plane[up, x] + plane[down, x]
            energy[x] += np.float32(bend * bend)
    for x in range(width):
        energy[x] /= count
