"""Use it again elsewhere: one alignment or one plane map for other channels, times, positions."""

from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from magicgui.widgets import PushButton, Select
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.fusion import all_in_focus
from napari_dff.progress import Progress
from napari_dff.registration import resample
from napari_dff.widgets.form import in_a_row, lined_up
from napari_dff.widgets.heights import depth_layers
from napari_dff.widgets.layers import (
    is_stack,
    ours,
    planes_behind,
    planes_of,
    role_of,
    settings_of,
    source_of,
    stack_of,
)
from napari_dff.widgets.runs import Run
from napari_dff.widgets.tool import Tool
from napari_dff.widgets.worker import in_turns


class Given(NamedTuple):
    """What is used again: motions, and the depth in the positions of the planes, if any."""

    transforms: np.ndarray | None
    depth: np.ndarray | None
    positions: np.ndarray | None
    fusion: Any


class ReuseWidget(Tool):
    """The alignment, or the alignment and the plane map, of one layer applied to others."""

    title = "Use elsewhere"

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(
            viewer,
            "use",
            "An aligned stack: its motion is used. A depth layer: its motion, if there is any, "
            "and its plane map.",
        )
        self._runs: list[Run] = []
        self.targets = Select(
            label="for",
            choices=self._targets,
            tooltip="Stacks of the same field with as many planes; axes before Z, Y, X are other "
            "channels, times or positions, each done alike.",
        )
        self.run = PushButton(text="Run", tooltip="Give each of them its result.")
        self.cancel = PushButton(text="Cancel", enabled=False, tooltip="Stop; nothing changes.")
        self.undo = PushButton(text="Undo", enabled=False, tooltip="Take the results away again.")
        self._following.append(self.targets)
        buttons = in_a_row(self.run, self.cancel, self.undo)
        self.extend([lined_up(self.chosen, self.targets), buttons, self.status])
        self._follow()
        self.chosen.changed.connect(lambda: self.targets.reset_choices())
        self.run.changed.connect(self._start)
        self.cancel.changed.connect(self._cancel)
        self.undo.changed.connect(self._undo)

    def choices(self) -> list[Layer]:
        """Aligned stacks, then depth layers."""
        aligned = [each for each in self._viewer.layers if role_of(each) == "aligned"]
        return [*aligned, *depth_layers(self._viewer)]

    def _targets(self, _: Any) -> list[Layer]:
        """Other stacks of as many planes, as large as those that were used."""
        given = self.chosen.value
        source = None if given is None else source_of(self._viewer, given)
        if source is None:
            return []
        shape = planes_of(source).shape[:3]
        return [
            layer
            for layer in self._viewer.layers
            if is_stack(layer)
            and role_of(layer) != "aligned"
            and layer is not source
            and str(layer.unique_id) != ours(source).get("source")
            and planes_of(layer).shape[: layer.ndim][-3:] == shape
        ]

    def _start(self) -> None:
        try:
            given, targets = self._given(), list(self.targets.value)
            if not targets:
                raise ValueError("no stacks chosen: select those that shall get the same")
        except ValueError as error:
            self.fail(error)
            return
        used = self.chosen.value
        runs = [Run(self._viewer, target, settings_of(used), [target, used]) for target in targets]
        planes = [planes_of(target) for target in targets]

        def compute(progress: Progress) -> list[np.ndarray]:
            return [_applied(given, each, progress) for each in planes]

        def done(results: list[np.ndarray]) -> Iterator[None]:
            self._runs = runs
            for run, result in zip(runs, results, strict=True):
                _put(run, result, given.transforms if given.depth is None else None)
                yield

        self.work(compute, done)

    def _given(self) -> Given:
        """The motions and the depth of the chosen layer."""
        used = self.chosen.value
        if used is None:
            raise ValueError("nothing to use yet: run Align or 'Depth from focus, all steps' first")
        if role_of(used) == "aligned":
            return Given(ours(used)["transforms"], None, None, None)
        source = source_of(self._viewer, used)
        if source is None:
            raise ValueError(f"the stack that {used.name!r} was made from is gone")
        if role_of(used).startswith("levelled"):
            raise ValueError(f"{used.name!r} is levelled: choose the depth it was made from")
        planes = planes_behind(self._viewer, used)
        transforms = None if planes is None else ours(planes).get("transforms")
        fusion = settings_of(used).get("fusion", "noise_aware")
        return Given(transforms, np.asarray(used.data), stack_of(source).positions, fusion)

    def _cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _undo(self) -> None:
        runs, self._runs = self._runs, []
        self.undo.enabled = False
        in_turns(chain.from_iterable(run.undo() for run in runs), lambda: self.say("undone"))

    def _began(self) -> None:
        self.run.enabled, self.cancel.enabled = False, True

    def _ended(self) -> None:
        super()._ended()
        self.run.enabled, self.cancel.enabled = True, False
        self.undo.enabled = bool(self._runs)


def _applied(given: Given, planes: Any, progress: Progress) -> np.ndarray:
    """Moved planes, or the picture at the depth, of every stack in the axes before Z, Y, X."""
    colour = len(planes.shape) > 3 and planes.shape[-1] == 3 and len(planes.shape) == 4
    before = planes.shape[: len(planes.shape) - 3 - colour]

    def one(stack: Any) -> np.ndarray:
        if given.transforms is not None:
            stack, _ = resample(stack, given.transforms, progress=progress)
        if given.depth is None:
            return np.asarray(stack)
        settings = {"fusion": given.fusion, "progress": progress}
        return all_in_focus(stack, given.depth, given.positions, **settings)

    results = [one(planes[place]) for place in np.ndindex(*before)]
    if not before:
        return results[0]
    return np.stack(results).reshape(*before, *results[0].shape)


def _put(run: Run, result: np.ndarray, transforms: np.ndarray | None) -> None:
    """Put moved planes, or a picture where there are no motions to tell of.

    A picture of a stack with axes before Z gets a Z as thick as the stack, to be seen in all.
    """
    role = "all in focus" if transforms is None else "aligned"
    source: Image = run.source
    look: dict[str, Any] = {
        "rgb": source.rgb,
        "colormap": source.colormap,
        "contrast_limits": source.contrast_limits,
    }
    if source.rgb:
        del look["contrast_limits"]
    if role == "all in focus" and source.ndim > 3:
        count = planes_of(source).shape[source.ndim - 3]
        result = np.expand_dims(result, source.ndim - 3)
        scale, translate = np.array(source.scale), np.array(source.translate)
        translate[-3] += scale[-3] * (count - 1) / 2
        scale[-3] *= count
        look |= {"scale": scale, "translate": translate}
    run.put(role, result, remember={"transforms": transforms}, **look)
