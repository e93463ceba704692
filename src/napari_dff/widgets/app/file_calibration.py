"""Calibration of a stack that napari's own reader opened, which leaves it out, from the file."""

from pathlib import Path

from napari.layers import Image

from napari_dff.io import StackError, read_acquisitions
from napari_dff.io.readers.tiff import TIFF_SUFFIXES
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.layer_data import stack_layer


def calibrate_from_file(layer: Image) -> str:
    """Give a layer scale, units and axis names of its TIFF; return the name of the file, or "".

    Only once, and only a layer without any calibration whose shape is that of the stack.
    """
    path, own = Path(layer.source.path or ""), layers.plugin_metadata(layer)
    changed = (layer.scale != 1).any() or set(layers.units_of(layer)) != {"pixel"}
    if "in_file" in own or changed or path.suffix.lower() not in TIFF_SUFFIXES:
        return ""
    try:
        (acquisition,) = read_acquisitions(path)
    except (StackError, OSError, ValueError):  # also if the file has several stacks
        return ""
    data, look, _ = stack_layer(acquisition, layer.name, str(path), load=False)
    if data.shape != layers.planes_of(layer).shape:
        return ""
    layer.metadata = {**layer.metadata, **look["metadata"]}
    for name in ("axis_labels", "units", "scale", "translate"):
        setattr(layer, name, look[name])
    return "" if acquisition.unit == "pixel" else path.name
