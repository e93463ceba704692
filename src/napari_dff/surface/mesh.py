"""Triangle mesh of a height map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from napari_dff.model import checks
from napari_dff.model.stack import validate_pixel_size
from napari_dff.surface.region import bounding_box, known_pixels

FACE_COUNT = checks.Range(2, 100_000_000, 1)


class Mesh(NamedTuple):
    """Triangle mesh with texture coordinates.

    Attributes
    ----------
    vertices : (N, 3) float32
        z, y, x of each, in the unit of depth and pixel size; pixel (0, 0) lies at y = x = 0.
    faces : (M, 3) int32
        Indices of three vertices. Normals, in (z, y, x) as in napari, point to increasing z.
    texcoords : (N, 2) float32
        Texture coordinates, 0 … 1: u = (x + ½) / X to the right, v = 1 - (y + ½) / Y upwards,
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
) -> Mesh:
    """Triangulate the known depths on a regular grid.

    Each vertex represents a square block of pixels, the smallest that satisfies `faces`. It lies at
    the centre of the block, at the median of its known depths, which is exact on a plane and robust
    against outliers. A block is known if at least half of its pixels are.

    Parameters
    ----------
    depth : (Y, X) float array
        In the unit of `pixel_size`; NaN where never in focus.
    pixel_size : (float, float)
        Height and width of a pixel.
    where : (Y, X) bool, optional
        Pixels to triangulate; all when None.
    faces : int
        Maximum number of faces, at least 2.

    Returns
    -------
    Mesh

    Raises
    ------
    ValueError
        For an invalid argument, or if the known pixels do not form a single face.
    """
    size = validate_pixel_size(pixel_size)
    FACE_COUNT.check("faces", faces)
    mask = known_pixels(depth, where)
    box = bounding_box(mask)
    region = np.where(mask[box], depth[box], np.nan)
    step = 1
    while 2 * np.prod([-(-length // step) - 1 for length in region.shape]) > faces:
        step += 1

    z = _block_medians(region, step)
    triangles = _triangles(z)
    if not len(triangles):
        raise ValueError(
            f"depth must be known at three neighbours at least, got {np.count_nonzero(mask)} "
            f"known pixels and none after blocks of {step} × {step}"
        )
    used, triangles = np.unique(triangles, return_inverse=True)
    centres = [
        part.start + _centres(length, step) for part, length in zip(box, region.shape, strict=True)
    ]
    y, x = (grid.ravel()[used] for grid in np.meshgrid(*centres, indexing="ij"))
    vertices = np.column_stack([z.ravel()[used], y * size[0], x * size[1]])
    texcoords = np.column_stack([(x + 0.5) / depth.shape[1], 1 - (y + 0.5) / depth.shape[0]])
    return Mesh(
        vertices.astype(np.float32),
        triangles.reshape(-1, 3).astype(np.int32),
        texcoords.astype(np.float32),
    )


def _block_medians(region: np.ndarray, step: int) -> np.ndarray:
    """Return the median of the known pixels of each block; NaN if most of them are unknown."""
    if step == 1:
        return region
    down, across = (_lengths(length, step) for length in region.shape)
    shape = len(down), len(across)
    padding = [(0, -length % step) for length in region.shape]
    padded = np.pad(region, padding, constant_values=np.nan)
    blocks = padded.reshape(shape[0], step, shape[1], step).swapaxes(1, 2)
    ordered = np.sort(blocks.reshape(*shape, step**2), axis=-1)  # NaN last
    count = np.count_nonzero(np.isfinite(ordered), axis=-1, keepdims=True)
    lower, upper = (
        np.take_along_axis(ordered, np.maximum(doubled, 0) // 2, axis=-1)[..., 0]
        for doubled in (count - 1, count)
    )
    is_known = 2 * count[..., 0] >= np.multiply.outer(down, across)
    return np.where(is_known, (lower + upper) / 2, np.nan)


def _lengths(length: int, step: int) -> np.ndarray:
    """Return the length of each block along one axis; the last may be shorter."""
    return np.minimum(step, length - np.arange(0, length, step))


def _centres(length: int, step: int) -> np.ndarray:
    """Return the centre of each block along one axis, in pixels from the first."""
    return np.arange(0, length, step) + (_lengths(length, step) - 1) / 2


def _triangles(z: np.ndarray) -> np.ndarray:
    """Return the triangles whose three vertices are known: (M, 3) indices into the flat grid."""
    index = np.arange(z.size).reshape(z.shape)
    corner, right = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    below, opposite = index[1:, :-1].ravel(), index[1:, 1:].ravel()
    triangles = np.concatenate(
        [np.column_stack([corner, below, right]), np.column_stack([opposite, right, below])]
    )
    return triangles[np.isfinite(z.ravel()[triangles]).all(axis=1)]
