"""Quality of an alignment and of the depth coverage, as numbers and as advice in sentences."""

from typing import Any, NamedTuple

import cv2
import numpy as np

from napari_dff.imaging.images import luminance
from napari_dff.model.depth_map import DepthMap
from napari_dff.registration import Outcome, PlaneReport

MAX_END_SHARE = 0.02  # share of the pixels that are sharpest in an outermost plane
SHARPNESS_WINDOW_PX = 15  # in which the sharpness of an image is compared with its planes
MAX_UNFOCUSED_SHARE = 0.3  # share of the pixels that are never in focus


class Coverage(NamedTuple):
    """Shares of the pixels, 0 … 1: never in focus, and sharpest in the first or the last plane."""

    never: float
    first: float
    last: float


class ImageQuality(NamedTuple):
    """What an all-in-focus image has in common with its planes.

    Attributes
    ----------
    seams : float
        Share of the gradient energy that is in no plane, 0 … 1: seams, halos and blends.
    sharpness : float
        Local sharpness over that of the sharpest plane, median of all pixels. Noise and ringing
        make it larger than 1; so do several planes that are sharp in the window of the measure.
    """

    seams: float
    sharpness: float


class Motion(NamedTuple):
    """Motion of each plane relative to the reference.

    Attributes
    ----------
    shift : (Z, 2) float64
        Shift of the centre of the plane (down, right), in pixels.
    magnification : (Z,) float64
    rotation : (Z,) float64
        In degrees.
    """

    shift: np.ndarray
    magnification: np.ndarray
    rotation: np.ndarray


def coverage(depth_map: DepthMap, plane_count: int) -> Coverage:
    """Return which shares of the pixels lie outside the depth range of the stack."""
    in_focus = np.isfinite(depth_map.uncertainty)
    ends = (in_focus & (depth_map.index == plane) for plane in (0, plane_count - 1))
    return Coverage(*(float(np.mean(pixels)) for pixels in (~in_focus, *ends)))


def advice(shares: Coverage) -> list[str]:
    """Return the coverage, and how to improve it, as sentences."""
    sentences = [
        f"{shares.never:.1%} of the pixels are never in focus, {shares.first:.1%} are sharpest "
        f"in the first plane, {shares.last:.1%} in the last."
    ]
    if shares.first > MAX_END_SHARE:
        sentences.append("The stack starts too late: take planes before its first one.")
    if shares.last > MAX_END_SHARE:
        sentences.append("The stack stops too early: take planes after its last one.")
    if shares.never > MAX_UNFOCUSED_SHARE:
        sentences.append(
            "Much is never in focus: where there is texture, try a larger window and sigma; "
            "where there is none, light it differently."
        )
    return sentences


def image_quality(image: np.ndarray, planes: Any, valid: np.ndarray | None = None) -> ImageQuality:
    """Compare an image (Y, X[, 3]) with its aligned planes (Z, Y, X[, 3]), where `valid` (Y, X).

    With gradients ∇ of the luminance, seams are Σ min_k |∇I - ∇P_k|² / Σ |∇I|². Sharpness is the
    mean squared Laplacian in a window.
    """
    grey = luminance(image)
    gradient, least, most = _gradient(grey), np.full(grey.shape, np.inf), np.zeros(grey.shape)
    for plane in (luminance(planes[k]) for k in range(len(planes))):
        difference = ((_gradient(plane) - gradient) ** 2).sum(axis=0)
        least, most = np.minimum(least, difference), np.maximum(most, _sharpness(plane))
    where = np.ones(grey.shape, bool) if valid is None else valid
    energy = (gradient**2).sum(axis=0)[where].sum(dtype=float)
    seams = least[where].sum(dtype=float) / energy if energy > 0 else 0.0
    textured = where & (most > 0)
    ratios = _sharpness(grey)[textured] / most[textured]
    return ImageQuality(float(seams), float(np.median(ratios)) if ratios.size else 1.0)


def _gradient(image: np.ndarray) -> np.ndarray:  # (2, Y, X)
    return np.stack([cv2.Sobel(image, cv2.CV_32F, *axes, scale=1 / 8) for axes in ((0, 1), (1, 0))])


def _sharpness(image: np.ndarray) -> np.ndarray:
    return cv2.blur(cv2.Laplacian(image, cv2.CV_32F) ** 2, (SHARPNESS_WINDOW_PX,) * 2)


def decompose_transforms(transforms: np.ndarray, shape: tuple[int, int]) -> Motion:
    """Return shift, magnification and rotation of (Z, 3, 3) transforms of planes of `shape`.

    Magnification is the square root of the determinant of the linear part; rotation is that of the
    nearest rotation matrix (the polar decomposition of a 2 × 2 matrix in closed form).
    """
    centre = np.array([(shape[0] - 1) / 2, (shape[1] - 1) / 2, 1.0])
    images = transforms @ centre
    linear = transforms[:, :2, :2]
    a, b, c, d = linear.reshape(-1, 4).T
    shift = images[:, :2] / images[:, 2:] - centre[:2]
    magnification = np.sqrt(np.abs(np.linalg.det(linear)))
    return Motion(shift, magnification, np.degrees(np.arctan2(c - b, a + d)))


def failed_planes(report: tuple[PlaneReport, ...]) -> list[int]:
    """Return the planes that needed a motion which the requested model could not describe."""
    failures = (Outcome.SIMPLER_MODEL, Outcome.NOT_MATCHED)
    return [plane.plane for plane in report if plane.outcome in failures]


def summarize_alignment(report: tuple[PlaneReport, ...], motion: Motion) -> list[str]:
    """Return the size of the motion and the planes that failed, as sentences."""
    shift = np.hypot(*motion.shift.T).max()
    growth = 100 * (motion.magnification.max() / motion.magnification.min() - 1)
    sentences = [f"Planes moved by up to {shift:.2f} pixels and {growth:.2f} % of their size."]
    failures = failed_planes(report)
    if failures:
        sentences.append(
            f"Planes {', '.join(map(str, failures))} could not be matched as requested (see "
            "fallback): look at them, and try a simpler motion."
        )
    return sentences
