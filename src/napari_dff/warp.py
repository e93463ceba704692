"""Resampling a plane under a motion, to a fraction of a grey level.

Cubic B-splines with exact coordinates. OpenCV's cubic kernel was measured to err several times more
on smooth pictures, and it rounds coordinates to 1/32 px, about what alignment may err by in all.
"""

from __future__ import annotations

import numpy as np

from napari_dff.compiled import inline_kernel, kernel
from napari_dff.images import block_means
from napari_dff.windows import Window, full_window

# Pixels: a border that is cut off is felt in the knots by 0.268 to the power of the distance, at 24
# by less than float32 is rounded. Two more lie under the splines themselves.
REACH = 26
LEAST = 8  # pixels, shorter side: planes aren't shrunk to less


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
    size = (picture.shape[0], picture.shape[1])
    return warped(
        picture, full_window(size), size, np.linalg.inv(matrix), full_window(shape or size)
    )


def warped(
    part: np.ndarray,  # (h, w) or (h, w, C)
    held: Window,
    size: tuple[int, int],
    back: np.ndarray,  # (3, 3)
    window: Window,
) -> np.ndarray:
    """The `window` of a moved picture of which only the `part` that is `needed` is held.

    Parameters
    ----------
    part : (h, w) or (h, w, C) array
        Any number type.
    held : Window
        Where the part lies in the picture.
    size : (int, int)
        Height and width of the picture.
    back : (3, 3) array
        (y, x, 1) of the result → (y, x, 1) of the picture, projective.
    window : Window

    Returns
    -------
    float32, of the shape of `window` and the channels of `part`
    """
    out = np.empty((*window.shape, *part.shape[2:]), dtype=np.float32)
    layers, target = (p[..., None] if p.ndim == 2 else p for p in (part, out))
    start, origin = (window.top, window.left), (held.top, held.left)
    for c in range(layers.shape[2]):
        evaluate(knots(layers[..., c]), origin, size, back, start, target[..., c])
    return out


def needed(back: np.ndarray, window: Window, held: Window) -> Window:
    """What of the picture, of which `held` is at hand, `warped` needs for `window`."""
    bounds = _image(back, window)
    if bounds is None:
        return held
    starts, stops = (held.top, held.left), (held.bottom, held.right)
    low, high = (np.clip(b, starts, np.subtract(stops, 1)).astype(int) for b in bounds)
    top, left = np.maximum(low - REACH, starts)
    bottom, right = np.minimum(high + REACH + 1, stops)
    return Window(int(top), int(bottom), int(left), int(right))


def _image(back: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray] | None:
    """Least and greatest (y, x) that `back` brings pixels of `window` to; None: past infinity."""
    corners = [
        (y, x, 1) for y in (window.top, window.bottom - 1) for x in (window.left, window.right - 1)
    ]
    places = np.array(corners) @ back.T
    depth = places[:, 2:]
    if depth.min() <= 0 <= depth.max():
        return None
    places = places[:, :2] / depth
    return places.min(axis=0), places.max(axis=0)


def knots(picture: np.ndarray) -> np.ndarray:
    """Cubic B-splines whose sum is the (Y, X) `picture`, mirrored about its last pixels."""
    from scipy import ndimage  # 0.1 s, needed only where planes move

    filtered: np.ndarray = ndimage.spline_filter(
        picture.astype(np.float32), order=3, output=np.float32, mode="mirror"
    )
    return filtered


def shrunk(picture: np.ndarray, factor: int) -> np.ndarray:
    """Means of `factor` × `factor` pixels of (Y, X[, C]) `picture`; the rest is dropped."""
    height, width = (size // factor * factor for size in picture.shape[:2])
    return block_means(picture[:height, :width], factor)


def times(shape: tuple[int, ...], side: int) -> int:
    """How often (Y, X) pictures are shrunk for a longer side of `side` or less."""
    return max(1, min(-(-max(shape[:2]) // side), min(shape[:2]) // LEAST))


def scaling(factor: int) -> np.ndarray:
    """From shrunk coordinates to full ones: pixel centres move by half a pixel less one."""
    offset = (factor - 1) / 2
    return np.array([[factor, 0, offset], [0, factor, offset], [0, 0, 1.0]])


def inside(matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Where a picture of `shape`, moved by `matrix`, has data: (Y, X) bool."""
    covered = np.ones(shape, dtype=bool)
    narrow(covered, np.linalg.inv(matrix), full_window(shape), shape)
    return covered


def narrow(covered: np.ndarray, back: np.ndarray, window: Window, size: tuple[int, int]) -> None:
    """Leave of `covered`, bool over `window`, only what `back` brings into a picture of `size`."""
    bounds = _image(back, window)
    if bounds is None or (bounds[0] < 0).any() or (bounds[1] > np.subtract(size, 1)).any():
        _narrow(covered, back, (window.top, window.left), size)


@kernel
def _narrow(covered, back, start, size):  # type: ignore[no-untyped-def]
    height, width = covered.shape
    slack = 1e-6
    for y in range(height):
        for x in range(width):
            v, u = brought(back, y + start[0], x + start[1])
            inner = -slack <= v <= size[0] - 1 + slack and -slack <= u <= size[1] - 1 + slack
            covered[y, x] &= inner


@inline_kernel
def brought(back, y, x):  # type: ignore[no-untyped-def]
    """Where the projective `back` brings (y, x)."""
    depth = back[2, 0] * y + back[2, 1] * x + back[2, 2]
    v = (back[0, 0] * y + back[0, 1] * x + back[0, 2]) / depth
    u = (back[1, 0] * y + back[1, 1] * x + back[1, 2]) / depth
    return v, u


@kernel
def evaluate(knots, origin, size, back, start, out):  # type: ignore[no-untyped-def]
    """Sum of the B-splines at every place that `back` brings a pixel of `out` to.

    `knots` begin at `origin` of a picture of `size`, `out` begins at `start`.
    """
    height, width = out.shape
    for y in range(height):
        for x in range(width):
            v, u = brought(back, y + start[0], x + start[1])
            # Held within the picture first: what is taken from that is exact.
            v = min(max(v, 0.0), size[0] - 1.0) - origin[0]
            u = min(max(u, 0.0), size[1] - 1.0) - origin[1]
            out[y, x] = spline_at(knots, v, u)


@inline_kernel
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


@inline_kernel
def _row(line, j, b0, b1, b2, b3):  # type: ignore[no-untyped-def]
    return b0 * line[j] + b1 * line[j + 1] + b2 * line[j + 2] + b3 * line[j + 3]


@inline_kernel
def _mirrored(k, count):  # type: ignore[no-untyped-def]
    k = abs(k)
    return 2 * (count - 1) - k if k > count - 1 else k


@inline_kernel
def _taps(t):  # type: ignore[no-untyped-def]
    """Weights of the four cubic B-splines around a place `t` past the second."""
    first, third = (1 - t) * (1 - t) * (1 - t) / 6, t * t * t / 6
    second = (4 - 6 * t * t + 3 * t * t * t) / 6
    return first, second, 1 - first - second - third, third
