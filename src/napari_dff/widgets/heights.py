"""A depth layer as heights: what is known of it, its unit, and what people draw on it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from napari.layers import Image, Layer, Points, Shapes
from napari.viewer import Viewer
from skimage.draw import polygon2mask

from napari_dff.units import validate_unit
from napari_dff.widgets.axes import CHANNEL_LABELS, describe_index
from napari_dff.widgets.geometry import index_in_view
from napari_dff.widgets.layers import (
    leading_shape,
    pixel_size_of,
    plane_shape,
    plugin_metadata,
    result_values,
    role_of,
    unit_of,
)

NO_DEPTH = "no depth layer: run 'Depth from focus, all steps' on a stack first"
OUTLINE = 180  # corners of the polygon that stands for an ellipse


class Heights(NamedTuple):
    """Heights of a depth layer.

    Attributes
    ----------
    layer : Image
    heights : (Y, X) float32
        In `unit`; NaN where never in focus.
    uncertainty : (Y, X) float32 or None
        One standard deviation; inf where never in focus.
    picture : (Y, X[, 3]) or None
        The all-in-focus image.
    pixel_size : (float, float)
    unit : str
        As napari spells it.
    place : tuple of int
        Which stack of the layer that is, along the axes before Z.
    where : str
        The same in words: "time 3 of 20"; empty where there is only one.
    """

    layer: Image
    heights: np.ndarray
    uncertainty: np.ndarray | None
    picture: np.ndarray | None
    pixel_size: tuple[float, float]
    unit: str
    place: tuple[int, ...] = ()
    where: str = ""


def depth_layers(viewer: Viewer) -> list[Layer]:
    """Our depth layers, the newest last; no previews."""
    return [
        layer
        for layer in viewer.layers
        if role_of(layer).endswith("depth") and not role_of(layer).startswith("preview")
    ]


def heights_of(viewer: Viewer, layer: Image | None) -> Heights:
    """Heights of a depth layer; ValueError with a sentence when there is none.

    Of a layer with axes before Z those at which the sliders stand.
    """
    if layer is None:
        raise ValueError(NO_DEPTH)
    uncertainty, picture = (beside(viewer, layer, name) for name in ("uncertainty", "all in focus"))
    heights = shown_values(viewer, layer).astype(np.float32)
    if uncertainty is not None:
        heights = np.where(np.isfinite(uncertainty), heights, np.float32(np.nan))
    where = place_shown(viewer, layer), words_in_view(viewer, layer)
    size = pixel_size_of(layer), validate_unit(unit_of(layer))
    return Heights(layer, heights, uncertainty, picture, *size, *where)


def place_shown(viewer: Viewer, layer: Layer) -> tuple[int, ...]:
    """The place along the axes before Z that a depth layer shows: its own, or that in view."""
    own = plugin_metadata(layer).get("place")
    return index_in_view(viewer, layer) if own is None else tuple(own)


def shown_values(viewer: Viewer, layer: Layer) -> np.ndarray:
    """What a depth layer shows: (Y, X)."""
    return result_values(layer, index_in_view(viewer, layer))


def words_in_view(viewer: Viewer, layer: Layer) -> str:
    """Which of its stacks a depth layer shows: "time 3 of 20"; empty where it has only one."""
    index, shape = index_in_view(viewer, layer), leading_shape(layer)
    return describe_index(layer.axis_labels, index, shape)


def beside(viewer: Viewer, layer: Layer, name: str) -> np.ndarray | None:
    """What the layer of the same run, of another role, holds: (Y, X), or (Y, X, 3) in colour."""
    prefix = "refined " if role_of(layer).startswith("refined") else ""
    roles = [f"{prefix}{name}"]
    if role_of(layer) == "levelled depth":
        roles = [f"refined {name}", name]
    for role in roles:
        for other in viewer.layers:
            same = plugin_metadata(other).get("source") == plugin_metadata(layer).get("source")
            if role_of(other) == role and same and plane_shape(other) == plane_shape(layer):
                at = index_in_view(viewer, other)
                own = place_shown(viewer, layer)
                if len(own) == len(at):  # but of the channel in view
                    named = zip(other.axis_labels, at, own, strict=False)
                    at = tuple(i if name in CHANNEL_LABELS else j for name, i, j in named)
                return result_values(other, at)
    return None


def vertices(drawn: Layer, on: Layer) -> Iterator[tuple[str, np.ndarray]]:
    """Every shape of a Shapes layer: its type, and its corners as rows and columns of `on`."""
    for kind, corners in zip(drawn.shape_type, drawn.data, strict=True):
        yield str(kind), _on(corners, drawn, on)


def points(drawn: Points, on: Layer) -> np.ndarray:
    """The points of a Points layer, as rows and columns of `on`: (N, 2)."""
    return _on(drawn.data, drawn, on)


def lines(drawn: Shapes | None, on: Layer) -> list[np.ndarray]:
    """The lines and paths that were drawn."""
    if drawn is None:
        return []
    return [corners for kind, corners in vertices(drawn, on) if kind in ("line", "path")]


def regions(drawn: Shapes | None, on: Layer) -> list[np.ndarray]:
    """The areas that were drawn, as (Y, X) bool masks."""
    if drawn is None:
        return []
    shape = plane_shape(on)
    masks = []
    for kind, corners in vertices(drawn, on):
        if kind == "ellipse":
            corners = _outline(corners)
        if kind in ("ellipse", "rectangle", "polygon"):
            masks.append(polygon2mask(shape, corners))  # type: ignore[no-untyped-call]
    return masks


def _outline(corners: np.ndarray) -> np.ndarray:
    """The ellipse in a parallelogram as a polygon, whatever the axes did to its angles."""
    middle, first, second = corners.mean(axis=0), corners[1] - corners[0], corners[2] - corners[1]
    turn = np.linspace(0, 2 * np.pi, OUTLINE, endpoint=False)[:, None]
    return middle + np.cos(turn) * first / 2 + np.sin(turn) * second / 2


def _on(data: np.ndarray, drawn: Layer, on: Layer) -> np.ndarray:
    world = [drawn.data_to_world(point) for point in np.asarray(data)]
    return np.array([np.asarray(on.world_to_data(point))[-2:] for point in world]).reshape(-1, 2)
