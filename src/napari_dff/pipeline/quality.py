"""Alignment, depth coverage and quality of the image, as numbers and as advice in sentences."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from napari_dff.model import checks
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.result import ImageQuality
from napari_dff.registration import Outcome, PlaneReport
from napari_dff.runtime.words import shorten

PLANE_COUNT = checks.Range(1, 2**31 - 1, 1)
MAX_END_SHARE = 0.02  # share of the pixels that are sharpest in an outermost plane
MAX_UNFOCUSED_SHARE = 0.3  # share of the pixels that are never in focus
MAX_SEAMS = 0.015  # share of the gradient energy that is in no plane, without noise
END_ADVICE = (
    "The stack may {verb}: where its {end} plane is the sharpest, the surface may lie {side} it. "
    "The depth there is a limit. Take planes {side} the {end} one, unless that is background."
)
ALIGNMENT_REMEDIES = {  # after the numbers of the planes
    Outcome.NOT_MATCHED: (
        "could not be matched, so the motion there is that of the planes beside: check whether the "
        "image belongs to the stack"
    ),
    Outcome.SIMPLER_MODEL: (
        "matched only with a simpler motion than requested: check the alignment there, or try a "
        "simpler motion for all planes"
    ),
}


class Coverage(NamedTuple):
    """Shares of the pixels, 0 … 1: never in focus, and sharpest in the first or the last plane."""

    never: float
    first: float
    last: float


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
    checks.check_type("depth_map", depth_map, DepthMap)
    PLANE_COUNT.check("plane_count", plane_count)
    in_focus = np.isfinite(checks.as_numbers("depth_map.uncertainty", depth_map.uncertainty))
    ends = (in_focus & (depth_map.index == plane) for plane in (0, plane_count - 1))
    return Coverage(*(float(np.mean(pixels)) for pixels in (~in_focus, *ends)))


def advice(shares: Coverage) -> list[str]:
    """Return the coverage, and how to improve it, as sentences."""
    checks.check_type("shares", shares, Coverage)
    sentences = [
        f"{shares.never:.1%} of the pixels are never in focus, {shares.first:.1%} are sharpest "
        f"in the first plane, {shares.last:.1%} in the last."
    ]
    if shares.first > MAX_END_SHARE:
        sentences.append(END_ADVICE.format(verb="start too late", side="before", end="first"))
    if shares.last > MAX_END_SHARE:
        sentences.append(END_ADVICE.format(verb="stop too early", side="after", end="last"))
    if shares.never > MAX_UNFOCUSED_SHARE:
        sentences.append(
            "Much is never in focus: where there is texture, try a larger window and sigma; "
            "where there is none, light it differently."
        )
    return sentences


def is_about_range(sentence: str) -> bool:
    """Whether a sentence of `advice` is that the stack starts too late or stops too early."""
    return sentence.startswith(END_ADVICE.partition("{")[0])


def decompose_transforms(transforms: np.ndarray, shape: tuple[int, int]) -> Motion:
    """Return shift, magnification and rotation of (Z, 3, 3) transforms of planes of `shape`.

    Magnification is the square root of the determinant of the linear part; rotation is that of the
    nearest rotation matrix (the polar decomposition of a 2 × 2 matrix in closed form).
    """
    transforms = checks.as_numbers("transforms", transforms)
    if transforms.ndim != 3 or transforms.shape[1:] != (3, 3):
        raise ValueError(f"transforms must have the shape (Z, 3, 3), got {transforms.shape}")
    size = checks.as_numbers("shape", shape)
    if size.shape != (2,) or not (size >= 1).all():
        raise ValueError(f"shape must be height and width of a plane, got {shorten(shape)}")
    centre = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2, 1.0])
    images = transforms @ centre
    linear = transforms[:, :2, :2]
    a, b, c, d = linear.reshape(-1, 4).T
    shift = images[:, :2] / images[:, 2:] - centre[:2]
    magnification = np.sqrt(np.abs(np.linalg.det(linear)))
    return Motion(shift, magnification, np.degrees(np.arctan2(c - b, a + d)))


def failed_planes(report: tuple[PlaneReport, ...]) -> list[int]:
    """Return the planes that needed a motion which the requested model could not describe."""
    return [plane.plane for plane in report if plane.outcome in ALIGNMENT_REMEDIES]


def summarize_alignment(report: tuple[PlaneReport, ...], motion: Motion) -> list[str]:
    """Return the size of the motion and the planes that failed, as sentences."""
    checks.check_type("motion", motion, Motion)
    report = tuple(checks.as_list("report", report, "a PlaneReport for each plane"))
    for plane in report:
        checks.check_type("report", plane, PlaneReport)
    shift = np.hypot(*motion.shift.T).max()
    growth = motion.magnification.max() / motion.magnification.min() - 1
    scale = f", and their magnification varies by {growth:.2%}" if growth >= 5e-5 else ""
    sentences = [f"Planes moved by up to {shift:.2f} pixels at their centre{scale}."]
    for outcome, remedy in ALIGNMENT_REMEDIES.items():
        planes = [str(plane.plane) for plane in report if plane.outcome == outcome]
        if planes:
            plural = "s" if len(planes) > 1 else ""
            sentences.append(f"Plane{plural} {', '.join(planes)} {remedy}.")
    return sentences


def summarize_image(qualities: Sequence[ImageQuality | None], fusion: str) -> list[str]:
    """Return the quality of the all-in-focus image, of the worst one of several, as sentences."""
    measured = [(q.seams - q.noise, i, q) for i, q in enumerate(qualities) if q is not None]
    if not measured:
        return []
    seams, i, quality = max(measured)
    number = f" {i + 1} of {len(qualities)}, the worst," if len(qualities) > 1 else ""
    name = f"the all-in-focus image{number}"
    share = f"{seams:.1%} of the edges in {name} are not in any plane"
    if seams > MAX_SEAMS:
        choice = "" if fusion == "multiscale" else ", and use fusion multiscale"
        share += (
            ": compare it with the planes. Where they are displaced, align them, or try another "
            f"motion{choice}; of a transparent specimen, a single plane may show more"
        )
    sharpness = f"{quality.sharpness:.2f} times that of the sharpest plane at each place"
    return [f"{share}.", f"Its sharpness is {sharpness} (median)."]
