"""The layers that show a depth map and its all-in-focus image."""

from typing import NamedTuple

import numpy as np

from napari_dff.model.acquisition import Acquisition
from napari_dff.model.depth_map import DepthMap
from napari_dff.pipeline.quality import Coverage, coverage
from napari_dff.pipeline.sinks import ArraySink
from napari_dff.widgets.app.layer_data import RESULT_IMAGES, ResultLayer, result_layer


class Maps(NamedTuple):
    """The results of all stacks of a layer.

    Attributes
    ----------
    refined : DepthMap of (…, Y, X) arrays
        With the leading axes of the layer of the stack, 1 of channels.
    layers : list of ResultLayer
        The layers that show them, from the lowest.
    coverage : Coverage
    """

    refined: DepthMap
    layers: list[ResultLayer]
    coverage: Coverage


def maps_of(sink: ArraySink, acquisition: Acquisition) -> Maps:
    """Return results in memory as layers with the axes of the layer of the stack, 1 of Z."""
    leading = len(acquisition.axes)
    planes, _, _, *colours = acquisition.data.shape[leading:]
    images = {**sink.refined._asdict(), "all_in_focus": sink.images}
    if leading:
        images = {name: np.expand_dims(values, leading) for name, values in images.items()}
    layers = [
        result_layer(
            name,
            images[name],
            acquisition.positions,
            uncertainty=images["uncertainty"],
            rgb=bool(colours),
        )
        for name in RESULT_IMAGES
    ]
    return Maps(sink.refined, layers, coverage(sink.refined, planes))
