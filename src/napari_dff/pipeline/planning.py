"""Planning: whether a run fits into memory as a whole or in tiles, and of which size."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import psutil

from napari_dff.curve.volume import focus_windows
from napari_dff.focus import sample_pixels
from napari_dff.fusion.fuse import fusion_values, max_source_margin
from napari_dff.model import checks
from napari_dff.model.checks import AUTO
from napari_dff.model.recipe import Fusion, Recipe
from napari_dff.pipeline import image_quality, tile
from napari_dff.refinement.energy import MAX_CURVES_BYTES
from napari_dff.refinement.message_passing import MESSAGE_MARGIN_PX, message_windows
from napari_dff.registration.downsampling import MAX_SIDE_PX
from napari_dff.registration.estimation import MAX_SAMPLES
from napari_dff.runtime.free_memory import available_bytes
from napari_dff.runtime.lazy import chunk_lengths, decoding_bytes, is_ready
from napari_dff.runtime.memory import configure_malloc, trim_malloc
from napari_dff.runtime.threads import at_most_threads, thread_count
from napari_dff.runtime.windows import GRID_PX, Window, full_window

MEMORY_MB = checks.Range(0.0, 1e9, 1.0)
KERNEL_MB = 130.0  # of libraries and kernels that are not loaded yet
ALIGNMENT_MB = 50.0  # more of them if planes are aligned
MANY_PLANES_MB = 0.3, 60.0  # what is left after alignment: of each plane, and at most
MAP_BYTES_PX = {False: 53, True: 123}  # of maps, without and with refinement
COHERENCE_BYTES_PX = 90  # of maps of two times
GRAPH_BYTES_PX, GRAPH_BYTES_VOXEL = 200, 16  # of a graph cut
RESULT_BYTES_PX = 40  # of results in memory
PASSING_VOLUMES = 3.2  # float32 volumes of a window during message passing, without its curves
# Volumes of a window while its focus is measured, and their margin in pixels: the result, and the
# scales of adaptive windows. Curves are those of pixels, or of blocks of 2 × 2
FOCUS_VOLUMES = {1: ((1.0, 18), (1.9, 51)), 2: ((0.25, 24), (0.61, 62))}
# Downsampled planes, float32, that fit into the memory of comparing them, in all and a thread
ALIGNMENT_IMAGES, ALIGNMENT_IMAGES_THREAD = 25, 10
FEATURES_MB = {"joint": 0.25, "sift": 1.0}  # of each plane
LIGHT_MB = 0.17  # of each colour of each plane whose light is compared
STRIP_MB = 35  # of the strips that one thread reads during alignment
VOLUMES_PER_SAMPLE = 2.2  # float32 volumes of a sample while its focus is measured
WINDOWS_MB = 512.0, 256.0, 128.0, 64.0, 32.0  # of the windows of one thread, where all is tried
FREE_MEMORY_FRACTION = 0.8  # of the free memory that a run may use without a limit
MIN_TILE_PX, TILE_STEP_PX = 128, 64  # smallest side of a tile, and step between sides


class Plan(NamedTuple):
    """How a stack is computed: tiles that cover the plane row by row, peak memory, threads."""

    windows: list[Window]  # only the full plane if its maps fit into memory
    megabytes: float
    threads: int | None = None  # that work at a time, if not all may: each needs memory
    in_file: bool = False  # the planes of a tile are in a temporary file
    window_megabytes: float | None = None  # of windows, which are small then; None: no limit

    @property
    def fits_in_memory(self) -> bool:
        """Whether all planes are in memory at once."""
        return len(self.windows) == 1 and not self.in_file

    def limits(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the limits of threads and windows hold."""
        return at_most_threads(self.threads, self.window_megabytes)


