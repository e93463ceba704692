"""Sink that writes the results of a run to files."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from napari_dff.io.writers.result_files import ResultFiles
from napari_dff.model.acquisition import Index
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.result import FocusOffset, ImageQuality
from napari_dff.pipeline.channel_offsets import describe_offsets
from napari_dff.pipeline.quality import (
    Coverage,
    advice,
    coverage,
    decompose_transforms,
    summarize_alignment,
    summarize_image,
)
from napari_dff.pipeline.tile import AlignedStack, TileResult
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window


class FileSink:
    """Write the results of an acquisition with axes T and C to `files`, entered already."""

    def __init__(self, files: ResultFiles) -> None:
        self._files = files
        self._pixels: list[int] = []
        self._coverages: list[Coverage] = []
        self._alignment: list[str] = []
        self._offsets: Sequence[FocusOffset] = ()
        self.notes: list[str] = []  # sentences on planes that are left out, and on their order
        self._qualities: list[ImageQuality | None] = []

    def set_window(self, window: Window) -> None:
        """Reduce all images to a window of the planes."""
        self._files.set_window(window)

    def write_tile(self, index: Index, tile: TileResult) -> None:
        """Write a tile to all images."""
        self._files.write_window(tile.window, tile.refined, tile.images, time=index[0])
        self._pixels.append(tile.refined.index.size)
        self._coverages.append(coverage(tile.refined, self._files.planes))

    def depth_map(self, index: Index, window: Window) -> DepthMap:
        """Read back the refined depth map of a window."""
        return self._files.depth_map(window, time=index[0])

    def finish_stack(
        self, index: Index, stack: AlignedStack, quality: ImageQuality | None, progress: Progress
    ) -> None:
        """Store quality of the image, transforms and report, and sentences about them."""
        self._files.set_quality(quality, time=index[0])
        self._files.set_scale(stack.scale)
        self._files.set_offsets(stack.offsets)
        self._offsets = stack.offsets
        self._qualities.append(quality)
        time = f"Time {index[0]}: " if self._files.times > 1 else ""
        self.notes += [time + note for note in stack.notes]
        if stack.alignment is None:
            return
        transforms, report = stack.alignment.transforms, stack.alignment.report
        gains = stack.alignment.gains
        self._files.set_transforms(transforms, report, gains, time=index[0])
        if report and not dataclasses.replace(stack.alignment, gains=None).is_identity:
            motion = decompose_transforms(transforms, stack.shape)
            self._alignment += [time + each for each in summarize_alignment(report, motion)]

    def summary(self) -> list[str]:
        """Return alignment, coverage and quality of the image of all times, as sentences."""
        coverages = np.average(self._coverages, axis=0, weights=self._pixels).tolist()
        images = summarize_image(self._qualities, self._files.recipe.fusion)
        offsets = describe_offsets(self._offsets, self._files.acquisition)
        return [*self._alignment, *offsets, *advice(Coverage(*coverages)), *images]
