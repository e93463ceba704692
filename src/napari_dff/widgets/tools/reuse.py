"""Apply an alignment or a plane map to other stacks: channels, times or positions."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from magicgui.widgets import Select
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.fusion.fuse import all_in_focus
from napari_dff.model.acquisition import channel_axis
from napari_dff.registration import resample
from napari_dff.runtime.lazy import take
from napari_dff.runtime.progress import Progress
from napari_dff.widgets.app.axes import parse_axis_labels
from napari_dff.widgets.app.controls import labelled_column
from napari_dff.widgets.app.layers import (
    at_index,
    is_stack,
    leading_shape,
    plane_shape,
    planes_of,
    plugin_metadata,
    role_of,
    settings_of,
    source_of,
)
from napari_dff.widgets.app.run_controls import RunControls
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.tools.heights import depth_layers
from napari_dff.widgets.tools.tool import Tool


class AppliedResult(NamedTuple):
    """Alignment and plane map to apply, of S stacks: one, or one for each leading index.

    Attributes
    ----------
    transforms : (S, Z, 3, 3) array, optional
        Plane → reference.
    depth : (S, Y, X) array, optional
        In the unit of the positions; None to apply the alignment alone.
    positions : list of (Z,) arrays
        Focus positions, one array for each depth.
    fusion : str
        As in `Recipe`.
    """

    transforms: np.ndarray | None
    depth: np.ndarray | None
    positions: list[np.ndarray]
    fusion: Any


class ReuseWidget(Tool):
    """Apply the alignment of a layer, or its alignment and plane map, to other stacks."""

    title = "Use elsewhere"

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(
            viewer,
            "use",
            "Layer whose result is applied. Of an aligned stack, its transforms; of a depth layer, "
            "its plane map and its transforms, if any.",
        )
        self.targets = Select(
            label="for",
            choices=self._targets,
            tooltip="Stacks of the same field and number of planes. Every stack along leading axes "
            "is computed. A result of several times applies to stacks with as many times.",
        )
        self._controls = RunControls(
            self, "Compute the aligned planes or the all-in-focus image of each stack."
        )
        self.run, self.cancel, self.undo = (
            self._controls.run,
            self._controls.cancel,
            self._controls.undo,
        )
        self._layer_choices.append(self.targets)
        fields = labelled_column(self.input_layer, self.targets)
        self.extend([fields, self._controls.row, self.status])
        self.update_choices()
        self.input_layer.changed.connect(lambda: self.targets.reset_choices())
        self.run.changed.connect(self._start)

    def input_choices(self) -> list[Layer]:
        """Return aligned stacks, then depth layers."""
        aligned = [each for each in self._viewer.layers if role_of(each) == "aligned"]
        return [*aligned, *depth_layers(self._viewer)]

    def _targets(self, _: Any) -> list[Layer]:
        """Return other stacks of the shape and the leading axes of the chosen layer."""
        used = self.input_layer.value
        if used is None or "positions" not in plugin_metadata(used):
            return []
        source = source_of(self._viewer, used)
        shape = (np.shape(plugin_metadata(used)["positions"])[-1], *plane_shape(used))
        stacks = _stacks_shape(used)
        return [
            layer
            for layer in self._viewer.layers
            if is_stack(layer)
            and layer.ndim >= 3
            and role_of(layer) != "aligned"
            and layer is not source
            and str(layer.unique_id) != plugin_metadata(used).get("source")
            and (source is None or str(layer.unique_id) != plugin_metadata(source).get("source"))
            and planes_of(layer).shape[: layer.ndim][-3:] == shape
            and (not stacks or _stacks_shape(layer) == stacks)
        ]

    def _start(self) -> None:
        try:
            result, targets = self._result_to_apply(), list(self.targets.value)
            if not targets:
                raise ValueError("no stacks chosen: select those to apply the result to")
        except ValueError as error:
            self.show_failure(error)
            return
        used = self.input_layer.value
        runs = [
            RunLayers(self._viewer, target, settings_of(used), [target, used]) for target in targets
        ]
        stacks = [(planes_of(each), leading_shape(each), _channel_axis(each)) for each in targets]

        def compute(progress: Progress) -> list[np.ndarray]:
            return [_apply(result, *each, progress) for each in stacks]

        def add_layers(images: list[np.ndarray]) -> Iterator[None]:
            transforms = result.transforms if result.depth is None else None
            for run, image in zip(runs, images, strict=True):
                _show(run, image, transforms)
                yield

        self._controls.start(runs, compute, add_layers)

    def _result_to_apply(self) -> AppliedResult:
        """Return transforms and depth of the chosen layer."""
        used = self.input_layer.value
        if used is None:
            raise ValueError("nothing to use yet: run Align or 'Depth from focus, all steps' first")
        metadata = plugin_metadata(used)
        transforms = metadata.get("transforms")
        if transforms is not None:
            transforms = np.asarray(transforms).reshape(-1, *np.shape(transforms)[-3:])
        if role_of(used) == "aligned":
            return AppliedResult(transforms, None, [], None)
        if role_of(used).startswith("levelled"):
            raise ValueError(f"{used.name!r} is levelled: choose the depth it was made from")
        depth = np.asarray(used.data).reshape(-1, *plane_shape(used))
        all_positions = np.asarray(metadata["positions"])
        indices = np.ndindex(used.data.shape[: len(leading_shape(used))])
        positions = [at_index(all_positions, index, 1) for index in indices]
        return AppliedResult(
            transforms, depth, positions, settings_of(used).get("fusion", "noise_aware")
        )


def _channel_axis(layer: Layer) -> int | None:
    """Return the number of the channel axis among the leading axes, if one is named so."""
    return channel_axis(parse_axis_labels(layer.axis_labels) or ())


def _stacks_shape(layer: Layer) -> tuple[int, ...]:
    """Return the lengths of the leading axes without the channel axis and those of length 1."""
    channel = _channel_axis(layer)
    return tuple(n for i, n in enumerate(leading_shape(layer)) if n > 1 and i != channel)


def _apply(
    result: AppliedResult,
    planes: Any,
    shape: tuple[int, ...],
    channel: int | None,
    progress: Progress,
) -> np.ndarray:
    """Return aligned planes, or the all-in-focus image, of every stack along the leading axes.

    `shape` are the lengths of these axes, of which `channel` is the channel axis.
    """
    stacks_shape = tuple(1 if i == channel else n for i, n in enumerate(shape))

    def apply_to_stack(index: tuple[int, ...]) -> np.ndarray:
        stack = take(planes, index)
        stack_index = tuple(0 if i == channel else n for i, n in enumerate(index))
        number = int(np.ravel_multi_index(stack_index, stacks_shape)) if index else 0
        if result.transforms is not None:
            transforms = result.transforms[number if len(result.transforms) > 1 else 0]
            stack, _ = resample(stack, transforms, progress=progress)
        if result.depth is None:
            return np.asarray(stack)
        number = number if len(result.depth) > 1 else 0
        depth, positions = result.depth[number], result.positions[number]
        return all_in_focus(stack, depth, positions, fusion=result.fusion, progress=progress)

    images = [apply_to_stack(index) for index in np.ndindex(shape)]
    return np.stack(images).reshape(*shape, *images[0].shape)


def _show(run: RunLayers, image: np.ndarray, transforms: np.ndarray | None) -> None:
    """Show aligned planes, or an all-in-focus image if there are no `transforms`."""
    source: Image = run.source
    look: dict[str, Any] = {"rgb": source.rgb, "colormap": source.colormap}
    if not source.rgb:
        look["contrast_limits"] = source.contrast_limits
    if transforms is None:
        if source.ndim > 3:
            image = np.expand_dims(image, source.ndim - 3)
        run.show("all in focus", image, metadata={"transforms": None}, **look)
        return
    channel = _channel_axis(source)
    shape = [1 if i == channel else n for i, n in enumerate(leading_shape(source))]
    several = len(transforms) > 1
    transforms = transforms.reshape(*shape, *transforms.shape[1:]) if several else transforms[0]
    run.show("aligned", image, metadata={"transforms": transforms}, **look)
