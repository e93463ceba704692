"""A height map as a mesh of triangles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from napari_dff import checks
from napari_dff.stack import validate_pixel_size
from napari_dff.surface.region import bounding_box, known_pixels

FACES = checks.Range(2, 100_000_000, 1)
EXAGGERATION = checks.Range(0.0, 1000.0, 0.1)


class Mesh(NamedTuple):
    """Triangles with places on a picture.

    Attributes
    ----------
    vertices : (N, 3) float32
        z, y, x of each, in the unit of depth and pixel size; pixel (0, 0) lies at y = x = 0.
    faces : (M, 3) int32
        Three vertices each. Their normals, taken in (z, y, x) as napari does, point to growing z.
    texcoords : (N, 2) float32
        Place on the picture, 0 … 1: u = (x + ½) / X to the right, v = 1 - (y + ½) / Y upwards,
        for x and y in pixels.
    """

    vertices: np.ndarray
    faces: np.ndarray
    texcoords: np.ndarray


def mesh(
    depth: np.ndarray,  # (Y, X)
    pixel_size: tuple[float, float],
    *,
    where: np.ndarray | None = None,  # (Y, X)
    faces: int = 200_000,
    exaggeration: float = 1.0,
) -> Mesh:
    """Triangles over the known depths, on a regular grid.

    Each vertex stands for a block of pixels, the smallest squares that leave few enough faces. It
    lies at the block's centre and has the median of its known depths: exact on a plane, and not
    moved by outliers. A block counts as known if at least half its pixels are.

    Parameters
    ----------
    depth : (Y, X) float array
        In the unit of `pixel_size`; NaN where never in focus.
    pixel_size : (float, float)
        Height and width of a pixel.
    where : (Y, X) bool, optional
        The part wanted; everything when None.
    faces : int
        At most so many, 2 or more.
    exaggeration : float
        How many times z is stretched about the median depth, 0 to 1000.

    Returns
    -------
    Mesh

    Raises
    ------
    ValueError
        For a wrong argument, or where too little is known for one face.
    """
    size = validate_pixel_size(pixel_size)
    FACES.check("faces", faces)
    EXAGGERATION.check("exaggeration", exaggeration)
    known = known_pixels(depth, where)
    box = bounding_box(known)
    region = np.where(known[box], depth[box], np.nan)
    step = 1
    while 2 * np.prod([-(-length // step) - 1 for length in region.shape]) > faces:
        step += 1

    z = _block_medians(region, step)
    triangles = _triangles(z)
    if not len(triangles):
        raise ValueError(
            f"depth must be known at three neighbours at least, got {np.count_nonzero(known)} "
            f"known pixels and none after blocks of {step} × {step}"
        )
    used, triangles = np.unique(triangles, return_inverse=True)
    centres = [
        part.start + _centres(length, step) for part, length in zip(box, region.shape, strict=True)
    ]
    y, x = (grid.ravel()[used] for grid in np.meshgrid(*centres, indexing="ij"))
    middle = np.median(depth[known])
    stretched = middle + exaggeration * (z.ravel()[used] - middle)
    vertices = np.column_stack([stretched, y * size[0], x * size[1]])
    texcoords = np.column_stack([(x + 0.5) / depth.shape[1], 1 - (y + 0.5) / depth.shape[0]])
    return Mesh(
        vertices.astype(np.float32),
        triangles.reshape(-1, 3).astype(np.int32),
        texcoords.astype(np.float32),
    )


def _block_medians(region: np.ndarray, step: int) -> np.ndarray:
    """Medians of the known pixels of each block, the last ones smaller; NaN where few are known."""
    if step == 1:
        return region
    down, across = (_lengths(length, step) for length in region.shape)
    shape = len(down), len(across)
    missing = [(0, -length % step) for length in region.shape]
    padded = np.pad(region, missing, constant_values=np.nan)
    blocks = padded.reshape(shape[0], step, shape[1], step).swapaxes(1, 2)
    ordered = np.sort(blocks.reshape(*shape, step**2), axis=-1)  # NaN last
    count = np.count_nonzero(np.isfinite(ordered), axis=-1, keepdims=True)
    lower, upper = (
        np.take_along_axis(ordered, np.maximum(twice, 0) // 2, axis=-1)[..., 0]
        for twice in (count - 1, count)
    )
    enough = 2 * count[..., 0] >= np.multiply.outer(down, across)
    return np.where(enough, (lower + upper) / 2, np.nan)


def _lengths(length: int, step: int) -> np.ndarray:
    """Pixels of each block along one axis: the last may have fewer."""
    return np.minimum(step, length - np.arange(0, length, step))


def _centres(length: int, step: int) -> np.ndarray:
    """Centre of each block along one axis, in pixels from the first."""
    return np.arange(0, length, step) + (_lengths(length, step) - 1) / 2


def _triangles(z: np.ndarray) -> np.ndarray:
    """Two triangles for each four neighbours, (M, 3) places in the flat grid; known ones only."""
    number = np.arange(z.size).reshape(z.shape)
    here, right = number[:-1, :-1].ravel(), number[:-1, 1:].ravel()
    below, across = number[1:, :-1].ravel(), number[1:, 1:].ravel()
    both = np.concatenate(
        [np.column_stack([here, below, right]), np.column_stack([across, right, below])]
    )
    return both[np.isfinite(z.ravel()[both]).all(axis=1)]
