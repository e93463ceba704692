"""The layers of runs: added on their source, and undone."""

import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import or_
from typing import Any, Literal

import numpy as np
from magicgui.widgets import PushButton
from napari.layers import Layer
from napari.viewer import Viewer

from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.background_task import update_layers
from napari_dff.widgets.app.controls import button_row, push_button
from napari_dff.widgets.app.layer_data import layer_on_stack
from napari_dff.widgets.app.layer_list import add_result, lower_result, rename_results
from napari_dff.widgets.app.task_widget import TaskWidget
from napari_dff.widgets.app.time_left import Steps
from napari_dff.widgets.app.versions import edit_count, layers_changed, set_edit_count, version
from napari_dff.widgets.app.view_units import reconcile_units

CONTENTS = ("data", "scale", "translate", "rotate", "affine", "units", "axis_labels")


class RunLayers:
    """The layers of one run, which can be undone."""

    def __init__(
        self,
        viewer: Viewer,
        source: Layer,  # on which the results lie, in general the stack
        settings: dict[str, Any],  # of this run; those of the inputs are added
        inputs: Sequence[Layer],  # all layers that the result is computed from
        step: str = "",  # title of the form
        metadata: dict[str, Any] | None = None,  # further ones of all layers
    ) -> None:
        self._viewer, self.source = viewer, source
        self.window: Window | None = None  # of the planes that the results cover; None: all
        scales = (layers.plugin_metadata(layer).get("focus_scale") for layer in inputs)
        self.scale: dict[str, Any] | None = next(filter(None, scales), None)
        self._shape = layers.planes_of(source).shape
        self._layers: list[Layer] = []
        self._undo_actions: list[Callable[[], None]] = []
        self.settings = reduce(or_, [*map(layers.settings_of, inputs), settings])
        self._metadata = {
            "source": str(source.unique_id),
            "run": uuid.uuid4().hex,
            "step": step,
            "inputs": {str(layer.unique_id): version(layer) for layer in inputs},
            "settings": self.settings,
            **_stack_metadata(source),
            **(metadata or {}),
        }

    def show(
        self,
        role: str,
        data: Any,
        kind: Literal["image", "labels", "vectors", "surface"] = "image",
        *,
        metadata: dict[str, Any] | None = None,
        **look: Any,
    ) -> Layer:
        """Show data in the layer of this role, or a new one; ValueError if the source has gone."""
        self._check_source()
        limits = look.get("contrast_limits")
        own = {"limits": limits, **self._metadata, **(metadata or {})}
        if self.window is not None:
            own["window"] = list(self.window)
            look["window"] = self.window
        if self.scale is not None:
            own["focus_scale"] = self.scale
        new = Layer.create(*layer_on_stack(self.source, role, data, kind, own, **look))
        old = layers.find_layer(self._viewer, role, self.source)
        if old is not None and _kind(old) == _kind(new):
            self._update(old, new, limits)
            layer = old
        else:
            rename_results(self._viewer, new)  # before the status bar shows the name
            self._add(new, old)
            layer = new
        self._layers.append(layer)
        set_edit_count(layer, 0)
        layers_changed.emit()
        return layer

    def lower(self, role: str) -> None:
        """Hide the layer of this role at the bottom of the list, if there is one."""
        layer = layers.find_layer(self._viewer, role, self.source)
        if layer is None:
            return
        viewer_layers, visible = self._viewer.layers, layer.visible
        index = viewer_layers.index(layer)

        def restore() -> None:
            if layer in viewer_layers:
                viewer_layers.move(viewer_layers.index(layer), index + 1)  # before that index
                layer.visible = visible

        self._undo_actions.append(restore)
        lower_result(self._viewer, layer)

    def hide(self, layer: Layer) -> None:
        """Hide a layer until the run is undone."""
        if layer.visible:
            layer.visible = False
            self._undo_actions.append(lambda: setattr(layer, "visible", True))

    @property
    def main_layer(self) -> Layer | None:
        """The visible layer that was shown last: the main result."""
        shown = [each for each in self._layers if each in self._viewer.layers and each.visible]
        return shown[-1] if shown else None

    def is_superseded(self) -> bool:
        """Return whether a newer run has updated layers of this one."""
        own, run = set(self._layers) & set(self._viewer.layers), self._metadata["run"]
        return any(layers.plugin_metadata(layer).get("run") != run for layer in own)

    def undo(self) -> Iterator[None]:
        """Restore the layers as they were before, one at each step of the iterator."""
        while self._undo_actions:
            self._undo_actions.pop()()
            reconcile_units(self._viewer)  # those of before may not suit the layers of now
            yield
        rename_results(self._viewer)
        layers_changed.emit()

    def _check_source(self) -> None:
        source = self.source
        if source not in self._viewer.layers:
            raise ValueError(f"layer {source.name!r} was removed meanwhile: no result to put on it")
        if (shape := layers.planes_of(source).shape) != self._shape:
            raise ValueError(
                f"layer {source.name!r} got other planes meanwhile, {shape} instead of "
                f"{self._shape}: no result to put on it"
            )

    def _update(self, layer: Layer, new: Layer, limits: tuple[float, float] | None) -> None:
        self._undo_actions.append(_restore_action(layer))
        old_limits = layers.plugin_metadata(layer).get("limits")
        # Before the data, at whose change forms show the depth that is filled in.
        layer.metadata = {**layer.metadata, layers.METADATA_KEY: layers.plugin_metadata(new)}
        for name in CONTENTS:
            setattr(layer, name, getattr(new, name))
        by_user = old_limits is not None and not np.allclose(layer.contrast_limits, old_limits)
        if limits is not None and not by_user:
            layer.contrast_limits = limits

    def _add(self, new: Layer, old: Layer | None) -> None:
        """Add a layer, in place of one of another kind if there is one."""
        viewer_layers = self._viewer.layers
        if old is not None:
            index = viewer_layers.index(old)
            viewer_layers.remove(old)
            self._undo_actions.append(lambda: viewer_layers.insert(index, old))
        self._undo_actions.append(
            lambda: viewer_layers.remove(new) if new in viewer_layers else None
        )
        add_result(self._viewer, new)


