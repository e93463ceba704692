"""Planes that are downsampled while they are read, strip by strip, in little memory."""

import math
from typing import Any

import numpy as np

from napari_dff.imaging.images import block_means, luminance, read_plane
from napari_dff.model.stack import MIN_SIDE_PX
from napari_dff.runtime.lazy import release_mapped_pages

MAX_SIDE_PX = 1024  # longer side of the planes that are compared
STRIP_VALUES = 1 << 22  # numbers that are read and downsampled at a time, about


def compute_factor(shape: tuple[int, ...], max_side: int) -> int:
    """Return the factor for a longer side ≤ `max_side`, and a shorter one ≥ `MIN_SIDE_PX`."""
    return max(1, min(-(-max(shape[:2]) // max_side), min(shape[:2]) // MIN_SIDE_PX))


def downsample(image: np.ndarray, factor: int) -> np.ndarray:
    """Return the means of blocks of `factor` × `factor` pixels; incomplete blocks are dropped."""
    height, width = (size // factor * factor for size in image.shape[:2])
    return block_means(image[:height, :width], factor)


def upsampling_matrix(factor: int) -> np.ndarray:
    """Return the transform from downsampled to full coordinates."""
    offset = (factor - 1) / 2  # centre of the first block; coordinates 0, 1, … are pixel centres
    return np.array([[factor, 0, offset], [0, factor, offset], [0, 0, 1.0]])


def read(planes: Any, i: int, factor: int, *, as_grey: bool = False) -> np.ndarray:
    """Return plane `i` downsampled, float32; by the factor 1 and in colour, in its own dtype."""
    if factor == 1:
        plane = read_plane(planes, i)
        return luminance(plane) if as_grey else plane
    height, width = (size // factor * factor for size in planes.shape[1:3])
    strip = max(1, STRIP_VALUES // math.prod(planes.shape[2:]) // factor) * factor  # rows
    chunks = getattr(planes, "chunks", None)
    chunk = int(np.max(chunks[1])) if chunks else 1
    rows = -(-strip // chunk) * chunk  # whole chunks, so that each is decoded once
    rows = -(-rows // factor) * factor
    means = []
    for top in range(0, height, rows):
        part = read_plane(planes, i, (slice(top, min(top + rows, height)), slice(width)))
        for k in range(0, len(part), strip):
            values = part[k : k + strip]
            values = luminance(values) if as_grey else values.astype(np.float32)
            means.append(block_means(values, factor))
    release_mapped_pages(planes)
    return np.concatenate(means)