def make_plan(
    planes: Any,  # (Z, Y, X[, 3])
    recipe: Recipe,
    *,
    megabytes: float | None = None,  # of the process; nearly all free memory if None
    other_channels: int = 0,  # that get an image at the same depth
    on_disk: bool = False,  # results need no memory
) -> Plan:
    """Choose the largest tiles that fit into memory; ValueError if even the smallest do not.

    Where not even the smallest fit, planes are in a temporary file, then windows are smaller, too.
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
    model = _MemoryModel(planes, recipe, other_channels, on_disk)
    plans: list[Plan] = []
    for settings in _candidates(thread_count()):
        with settings.limits():
            plans = model.plans_in_file(base) if settings.in_file else model.plans(base)
            reading = decoding_bytes(planes) / 1e6
        fitting = [plan for plan in plans if plan.megabytes <= limit]
        if in_memory and megabytes is None:
            fitting = plans[:1]
        if fitting:
            best = min(fitting, key=lambda plan: len(plan.windows))
            return settings._replace(windows=best.windows, megabytes=best.megabytes)
    least = min(plan.megabytes for plan in plans)
    message = f"megabytes must be at least {np.ceil(least / 50) * 50:.0f} for these planes"
    if base + reading > limit:
        size = ", ".join(str(max(each)) for each in chunk_lengths(planes))
        message += f", whose chunks of ({size}) values are decoded at once"
    raise ValueError(f"{message}, got {limit:.0f}")


def _candidates(threads: int) -> Iterator[Plan]:
    """Yield plans without windows, in the order in which they are tried: fast ones first."""
    counts = [threads >> k for k in range(threads.bit_length())]  # all, half … one
    for in_file in (False, True):
        for count in counts:
            yield Plan([], np.inf, count if count < threads else None, in_file)
    for megabytes in WINDOWS_MB:
        yield Plan([], np.inf, 1 if threads > 1 else None, in_file, megabytes)


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
        return [
            untiled,
            *(
                Plan(tiles, base + max(results + self.largest_tile(tiles) + frames, *others))
                for tiles in self._grids()
            ),
        ]

    def plans_in_file(self, base: float) -> list[Plan]:
        """Return plans whose planes are in a temporary file, without tiles and with tiles."""
        results, reading = self.results(), decoding_bytes(self._planes) / 1e6
        others = self.alignment(on_disk=True), self.sampling(in_file=True) + reading
        return [
            Plan(tiles, base + max(results + max(self.tile_in_file(tiles), reading), *others))
            for tiles in ([full_window(self.shape)], *self._grids())
        ]

    def _grids(self) -> list[list[Window]]:
        """Return several tiles of each size that cover the plane."""
        sides = range(MIN_TILE_PX, max(*self.shape, MIN_TILE_PX) + TILE_STEP_PX, TILE_STEP_PX)
        grids = (tile.tile_grid(self.shape, self._count, self._recipe, side) for side in sides)
        return [tiles for tiles in grids if len(tiles) > 1]

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
        outer, source, image_source = self._extents(tiles)
        pixels = np.prod(source) + self._others * np.prod(image_source)
        planes = self._count * self._voxel_bytes * pixels / 1e6
        return float(planes + self._maps(outer) + self._windows(outer))

    def tile_in_file(self, tiles: list[Window]) -> float:
        """The largest tile, without its planes and curves, which are in temporary files."""
        outer, _, image_source = self._extents(tiles)
        masks = self._count * np.prod(image_source) * (self._recipe.registration != "none") / 1e6
        curves = self._count * self._refines * np.prod(outer) / 1e6
        return float(self._maps(outer) - curves + masks + self._windows(outer))

    def _extents(self, tiles: list[Window]) -> list[tuple[int, int]]:
        """Return height and width of what is computed for the largest tile.

        Of its maps, of all planes that are read, and of those that are fused.
        """
        tile_side = max(max(window.shape) for window in tiles)
        side = tile_side + 2 * tile.tile_margin(self._recipe) + GRID_PX
        image_margin = max_source_margin(self._recipe.fusion) + image_quality.MARGIN_PX
        image_side = tile_side + 2 * image_margin
        source_side = max(side + 2 * tile.focus_margin(self._recipe), image_side)
        height, width = self.shape
        return [(min(each, height), min(each, width)) for each in (side, source_side, image_side)]

    def results(self) -> float:
        """Results of the full plane, unless they are on disk."""
        pixel = RESULT_BYTES_PX + self._voxel_bytes * (1 + self._others)
        return 0.0 if self._on_disk else float(pixel * np.prod(self.shape) / 1e6)

    def sampling(self, *, in_file: bool = False) -> float:
        """The samples from which the scale of the focus measure is chosen, and curves of one."""
        if AUTO not in (self._recipe.sigma, self._recipe.window):
            return 0.0
        one, every = sample_pixels(self.shape)
        samples = 0 if in_file else self._voxel_bytes * every
        return float(self._count * (samples + 4 * VOLUMES_PER_SAMPLE * one) / 1e6)

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
            *(self._count * self._focus_values(shape, step) for step in FOCUS_VOLUMES),
            *(fusion_values(shape, self._colours, each) / thread_count() for each in fusions),
        ]
        if self._refines and "message_passing" in self._recipe.refinement:
            sides = zip(self._message_window, shape, strict=True)
            pixels = math.prod(min(n + 2 * MESSAGE_MARGIN_PX, size) for n, size in sides)
            has_curves = 4 * self._count * pixels <= MAX_CURVES_BYTES
            values.append((PASSING_VOLUMES + has_curves) * self._count * pixels)
        return float(4 * thread_count() * max(values) / 1e6)

    def _focus_values(self, shape: tuple[int, int], step: int) -> float:
        """Values of each plane that a thread has in the largest window whose focus is measured.

        Windows of blocks are large, so that there may be fewer than threads.
        """
        windows = focus_windows((self._count, *shape), step)
        height, width = np.max([window.shape for window in windows], axis=0).tolist()
        value = 0.0
        for volumes, px in FOCUS_VOLUMES[step]:
            sides = zip((height, width), self.shape, strict=True)
            value += volumes * math.prod(min(n + 2 * px, size) for n, size in sides)
        return value if step == 1 else value * min(len(windows) / thread_count(), 1.0)
