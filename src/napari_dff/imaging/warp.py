"""Resampling of an image under a projective transform, by cubic B-splines at exact coordinates.

``cv2.warpPerspective`` rounds coordinates to 1/32 pixel, which is as much as the error of the
alignment, and the errors of its cubic kernel are several times larger on smooth images.
"""

from __future__ import annotations

import itertools

import numpy as np

from napari_dff.runtime.jit import inline_kernel, kernel
from napari_dff.runtime.windows import Window, full_window

# Pixels around a window on which its values depend: 24 for the coefficients, whose dependence on a
# pixel falls as 0.268^distance and is below the resolution of float32 there, and 2 for the splines.
SPLINE_MARGIN_PX = 26
BORDER_TOLERANCE_PX = 1e-6  # rounding error of coordinates at the border


def warp(
    image: np.ndarray,  # (Y, X) or (Y, X, C), any number type
    transform: np.ndarray,  # (3, 3), (y, x, 1) of the image → of the result, projective
    shape: tuple[int, int] | None = None,  # of the result, as of the image when None
) -> np.ndarray:
    """Return an image resampled under a transform, float32; its border is repeated outside."""
    size = (image.shape[0], image.shape[1])
    target = full_window(shape or size)
    return warp_window(image, full_window(size), size, np.linalg.inv(transform), target)


def warp_window(
    part: np.ndarray,  # (h, w) or (h, w, C), any number type
    part_window: Window,  # where the part lies in the image
    size: tuple[int, int],  # of the image
    inverse: np.ndarray,  # (3, 3), (y, x, 1) of the result → of the image, projective
    window: Window,  # of the result
) -> np.ndarray:
    """Return one window of `warp` from a part of the image, at least the `source_window`."""
    out = np.empty((*window.shape, *part.shape[2:]), dtype=np.float32)
    channels, target = (p[..., None] if p.ndim == 2 else p for p in (part, out))
    origin, start = (part_window.top, part_window.left), (window.top, window.left)
    for c in range(channels.shape[2]):
        coefficients = spline_coefficients(channels[..., c])
        _resample(coefficients, origin, size, inverse, start, target[..., c])
    return out


def source_window(inverse: np.ndarray, window: Window, available: Window) -> Window:
    """Return the part of the `available` image on which `window` of the result depends."""
    bounds = _image_bounds(inverse, window)
    if bounds is None:
        return available
    starts, stops = (available.top, available.left), (available.bottom, available.right)
    low, high = (np.clip(b, starts, np.subtract(stops, 1)).astype(int) for b in bounds)
    top, left = np.maximum(low - SPLINE_MARGIN_PX, starts)
    bottom, right = np.minimum(high + SPLINE_MARGIN_PX + 1, stops)
    return Window(int(top), int(bottom), int(left), int(right))


