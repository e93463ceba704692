"""Reconstruct the acquisition of one position into files, for `run` and `batch`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.io import DepthFiles, Provenance, ResultFiles, ResultLayout
from napari_dff.io.file_checks import check_not_input
from napari_dff.io.writers.file_sink import FileSink
from napari_dff.io.writers.result_files import RESULT_NAMES, FileFormat
from napari_dff.model.acquisition import Acquisition, Index
from napari_dff.model.recipe import Recipe
from napari_dff.pipeline.driver import run
from napari_dff.pipeline.planning import Plan, make_plan, seconds_of
from napari_dff.pipeline.quality import Coverage
from napari_dff.pipeline.tile import DepthReader
from napari_dff.runtime.progress import Progress


@dataclass(frozen=True, eq=False)
class Job:
    """Settings of a run that writes files.

    Parameters
    ----------
    recipe : Recipe
    channel : str or int, optional
        The focus channel, by name or number; required if there are several channels.
    transforms : (Z, 3, 3) or (T, Z, 3, 3) array, optional
        Known transforms; nothing is aligned then.
    depth_from : path, optional
        Folder of a result whose depth and transforms are used; only images are computed then.
    megabytes : float, optional
        Memory that the process may use; nearly all free memory if None.
    file_format : {"ome-tiff", "ome-zarr"}
    overwrite : bool
        Replace files in the folder of the result that no run has written, too.
    """

    recipe: Recipe = field(default_factory=Recipe)
    channel: str | int | None = None
    transforms: np.ndarray | None = None
    depth_from: Path | None = None
    megabytes: float | None = None
    file_format: FileFormat = "ome-tiff"
    overwrite: bool = False

    def focus_channel(self, acquisition: Acquisition) -> int:
        """Return the focus channel; ValueError if none is chosen, unless the depth is known."""
        if self.channel is None and self.depth_from is not None:
            return 0
        return acquisition.channel(self.channel)

    def plan(self, acquisition: Acquisition) -> Plan:
        """Return the plan for the stack of one time."""
        return make_plan(
            acquisition.stack(0, self.focus_channel(acquisition)).planes,
            self._remaining_recipe(),
            megabytes=self.megabytes,
            other_channels=len(acquisition.channels) - 1,
            on_disk=True,
        )

    def seconds(self, acquisition: Acquisition, plan: Plan) -> float:
        """Estimate the duration of a run, from a small part of it."""
        stack = acquisition.stack(0, self.focus_channel(acquisition))
        others = len(acquisition.channels) - 1
        seconds = seconds_of(stack, self._remaining_recipe(), plan, other_channels=others)
        return acquisition.times * seconds

    def run(
        self,
        acquisition: Acquisition,
        folder: Path,
        plan: Plan,
        source: Mapping[str, Any],
        progress: Progress,
        *,
        digest: str = "",
    ) -> Coverage:
        """Write the result into a folder.

        Parameters
        ----------
        acquisition : Acquisition
        folder : path
        plan : Plan
        source : mapping
            Where the planes are from, as ``path``; for the provenance.
        progress : Progress
        digest : str
            Identifies the result when a batch continues.

        Returns
        -------
        Coverage
            Of all times together.
        """
        acquisition = dataclasses.replace(
            acquisition, focus_channel=self.focus_channel(acquisition)
        )
        self._check_transforms(acquisition)
        check_not_input([folder], RESULT_NAMES, acquisition.files)
        transforms = self.transforms
        depth: Callable[[Index], DepthReader] | None = None
        if self.depth_from is not None:
            check_not_input([folder], RESULT_NAMES, [self.depth_from], "depth_from")
            earlier_depth = DepthFiles(self.depth_from, acquisition)
            transforms = earlier_depth.transforms if transforms is None else transforms
            depth = functools.partial(_depth_at, earlier_depth)
        record = Provenance.from_acquisition(
            self.recipe, acquisition, focus_channel=acquisition.focus_channel
        )
        record = dataclasses.replace(
            record, input={**record.input, **source, **self._known_inputs()}, digest=digest
        )
        layout = ResultLayout.from_acquisition(acquisition)
        with ResultFiles(
            folder, layout, record, file_format=self.file_format, overwrite=self.overwrite
        ) as files:
            sink = FileSink(files, acquisition.positions.shape[-1])
            run(
                acquisition,
                self.recipe,
                sink,
                transforms=transforms,
                depth=depth,
                plan=plan,
                progress=progress,
            )
        return sink.coverage()

    def at(self, position: str) -> Job:
        """Return the job for a position: with its own folder in `depth_from`, if that exists."""
        if self.depth_from is None or not position or not (self.depth_from / position).is_dir():
            return self
        return dataclasses.replace(self, depth_from=self.depth_from / position)

    def _check_transforms(self, acquisition: Acquisition) -> None:
        """Raise ValueError if the transforms are for another number of planes or times."""
        if self.transforms is None:
            return
        wanted = acquisition.positions.shape
        shape = self.transforms.shape[:-2]
        if shape not in (wanted, wanted[1:]):
            times = f"{shape[0]} times of " if len(shape) == 2 else ""
            raise ValueError(
                f"transforms must be of {wanted[1]} planes, at one time or at {wanted[0]}, got "
                f"{times}{shape[-1]} planes"
            )

    def _known_inputs(self) -> dict[str, Any]:
        """Return the inputs from other runs, for the provenance."""
        inputs: dict[str, Any] = {}
        if self.transforms is not None:
            inputs["transforms"] = self.transforms
        if self.depth_from is not None:
            inputs["depth_from"] = str(self.depth_from)
        return inputs

    def _remaining_recipe(self) -> Recipe:
        """Return the recipe without the steps whose results are known."""
        if self.transforms is None and self.depth_from is None:
            return self.recipe
        return dataclasses.replace(self.recipe, registration="none")


def _depth_at(files: DepthFiles, index: Index) -> DepthReader:
    return files.at(index[0])
