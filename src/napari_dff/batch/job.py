"""Reconstruct the acquisition of one position into files, for `run` and `batch`."""

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from napari_dff.io import DepthFiles, ResultFiles
from napari_dff.io.file_checks import check_not_input
from napari_dff.io.records import without_folders
from napari_dff.io.writers.file_sink import FileSink
from napari_dff.io.writers.images import FileFormat
from napari_dff.io.writers.result_files import RESULT_NAMES
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.recipe import Recipe
from napari_dff.pipeline.channel_offsets import check_offset
from napari_dff.pipeline.driver import run
from napari_dff.pipeline.planning import Plan, make_plan
from napari_dff.runtime.progress import Progress

ONE_TIME = "coherence {} changes nothing: the stack has one time; read its times as one series"


@dataclass(frozen=True, eq=False)
class Job:
    """Settings of a run that writes files."""

    recipe: Recipe = field(default_factory=Recipe)
    channel: str | int | None = None  # name or number; required if there are several
    transforms: np.ndarray | None = None  # known ones, (Z, 3, 3) or (T, Z, 3, 3)
    depth_from: Path | None = None  # folder of a result whose depth and transforms are used
    focus_offset: float | str = 0.0  # of other channels than that of the depth, or "auto"
    megabytes: float | None = None  # of the process; nearly all free memory if None
    file_format: FileFormat = "ome-tiff"
    overwrite: bool = False  # files that no run has written, too
    record_paths: bool = False  # of the input in full; otherwise names only

    def focus_channel(self, acquisition: Acquisition) -> int:
        """Return the focus channel; ValueError if none is chosen, unless the depth is known."""
        if self.channel is None and self.depth_from is not None:
            return 0
        return acquisition.channel(self.channel)

    def plan(self, acquisition: Acquisition) -> Plan:
        """Return the plan for the stack of one time; ValueError if settings do not fit it."""
        channel = self.focus_channel(acquisition)
        focused = dataclasses.replace(acquisition, focus_channel=channel)
        check_offset(self.focus_offset, focused, self.depth_from)
        planes = acquisition.stack(0, channel).planes
        others, megabytes = len(acquisition.channels) - 1, self.megabytes
        recipe = self._remaining_recipe()
        return make_plan(planes, recipe, megabytes=megabytes, other_channels=others, on_disk=True)

    def run(
        self,
        acquisition: Acquisition,
        folder: Path,
        plan: Plan,
        source: Mapping[str, Any],  # where the planes are from, for the provenance
        progress: Progress,
        *,
        digest: str = "",  # identifies the result when a batch continues
    ) -> list[str]:
        """Write the result into a folder and return its quality, as sentences."""
        channel = self.focus_channel(acquisition)
        acquisition = dataclasses.replace(acquisition, focus_channel=channel)
        self._check_transforms(acquisition)
        if self.recipe.coherence != "none" and acquisition.times == 1:
            warnings.warn(ONE_TIME.format(self.recipe.coherence), stacklevel=2)
        check_not_input([folder], RESULT_NAMES, acquisition.files)
        inputs, transforms, depth = dict(source), self.transforms, None
        if transforms is not None:
            inputs["transforms"] = transforms
        if self.depth_from is not None:
            inputs["depth_from"] = str(self.depth_from)
            check_not_input([folder], RESULT_NAMES, [self.depth_from], "depth_from")
            files = DepthFiles(self.depth_from, acquisition)
            depth = files.at
            transforms = files.transforms if transforms is None else transforms
        if not self.record_paths:
            inputs = without_folders(inputs)
        output: dict[str, Any] = {"file_format": self.file_format, "overwrite": self.overwrite}
        options: dict[str, Any] = {"transforms": transforms, "depth": depth, "plan": plan}
        options["focus_offset"] = self.focus_offset
        with ResultFiles(folder, acquisition, self.recipe, inputs, digest=digest, **output) as out:
            sink = FileSink(out)
            run(acquisition, self.recipe, sink, progress=progress, **options)
            out.set_sentences(sink.notes, advice := sink.summary())
        return advice

    def at(self, position: str) -> Self:
        """Return the job for a position: with its own folder in `depth_from`, if that exists."""
        if self.depth_from is None or not position or not (self.depth_from / position).is_dir():
            return self
        return dataclasses.replace(self, depth_from=self.depth_from / position)

    def _check_transforms(self, acquisition: Acquisition) -> None:
        if self.transforms is None:
            return
        shape, (times, planes) = self.transforms.shape[:-2], acquisition.positions.shape
        if shape not in ((times, planes), (planes,)):
            got = f"{shape[0]} times of {shape[1]}" if len(shape) == 2 else shape[0]
            expected = f"of {planes} planes, at one time or at {times}"
            raise ValueError(f"transforms must be {expected}, got {got} planes")

    def _remaining_recipe(self) -> Recipe:
        """Return the recipe without the steps whose results are known."""
        if self.transforms is None and self.depth_from is None:
            return self.recipe
        return dataclasses.replace(self.recipe, registration="none")
