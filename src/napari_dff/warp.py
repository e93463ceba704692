"""Resampling a plane under a motion, to a fraction of a grey level.

Cubic B-splines with exact coordinates. OpenCV's cubic kernel was measured to err several times more
on smooth pictures, and it rounds coordinates to 1/32 px, about what alignment may err by in all.
"""

from __future__ import annotations

import numpy as np

from napari_dff.compiled import kernel


def warp(
    picture: np.ndarray,  # (Y, X) or (Y, X, C)
    matrix: np.ndarray,  # (3, 3)
    shape: tuple[int, int] | None = None,
) -> np.ndarray:
    """`picture` moved by `matrix`, its border repeated where it has no data.

    Parameters
    ----------
    picture : (Y, X) or (Y, X, C) array
        Any number type.
    matrix : (3, 3) array
        (y, x, 1) of `picture` → (y, x, 1) of the result, projective.
    shape : (int, int), optional
        Height and width of the result; those of `picture` when None.

    Returns
    -------
    float32, of `shape` and the channels of `picture`

    References
    ----------
    Unser, Aldroubi & Eden 1991, doi:10.1109/34.75515 (B-spline interpolation).
    """
    from scipy import ndimage  # 0.1 s, needed only where planes move

    height, width = shape or picture.shape[:2]
    inverse = np.linalg.inv(matrix)
    out = np.empty((height, width, *picture.shape[2:]), dtype=np.float32)
    layers = picture[..., None] if picture.ndim == 2 else picture
    target = out[..., None] if picture.ndim == 2 else out
    for c in range(layers.shape[2]):
        knots = ndimage.spline_filter(
            layers[..., c].astype(np.float32), order=3, output=np.float32, mode="mirror"
        )
        _evaluate(knots, inverse, target[..., c])
    return out


def inside(
    matrix: np.ndarray, source: tuple[int, int], shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Where a picture of shape `source`, moved by `matrix`, has data: (Y, X) bool."""
    height, width = shape or source
    y, x = np.mgrid[:height, :width]
    back = np.linalg.inv(matrix)
    depth = back[2, 0] * y + back[2, 1] * x + back[2, 2]
    v = (back[0, 0] * y + back[0, 1] * x + back[0, 2]) / depth
    u = (back[1, 0] * y + back[1, 1] * x + back[1, 2]) / depth
    slack = 1e-6
    return np.asarray(
        (v >= -slack) & (v <= source[0] - 1 + slack) & (u >= -slack) & (u <= source[1] - 1 + slack)
    )


@kernel
def _evaluate(knots, back, out):  # type: ignore[no-untyped-def]
    rows, columns = knots.shape
    height, width = out.shape
    for y in range(height):
        wy, wx = np.empty(4), np.empty(4)
        ky, kx = np.empty(4, np.int64), np.empty(4, np.int64)
        for x in range(width):
            depth = back[2, 0] * y + back[2, 1] * x + back[2, 2]
            v = (back[0, 0] * y + back[0, 1] * x + back[0, 2]) / depth
            u = (back[1, 0] * y + back[1, 1] * x + back[1, 2]) / depth
            _taps(min(max(v, 0.0), rows - 1.0), rows, wy, ky)
            _taps(min(max(u, 0.0), columns - 1.0), columns, wx, kx)
            total = 0.0
            for i in range(4):
                line = 0.0
                for j in range(4):
                    line += wx[j] * knots[ky[i], kx[j]]
                total += wy[i] * line
            out[y, x] = total


@kernel
def _taps(at, count, weights, knots):  # type: ignore[no-untyped-def]
    """Weights of the four cubic B-splines around `at`, and their knots, mirrored at the ends."""
    first = int(np.floor(at))
    t = at - first
    weights[0] = (1 - t) ** 3 / 6
    weights[1] = (4 - 6 * t**2 + 3 * t**3) / 6
    weights[3] = t**3 / 6
    weights[2] = 1 - weights[0] - weights[1] - weights[3]
    for j in range(4):
        k = abs(first - 1 + j)
        knots[j] = 2 * (count - 1) - k if k > count - 1 else k
