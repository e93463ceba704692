"""A black border, as of an eyepiece or a vignette, that does not move with the specimen.

Its edge is the strongest feature of every plane, and would be aligned instead of the specimen. So
it is filled, without an edge, before planes are matched. Where planes move under it, pixels that it
covers have no data in these planes.

All images and maps are downsampled.
"""

from __future__ import annotations

import cv2
import numpy as np

from napari_dff.registration.motion import transform_points

DARK_LEVEL = 0.04  # of the grey range: pixels of the border are darker in all planes
MIN_FRACTION = 0.01  # of the pixels: smaller borders do not count
MAX_CHANGE_PX = 1.5  # of the place of its edge, on average, between planes
EDGE_PX = 3  # pixels beside the border that its edge affects
FILL_SIGMA_PX = 8.0  # standard deviation of the Gaussian that fills the border
MIN_MOTION_PX = 2.0  # of the planes under the border, from which that matters


def find_border(images: np.ndarray) -> np.ndarray | None:
    """Return the dark region at the border of (Z, Y, X) images, 0 … 1, (Y, X) bool.

    None unless it is the same in all planes: that of a dark background moves and blurs with the
    specimen.
    """
    share = sum((image < DARK_LEVEL).astype(np.uint32) for image in images) / len(images)
    padded = np.pad((share > 0).astype(np.uint8), 1, constant_values=1)
    labels = cv2.connectedComponents(padded)[1]
    border = np.asarray((labels == labels[0, 0])[1:-1, 1:-1])
    length = np.count_nonzero(_dilate(border, 1) & ~border)
    always, ever = np.count_nonzero(border & (share == 1)), np.count_nonzero(border)
    if always < MIN_FRACTION * border.size or ever - always > MAX_CHANGE_PX * length:
        return None
    return None if _dilate(border, EDGE_PX).all() else border


def fill_border(images: np.ndarray, border: np.ndarray) -> None:
    """Fill the border of (Z, Y, X) images by averages of the pixels inside, in place."""
    inside = ~_dilate(border, EDGE_PX)
    weight = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), FILL_SIGMA_PX) + 1e-3
    mean = np.float32(np.mean([image[inside].mean() for image in images]))
    for image in images:
        total = cv2.GaussianBlur(image * inside, (0, 0), FILL_SIGMA_PX) + 1e-3 * mean
        image[~inside] = (total / weight)[~inside]


def is_moving(transforms: np.ndarray, shape: tuple[int, int]) -> bool:
    """Return whether (Z, 3, 3) `transforms` move images of `shape` under a border."""
    corners = np.array([(y, x) for y in (0, shape[0]) for x in (0, shape[1])], float)
    targets = np.array([transform_points(each, corners) for each in transforms])
    return bool(np.abs(targets - corners).max() >= MIN_MOTION_PX)


def upsample_field(border: np.ndarray, factor: int, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels of planes of `shape` that are lit, (Y, X) bool, and not beside the edge."""
    lit = ~_dilate(border, EDGE_PX)
    lit = np.repeat(np.repeat(lit, factor, axis=0), factor, axis=1)
    missing = shape[0] - lit.shape[0], shape[1] - lit.shape[1]
    return np.pad(lit, [(0, n) for n in missing], mode="edge")


def _dilate(border: np.ndarray, radius: int) -> np.ndarray:
    size = (2 * radius + 1,) * 2
    return cv2.dilate(border.astype(np.uint8), np.ones(size, np.uint8)).astype(bool)