def _image_bounds(inverse: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the smallest and largest (y, x) to which `inverse` maps the pixels of `window`.

    None where the window crosses the horizon of a projective transform.
    """
    y, x = (window.top, window.bottom - 1), (window.left, window.right - 1)
    mapped = np.array(list(itertools.product(y, x, (1,)))) @ inverse.T
    depth = mapped[:, 2:]
    if depth.min() <= 0 <= depth.max():
        return None
    mapped = mapped[:, :2] / depth
    return mapped.min(axis=0), mapped.max(axis=0)


def spline_coefficients(image: np.ndarray) -> np.ndarray:
    """Return the (Y, X) float32 cubic B-spline coefficients of an image, mirrored at its border."""
    from scipy import ndimage  # takes 0.1 s

    return ndimage.spline_filter(image.astype(np.float32), 3, output=np.float32, mode="mirror")


def valid_mask(transform: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return where an image of `shape`, resampled under `transform`, has data: (Y, X) bool."""
    valid = np.ones(shape, dtype=bool)
    clear_outside(valid, np.linalg.inv(transform), full_window(shape), shape)
    return valid


def clear_outside(
    valid: np.ndarray,
    inverse: np.ndarray,
    window: Window,
    size: tuple[int, int],
    tolerance: float = BORDER_TOLERANCE_PX,
) -> None:
    """Set (h, w) `valid` to False where `inverse` maps `window` outside an image of `size`.

    Pixels up to `tolerance` outside its border are not cleared.
    """
    bounds = _image_bounds(inverse, window)
    if bounds is None or (bounds[0] < 0).any() or (bounds[1] > np.subtract(size, 1)).any():
        _clear_outside(valid, inverse, (window.top, window.left), size, tolerance)


@kernel
def _clear_outside(valid, inverse, start, size, slack):  # type: ignore[no-untyped-def]
    """Clear (h, w) `valid`, whose first pixel is (y, x) = `start` of the result."""
    height, width = valid.shape
    for y in range(height):
        for x in range(width):
            v, u = project_point(inverse, y + start[0], x + start[1])
            inner = -slack <= v <= size[0] - 1 + slack and -slack <= u <= size[1] - 1 + slack
            valid[y, x] &= inner


@inline_kernel
def project_point(transform, y, x):  # type: ignore[no-untyped-def]
    """Map (y, x) by a projective (3, 3) transform."""
    depth = transform[2, 0] * y + transform[2, 1] * x + transform[2, 2]
    v = (transform[0, 0] * y + transform[0, 1] * x + transform[0, 2]) / depth
    u = (transform[1, 0] * y + transform[1, 1] * x + transform[1, 2]) / depth
    return v, u


# Cubic B-spline interpolation (Unser, Aldroubi & Eden 1991, doi:10.1109/34.75515): the image is
#     f(v, u) = Σ_ij c_ij β(v - i) β(u - j)
# with the cubic B-spline β, whose support is four pixels, and the coefficients c from
# `spline_coefficients`, with which f passes through every pixel. At v = i + t with 0 ≤ t < 1, the
# four weights β(1 + t), β(t), β(1 - t), β(2 - t) of the rows i - 1 … i + 2 are
#     (1 - t)³/6,   (4 - 6 t² + 3 t³)/6,   1 - the other three,   t³/6.
# Four rows are summed along x first. Beyond the border, coefficients are mirrored about the last
# pixel, as in `spline_coefficients`.
@kernel
def _resample(coefficients, origin, size, inverse, start, out):  # type: ignore[no-untyped-def]
    """Fill (h, w) float32 `out`, whose first pixel is (y, x) = `start` of the result.

    (h, w) float32 `coefficients` are those of a part of the image, which begins at `origin`.
    `size` is that of the image. (3, 3) `inverse` maps (y, x, 1) of the result to the image.
    """
    height, width = out.shape
    for y in range(height):
        for x in range(width):
            v, u = project_point(inverse, y + start[0], x + start[1])
            # Clamp to the image before the origin is subtracted: the difference is exact then, and
            # the same in any window.
            v = min(max(v, 0.0), size[0] - 1.0) - origin[0]
            u = min(max(u, 0.0), size[1] - 1.0) - origin[1]
            out[y, x] = evaluate_spline(coefficients, v, u)


@inline_kernel
def evaluate_spline(coefficients, v, u):  # type: ignore[no-untyped-def]
    """Return the value of a spline of (h, w) `coefficients` at (v, u), clamped to its range."""
    rows, columns = coefficients.shape
    v, u = min(max(v, 0.0), rows - 1.0), min(max(u, 0.0), columns - 1.0)
    i, j = int(v), int(u)
    a0, a1, a2, a3 = _spline_weights(v - i)
    b0, b1, b2, b3 = _spline_weights(u - j)
    if 0 < i < rows - 2 and 0 < j < columns - 2:
        total = 0.0
        total += a0 * _weighted_row(coefficients[i - 1], j - 1, b0, b1, b2, b3)
        total += a1 * _weighted_row(coefficients[i], j - 1, b0, b1, b2, b3)
        total += a2 * _weighted_row(coefficients[i + 1], j - 1, b0, b1, b2, b3)
        total += a3 * _weighted_row(coefficients[i + 2], j - 1, b0, b1, b2, b3)
        return total
    total = 0.0
    for p, a in ((-1, a0), (0, a1), (1, a2), (2, a3)):
        row = coefficients[_mirror(i + p, rows)]
        for q, b in ((-1, b0), (0, b1), (1, b2), (2, b3)):
            total += a * b * row[_mirror(j + q, columns)]
    return total


@inline_kernel
def _weighted_row(row, j, b0, b1, b2, b3):  # type: ignore[no-untyped-def]
    return b0 * row[j] + b1 * row[j + 1] + b2 * row[j + 2] + b3 * row[j + 3]


@inline_kernel
def _mirror(k, count):  # type: ignore[no-untyped-def]
    k = abs(k)
    return 2 * (count - 1) - k if k > count - 1 else k


@inline_kernel
def _spline_weights(t):  # type: ignore[no-untyped-def]
    """Return the weights of the four coefficients around a place `t` past the second."""
    first, fourth = (1 - t) * (1 - t) * (1 - t) / 6, t * t * t / 6
    second = (4 - 6 * t * t + 3 * t * t * t) / 6
    return first, second, 1 - first - second - fourth, fourth
