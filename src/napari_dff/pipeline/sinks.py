"""Where a run writes its results: the protocol, and results in memory."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from napari_dff.model.acquisition import Acquisition, Index
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import FocusScale
from napari_dff.model.result import ImageQuality
from napari_dff.pipeline.channel_offsets import describe_offsets
from napari_dff.pipeline.tile import AlignedStack, TileResult
from napari_dff.registration import LazyAlignedStack, load_aligned
from napari_dff.runtime.free_memory import available_bytes
from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.windows import Window

MAX_ALIGNED_FRACTION = 0.5  # of the free memory that aligned planes of all stacks may occupy


class Sink(Protocol):
    """Takes the results of a run at an index along the leading axes of the acquisition."""

    def set_window(self, window: Window) -> None:
        """Take the window of the planes that all results cover, before the first tile."""
        ...

    def write_tile(self, index: Index, tile: TileResult) -> None:
        """Write a tile; its images are in the order of the channels."""
        ...

    def depth_map(self, index: Index, window: Window) -> DepthMap:
        """Return the refined depth map of a window, zeros where no tile was written."""
        ...

    def finish_stack(
        self, index: Index, stack: AlignedStack, quality: ImageQuality | None, progress: Progress
    ) -> None:
        """Take transforms and aligned planes of a stack, and quality of its image, at the end."""
        ...


class ArraySink:
    """Results in memory, in arrays with the leading axes of the acquisition."""

    def __init__(
        self,
        acquisition: Acquisition,
        *,
        keep_estimate: bool = False,  # also keep the depth map before refinement
        planes: "AlignedPlanes | None" = None,  # takes the aligned planes of all channels
    ) -> None:
        self._acquisition, self._keep_estimate = acquisition, keep_estimate
        self._planes = planes
        self.qualities: list[ImageQuality | None] = []  # of the image of each stack
        self.notes: list[str] = []  # sentences on the planes of all stacks
        self.scale: FocusScale | None = None  # that focus was measured with, if it was
        self._size = tuple(acquisition.data.shape[len(acquisition.axes) + 1 :][:2])
        self._arrays: dict[str, np.ndarray] = {}
        self.window: Window | None = None  # of the planes that the results cover; None: all

    def set_window(self, window: Window) -> None:
        """Reduce the results to a window of the planes."""
        self.window, self._size = window, window.shape
        if self._planes is not None:
            self._planes.set_window(window)

    def write_tile(self, index: Index, tile: TileResult) -> None:
        """Copy a tile into the arrays; if it is all of a result, its arrays are kept instead."""
        acquisition, pixels = self._acquisition, tile.window.slices
        results = {**tile.refined._asdict(), "valid": tile.valid}
        if self._keep_estimate and tile.refined is not tile.estimate:
            results |= {f"estimate {name}": v for name, v in tile.estimate._asdict().items()}
        for name, values in results.items():
            self._store(name, (*acquisition.result_shape, *self._size), (*index, *pixels), values)
        for channel, image in enumerate(tile.images):
            shape = (*acquisition.leading_shape, *self._size, *image.shape[2:])
            where = acquisition.with_channel(index, channel)
            self._store("images", shape, (*where, *pixels), image)

    def depth_map(self, index: Index, window: Window) -> DepthMap:
        """Return the refined depth map of a window."""
        return DepthMap(*(values[index][window.slices] for values in self.refined))

    def finish_stack(
        self, index: Index, stack: AlignedStack, quality: ImageQuality | None, progress: Progress
    ) -> None:
        """Keep quality and transforms, and the aligned planes if there is a place for them."""
        self.qualities.append(quality)
        if len(self.qualities) == 1:  # they are of the first stack
            self.notes += describe_offsets(stack.offsets, self._acquisition)
        self.add_notes(index, stack.notes)
        self.scale = stack.scale
        if stack.alignment is None:
            return
        acquisition, transforms = self._acquisition, stack.alignment.transforms
        shape = (*acquisition.result_shape, *transforms.shape)
        self._store("transforms", shape, index, transforms)
        if self._planes is not None:
            loaded = stack.planes if isinstance(stack.planes, np.ndarray) else None
            self._planes.write(index, acquisition.focus_channel, stack.alignment, loaded, progress)
            others = zip(acquisition.other_channels, stack.other_channels, strict=True)
            for channel, planes in others:
                self._planes.write(index, channel, planes, progress=progress)

    def add_notes(self, index: Index, notes: Sequence[str]) -> None:
        """Keep sentences on the planes of one stack, which they name if there are several."""
        where = self._acquisition.describe(index)
        self.notes += [f"{where}: {note}" if where else note for note in notes]

    @property
    def refined(self) -> DepthMap:
        """Depth maps after refinement, of (…, Y, X) arrays."""
        return DepthMap(*(self._arrays[name] for name in DepthMap._fields))

    @property
    def estimate(self) -> DepthMap | None:
        """Depth maps before refinement; None if they were not kept, or nothing was refined."""
        names = [f"estimate {name}" for name in DepthMap._fields]
        return DepthMap(*map(self._arrays.__getitem__, names)) if names[0] in self._arrays else None

    @property
    def images(self) -> np.ndarray:
        """All-in-focus images of all channels, (…, Y, X[, 3])."""
        return self._arrays["images"]

    @property
    def valid(self) -> np.ndarray:
        """Where at least half of the planes, and 3, have data, (…, Y, X) bool."""
        return self._arrays["valid"]

    @property
    def transforms(self) -> np.ndarray:
        """Transforms of the planes of every stack, (…, Z, 3, 3) float64."""
        return self._arrays["transforms"]

    def _store(self, name: str, shape: Index, index: Any, values: np.ndarray) -> None:
        self._arrays[name] = _insert(self._arrays.get(name), shape, index, values)


def _insert(array: np.ndarray | None, shape: Index, index: Any, values: np.ndarray) -> np.ndarray:
    """Return `array` (new if None) with `values` at `index`; `values` itself if it is all of it."""
    if values.size == np.prod(shape):
        return values.reshape(shape)
    array = np.zeros(shape, values.dtype) if array is None else array
    array[index] = values
    return array


class AlignedPlanes:
    """Aligned planes of all stacks: in memory if they fit, else lazy."""

    def __init__(self, acquisition: Acquisition) -> None:
        data = acquisition.data
        self._shape, self._dtype = tuple(data.shape), np.dtype(data.dtype)
        size = np.prod(self._shape, dtype=float) * self._dtype.itemsize
        self.in_memory = bool(size <= MAX_ALIGNED_FRACTION * available_bytes())
        self.is_identity = True  # no plane was changed
        self._acquisition = acquisition
        self._array: np.ndarray | None = None
        self._lazy: dict[Index, Any] = {}

    def set_window(self, window: Window) -> None:
        """Reduce the planes to a window."""
        leading = len(self._acquisition.leading_shape) + 1
        self._shape = (*self._shape[:leading], *window.shape, *self._shape[leading + 2 :])

    def write(
        self,
        index: Index,
        channel: int,
        aligned: LazyAlignedStack,
        loaded: np.ndarray | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Take the planes of one channel; `loaded` are the same planes if already in memory."""
        where = self._acquisition.with_channel(index, channel)
        self.is_identity = self.is_identity and aligned.is_identity
        if not self.in_memory:
            self._lazy[where] = aligned
            return
        planes = load_aligned(aligned, progress)[0] if loaded is None else loaded
        self._array = _insert(self._array, self._shape, where, planes)

    def join(self) -> Any:
        """Return all planes, with the axes of the acquisition: a numpy array, or dask if lazy."""
        if self._array is not None:
            return self._array
        import dask.array as da  # takes 0.3 s

        leading = self._acquisition.leading_shape
        meta = np.empty((0,) * (len(self._shape) - len(leading)), self._dtype)
        chunks = (1, *self._shape[len(leading) + 1 :])  # a plane each
        options = {"chunks": chunks, "name": False, "meta": meta}
        stacks = [da.from_array(self._lazy[i], **options) for i in np.ndindex(leading)]  # type: ignore[no-untyped-call]
        return da.stack(stacks).reshape(self._shape) if leading else stacks[0]  # type: ignore[no-untyped-call]
