"""The layers of one run: added or updated on their source, and undone."""

import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from napari.layers import Layer
from napari.viewer import Viewer

from napari_dff.widgets.app.freshness import edit_count, layers_changed, set_edit_count, version
from napari_dff.widgets.app.layer_data import layer_on_stack
from napari_dff.widgets.app.layers import (
    METADATA_KEY,
    find_layer,
    is_stack,
    planes_of,
    plugin_metadata,
    positions_of,
    settings_of,
)
from napari_dff.widgets.app.maps import Maps
from napari_dff.widgets.app.worker import update_layers

PLACEMENT = ("scale", "translate", "rotate", "affine", "units", "axis_labels")


class RunLayers:
    """The layers of one run, which can be undone.

    Parameters
    ----------
    viewer : napari Viewer
    source : Layer
        The layer that the results lie on, in general the stack.
    settings : dict
        Settings of this run; those of `inputs` are added.
    inputs : sequence of Layer
        All layers that the result is computed from.
    step : str
        Title of the form.
    metadata : dict
        Further metadata of all layers.
    """

    def __init__(
        self,
        viewer: Viewer,
        source: Layer,
        settings: dict[str, Any],
        inputs: Sequence[Layer],
        step: str = "",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._viewer, self.source = viewer, source
        self._shape = planes_of(source).shape
        self._layers: list[Layer] = []
        self._undo_actions: list[Callable[[], None]] = []
        self.settings: dict[str, Any] = {}
        for layer in inputs:
            self.settings |= settings_of(layer)
        self.settings |= settings
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
        """Show data exactly on the source: in the layer of this role, or in a new one.

        A layer that is updated keeps its name, and a colormap and contrast limits that the user has
        chosen.

        Parameters
        ----------
        role, kind : str
        data : array or tuple
            With all or the last axes of the source; length 1 where the data are constant.
        metadata : dict
            Further metadata of this layer.
        **look
            Attributes of a new layer.

        Raises
        ------
        ValueError
            If the source was removed, or has planes of another shape now.
        """
        self._check_source()
        limits = look.get("contrast_limits")
        own = {"limits": limits, **self._metadata, **(metadata or {})}
        new = Layer.create(*layer_on_stack(self.source, role, data, kind, own, **look))
        old = find_layer(self._viewer, role, self.source)
        if old is not None and _same_kind(old, new):
            self._update(old, new, limits)
            layer = old
        else:
            self._add(new, old)
            layer = new
        self._layers.append(layer)
        set_edit_count(layer, 0)
        layers_changed.emit()
        return layer

    def show_maps(
        self, maps: Maps, prefix: str = "", metadata: dict[str, Any] | None = None
    ) -> Iterator[None]:
        """Show the layers of a depth map and its image, one at each step of the iterator."""
        for role, data, kind, look in maps.layers:
            self.show(f"{prefix}{role}", data, kind, metadata=metadata, **look)
            yield

    def is_superseded(self) -> bool:
        """Return whether a newer run has updated layers of this one."""
        layers = [layer for layer in self._layers if layer in self._viewer.layers]
        return any(plugin_metadata(layer).get("run") != self._metadata["run"] for layer in layers)

    def undo(self) -> Iterator[None]:
        """Restore the layers as they were before, one at each step of the iterator."""
        while self._undo_actions:
            self._undo_actions.pop()()
            yield
        layers_changed.emit()

    def _check_source(self) -> None:
        source = self.source
        if source not in self._viewer.layers:
            raise ValueError(f"layer {source.name!r} was removed meanwhile: no result to put on it")
        shape = planes_of(source).shape
        if shape != self._shape:
            raise ValueError(
                f"layer {source.name!r} got other planes meanwhile, {shape} instead of "
                f"{self._shape}: no result to put on it"
            )

    def _update(self, layer: Layer, new: Layer, limits: tuple[float, float] | None) -> None:
        self._undo_actions.append(_restore_action(layer))
        old_limits = plugin_metadata(layer).get("limits")
        _copy_data(new, layer)
        by_user = old_limits is not None and not np.allclose(layer.contrast_limits, old_limits)
        if limits is not None and not by_user:
            layer.contrast_limits = limits
        layer.metadata = {**layer.metadata, METADATA_KEY: plugin_metadata(new)}

    def _add(self, new: Layer, old: Layer | None) -> None:
        """Add a layer, in place of one of another kind if there is one."""
        layers = self._viewer.layers
        if old is not None:
            index = layers.index(old)
            layers.remove(old)
            self._undo_actions.append(lambda: layers.insert(index, old))
        self._undo_actions.append(lambda: layers.remove(new) if new in layers else None)
        self._viewer.add_layer(new)


def add_or_undo(steps: Iterator[None], runs: Sequence[RunLayers]) -> Iterator[None]:
    """Run steps that add layers; after an error, undo those that were added, and raise it."""
    try:
        yield from steps
    except Exception:
        for run in runs:
            yield from run.undo()
        raise


def undo_runs(runs: Sequence[RunLayers], show_status: Callable[[str], None]) -> None:
    """Undo runs, one layer after the other, and then show a sentence."""

    def finished() -> None:
        with contextlib.suppress(RuntimeError):  # the form is closed and its label deleted
            show_status("undone: the layers are as they were before")

    update_layers(chain.from_iterable(run.undo() for run in runs), finished)


def _stack_metadata(source: Layer) -> dict[str, Any]:
    """Return the metadata of a stack that its results keep, to save them as a run does."""
    keys = ("channels", "focus_channel", "input", "transforms")
    metadata = {key: value for key, value in plugin_metadata(source).items() if key in keys}
    if is_stack(source):
        metadata["positions"] = positions_of(source)
        metadata.setdefault("input", {"path": source.source.path or "", "layer": source.name})
    return metadata


def _copy_data(new: Any, layer: Layer) -> None:
    """Give a layer the data and the placement of `new`, a layer or a snapshot of one."""
    layer.data = new.data
    for name in PLACEMENT:
        setattr(layer, name, getattr(new, name))


def _restore_action(layer: Layer) -> Callable[[], None]:
    """Return a function that restores the present contents of a layer."""
    count, metadata = edit_count(layer), dict(layer.metadata)
    snapshot = SimpleNamespace(
        data=layer.data, **{name: getattr(layer, name) for name in PLACEMENT}
    )
    limits = getattr(layer, "contrast_limits", None)

    def restore() -> None:
        _copy_data(snapshot, layer)
        if limits is not None:
            layer.contrast_limits = limits
        layer.metadata = metadata
        set_edit_count(layer, count)

    return restore


def _same_kind(old: Layer, new: Layer) -> bool:
    same_colour = getattr(old, "rgb", False) == getattr(new, "rgb", False)
    return type(old) is type(new) and old.ndim == new.ndim and same_colour
