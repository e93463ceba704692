"""From the planes of one position to the files of its result: what `run` and `batch` do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.acquisition import Acquisition
from napari_dff.depth import DepthMap
from napari_dff.io import DepthFiles, Layout, Record, ResultFiles
from napari_dff.io.folders import settle
from napari_dff.io.results import FileFormat, check_apart
from napari_dff.lazy import load_planes
from napari_dff.pieces import AlignedStack, TileResult
from napari_dff.pipeline import reconstruct, registered, scene_of
from napari_dff.plan import Plan, make_plan, seconds_of
from napari_dff.progress import Progress
from napari_dff.quality import Coverage, coverage
from napari_dff.recipe import Recipe
from napari_dff.windows import Window


@dataclass(frozen=True, eq=False)
class Job:
    """What is to be done with the planes of a position.

    Parameters
    ----------
    recipe : Recipe
    channel : str or int, optional
        The channel whose focus tells the depth, by name or number; needed where there are several.
    transforms : (Z, 3, 3) or (T, Z, 3, 3) array, optional
        Motion that is known already: nothing is aligned.
    depth_from : path, optional
        Folder of a result whose plane map, and motion, is taken: only pictures are made.
    megabytes : float, optional
        What the process may hold; nearly all that is free when None.
    file_format : {"ome-tiff", "ome-zarr"}
    """

    recipe: Recipe = field(default_factory=Recipe)
    channel: str | int | None = None
    transforms: np.ndarray | None = None
    depth_from: Path | None = None
    megabytes: float | None = None
    file_format: FileFormat = "ome-tiff"

    def focus(self, acquisition: Acquisition) -> int:
        """The focus channel; any will do where the plane map is known."""
        if self.channel is None and self.depth_from is not None:
            return 0
        return acquisition.channel(self.channel)

    def plan(self, acquisition: Acquisition) -> Plan:
        """How the planes of one time are worked on."""
        planes = acquisition.stack(0, self.focus(acquisition)).planes
        beside = len(acquisition.channels) - 1
        limit = self.megabytes
        return make_plan(planes, self._recipe(), megabytes=limit, beside=beside, on_disk=True)

    def seconds(self, acquisition: Acquisition, plan: Plan) -> float:
        """About how long all of it takes, from trying a small part."""
        stack = acquisition.stack(0, self.focus(acquisition))
        return acquisition.times * seconds_of(
            stack, self._recipe(), plan, beside=len(acquisition.channels) - 1
        )

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
        """Write the result into `folder`; how much of the scene it covers, over all times.

        `source` says where the planes came from, as their ``path``; by `digest` the result is known
        again.
        """
        channel = self.focus(acquisition)
        self._check_transforms(acquisition)
        if "path" in source:
            check_apart(Path(source["path"]), folder)
        if self.depth_from is not None:
            settle(self.depth_from)
        given = None if self.depth_from is None else DepthFiles(self.depth_from, acquisition)
        record = Record.of(self.recipe, acquisition, focus_channel=channel)
        told = {**record.input, **source, **self._taken()}
        record = dataclasses.replace(record, input=told, digest=digest)
        layout = Layout.of(acquisition)
        covered = []
        with ResultFiles(folder, layout, record, file_format=self.file_format) as files:
            for time in range(acquisition.times):
                known = self._transforms(time, given)
                scene, moved = _scene(
                    acquisition, time, channel, plan, self._recipe(), known, progress
                )
                if given is not None:
                    scene = scene._replace(given=given.at(time))
                results = _AtTime(files, time, channel, acquisition.stack(time).planes.shape[0])
                reconstruct(scene, self.recipe, plan, results, progress)
                files.put_transforms(moved, time=time)
                covered.append(results.coverage())
        return Coverage(*(float(np.mean(shares)) for shares in zip(*covered, strict=True)))

    def at(self, position: str) -> Job:
        """The same for a position of that name: from its own folder in `depth_from`, if there."""
        if self.depth_from is None or not position or not (self.depth_from / position).is_dir():
            return self
        return dataclasses.replace(self, depth_from=self.depth_from / position)

    def _check_transforms(self, acquisition: Acquisition) -> None:
        """ValueError where motions that are known are those of other planes."""
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

    def _taken(self) -> dict[str, Any]:
        """What was taken from other runs, for the record."""
        taken: dict[str, Any] = {}
        if self.transforms is not None:
            taken["transforms"] = self.transforms
        if self.depth_from is not None:
            taken["depth_from"] = str(self.depth_from)
        return taken

    def _recipe(self) -> Recipe:
        """The recipe, less what is known already."""
        if self.transforms is None and self.depth_from is None:
            return self.recipe
        return dataclasses.replace(self.recipe, registration="none")

    def _transforms(self, time: int, given: DepthFiles | None) -> np.ndarray | None:
        known = self.transforms
        if known is None and given is not None:
            known = given.transforms
        return known if known is None or known.ndim == 3 else known[time]


def _scene(
    acquisition: Acquisition,
    time: int,
    channel: int,
    plan: Plan,
    recipe: Recipe,
    transforms: np.ndarray | None,
    progress: Progress,
) -> tuple[AlignedStack, np.ndarray]:
    """Aligned planes of the focus channel, and all other channels moved with them."""
    stack = acquisition.stack(time, channel)
    planes = load_planes(stack.planes, progress) if plan.whole else stack.planes
    moved = registered(planes, recipe, transforms, progress)
    others = [c for c in range(len(acquisition.channels)) if c != channel]
    still = dataclasses.replace(recipe, registration="none")
    beside = (
        registered(acquisition.stack(time, c).planes, still, moved.transforms, progress)
        for c in others
    )
    scene = scene_of(moved, stack.positions, plan, progress)
    return scene._replace(beside=tuple(beside)), moved.transforms


class _AtTime:
    """The files of a result, at one of its times."""

    def __init__(self, files: ResultFiles, time: int, channel: int, planes: int) -> None:
        self._files, self._time, self._channel, self._planes = files, time, channel, planes
        self._shares: list[tuple[int, Coverage]] = []

    def put(self, piece: TileResult) -> None:
        """Write a piece, its pictures in the order of the channels."""
        focus, *others = piece.pictures
        pictures = [*others[: self._channel], focus, *others[self._channel :]]
        self._files.put(piece.window, piece.refined, pictures, time=self._time)
        self._shares.append((piece.refined.index.size, coverage(piece.refined, self._planes)))

    def known(self, window: Window) -> DepthMap:
        """What was written."""
        return self._files.depth_map(window, time=self._time)

    def coverage(self) -> Coverage:
        """Of all pieces together."""
        sizes, shares = zip(*self._shares, strict=True)
        return Coverage(*np.average(shares, axis=0, weights=sizes).tolist())
