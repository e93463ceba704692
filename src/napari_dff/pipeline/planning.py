"""Planning: whether a run fits into memory as a whole or in tiles, and of which size."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import psutil

from napari_dff.curve.volume import VOLUMES_PER_WINDOW, WINDOW_MARGIN_PX
from napari_dff.focus import sample_pixels
from napari_dff.fusion.fuse import fusion_values, max_source_margin
from napari_dff.model import checks
from napari_dff.model.checks import AUTO
from napari_dff.model.recipe import Fusion, Recipe
from napari_dff.pipeline import image_quality, tile
from napari_dff.refinement.message_passing import MESSAGE_MARGIN_PX, message_windows
from napari_dff.registration.downsampling import MAX_SIDE_PX
from napari_dff.registration.estimation import MAX_SAMPLES
from napari_dff.runtime.free_memory import available_bytes
from napari_dff.runtime.lazy import chunk_lengths, decoding_bytes, is_ready
from napari_dff.runtime.memory import configure_malloc, trim_malloc
from napari_dff.runtime.threads import at_most_threads, thread_count
from napari_dff.runtime.windows import GRID_PX, Window, full_window, plan_windows

MEMORY_MB = checks.Range(0.0, 1e9, 1.0)
KERNEL_MB = 130.0  # of libraries and kernels that are not loaded yet
ALIGNMENT_MB = 50.0  # more of them if planes are aligned
MANY_PLANES_MB = 0.3, 60.0  # what is left after alignment: of each plane, and at most
MAP_BYTES_PX = {False: 53, True: 123}  # of maps, without and with refinement
COHERENCE_BYTES_PX = 90  # of maps of two times
GRAPH_BYTES_PX, GRAPH_BYTES_VOXEL = 200, 16  # of a graph cut
RESULT_BYTES_PX = 40  # of results in memory
PASSING_VOLUMES = 3.5  # float32 volumes of a window during message passing
# Volumes of a window while its focus is measured, and their margin in pixels: the result, and the
# finest scale of adaptive windows, without subsampling
FOCUS_VOLUMES = ((1.0, 18), (1.9, 51))
# Downsampled planes, float32, that fit into the memory of comparing them, in all and a thread
ALIGNMENT_IMAGES, ALIGNMENT_IMAGES_THREAD = 25, 10
FEATURES_MB = {"joint": 0.25, "sift": 1.0}  # of each plane
LIGHT_MB = 0.17  # of each colour of each plane whose light is compared
STRIP_MB = 35  # of the strips that one thread reads during alignment
FREE_MEMORY_FRACTION = 0.8  # of the free memory that a run may use without a limit
MIN_TILE_PX, TILE_STEP_PX = 128, 64  # smallest side of a tile, and step between sides


class Plan(NamedTuple):
    """How a stack is computed: tiles that cover the plane row by row, peak memory, threads."""

    windows: list[Window]  # only the full plane if everything fits into memory
    megabytes: float
    threads: int | None = None  # that work at a time, if not all may: each needs memory

    @property
    def fits_in_memory(self) -> bool:
        """Whether all planes are in memory at once."""
        return len(self.windows) == 1


def make_plan(
    planes: Any,  # (Z, Y, X[, 3])
    recipe: Recipe,
    *,
    megabytes: float | None = None,  # of the process; nearly all free memory if None
    other_channels: int = 0,  # that get an image at the same depth
    on_disk: bool = False,  # results need no memory
) -> Plan:
    """Choose the largest tiles that fit into memory; ValueError if even the smallest do not.

    Planes in memory are not tiled unless `megabytes` are given.
    """
    if megabytes is not None:
        MEMORY_MB.check("megabytes", megabytes)
    configure_malloc()
    trim_malloc()
    base = max(library_megabytes(), resident_megabytes())
    if recipe.registration != "none":
        of_plane, most = MANY_PLANES_MB
        base += ALIGNMENT_MB + min(of_plane * planes.shape[0], most)
    limit = base + free_megabytes() if megabytes is None else megabytes
    in_memory = isinstance(planes, np.ndarray) and not isinstance(planes, np.memmap)
    model, threads = _MemoryModel(planes, recipe, other_channels, on_disk), thread_count()
    plans: list[Plan] = []
    for count in [threads >> k for k in range(threads.bit_length())]:  # all, half … one
        with at_most_threads(count):
            plans = model.plans(base)
            reading = decoding_bytes(planes) / 1e6
        if plans[0].megabytes <= limit or (in_memory and megabytes is None):
            return plans[0]._replace(threads=count if count < threads else None)
        fitting = [plan for plan in plans if plan.megabytes <= limit]
        if fitting:
            best = min(fitting, key=lambda plan: len(plan.windows))
            return best._replace(threads=count if count < threads else None)
    least = min(plan.megabytes for plan in plans)
    message = f"megabytes must be at least {np.ceil(least / 50) * 50:.0f} for these planes"
    if base + reading > limit:
        size = ", ".join(str(max(each)) for each in chunk_lengths(planes))
        message += f", whose chunks of ({size}) values are decoded at once"
    raise ValueError(f"{message}, got {limit:.0f}")


@functools.cache
def library_megabytes() -> float:
    """Return the memory of this process before its first run: libraries and kernels, no data."""
    return resident_megabytes() + KERNEL_MB


def resident_megabytes() -> float:
    """Return the memory of this process now."""
    return psutil.Process().memory_info().rss / 1e6


def free_megabytes() -> float:
    """Return the memory that a run may use without a limit."""
    return FREE_MEMORY_FRACTION * available_bytes() / 1e6


class _MemoryModel:
    """Estimates the memory that a run needs in addition to libraries, in megabytes."""

    def __init__(self, planes: Any, recipe: Recipe, other_channels: int, on_disk: bool) -> None:
        self._planes = planes
        self.shape: tuple[int, int] = tuple(planes.shape[1:3])
        self._count = planes.shape[0]
        self._colours = int(np.prod(planes.shape[3:]))
        self._voxel_bytes = np.dtype(planes.dtype).itemsize * self._colours
        self._recipe, self._others, self._on_disk = recipe, other_channels, on_disk
        self._refines = tile.has_refinement(recipe)
        windows = message_windows(self.shape, self._count)
        self._message_window = tuple(max(window.shape[i] for window in windows) for i in (0, 1))
        self._is_loaded = isinstance(planes, np.memmap) or not is_ready(planes)
        self._resamples = recipe.registration != "none" or recipe.exposure != "keep"

    def plans(self, base: float) -> list[Plan]:
        """Return the plan without tiles, then those with tiles of each size."""
        reading = decoding_bytes(self._planes) / 1e6
        untiled = Plan([full_window(self.shape)], base + self.untiled(reading))
        is_decoded_again = max(chunk_lengths(self._planes)[0]) == 1  # for each tile
        frames = reading if is_decoded_again else 0.0
        results = self.results()
        others = reading, self.alignment(on_disk=True), self.sampling() + frames
        sides = range(MIN_TILE_PX, max(*self.shape, MIN_TILE_PX) + TILE_STEP_PX, TILE_STEP_PX)
        grids = (tile.tile_grid(self.shape, self._count, self._recipe, side) for side in sides)
        return [
            untiled,
            *(
                Plan(tiles, base + max(results + self.largest_tile(tiles) + frames, *others))
                for tiles in grids
                if len(tiles) > 1
            ),
        ]

    def untiled(self, reading: float) -> float:
        """All planes at once: as they are read, aligned, and of the other channels."""
        copies = self._is_loaded + self._resamples
        stack = self._count * self._voxel_bytes * np.prod(self.shape) / 1e6
        planes = stack * (copies + self._others)
        work = self._maps(self.shape) + self._windows(self.shape)
        first = self._is_loaded * planes / max(copies, 1)
        return float(
            max(
                planes + max(work, self.sampling()),
                first + max(self.alignment(on_disk=False), reading),
            )
        )

    def largest_tile(self, tiles: list[Window]) -> float:
        """The largest tile with its margins."""
        margin = 2 * tile.tile_margin(self._recipe) + GRID_PX
        tile_side = max(max(window.shape) for window in tiles)
        side, image_side = (
            tile_side + margin,
            tile_side + 2 * (max_source_margin(self._recipe.fusion) + image_quality.MARGIN_PX),
        )
        source_side = max(side + 2 * tile.focus_margin(self._recipe), image_side)
        height, width = self.shape
        outer, source, image_source = (
            (min(each, height), min(each, width)) for each in (side, source_side, image_side)
        )
        pixels = np.prod(source) + self._others * np.prod(image_source)
        planes = self._count * self._voxel_bytes * pixels / 1e6
        return float(planes + self._maps(outer) + self._windows(outer))

    def results(self) -> float:
        """Results of the full plane, unless they are on disk."""
        pixel = RESULT_BYTES_PX + self._voxel_bytes * (1 + self._others)
        return 0.0 if self._on_disk else float(pixel * np.prod(self.shape) / 1e6)

    def sampling(self) -> float:
        """The samples from which the scale of the focus measure is chosen."""
        is_chosen = AUTO in (self._recipe.sigma, self._recipe.window)
        pixels = sample_pixels(self.shape) if is_chosen else 0
        return float(self._count * self._voxel_bytes * pixels / 1e6)

    def alignment(self, on_disk: bool) -> float:
        """Downsampled planes that are compared, their features, and the strips that are read."""
        light = LIGHT_MB * self._count * self._colours * (self._recipe.exposure != "keep")
        if self._recipe.registration == "none":
            return light
        factor = -(-max(self.shape) // MAX_SIDE_PX)
        pixels = np.prod(self.shape) / factor**2
        images = ALIGNMENT_IMAGES + ALIGNMENT_IMAGES_THREAD * thread_count()
        images += 0 if on_disk else self._count
        features = FEATURES_MB.get(self._recipe.registration, 0.0) * self._count
        samples = 4 * min(pixels * self._count / 16, 2 * MAX_SAMPLES) / 1e6
        compared = 4 * pixels * images / 1e6 + features + samples
        return float(max(compared, light) + STRIP_MB * thread_count())

    def _maps(self, shape: tuple[int, int]) -> float:
        quantized = self._count if self._refines else 0
        images = 1 + self._refines + self._others
        pixel = MAP_BYTES_PX[self._refines] + quantized + self._voxel_bytes * images
        if self._recipe.coherence != "none":
            pixel += COHERENCE_BYTES_PX
        if self._refines and "graph_cut" in self._recipe.refinement:  # solves all pixels at once
            pixel += GRAPH_BYTES_PX + GRAPH_BYTES_VOXEL * self._count
        return float(pixel * np.prod(shape) / 1e6)

    def _windows(self, shape: tuple[int, int]) -> float:
        """All windows in progress, in the step that needs most."""
        fusions: set[Fusion] = {self._recipe.fusion, tile.GUIDE_FUSION}
        values = [
            self._count * _focus_pixels(shape, self._count),
            *(fusion_values(shape, self._colours, each) / thread_count() for each in fusions),
        ]
        if self._refines and "message_passing" in self._recipe.refinement:
            sides = zip(self._message_window, shape, strict=True)
            pixels = math.prod(min(n + 2 * MESSAGE_MARGIN_PX, size) for n, size in sides)
            values.append(PASSING_VOLUMES * self._count * pixels)
        return float(4 * thread_count() * max(values) / 1e6)


def _focus_pixels(shape: tuple[int, int], count: int) -> float:
    """Return the float32 values of each plane in the largest window whose focus is measured."""
    windows = plan_windows(shape, round(VOLUMES_PER_WINDOW * count), WINDOW_MARGIN_PX)
    height, width = np.max([window.shape for window in windows], axis=0)
    return float(sum(n * (height + 2 * px) * (width + 2 * px) for n, px in FOCUS_VOLUMES))
