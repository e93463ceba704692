"""The all-in-focus image: every pixel from the planes around its depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dff.curve.plane_mask import check_plane_mask, mask_for_fusion
from napari_dff.fusion import multiscale
from napari_dff.fusion.blends import (
    PlaneWindow,
    blend_by_noise,
    nearest_plane,
)
from napari_dff.imaging.images import as_dtype
from napari_dff.model import checks
from napari_dff.model.checks import as_numbers, check_finite
from napari_dff.model.recipe import Fusion, current_fusion
from napari_dff.model.stack import fractional_plane_index, validate_planes, validate_positions
from napari_dff.runtime.lazy import load_planes, release_mapped_pages
from napari_dff.runtime.progress import Progress, iterate, no_progress
from napari_dff.runtime.threads import run_parallel, thread_count, thread_limits
from napari_dff.runtime.windows import (
    GRID_PX,
    MIN_WINDOW_PX,
    Window,
    full_window,
    plan_windows,
    window_grid,
)

MARGINS_PX = {"multiscale": multiscale.MARGIN_PX, "noise_aware": 36}  # 0 of the others
IMAGES_PER_WINDOW, MAX_IMAGES_PER_WINDOW = 20, 24  # float32, in memory while it is fused
MULTISCALE_WINDOW_PX = 1024  # side of a window: larger ones need more memory, smaller more time


def all_in_focus(
    planes: Any,  # (Z, Y, X[, 3])
    depth: np.ndarray,  # (Y, X)
    positions: npt.ArrayLike | None = None,  # (Z,)
    *,
    uncertainty: np.ndarray | None = None,  # (Y, X)
    fusion: Fusion = "multiscale",
    plane_mask: np.ndarray | None = None,  # (Z, Y, X)
    progress: Progress = no_progress,
) -> np.ndarray:  # (Y, X[, 3])
    """Return the all-in-focus image of a stack whose depth is known.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type, loaded if lazy.
    depth : (Y, X) float array
        In the unit of `positions`; clipped to the range of the planes.
    positions : (Z,) array, optional
        Focus position of each plane, strictly increasing or decreasing; default 0 … Z-1.
    uncertainty : (Y, X) float array, optional
        Standard uncertainty of the depth, inf where never in focus; 0 if None. Only ``multiscale``
        depends on it.
    fusion : {"multiscale", "noise_aware", "nearest"}
        ``multiscale``: at every scale the planes that are sharp there, near the depth where it is
        certain. ``noise_aware``: the two nearest planes in proportion, or a blend of more planes
        where that reduces noise more than detail. ``nearest``: the nearest plane. All channels are
        blended with the same weights.
    plane_mask : (Z, Y, X) bool array, optional
        Where each aligned plane has data, as from `LazyAlignedStack.plane_mask`; everywhere if
        None. Only planes with data are used.
    progress : Progress
        Wraps the loop over windows; may raise to cancel.

    Returns
    -------
    (Y, X) or (Y, X, 3), dtype of `planes`

    Raises
    ------
    ValueError
        For an invalid argument.

    References
    ----------
    Suwajanakorn et al. 2015, doi:10.1109/CVPR.2015.7298972 (blend by depth).
    Burt & Kolczynski 1993, doi:10.1109/ICCV.1993.378222 (multi-scale fusion).
    Immerkær 1996, doi:10.1006/cviu.1996.0060 (noise of an image).
    """
    planes, depth = validate_planes(planes), as_numbers("depth", depth)
    fusion = current_fusion(fusion)
    checks.check_choice("fusion", fusion, FUSIONS)
    error = np.zeros_like(depth) if uncertainty is None else as_numbers("uncertainty", uncertainty)
    if depth.shape != tuple(planes.shape[1:3]):
        raise ValueError(
            f"depth must have the shape of a plane, {tuple(planes.shape[1:3])}, got {depth.shape}"
        )
    check_finite("depth", depth)
    if error.shape != depth.shape or not (error >= 0).all():
        least = error.min() if error.size else "nothing"
        raise ValueError(
            f"uncertainty must be at least 0 and have the shape of depth, {depth.shape}, "
            f"got {error.shape}, from {least}"
        )
    planes = load_planes(planes, progress)
    z = validate_positions(positions, len(planes))
    if plane_mask is not None:
        plane_mask = check_plane_mask(plane_mask, tuple(planes.shape[:3]))
    window = full_window(depth.shape)
    return fuse_window(planes, depth, error, z, window, fusion, progress, plane_mask)


def fuse_window(
    planes: np.ndarray,  # (Z, Y, X[, 3])
    depth: np.ndarray,  # (Y, X)
    uncertainty: np.ndarray,  # (Y, X)
    positions: np.ndarray,  # (Z,)
    window: Window,
    fusion: Fusion,
    progress: Progress,
    plane_mask: np.ndarray | None = None,  # (Z, Y, X)
) -> np.ndarray:
    """Return one window of the all-in-focus image, the same as in the whole image.

    All arrays cover `source_window` of the window, or the whole plane.
    """
    out = np.empty((*window.shape, *planes.shape[3:]), planes.dtype)
    shape, spacing = planes.shape[1:3], np.float32(np.abs(np.diff(positions)).mean())

    def fill(part: Window) -> None:
        outer = source_window(part, shape, fusion)
        index = fractional_plane_index(depth[outer.slices], positions)
        sigma = uncertainty[outer.slices].astype(np.float32) / spacing
        mask = None if plane_mask is None else mask_for_fusion(plane_mask[(..., *outer.slices)])
        image = FUSIONS[fusion](PlaneWindow(planes, outer, mask), index, sigma)
        out[part.slices_in(window)] = as_dtype(image[part.slices_in(outer)], out.dtype)
        release_mapped_pages(planes)

    parts, is_parallel = fusion_windows(window.shape, int(np.prod(planes.shape[3:])), fusion)
    parts = [part.shift(window.top, window.left) for part in parts]
    if is_parallel:
        run_parallel(fill, parts, progress, desc="Fusing")
        return out
    for part in iterate(progress, parts, desc="Fusing"):
        fill(part)
    return out


def fusion_windows(
    shape: tuple[int, int], channels: int, fusion: Fusion
) -> tuple[list[Window], bool]:
    """Return the windows in which planes are fused, and whether all threads have one each."""
    if fusion != "multiscale":
        margin = MARGINS_PX.get(fusion, 0)
        return plan_windows(shape, IMAGES_PER_WINDOW * channels, margin), True
    side, limit = MULTISCALE_WINDOW_PX, thread_limits().megabytes
    if limit is not None:
        pixels = limit * 1e6 / 4 / multiscale.images_per_window(channels)
        side = int(np.clip(np.sqrt(pixels) - 2 * multiscale.MARGIN_PX, MIN_WINDOW_PX, side))
    return window_grid(shape, side), False


def fusion_values(shape: tuple[int, int], channels: int, fusion: Fusion) -> float:
    """Return how many float32 values are in memory while planes of `shape` are fused."""
    parts, is_parallel = fusion_windows(shape, channels, fusion)
    images = multiscale.images_per_window(channels)
    if is_parallel:
        images = thread_count() * MAX_IMAGES_PER_WINDOW * channels
    # The windows are a grid: the highest of a column and the widest of a row are one of them.
    top, _, left, _ = parts[0]
    edges = [part for part in parts if part.top == top or part.left == left]
    height, width = np.max([source_window(part, shape, fusion).shape for part in edges], axis=0)
    return float(images * height * width)


def max_source_margin(fusion: Fusion) -> int:
    """Return how many pixels around a window `source_window` contains at most."""
    return MARGINS_PX.get(fusion, 0) + multiscale.GRID_PX


def source_window(window: Window, shape: tuple[int, int], fusion: Fusion) -> Window:
    """Return the window of planes of `shape` that influences the image in `window`."""
    grid = multiscale.GRID_PX if fusion == "multiscale" else GRID_PX
    return window.expand(MARGINS_PX.get(fusion, 0), shape, grid)


def fuse_scales(stack: PlaneWindow, index: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return the planes that are sharp at every scale, guided by the depth."""
    read, count = stack.read_as_stored, len(stack.planes)
    variance, values = multiscale.survey(read, count, stack.mask)
    return multiscale.fuse_scales(read, count, index, sigma, variance, values, stack.mask)


FUSIONS: dict[Fusion, Callable[[PlaneWindow, np.ndarray, np.ndarray], np.ndarray]] = {
    "multiscale": fuse_scales,
    "noise_aware": blend_by_noise,
    "nearest": nearest_plane,
}
