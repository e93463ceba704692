"""How a run fits into memory: as a whole, or in tiles, and of which size."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import psutil

from napari_dff import checks
from napari_dff.curve.volume import VOLUMES_PER_WINDOW, WINDOW_MARGIN_PX
from napari_dff.lazy import read_window
from napari_dff.memory import limit_malloc_arenas, trim_malloc
from napari_dff.pieces import (
    MARGIN_PX,
    AlignedStack,
    compute_tile,
    focus_margin,
    has_refinement,
    tile_margin,
)
from napari_dff.progress import no_progress
from napari_dff.recipe import Recipe
from napari_dff.refinement.message_passing import MESSAGE_MARGIN_PX, MESSAGE_VOLUMES
from napari_dff.registration import LazyAlignedStack, estimate_transforms
from napari_dff.registration.downsampling import MAX_SIDE_PX
from napari_dff.stack import FocalStack
from napari_dff.threads import thread_count
from napari_dff.windows import GRID_PX, Window, full_window, plan_windows, window_grid

MEMORY_MB = checks.Range(0.0, 1e9, 1.0)
KERNELS = 130.0  # MB that libraries and kernels take which aren't loaded yet
ALIGNING = 50.0  # MB more of them where planes are aligned
MAPS = {False: 45, True: 115}  # bytes a pixel that maps take, without and with refinement
GRAPH = 200, 16  # bytes a pixel, and a pixel and plane, of a graph that is cut
RESULT = 40  # bytes a pixel of results that are kept in memory
PICTURES = 24  # float32 pictures of a window that are held while it is fused
PASSING = 3.5  # float32 volumes of a window that are held while messages are passed
FREE_MEMORY_FRACTION = 0.8  # of the free memory that a run may take where nobody says how much
SMALLEST, STEP = 128, 64  # pixels: side of the smallest tile, and by how much they differ
ALIGNED = 6  # planes that are aligned, and
TRIED = 512  # pixels, side of the part that is done, to tell how long all of it takes
LARGER = 0.8  # of the time a pixel in that part is what one takes in a tile: cores wait less
T = TypeVar("T")


class Plan(NamedTuple):
    """How a run is done.

    Attributes
    ----------
    windows : list of Window
        Tiles that cover the plane row by row; one, the plane itself, where all fits.
    megabytes : float
        What the process will hold at most.
    """

    windows: list[Window]
    megabytes: float

    @property
    def whole(self) -> bool:
        """Whether all planes are held at once."""
        return len(self.windows) == 1


def make_plan(
    planes: Any,
    recipe: Recipe,
    *,
    megabytes: float | None = None,
    beside: int = 0,
    on_disk: bool = False,
) -> Plan:
    """How to work on `planes`, (Z, Y, X[, 3]), with so many megabytes for the process.

    Nearly all that is free when None; planes that are in memory are done as a whole then. `beside`
    is how many other channels get a picture; results are kept in memory unless `on_disk`.

    Raises
    ------
    ValueError
        When even the smallest tiles need more.
    """
    if megabytes is not None:
        MEMORY_MB.check("megabytes", megabytes)
    trim_malloc()
    base = max(bare(), resident())
    if recipe.registration != "none":
        base += ALIGNING
    limit = megabytes
    if limit is None:
        limit = base + FREE_MEMORY_FRACTION * psutil.virtual_memory().available / 1e6
    need = _Need(planes, recipe, beside, on_disk)
    everything = base + need.of_all()
    held = isinstance(planes, np.ndarray) and not isinstance(planes, np.memmap)
    if everything <= limit or (held and megabytes is None):
        return Plan([full_window(need.shape)], everything)
    limit_malloc_arenas()
    fixed = base + need.of_results()
    sides = range(SMALLEST, max(*need.shape, SMALLEST) + STEP, STEP)
    plans = [
        Plan(tiles, max(fixed + need.of_a_tile(_widest(tiles)), base + need.of_aligning()))
        for tiles in (window_grid(need.shape, side) for side in sides)
    ]
    fitting = [plan for plan in plans if plan.megabytes <= limit]
    if not fitting:
        least = np.ceil(plans[0].megabytes / 50) * 50
        raise ValueError(
            f"megabytes must be at least {least:.0f} for these planes, got {limit:.0f}"
        )
    return min(fitting, key=lambda plan: len(plan.windows))


@functools.cache
def bare() -> float:
    """What this process holds with libraries and kernels alone, as far as can be told: megabytes.

    Told when the first run is planned: what later ones find is partly left over from others.
    """
    return resident() + KERNELS


def resident() -> float:
    """What this process holds now: megabytes."""
    return psutil.Process().memory_info().rss / 1e6


def _widest(tiles: list[Window]) -> int:
    return max(max(tile.shape) for tile in tiles)


def seconds_of(stack: FocalStack, recipe: Recipe, plan: Plan, *, beside: int = 0) -> float:
    """About how long a run takes: some planes are aligned and a part of them is done, and timed."""
    count, shape = stack.planes.shape[0], tuple(stack.planes.shape[1:3])
    seconds, transforms = 0.0, np.tile(np.eye(3), (count, 1, 1))
    if recipe.registration != "none":
        first = max(0, (count - ALIGNED) // 2)
        some = stack.planes[first : first + ALIGNED]
        noise = np.random.default_rng(0).random((4, 64, 64), np.float32)
        settings: dict[str, Any] = {"registration": recipe.registration, "motion": recipe.motion}
        estimate_transforms(noise, **settings)  # compiles, loads
        with contextlib.suppress(ValueError):  # these may have no contrast where others have
            spent, (motions, _) = _timed(lambda: estimate_transforms(some, **settings))
            seconds += spent * count / len(motions)
            if not np.allclose(motions, np.eye(3), rtol=0, atol=1e-9):
                transforms[:, 0, 2] = 0.5  # what moves is resampled
    moved = LazyAlignedStack(stack.planes, transforms)
    scene = AlignedStack(moved, stack.positions, tuple([moved] * beside), moved.valid)
    height, width = (min(max(w.shape[k] for w in plan.windows), TRIED) for k in (0, 1))
    top, left = (
        (shape[0] - height) // 2 // GRID_PX * GRID_PX,
        (shape[1] - width) // 2 // GRID_PX * GRID_PX,
    )
    tried, margin = Window(top, top + height, left, left + width), tile_margin(recipe)

    def piece(window: Window) -> float:
        return _timed(
            lambda: compute_tile(scene, recipe, window, around=margin, progress=no_progress)
        )[0]

    def pixels(around: int, windows: list[Window]) -> float:
        return float(sum(np.prod(window.expand(around, shape).shape) for window in windows))

    piece(Window(top, top + GRID_PX, left, left + GRID_PX))  # compiles, loads
    # What is read goes with the pixels that are seen, all else with those that are computed.
    seen, around = margin + focus_margin(recipe), 0 if plan.whole else margin
    reading = _timed(lambda: read_window(moved, tried.expand(seen, shape)))[0] * (1 + beside)
    work = LARGER * max(piece(tried) - reading, 0.0)
    work *= pixels(around, plan.windows) / pixels(margin, [tried])
    read = pixels(0 if plan.whole else seen, plan.windows) / pixels(seen, [tried])
    return seconds + work + reading * read


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


class _Need:
    """What a run of some planes needs beside the libraries: megabytes."""

    def __init__(self, planes: Any, recipe: Recipe, beside: int, on_disk: bool) -> None:
        self.shape: tuple[int, int] = tuple(planes.shape[1:3])
        self._count = planes.shape[0]
        self._colours = int(np.prod(planes.shape[3:]))
        self._voxel = np.dtype(planes.dtype).itemsize * self._colours
        self._recipe, self._beside, self._on_disk = recipe, beside, on_disk
        self._lazy = isinstance(planes, np.memmap) or not isinstance(planes, np.ndarray)
        self._moves = recipe.registration != "none" or recipe.exposure != "keep"

    def of_all(self) -> float:
        """All planes at once."""
        copies = self._lazy + self._moves
        planes = self._count * self._voxel * np.prod(self.shape) * (copies + self._beside) / 1e6
        work = self._of_maps(self.shape) + self._of_windows(self.shape)
        return float(max(planes + work, self._lazy * planes / max(copies, 1) + self.of_aligning()))

    def of_a_tile(self, side: int) -> float:
        """One tile and all around it that it needs."""
        outer = [min(side + 2 * tile_margin(self._recipe) + GRID_PX, size) for size in self.shape]
        seen = [
            min(part + 2 * focus_margin(self._recipe), size)
            for part, size in zip(outer, self.shape, strict=True)
        ]
        planes = self._count * self._voxel * (np.prod(seen) + self._beside * np.prod(outer)) / 1e6
        shape = outer[0], outer[1]
        return float(planes + self._of_maps(shape) + self._of_windows(shape))

    def of_results(self) -> float:
        """Results of all planes."""
        pixel = RESULT + self._voxel * (1 + self._beside)
        return 0.0 if self._on_disk else float(pixel * np.prod(self.shape) / 1e6)

    def of_aligning(self) -> float:
        """Shrunk planes that are compared, and strips of those that are read."""
        if self._recipe.registration == "none":
            return 0.0
        factor = -(-max(self.shape) // MAX_SIDE_PX)
        pixels = np.prod(self.shape) / factor**2
        return float(4 * pixels * (1.15 * self._count + 75) / 1e6 + 35 * thread_count())

    def _of_maps(self, shape: tuple[int, int]) -> float:
        kept = self._count if has_refinement(self._recipe) else 0
        pixel = MAPS[has_refinement(self._recipe)] + kept + self._voxel * (1 + self._beside)
        if kept and "graph_cut" in self._recipe.refinement:  # is solved for all pixels at once
            pixel += GRAPH[0] + GRAPH[1] * self._count
        return float(pixel * np.prod(shape) / 1e6)

    def _of_windows(self, shape: tuple[int, int]) -> float:
        """Windows under way, where their curves are measured or they are fused."""
        pictures = PICTURES * self._colours
        values = [
            _largest(shape, round(VOLUMES_PER_WINDOW * self._count), WINDOW_MARGIN_PX),
            _largest(shape, pictures, MARGIN_PX),
        ]
        if "message_passing" in self._recipe.refinement and has_refinement(self._recipe):
            passed = MESSAGE_VOLUMES * self._count
            values.append(PASSING / MESSAGE_VOLUMES * _largest(shape, passed, MESSAGE_MARGIN_PX))
        return float(4 * thread_count() * max(values) / 1e6)


def _largest(shape: tuple[int, int], planes: int, reach: int) -> float:
    """Values that so many planes of the largest window have, with `reach` pixels around it."""
    parts = plan_windows(shape, planes, reach)
    return float(planes * max(np.prod(part.expand(reach, shape).shape) for part in parts))
