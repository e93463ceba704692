"""Resampling a plane under a motion, to a fraction of a grey level.

Cubic B-splines with exact coordinates. OpenCV's cubic kernel was measured to err several times more
on smooth pictures, and it rounds coordinates to 1/32 px, about what alignment may err by in all.
"""

from __future__ import annotations

import numpy as np

from napari_dff.compiled import inlined, kernel
from napari_dff.stack import block_means


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
    inverse = np.linalg.inv(matrix)
    out = np.empty((*(shape or picture.shape[:2]), *picture.shape[2:]), dtype=np.float32)
    layers, target = (p[..., None] if p.ndim == 2 else p for p in (picture, out))
    for c in range(layers.shape[2]):
        evaluate(knots(layers[..., c]), inverse, target[..., c])
    return out


def knots(picture: np.ndarray) -> np.ndarray:
    """Cubic B-splines whose sum is the (Y, X) `picture`, mirrored about its last pixels."""
    from scipy import ndimage  # 0.1 s, needed only where planes move

    filtered: np.ndarray = ndimage.spline_filter(
        picture.astype(np.float32), order=3, output=np.float32, mode="mirror"
    )
    return filtered


def shrunk(picture: np.ndarray, factor: int) -> np.ndarray:
    """Means of `factor` × `factor` pixels of (Y, X) `picture`; what is left over is dropped."""
    height, width = (size // factor * factor for size in picture.shape)
    return block_means(picture[:height, :width], factor)


def scaling(factor: int) -> np.ndarray:
    """From shrunk coordinates to full ones: pixel centres move by half a pixel less one."""
    offset = (factor - 1) / 2
    return np.array([[factor, 0, offset], [0, factor, offset], [0, 0, 1.0]])


def inside(matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Where a picture of `shape`, moved by `matrix`, has data: (Y, X) bool."""
    covered = np.ones(shape, dtype=bool)
    narrow(covered, np.linalg.inv(matrix))
    return covered


@kernel
def narrow(covered, back):  # type: ignore[no-untyped-def]
    """Leave of (Y, X) bool `covered` only what `back` brings into the picture."""
    height, width = covered.shape
    slack = 1e-6
    for y in range(height):
        for x in range(width):
            v, u = brought(back, y, x)
            inner = -slack <= v <= height - 1 + slack and -slack <= u <= width - 1 + slack
            covered[y, x] &= inner


@inlined
def brought(back, y, x):  # type: ignore[no-untyped-def]
    """Where the projective `back` brings (y, x)."""
    depth = back[2, 0] * y + back[2, 1] * x + back[2, 2]
    v = (back[0, 0] * y + back[0, 1] * x + back[0, 2]) / depth
    u = (back[1, 0] * y + back[1, 1] * x + back[1, 2]) / depth
    return v, u


@kernel
def evaluate(knots, back, out):  # type: ignore[no-untyped-def]
    """Sum of the B-splines at every place that `back` brings a pixel of `out` to."""
    height, width = out.shape
    for y in range(height):
        for x in range(width):
            v, u = brought(back, y, x)
            out[y, x] = spline_at(knots, v, u)


@kernel
def spline_at(knots, v, u):  # type: ignore[no-untyped-def]
    """Sum of the B-splines at (v, u), held within the picture."""
    rows, columns = knots.shape
    v, u = min(max(v, 0.0), rows - 1.0), min(max(u, 0.0), columns - 1.0)
    i, j = int(v), int(u)
    a0, a1, a2, a3 = _taps(v - i)
    b0, b1, b2, b3 = _taps(u - j)
    if 0 < i < rows - 2 and 0 < j < columns - 2:
        total = 0.0
        total += a0 * _row(knots[i - 1], j - 1, b0, b1, b2, b3)
        total += a1 * _row(knots[i], j - 1, b0, b1, b2, b3)
        total += a2 * _row(knots[i + 1], j - 1, b0, b1, b2, b3)
        total += a3 * _row(knots[i + 2], j - 1, b0, b1, b2, b3)
        return total
    total = 0.0
    for p, a in ((-1, a0), (0, a1), (1, a2), (2, a3)):
        line = knots[_mirrored(i + p, rows)]
        for q, b in ((-1, b0), (0, b1), (1, b2), (2, b3)):
            total += a * b * line[_mirrored(j + q, columns)]
    return total


@inlined
def _row(line, j, b0, b1, b2, b3):  # type: ignore[no-untyped-def]
    return b0 * line[j] + b1 * line[j + 1] + b2 * line[j + 2] + b3 * line[j + 3]


@inlined
def _mirrored(k, count):  # type: ignore[no-untyped-def]
    k = abs(k)
    return 2 * (count - 1) - k if k > count - 1 else k


@inlined
def _taps(t):  # type: ignore[no-untyped-def]
    """Weights of the four cubic B-splines around a place `t` past the second."""
    first, third = (1 - t) * (1 - t) * (1 - t) / 6, t * t * t / 6
    second = (4 - 6 * t * t + 3 * t * t * t) / 6
    return first, second, 1 - first - second - third, third
