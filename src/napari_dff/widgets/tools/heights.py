"""The heights of a depth layer, and the points, lines and areas that are drawn on it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from napari.layers import Image, Layer, Points, Shapes
from napari.viewer import Viewer
from skimage.draw import polygon2mask

from napari_dff.model.acquisition import CHANNEL_LABELS, describe_index
from napari_dff.model.units import validate_unit
from napari_dff.widgets.app.geometry import index_in_view
from napari_dff.widgets.app.layers import (
    leading_shape,
    pixel_size_of,
    plane_shape,
    plugin_metadata,
    result_values,
    role_of,
    unit_of,
)

NO_DEPTH = "no depth layer: run 'Depth from focus, all steps' on a stack first"
ELLIPSE_CORNERS = 180  # of the polygon in place of an ellipse


class Heights(NamedTuple):
    """Heights of one stack of a depth layer.

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
    stack_index : tuple of int
        The stack along the axes of the layer before Z.
    stack_in_words : str
        The same in words, "time 3 of 20"; empty if there is only one.
    """

    layer: Image
    heights: np.ndarray
    uncertainty: np.ndarray | None
    picture: np.ndarray | None
    pixel_size: tuple[float, float]
    unit: str
    stack_index: tuple[int, ...] = ()
    stack_in_words: str = ""


def depth_layers(viewer: Viewer) -> list[Layer]:
    """Return the depth layers of this plugin without previews, the newest last."""
    return [
        layer
        for layer in viewer.layers
        if role_of(layer).endswith("depth") and not role_of(layer).startswith("preview")
    ]


def heights_of(viewer: Viewer, layer: Image | None) -> Heights:
    """Return the heights of a depth layer in view; ValueError without a layer or a known unit."""
    if layer is None:
        raise ValueError(NO_DEPTH)
    uncertainty = related_values(viewer, layer, "uncertainty")
    heights = values_in_view(viewer, layer).astype(np.float32)
    if uncertainty is not None:
        heights = np.where(np.isfinite(uncertainty), heights, np.float32(np.nan))
    return Heights(
        layer,
        heights,
        uncertainty,
        related_values(viewer, layer, "all in focus"),
        pixel_size_of(layer),
        validate_unit(unit_of(layer)),
        index_of_stack(viewer, layer),
        describe_index(layer.axis_labels, index_in_view(viewer, layer), leading_shape(layer)),
    )


def index_of_stack(viewer: Viewer, layer: Layer) -> tuple[int, ...]:
    """Return which stack a depth layer shows, along the axes of the stack layer before Z.

    A levelled depth is of one stack only, which its metadata contain.
    """
    index = plugin_metadata(layer).get("place")
    return index_in_view(viewer, layer) if index is None else tuple(index)


def values_in_view(viewer: Viewer, layer: Layer) -> np.ndarray:
    """Return the values of a depth layer in view, (Y, X)."""
    return result_values(layer, index_in_view(viewer, layer))


def related_values(viewer: Viewer, layer: Layer, role: str) -> np.ndarray | None:
    """Return the uncertainty, or the all-in-focus image in view, that belongs to a depth layer.

    Of an estimated or refined depth it is that of the same kind; of a levelled one the refined one
    if there is any. `role` is without "refined". Returns (Y, X) or (Y, X, 3), or None.
    """
    roles = [f"refined {role}" if role_of(layer).startswith("refined") else role]
    if role_of(layer) == "levelled depth":
        roles = [f"refined {role}", role]
    source = plugin_metadata(layer).get("source")
    for wanted_role in roles:
        for other in viewer.layers:
            if (
                role_of(other) != wanted_role
                or plugin_metadata(other).get("source") != source
                or plane_shape(other) != plane_shape(layer)
            ):
                continue
            index, in_view = index_of_stack(viewer, layer), index_in_view(viewer, other)
            if len(index) == len(in_view):
                axes = zip(other.axis_labels, in_view, index, strict=False)
                in_view = tuple(i if label in CHANNEL_LABELS else j for label, i, j in axes)
            return result_values(other, in_view)
    return None


def drawn_points(points: Points, layer: Layer) -> np.ndarray:
    """Return the points of a Points layer as rows and columns of `layer`, (N, 2)."""
    return _to_pixels(points.data, points, layer)


def drawn_lines(shapes: Shapes | None, layer: Layer) -> list[np.ndarray]:
    """Return the lines and paths of a Shapes layer as rows and columns of `layer`, (N, 2) each."""
    return [corners for kind, corners in _drawn_shapes(shapes, layer) if kind in ("line", "path")]


def drawn_areas(shapes: Shapes | None, layer: Layer) -> list[np.ndarray]:
    """Return the areas of a Shapes layer as masks of the pixels of `layer`, (Y, X) bool each."""
    masks = []
    for kind, corners in _drawn_shapes(shapes, layer):
        if kind == "ellipse":
            corners = _ellipse_polygon(corners)
        if kind in ("ellipse", "rectangle", "polygon"):
            mask = polygon2mask(plane_shape(layer), corners)  # type: ignore[no-untyped-call]
            masks.append(mask)
    return masks


def _drawn_shapes(shapes: Shapes | None, layer: Layer) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the type of each shape, and its corners as rows and columns of `layer`."""
    if shapes is not None:
        for kind, corners in zip(shapes.shape_type, shapes.data, strict=True):
            yield str(kind), _to_pixels(corners, shapes, layer)


def _ellipse_polygon(corners: np.ndarray) -> np.ndarray:
    """Return a polygon in place of the ellipse inscribed in a parallelogram, (4, 2) corners.

    With its centre c and half its edges a and b, the points are c + a cos t + b sin t. Scaling of
    the layers turns the rectangle around an ellipse into a parallelogram.
    """
    centre = corners.mean(axis=0)
    first, second = (corners[1] - corners[0]) / 2, (corners[2] - corners[1]) / 2
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)[:, None]
    return centre + np.cos(angle) * first + np.sin(angle) * second


def _to_pixels(points: np.ndarray, drawn: Layer, layer: Layer) -> np.ndarray:
    """Convert data coordinates of one layer to rows and columns of another, (N, 2)."""
    world = [drawn.data_to_world(point) for point in np.asarray(points)]
    pixels = [np.asarray(layer.world_to_data(point))[-2:] for point in world]
    return np.array(pixels).reshape(-1, 2)
