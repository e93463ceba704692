"""Results follow when their stack is calibrated: place, unit, depth and uncertainty."""

from typing import NamedTuple

import numpy as np
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.widgets.app import layers

IN_PLANES = ("depth", "uncertainty")  # how roles of results end whose values are lengths along Z


class Calibration(NamedTuple):
    """Scale and translation of a stack layer."""

    scale: np.ndarray
    translate: np.ndarray

    @classmethod
    def of(cls, layer: Layer) -> "Calibration":
        """Return those that a layer has now."""
        return cls(np.array(layer.scale), np.array(layer.translate))


def recalibrate_results(viewer: Viewer, stack: Image, earlier: Calibration) -> None:
    """Give the results of a stack its new scale and unit; `earlier` is what it had before.

    Surfaces and results of unevenly spaced planes are left as they are, out of date.
    """
    new = Calibration.of(stack)
    ratio = new.scale / earlier.scale
    gaps = np.diff(layers.positions_of(stack), axis=-1)
    for layer in layers.results_of(viewer, str(stack.unique_id)):
        last = slice(-layer.ndim, None)
        role = layers.role_of(layer)
        is_length = role.endswith(IN_PLANES)
        if role == "surface" or (is_length and not np.allclose(gaps, gaps.flat[0])):
            continue
        if is_length:
            origin = earlier.translate[-3] if role.endswith("depth") else 0.0
            _rescale_values(layer, ratio[-3], origin)
        layer.units = stack.units[last]
        corner = np.array(layer.translate) - earlier.translate[last]
        layer.scale = np.array(layer.scale) * ratio[last]
        layer.translate = new.translate[last] + corner * ratio[last]


def _rescale_values(layer: Image, ratio: float, origin: float) -> None:
    """Multiply lengths above `origin`: of the layer, its limits, and the depth filled in."""

    def rescale(values: np.ndarray) -> np.ndarray:
        return (origin + np.float32(ratio) * (np.asarray(values) - origin)).astype(np.float32)

    limits = rescale(np.array(layer.contrast_limits)).tolist()
    own = dict(layers.plugin_metadata(layer))
    for key in ("filled", "limits"):
        if own.get(key) is not None:
            own[key] = rescale(np.array(own[key]))
    if own.get("positions") is not None:
        positions = np.asarray(own["positions"], float)
        own["positions"] = origin + ratio * (positions - origin)
    layer.metadata = {**layer.metadata, layers.METADATA_KEY: own}
    layer.data = rescale(layer.data)
    layer.contrast_limits = limits
