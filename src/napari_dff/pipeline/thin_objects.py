"""Thin objects in front of others, such as hairs: which of two surfaces a pixel itself shows.

The focus measure is averaged over a window that is wider than a hair, so that curves on the hair
and beside it have the peaks of both surfaces. Grey levels are not averaged. In the plane of its
peak, a thin object differs from its surroundings, and what lies behind is blurred.

Objects are found in blocks of pixels, which costs a quarter. Around them, pixels are compared.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np

from napari_dff.curve.search import OTHER_SURFACE_PLANES
from napari_dff.imaging.images import block_means, luminance, read_plane
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.stack import fractional_plane_index
from napari_dff.refinement import HintField
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.threads import run_parallel
from napari_dff.runtime.windows import Window, plan_windows

STEP_PX = 2  # side of the blocks
MIN_CONTRAST = 0.01  # of the grey level; lower ones count as this
MAX_WIDTH_PX = 8  # of a thin object: it does not contain a square of one pixel more
SMOOTHING_SIGMA_PX = 0.7  # of the Gaussian against noise
CONTRAST_RADIUS_PX = 12  # around a pixel, on which its contrast depends
GROUND_WINDOW_PX = 21  # more than half of this window shows the ground
GROUND_PLANES = 2  # from the median of the window: a surface at most so far away is the ground
RANGE_PX = 8  # around a pixel in which the contrast is compared; 5 to 10 do on rendered hairs
MIN_SHARE, MAX_SHARE_BESIDE = 0.5, 0.25  # of the highest contrast around
MIN_TEXTURE_SHARE = 0.5  # of the highest one in the plane of the ground; 0.2 takes haze for objects
SPARSE_WINDOW_PX, MIN_SPARSE_RATIO = 31, 3.0  # of the contrast, to its mean in the window
MIN_RISE = 1.5  # of the contrast, over its minimum on either side along Z
SUPPORT_PX, MIN_SUPPORT_PX = 31, 40  # side of a square, and pixels of a thin object in it
SAME_OBJECT_PLANES = 2  # from the mean plane of these pixels
MARGIN_PX = 64  # around a window: what is farther away changes nothing on rendered hairs
MAPS = 16  # (Y, X) float32 arrays of a window in memory, in addition to the planes


class _Surfaces(NamedTuple):
    """The planes of the two highest peaks of the curves of pixels or blocks."""

    first: np.ndarray  # (Y, X) int32, of the highest peak
    second: np.ndarray  # (Y, X) int32, of another one, `first` if there is none
    depth: np.ndarray  # (Y, X) float32, of that one
    in_focus: np.ndarray  # (Y, X) bool

    def objects(self, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the plane that is not the `ground`, and whether it is far enough from it."""
        is_ground = np.abs(self.first - ground) <= GROUND_PLANES
        plane = np.where(is_ground, self.second, self.first)
        is_far = np.abs(plane - ground) >= OTHER_SURFACE_PLANES - GROUND_PLANES
        return plane, self.in_focus & is_far


class _Objects(NamedTuple):
    """The thin objects around a pixel or block."""

    plane: np.ndarray  # (Y, X) float32, mean of the planes in which they are in focus
    ground: np.ndarray  # (Y, X) int32, plane of what is behind or in front of them
    contrast: np.ndarray  # (Y, X) float32, least one of an object; inf where none is near


