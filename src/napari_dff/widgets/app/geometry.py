"""Where the pixels of a layer lie: in the world, in the view, under the mouse."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.viewer import Viewer

from napari_dff.runtime.windows import Window
from napari_dff.widgets.app.layers import leading_shape, plane_shape, planes_of, role_of

FITTED_SHARE = 0.95  # of the canvas, as in napari
FITTED_RATIOS = (0.8, 1.06)  # of the zoom and the fitting one, where a user has not zoomed
ZOOM_RATIOS = (0.3, 10.0)  # of the zoom and that at which a layer fits into the canvas


def to_data(layer: Layer, position: Any, units: Sequence[Any]) -> np.ndarray:
    """Return the data coordinates of a layer at a world position, given in other units.

    napari's own conversions ignore that layers can have different units of length.
    """
    scaled = np.array(position, dtype=float)
    ratios = unit_ratios(units, layer.units, len(scaled))
    return np.asarray(layer.world_to_data(scaled * ratios))


def view_to_data(viewer: Viewer, layer: Layer, position: Any) -> np.ndarray:
    """Return the data coordinates of a layer at a position of a viewer."""
    return to_data(layer, position, viewer.layers.units or ())


def data_to_view(viewer: Viewer, layer: Layer, index: Any) -> np.ndarray:
    """Return the position in a viewer of data coordinates of a layer."""
    world = np.asarray(layer.data_to_world(index), dtype=float)
    return world * unit_ratios(layer.units, viewer.layers.units or (), len(world))


def unit_ratios(units: Sequence[Any], others: Sequence[Any], axes: int) -> np.ndarray:
    """Return the length of `units` in `others`, of the last axes; 1 where they do not compare."""
    ratios = np.ones(axes)
    pairs = zip(reversed(units), reversed(others), strict=False)
    for axis, (unit, other) in enumerate(list(pairs)[:axes], start=1):
        if unit.dimensionality == other.dimensionality:
            ratios[-axis] = (1 * unit).to(other).magnitude
    return ratios


def index_in_view(viewer: Viewer, layer: Layer) -> tuple[int, ...]:
    """Return the index along the leading axes of a layer at which the sliders are."""
    shape = leading_shape(layer)
    if not shape:
        return ()
    index = np.rint(view_to_data(viewer, layer, viewer.dims.point)[: len(shape)]).astype(int)
    return tuple(np.clip(index, 0, np.subtract(shape, 1)).tolist())


def is_fitted(viewer: Viewer) -> bool:
    """Return whether the camera shows all layers about as large as they fit, as at first."""
    if not viewer.layers or viewer.dims.ndisplay == 3:
        return False
    height, width = np.ptp(viewer.layers.extent.world, axis=0)[-2:] + viewer.layers.extent.step[-2:]
    ratio = viewer.scene.camera.zoom / _fitting_zoom(viewer, height, width)
    return bool(FITTED_RATIOS[0] < ratio < FITTED_RATIOS[1])


def _fitting_zoom(viewer: Viewer, height: float, width: float) -> float:
    """Return the zoom at which a picture fits into the canvas."""
    canvas_height, canvas_width = viewer.canvas.size
    return FITTED_SHARE * min(canvas_height / height, canvas_width / width)


def move_view_to(viewer: Viewer, layer: Layer | None, *, fit: bool = False) -> None:
    """Move sliders into the middle of a layer where they are outside of it.

    In 2-D, also fit the camera to a layer, if it is much smaller or larger than what is visible
    or if `fit`.
    """
    if layer is None:
        return
    first = viewer.dims.ndim - layer.ndim
    extent = layer.extent.world * unit_ratios(layer.units, viewer.layers.units or (), layer.ndim)
    for axis, (low, high) in enumerate(extent.T, start=first):
        if axis in viewer.dims.not_displayed and not low <= viewer.dims.point[axis] <= high:
            viewer.dims.set_point(axis, (low + high) / 2)
    if viewer.dims.ndisplay == 3:
        return
    camera, (height, width) = viewer.scene.camera, np.ptp(extent, axis=0)[-2:]
    fitting_zoom = _fitting_zoom(viewer, height, width)
    if fit or not ZOOM_RATIOS[0] <= camera.zoom / fitting_zoom <= ZOOM_RATIOS[1]:
        camera.center, camera.zoom = (0.0, *extent.mean(axis=0)[-2:]), fitting_zoom


def placement(
    source: Layer,
    axes: int,  # of the data, which are the last ones of the stack
    window: Window | None = None,  # of the planes, if the data cover only that
    shape: tuple[int, ...] | None = None,  # of the data
) -> dict[str, Any]:
    """Return scale, translation etc. of data that lie on a stack."""
    last = slice(-axes, None)
    corner, extent = np.zeros(axes), np.ones(axes)
    if window is not None:
        corner[-2:] = window.top, window.left
    if shape is not None:  # an axis of length 1 extends over the stack: visible at each slider step
        lengths = zip(planes_of(source).shape[: source.ndim][last], shape, strict=True)
        extent = np.array([full if n == 1 else 1 for full, n in lengths], dtype=float)
        corner += (extent - 1) / 2
    rotate = source.rotate[last, last]
    return {
        "scale": source.scale[last] * extent,
        "translate": source.translate[last] + rotate @ (source.scale[last] * corner),
        "rotate": rotate,
        "affine": source.affine.set_slice(list(range(source.ndim))[last]),
        "units": source.units[last],
        "axis_labels": source.axis_labels[last],
    }


def pixel_at(viewer: Viewer, source: Layer, event: Any) -> tuple[int, int] | None:
    """Return row and column of `source` under the mouse, in 3-D on a surface; None outside."""
    position = _surface_point(viewer, event) if viewer.dims.ndisplay == 3 else event.position
    if position is None:
        return None
    row, column = np.rint(view_to_data(viewer, source, position)[-2:]).astype(int).tolist()
    height, width = plane_shape(source)
    return (row, column) if 0 <= row < height and 0 <= column < width else None


def _surface_point(viewer: Viewer, event: Any) -> np.ndarray | None:
    """Return the point in the world of a surface under the mouse, in 3-D; None if none is."""
    view = {"view_direction": event.view_direction, "dims_displayed": list(event.dims_displayed)}
    for layer in reversed(viewer.layers):
        if role_of(layer) == "surface" and layer.visible:
            hit = layer.get_value(event.position, **view, world=True)
            if hit is not None and hit[1] is not None:
                corners = layer.vertices[layer.faces[hit[1]]]
                return data_to_view(viewer, layer, corners.mean(axis=0))
    return None


def window_in_view(source: Layer, max_side: int) -> Window | None:
    """Return the window of the planes in view, of at most `max_side` pixels a side; or None."""
    first, last = np.asarray(source.corner_pixels)[:, -2:]
    return _centred_window(first, last + 1, plane_shape(source), max_side)


def window_in_rectangle(source: Layer, shapes: Layer | None, max_side: int) -> Window | None:
    """Return the window of the planes around the last shape that was drawn, likewise."""
    if shapes is None or not len(shapes.data):
        return None
    world = [shapes.data_to_world(corner) for corner in shapes.data[-1]]
    corners = np.array([to_data(source, point, shapes.units)[-2:] for point in world])
    first, last = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    return _centred_window(first, last, plane_shape(source), max_side)


def _centred_window(
    first: np.ndarray, last: np.ndarray, shape: tuple[int, int], max_side: int
) -> Window | None:
    """Return the window from `first` to `last` (exclusive), or the centre of a larger one."""
    low, high = np.maximum(first, 0).astype(int), np.minimum(last, shape).astype(int)
    low = np.where(high - low > max_side, (low + high - max_side) // 2, low)
    high = np.minimum(high, low + max_side)
    if (high <= low).any():
        return None
    return Window(*np.stack([low, high], axis=1).ravel().tolist()).expand(0, shape)
