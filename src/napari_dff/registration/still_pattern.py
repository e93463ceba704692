"""A pattern that stays still while the specimen moves, such as dust on the camera.

Matching may follow the pattern instead of the specimen. The mean of all planes in their own pixels
contains the pattern, but hardly the moving specimen. What remains of two planes after subtracting
it is displaced as the specimen is: the maximum of their correlation must lie at the motion that
was found.
"""

from __future__ import annotations

import cv2
import numpy as np

from napari_dff.registration import downsampling
from napari_dff.registration.motion import transform_points

STILL_PATTERN_NOTE = (
    "Planes were aligned to a pattern that stays still, such as dust on the camera, but the "
    "specimen moves: divide the planes by an image of the empty field, and align again."
)
SIDE_PX = 256  # longer side of the planes that are compared
GAP_PLANES = 3  # between planes that are compared: neighbours move little
MIN_PLANES = 8  # of fewer, the mean contains much of the specimen
MAX_PAIRS = 24  # more are not needed
FINE_SIGMA_PX, COARSE_SIGMA_PX = 1.0, 6.0  # of the difference of Gaussians that is compared
MAX_MOTION_PX = 30  # between compared planes
MIN_DISCREPANCY_PX = 1.5  # of the motion of the specimen from the estimate
MIN_CORRELATION = 0.2  # of the remains, displaced
NOISE_CORRELATION_PX = 40.0  # over the side of the image; that of noise is at most 16
MIN_GAIN = 0.1  # of the correlation, over that at the estimated motion
MIN_STILL_CORRELATION = -0.1  # lower: the mean is not that of a pattern, but of few planes
MIN_SHARE = 0.5  # of the pairs: at most 0.38 where stacks are aligned well, 0.53 to 0.82 with dust


def follows_still_pattern(images: np.ndarray, transforms: np.ndarray) -> bool:
    """Return whether (Z, 3, 3) `transforms` of grey (Z, Y, X) images miss a moving specimen."""
    if len(images) < MIN_PLANES:
        return False
    factor = downsampling.compute_factor(images.shape[1:], SIDE_PX)
    details = (_detail(image, factor) for image in images)
    mean = sum(details, next(details)) / np.float32(len(images))
    weight = np.outer(*map(np.hanning, mean.shape)).astype(np.float32)
    centre = np.array([images.shape[1:]]) / 2
    first = np.arange(len(images) - GAP_PLANES)
    pairs = first[:: -(-len(first) // MAX_PAIRS)]
    misses = []
    for k in pairs:
        step = np.linalg.inv(transforms[k]) @ transforms[k + GAP_PLANES]
        motion = (transform_points(step, centre) - centre)[0] / factor
        pair = images[k], images[k + GAP_PLANES]
        one, two = ((_detail(image, factor) - mean) * weight for image in pair)
        misses.append(_misses(one, two, motion))
    return float(np.mean(misses)) > MIN_SHARE


def _detail(image: np.ndarray, factor: int) -> np.ndarray:
    """Return the difference of two Gaussians of an image that is downsampled by `factor`."""
    image = downsampling.downsample(np.asarray(image), factor)
    fine, coarse = (cv2.GaussianBlur(image, (0, 0), s) for s in (FINE_SIGMA_PX, COARSE_SIGMA_PX))
    return fine - coarse


def _misses(one: np.ndarray, two: np.ndarray, motion: np.ndarray) -> bool:
    """Return whether the displacement of two images is not `motion`, (y, x) in pixels."""
    spectrum = np.fft.rfft2(one) * np.conj(np.fft.rfft2(two))
    energy = np.sqrt((one**2).sum() * (two**2).sum())
    correlation = np.fft.fftshift(np.fft.irfft2(spectrum, one.shape)) / max(energy, 1e-12)
    middle = np.array(one.shape) // 2
    reach = np.minimum(MAX_MOTION_PX, middle // 2)
    (top, left), (bottom, right) = middle - reach, middle + reach + 1
    near = correlation[top:bottom, left:right]
    highest = np.array(np.unravel_index(near.argmax(), near.shape))
    at_estimate = near[tuple(np.clip(np.round(motion).astype(int), -reach, reach) + reach)]
    least = max(MIN_CORRELATION, NOISE_CORRELATION_PX / np.sqrt(one.size))
    return bool(
        np.hypot(*(highest - reach - motion)) >= MIN_DISCREPANCY_PX
        and near.max() > max(least, at_estimate + MIN_GAIN)
        and near[tuple(reach)] > MIN_STILL_CORRELATION
    )