def separate_thin_objects(
    estimate: DepthMap,
    other: np.ndarray,  # float32, depth of another surface in each block, NaN if none
    step: int,  # side of these blocks in pixels
    planes: Any,  # (Z, Y, X[, 3])
    positions: np.ndarray,
    progress: Progress,
) -> tuple[DepthMap, HintField | None]:
    """Return the depth of the surface that each pixel shows, and constraints that keep it.

    They are on thin objects, and beside them where the estimate was that of the object. Where the
    depth changes, the uncertainty is at least half the distance of the surfaces.
    """
    index, depth, uncertainty = (part.copy() for part in estimate)
    shape, influence = depth.shape, np.zeros(depth.shape, np.float32)
    other = _repeat(other, step)[: shape[0], : shape[1]]

    def surfaces(window: Window, step: int) -> _Surfaces:
        rows, columns = (slice(each.start, each.stop, step) for each in window.slices)
        first, own, deviation, second = (each[rows, columns] for each in (*estimate, other))
        in_focus, first = np.isfinite(deviation), first.astype(np.int32)
        has_second = in_focus & np.isfinite(second)
        second = np.where(has_second, second, own)
        plane = np.rint(fractional_plane_index(second, positions)).astype(np.int32)
        return _Surfaces(first, np.where(has_second, plane, first), second, in_focus)

    def separate(window: Window) -> None:
        outer = window.expand(MARGIN_PX, shape)
        blocks = surfaces(outer, STEP_PX)
        if np.array_equal(blocks.first, blocks.second):
            return
        parts = (read_plane(planes, k, outer.slices) for k in range(len(planes)))
        contrast = np.stack([_thin_contrast(each, STEP_PX) for each in parts])
        maps = _find_objects(blocks, contrast)
        near = np.isfinite(maps.contrast).astype(np.uint8)
        left, top, width, height = (STEP_PX * each for each in cv2.boundingRect(near))
        box = Window(top, top + height, left, left + width)
        box = box.shift(outer.top, outer.left).intersect(outer)
        if 0 in box.shape:
            return
        pixels, inner = surfaces(box, 1), box.slices_in(outer)
        maps = _Objects(*(_repeat(each, STEP_PX)[inner] for each in maps))
        thin, is_second = _choose_surfaces(pixels, maps, planes, box)
        part = box.intersect(window)
        here, inner = part.slices, part.slices_in(box)
        changed, new = is_second[inner], pixels.depth[inner]
        influence[here] = (thin | is_second)[inner]
        distance = np.abs(new - depth[here])
        np.maximum(uncertainty[here], distance / 2, out=uncertainty[here], where=changed)
        np.copyto(depth[here], new, where=changed)
        np.copyto(index[here], pixels.second[inner], where=changed, casting="unsafe")

    windows = plan_windows(shape, len(planes) + MAPS, MARGIN_PX)
    run_parallel(separate, windows, progress, desc="Finding thin objects")
    if not influence.any():
        return estimate, None
    result = DepthMap(index, depth, uncertainty)
    return result, HintField(result, influence)


