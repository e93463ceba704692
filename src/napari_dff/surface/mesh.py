"""Triangle mesh of a height map, and its texture."""

from typing import NamedTuple

import numpy as np

from napari_dff.model import checks
from napari_dff.model.stack import validate_pixel_size
from napari_dff.surface.region import bounding_box, check_values, known_pixels

FACE_COUNT = checks.Range(2, 100_000_000, 1)
TEXTURE_PERCENTILES = (0.2, 99.8)  # of the image values that become black and white


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
    starts = [np.arange(0, length, step) for length in region.shape]  # of the blocks
    lengths = [np.minimum(step, n - start) for n, start in zip(region.shape, starts, strict=True)]
    z = region if step == 1 else _block_medians(region, step, np.multiply.outer(*lengths))
    triangles = _triangles(z)
    if not len(triangles):
        raise ValueError(
            f"depth must be known at three neighbours at least, got {np.count_nonzero(mask)} "
            f"known pixels and none after blocks of {step} × {step}"
        )
    used, triangles = np.unique(triangles, return_inverse=True)
    centres = [
        part.start + (start + (length - 1) / 2)
        for part, start, length in zip(box, starts, lengths, strict=True)
    ]
    y, x = (grid.ravel()[used] for grid in np.meshgrid(*centres, indexing="ij"))
    vertices = np.column_stack([z.ravel()[used], y * size[0], x * size[1]]).astype(np.float32)
    texcoords = np.column_stack([(x + 0.5) / depth.shape[1], 1 - (y + 0.5) / depth.shape[0]])
    return Mesh(vertices, triangles.reshape(-1, 3).astype(np.int32), texcoords.astype(np.float32))


def _block_medians(region: np.ndarray, step: int, areas: np.ndarray) -> np.ndarray:
    """Return the median of the known pixels of each block; NaN if less than half of its area is."""
    padding = [(0, -length % step) for length in region.shape]
    padded = np.pad(region, padding, constant_values=np.nan)
    blocks = padded.reshape(areas.shape[0], step, areas.shape[1], step).swapaxes(1, 2)
    values = np.sort(blocks.reshape(*areas.shape, step**2), axis=-1)  # NaN last
    count = np.count_nonzero(np.isfinite(values), axis=-1, keepdims=True)
    lower = np.take_along_axis(values, np.maximum(count - 1, 0) // 2, axis=-1)
    upper = np.take_along_axis(values, count // 2, axis=-1)
    return np.where(2 * count[..., 0] >= areas, (lower + upper)[..., 0] / 2, np.nan)


def _triangles(z: np.ndarray) -> np.ndarray:
    """Return the triangles whose three vertices are known: (M, 3) indices into the flat grid."""
    index = np.arange(z.size).reshape(z.shape)
    corner, right = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    below, opposite = index[1:, :-1].ravel(), index[1:, 1:].ravel()
    triangles = np.vstack([np.c_[corner, below, right], np.c_[opposite, right, below]])
    return triangles[np.isfinite(z.ravel()[triangles]).all(axis=1)]


def texture(picture: np.ndarray) -> np.ndarray:
    """Return an image, (Y, X[, 3]), as uint8, with the same contrast stretch for all channels."""
    check_values("picture", picture)
    if not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)) or not picture.size:
        raise ValueError(f"picture must have axes (Y, X) or (Y, X, 3), got shape {picture.shape}")
    values = np.nan_to_num(picture.astype(np.float32))
    black, white = np.percentile(values, TEXTURE_PERCENTILES)
    stretched = (values - np.float32(black)) * np.float32(255 / max(white - black, 1e-12))
    return np.clip(np.rint(stretched), 0, 255).astype(np.uint8)
