"""Layers in, layers out: a layer becomes a FocalStack, a result becomes a layer on top of it."""

from typing import Any, Literal

import numpy as np
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.depth import DepthMap
from napari_dff.stack import FocalStack

KEY = "napari-dff"  # of our part of a layer's metadata
RESULTS = ("focus", "depth", "uncertainty", "all in focus")  # images that are no stacks to work on


def role_of(layer: Layer) -> str:
    """Return what one of our layers is; empty for others."""
    return str(layer.metadata.get(KEY, {}).get("role", ""))


def is_stack(layer: Layer) -> bool:
    """Tell whether `layer` may be a focal stack: any image that isn't one of our results."""
    return isinstance(layer, Image) and not role_of(layer).endswith(RESULTS)


def stack_of(layer: Image | None) -> FocalStack:
    """Return the focal stack in an Image layer; ValueError with a sentence when it isn't one.

    Positions are the layer's scale and translation along its first axis, in its units.
    """
    if layer is None:
        raise ValueError("no stack: open a focal stack (File ▸ Open Sample has some) and choose it")
    planes = layer.data[0] if layer.multiscale else layer.data
    if layer.ndim != 3:
        raise ValueError(
            f"layer {layer.name!r} must be a stack with axes Z, Y, X, got {layer.ndim} axes"
        )
    units = [str(unit) for unit in layer.units]
    if len(set(units)) > 1:
        raise ValueError(
            f"layer {layer.name!r} must have one unit for all axes, got {', '.join(units)}"
        )
    positions = layer.translate[0] + layer.scale[0] * np.arange(planes.shape[0])
    return FocalStack(planes, positions, tuple(abs(layer.scale[1:3])), units[0])


def find(viewer: Viewer, role: str, source: Layer) -> Layer | None:
    """Our layer of this role that was made from `source`, whatever it is called now."""
    for layer in viewer.layers:
        ours = layer.metadata.get(KEY, {})
        if ours.get("role") == role and ours.get("source") == str(source.unique_id):
            return layer
    return None


def needed(viewer: Viewer, role: str, source: Layer, step: str) -> np.ndarray:
    """Data of our layer of this role; ValueError that names the step to run first if missing."""
    layer = find(viewer, role, source)
    if layer is None:
        raise ValueError(f"{source.name!r} has no layer {role!r} yet: run {step!r} first")
    return np.asarray(layer.data)


def put(
    viewer: Viewer,
    role: str,
    source: Layer,
    data: np.ndarray,
    kind: Literal["image", "labels", "vectors"] = "image",
    *,
    remember: dict[str, Any] | None = None,
    **look: Any,
) -> Layer:
    """Show a result exactly on its source: update our layer of this role, or add one.

    A layer that is updated keeps its name, and the colormap and contrast limits a person chose.
    `remember` goes into its metadata.
    """
    limits = look.get("contrast_limits")
    root = source.metadata.get(KEY, {}).get("root", source.name)  # of an aligned stack: the stack
    ours = {
        "role": role,
        "source": str(source.unique_id),
        "root": root,
        "limits": limits,
        **(remember or {}),
    }
    axes = 3 if kind == "vectors" else data.ndim - (data.ndim > 2 and look.get("rgb", False))
    if kind == "image":
        look.setdefault("rgb", False)
    settings = {"name": f"{role} · {root}", "metadata": {KEY: ours}, **look}
    new = Layer.create(data, {**settings, **_placed(source, axes)}, kind)
    old = find(viewer, role, source)
    if old is not None and _alike(old, new):
        before = old.metadata[KEY].get("limits")
        old.data = new.data
        for name, value in _placed(source, axes).items():
            setattr(old, name, value)
        if limits is not None and before is not None and np.allclose(old.contrast_limits, before):
            old.contrast_limits = limits
        old.metadata = {**old.metadata, KEY: ours}
        return old
    if old is not None:
        viewer.layers.remove(old)
    return viewer.add_layer(new)


def put_depth_map(
    viewer: Viewer, source: Layer, found: DepthMap, picture: np.ndarray, prefix: str = ""
) -> None:
    """Show a depth map and its all-in-focus image: four layers, two of them hidden at first."""
    known = np.isfinite(found.uncertainty)
    positions = stack_of(source).positions
    ends = (float(positions.min()), float(positions.max()))
    doubt = float(np.percentile(found.uncertainty[known], 99)) if known.any() else 1.0
    labels = np.where(known, found.index.astype(np.int32) + 1, 0).astype(np.uint16)
    put(
        viewer,
        f"{prefix}uncertainty",
        source,
        found.uncertainty,
        colormap="magma",
        contrast_limits=(0.0, max(doubt, 1e-6)),
        visible=False,
    )
    put(viewer, f"{prefix}plane index", source, labels, "labels", visible=False)
    look: dict[str, Any] = {"rgb": True}
    if picture.ndim == 2:
        low, high = (float(v) for v in np.percentile(picture, (0.1, 99.9)))
        look = {"contrast_limits": (low, max(high, low + 1e-6))}
    put(viewer, f"{prefix}all in focus", source, picture, **look)
    put(viewer, f"{prefix}depth", source, found.depth, colormap="gray", contrast_limits=ends)


def _placed(source: Layer, axes: int) -> dict[str, Any]:
    """Where the last `axes` axes of `source` lie in the world."""
    last = slice(-axes, None)
    return {
        "scale": source.scale[last],
        "translate": source.translate[last],
        "rotate": source.rotate[last, last],
        "affine": source.affine.set_slice(list(range(source.ndim))[last]),
        "units": source.units[last],
        "axis_labels": source.axis_labels[last],
    }


def _alike(old: Layer, new: Layer) -> bool:
    same_colour = getattr(old, "rgb", False) == getattr(new, "rgb", False)
    return type(old) is type(new) and old.ndim == new.ndim and same_colour