# Of the planes of two peaks, first and second, the ground is that of most blocks around: the median
# of the plane in which each shows more contrast. A block shows an object in the other plane if the
# contrast there is high, compared with the highest one around, the mean of a wide window (noise and
# texture fill it, a thin object does not) and the highest one in the plane of the ground; if it is
# a maximum along Z; and if enough blocks around show the same object.
def _find_objects(
    surfaces: _Surfaces,
    contrast: np.ndarray,  # (Z, Y, X), `_thin_contrast` of each plane
) -> _Objects:
    """Return the thin objects around each block."""
    first, second = surfaces.first, surfaces.second
    own = np.where(_take(contrast, second) > _take(contrast, first), second, first)
    ground = _median_plane(own, len(contrast))
    plane, candidate = surfaces.objects(ground)
    own = _take(contrast, plane) * candidate
    around = _square(RANGE_PX // STEP_PX)
    highest, texture = (cv2.dilate(each, around) for each in (own, _take(contrast, ground)))
    sparse = (SPARSE_WINDOW_PX // STEP_PX,) * 2
    mean = _take(np.stack([cv2.blur(each, sparse) for each in contrast]), plane)
    least = np.maximum(MIN_TEXTURE_SHARE * texture, MIN_SPARSE_RATIO * mean)
    thin = candidate & (own > MIN_SHARE * highest) & (own > least)
    thin[thin] = _is_maximum(contrast[:, thin], plane[thin], ground[thin])
    support = (SUPPORT_PX // STEP_PX,) * 2
    weight = thin.astype(np.float32)
    share = cv2.blur(weight, support)
    object_plane = cv2.blur(weight * plane, support) / np.maximum(share, np.float32(1e-6))
    thin &= share * SUPPORT_PX**2 >= MIN_SUPPORT_PX
    thin &= np.abs(plane - object_plane) <= SAME_OBJECT_PLANES
    sufficient = np.where(thin, least, np.float32(np.inf))
    return _Objects(object_plane, ground, cv2.erode(sufficient, np.ones(support, np.uint8)))


def _choose_surfaces(
    surfaces: _Surfaces,
    objects: _Objects,
    planes: Any,
    window: Window,
) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels of `window` show an object, and which show their second surface: bool.

    Beside an object, where the contrast in its plane is low, a pixel shows the ground.
    """
    plane, candidate = surfaces.objects(objects.ground)
    candidate &= np.isfinite(objects.contrast)
    candidate &= np.abs(plane - objects.plane) <= SAME_OBJECT_PLANES
    own = np.zeros(plane.shape, np.float32)
    for k in np.unique(plane[candidate]).tolist():
        here = candidate & (plane == k)
        left, top, width, height = cv2.boundingRect(here.astype(np.uint8))
        part = Window(top, top + height, left, left + width)
        outer = part.shift(window.top, window.left).expand(CONTRAST_RADIUS_PX, planes.shape[1:3])
        contrast = _thin_contrast(read_plane(planes, k, outer.slices), 1)
        inner = part.shift(window.top, window.left).slices_in(outer)
        np.copyto(own[part.slices], contrast[inner], where=here[part.slices])
    highest = cv2.dilate(own, _square(RANGE_PX))
    thin = candidate & (own > MIN_SHARE * highest) & (own > objects.contrast)
    is_near = cv2.dilate(thin.astype(np.uint8), _square(RANGE_PX)) > 0
    is_beside = is_near & (own < MAX_SHARE_BESIDE * highest)
    is_ground = np.abs(surfaces.first - objects.ground) <= GROUND_PLANES
    second_is_ground = np.abs(surfaces.second - objects.ground) <= GROUND_PLANES
    has_second = surfaces.first != surfaces.second
    return thin, has_second & np.where(is_ground, thin, second_is_ground & is_beside)


def _thin_contrast(plane: np.ndarray, step: int) -> np.ndarray:
    """Return how much brighter or darker than its surroundings what is thin is, (Y, X) float32.

    The larger one of the white and the black top-hat of blocks of `step` × `step` pixels, and of a
    share of the grey level, so that what is rounded or saturated shows no objects.
    """
    image = luminance(block_means(plane, step))
    if step == 1:
        image = cv2.GaussianBlur(image, (0, 0), SMOOTHING_SIGMA_PX)
    square = _square(MAX_WIDTH_PX // 2 // step)
    white, black = (
        cv2.morphologyEx(image, each, square) for each in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT)
    )
    return np.maximum(np.maximum(white, black), np.float32(MIN_CONTRAST) * image)


def _square(radius: int) -> np.ndarray:
    return np.ones((2 * radius + 1,) * 2, np.uint8)


def _repeat(values: np.ndarray, step: int) -> np.ndarray:
    """Return (Y, X) `values` of blocks at every pixel."""
    return values if step == 1 else np.repeat(np.repeat(values, step, axis=0), step, axis=1)


def _median_plane(planes: np.ndarray, count: int) -> np.ndarray:
    """Return medians of plane indices below `count` in wide windows, (Y, X) int32."""
    scale = min(1.0, 255 / (count - 1))  # OpenCV's medians in wide windows are of 8 bits
    median = cv2.medianBlur((planes * scale).astype(np.uint8), GROUND_WINDOW_PX // STEP_PX | 1)
    return np.rint(median / scale).astype(np.int32)


def _take(volume: np.ndarray, plane: np.ndarray) -> np.ndarray:
    return np.asarray(np.take_along_axis(volume, plane[None], axis=0)[0])


def _is_maximum(curves: np.ndarray, plane: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Return whether (Z, N) curves fall from `plane` (N,) towards the ground and away from it."""
    k = np.arange(len(curves))[:, None]
    distance = (k - plane) * np.sign(ground - plane)
    between = (distance > 0) & (distance < np.abs(ground - plane))
    lowest = (np.where(side, curves, np.inf).min(axis=0) for side in (between, distance < 0))
    return np.asarray(_take(curves, plane) > MIN_RISE * np.maximum(*lowest))
