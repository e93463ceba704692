"""Layers out: what a run puts into the viewer, whether it still holds, and how it is undone."""

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Layer
from napari.viewer import Viewer
from psygnal import Signal

from napari_dff.widgets.geometry import placement
from napari_dff.widgets.layers import (
    METADATA_KEY,
    find_layer,
    is_stack,
    layer_by_id,
    planes_of,
    plugin_metadata,
    positions_of,
    settings_of,
    stack_name_of,
)
from napari_dff.widgets.maps import Maps
from napari_dff.widgets.worker import in_turns

CHANGES = ("data", "paint", "features", "scale", "translate", "units")  # events of a layer
_edits: WeakKeyDictionary[Layer, int] = WeakKeyDictionary()


class _Changes:
    """Tells whoever shows whether results still hold."""

    happened = Signal()


changes = _Changes()


def stamp(layer: Layer) -> str:
    """Something that differs whenever what the layer holds has changed since it was put."""
    if layer not in _edits:
        _edits[layer] = 0
        for name in CHANGES:
            if hasattr(layer.events, name):
                getattr(layer.events, name).connect(_edited)
    return f"{plugin_metadata(layer).get('run', layer.unique_id)}#{_edits[layer]}"


def _edited(event: Any) -> None:
    layer = event.source
    if layer in _edits:
        _edits[layer] += 1
        changes.happened.emit()


def outdated(viewer: Viewer, layer: Layer) -> str:
    """Why one of our layers no longer follows from what it was made from; empty if it does."""
    for unique_id, then in plugin_metadata(layer).get("inputs", {}).items():
        given = layer_by_id(viewer, unique_id)
        if given is None:
            continue
        if stamp(given) != then:
            return f"{given.name!r} has changed since"
        why = outdated(viewer, given)
        if why:
            return f"{given.name!r} is out of date itself ({why})"
    return ""


class Run:
    """One run: where its layers come from, and what they replaced."""

    def __init__(
        self,
        viewer: Viewer,
        source: Layer,
        settings: dict[str, Any],
        inputs: Iterable[Layer],
        step: str = "",
        told: dict[str, Any] | None = None,
    ) -> None:
        self._viewer, self.source = viewer, source
        self._shape = planes_of(source).shape
        self._key, self._step = uuid.uuid4().hex, step
        self._made: list[Layer] = []
        self.inputs = {str(layer.unique_id): stamp(layer) for layer in inputs}
        before = [settings_of(layer) for layer in inputs]
        self.settings = {
            name: value for each in [*before, settings] for name, value in each.items()
        }
        self._undoing: list[Callable[[], None]] = []
        self._told = _of_the_stack(source) | (told or {})

    @property
    def positions(self) -> np.ndarray:
        """Of the planes of the source, (Z,) or (…, Z)."""
        return positions_of(self.source)

    def put(
        self,
        role: str,
        data: Any,
        kind: Literal["image", "labels", "vectors", "surface"] = "image",
        *,
        remember: dict[str, Any] | None = None,
        **look: Any,
    ) -> Layer:
        """Show a result exactly on its source: update our layer of this role, or add one.

        A layer that is updated keeps its name, and the colormap and contrast limits a person
        chose. `remember` goes into its metadata. Data has the last axes of the source, or all of
        them, 1 long where it holds for all.

        ValueError with a sentence where the source is gone, or has planes of another shape now.
        """
        self._check_source()
        viewer, source, limits = self._viewer, self.source, look.get("contrast_limits")
        mine = {
            "role": role,
            "source": str(source.unique_id),
            "root": stack_name_of(source),
            "limits": limits,
            "run": self._key,
            "step": self._step,
            "inputs": self.inputs,
            "settings": self.settings,
            **self._told,
            **(remember or {}),
        }
        if kind == "image":
            look.setdefault("rgb", False)
        settings = {
            "name": f"{role} · {stack_name_of(source)}",
            "metadata": {METADATA_KEY: mine},
            **look,
        }
        new = Layer.create(data, {**_place(source, data, kind, look), **settings}, kind)
        old = find_layer(viewer, role, source)
        if old is not None and _alike(old, new):
            self._undoing.append(_restoring(old))
            before = plugin_metadata(old).get("limits")
            _take(old, new)
            chosen = before is None or not np.allclose(old.contrast_limits, before)
            if limits is not None and not chosen:
                old.contrast_limits = limits
            old.metadata = {**old.metadata, METADATA_KEY: mine}
            self._made.append(old)
            _settle(old)
            return old
        if old is not None:
            place = viewer.layers.index(old)
            viewer.layers.remove(old)
            self._undoing.append(lambda: viewer.layers.insert(place, old))
        self._undoing.append(lambda: viewer.layers.remove(new) if new in viewer.layers else None)
        viewer.add_layer(new)
        self._made.append(new)
        _settle(new)
        return new

    def put_maps(
        self, maps: Maps, prefix: str = "", remember: dict[str, Any] | None = None
    ) -> Iterator[None]:
        """Show a depth map and its all-in-focus image: four layers, two of them hidden at first.

        A layer at each step, so that the window can breathe in between.
        """
        for layer in maps.layers:
            role, kind = f"{prefix}{layer.role}", layer.kind
            self.put(role, layer.data, kind, remember=remember, **layer.look)
            yield

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

    def superseded(self) -> bool:
        """Whether another run has changed the layers of this one since."""
        left = [layer for layer in self._made if layer in self._viewer.layers]
        return any(plugin_metadata(layer).get("run") != self._key for layer in left)

    def undo(self) -> Iterator[None]:
        """Bring back what was there before, one layer at each step."""
        while self._undoing:
            self._undoing.pop()()
            yield
        changes.happened.emit()