class RunControls:
    """Run, Cancel and Undo of a form, which itself connects the signal of Run."""

    def __init__(
        self,
        form: TaskWidget,
        tooltip: str,
        undone: Callable[[], None] = lambda: None,  # called when Undo undoes something
    ) -> None:
        self._form, self._undone = form, undone
        self._runs: Sequence[RunLayers] = ()  # the newest, which Undo takes back
        self.run = PushButton(text="Run", tooltip=tooltip)
        self.cancel = push_button("Cancel", "Stop; no layer changes.", form.cancel_task)
        restore = "Restore the layers as they were before Run."
        self.undo = push_button("Undo", restore, self.undo_last)
        self.buttons = self.run, self.cancel, self.undo
        self.row = button_row(*self.buttons)
        self._enable(busy=False)
        form.busyChanged.connect(self._enable)

    def start(
        self,
        runs: Sequence[RunLayers],
        compute: Callable[[Progress], Any],
        add_layers: Callable[[Any], Iterator[None]],
        steps: Steps = (),  # whose durations are known
    ) -> None:
        """Compute in the background, then add the layers of the result to `runs`, or none."""

        def done(result: Any) -> Iterator[None]:
            try:
                yield from add_layers(result)
            except Exception:
                yield from self._restore(runs)
                raise
            self._runs = runs

        self._form.start_task(compute, done, steps=steps)

    def undo_last(self) -> None:
        """Undo the newest run, unless another form has changed its layers since."""
        if self._form.busy or not self._runs:
            return
        if any(run.is_superseded() for run in self._runs):
            self._form.show_status(
                "not undone: a newer run has changed these layers; undo that first"
            )
            return
        runs, self._runs = self._runs, ()
        self.undo.enabled = False
        self._undone()
        update_layers(self._restore(runs))

    def _restore(self, runs: Sequence[RunLayers]) -> Iterator[None]:
        for run in runs:
            yield from run.undo()
        with contextlib.suppress(RuntimeError):  # the form is closed and its label deleted
            self._form.show_status("undone: the layers are as they were before")

    def _enable(self, busy: bool) -> None:
        self.run.enabled, self.cancel.enabled = not busy, busy
        self.undo.enabled = bool(self._runs) and not busy


def _stack_metadata(source: Layer) -> dict[str, Any]:
    """Return the metadata of a stack that its results keep, to save them as a run does."""
    keys = ("channels", "focus_channel", "input", "transforms")
    metadata = {key: value for key, value in layers.plugin_metadata(source).items() if key in keys}
    if layers.is_stack(source):
        metadata["positions"] = layers.positions_of(source)
        metadata.setdefault("input", {"path": source.source.path or "", "layer": source.name})
    return metadata


def _restore_action(layer: Layer) -> Callable[[], None]:
    count, names = edit_count(layer), (*CONTENTS, "contrast_limits")
    contents: dict[str, Any] = {"metadata": dict(layer.metadata)}  # first, as in `_update`
    contents |= {name: getattr(layer, name) for name in names if hasattr(layer, name)}

    def restore() -> None:
        for name, value in contents.items():
            setattr(layer, name, value)
        set_edit_count(layer, count)

    return restore


def _kind(layer: Layer) -> tuple[type, int, bool]:
    return type(layer), layer.ndim, getattr(layer, "rgb", False)