def or_undone(parts: Iterator[None], runs: Sequence[Run]) -> Iterator[None]:
    """Go through `parts`; where one fails, undo what they have put: all of a result or nothing."""
    try:
        yield from parts
    except Exception:
        for run in runs:
            yield from run.undo()
        raise


def undo(runs: Sequence[Run], said: Callable[[str], None]) -> None:
    """Undo runs, layer by layer, and then say so."""

    def ended() -> None:
        with contextlib.suppress(RuntimeError):  # closed meanwhile: Qt's label is gone
            said("undone: the layers are as they were before")

    in_turns(chain.from_iterable(run.undo() for run in runs), ended)


def _place(source: Layer, data: Any, kind: str, look: dict[str, Any]) -> dict[str, Any]:
    """Where a result lies: on its source."""
    if kind == "surface":
        return placement(source, 3)
    if kind == "vectors":
        return placement(source, data.shape[-1])
    shape = tuple(data.shape)[: data.ndim - bool(look.get("rgb", False))]
    return placement(source, len(shape), shape=shape)


def _of_the_stack(source: Layer) -> dict[str, Any]:
    """What a result remembers of its stack, so that a file can tell it."""
    known = ("channels", "focus_channel", "input", "transforms")
    told = {name: value for name, value in plugin_metadata(source).items() if name in known}
    if is_stack(source):
        told["positions"] = positions_of(source)
        told.setdefault("input", {"path": source.source.path or "", "layer": source.name})
    return told


def _settle(layer: Layer) -> None:
    """From here on, whatever happens to the layer is a change."""
    stamp(layer)
    _edits[layer] = 0
    changes.happened.emit()


PLACE = ("scale", "translate", "rotate", "affine", "units", "axis_labels")


def _take(old: Layer, new: Any) -> None:
    """Give a layer what another one, or a picture of its earlier self, holds, and its place."""
    old.data = new.data
    for name in PLACE:
        setattr(old, name, getattr(new, name))


def _restoring(layer: Layer) -> Callable[[], None]:
    """What brings the layer back to what it holds now."""
    stamp(layer)
    edits, metadata = _edits[layer], dict(layer.metadata)
    held = SimpleNamespace(data=layer.data, **{name: getattr(layer, name) for name in PLACE})
    limits = getattr(layer, "contrast_limits", None)

    def restore() -> None:
        _take(layer, held)
        if limits is not None:
            layer.contrast_limits = limits
        layer.metadata = metadata
        _edits[layer] = edits

    return restore


def _alike(old: Layer, new: Layer) -> bool:
    same_colour = getattr(old, "rgb", False) == getattr(new, "rgb", False)
    return type(old) is type(new) and old.ndim == new.ndim and same_colour
