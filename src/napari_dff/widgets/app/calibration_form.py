"""Form for the calibration of a stack: distance of its planes, size of a pixel, and unit."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from magicgui.widgets import LineEdit, Widget
from napari.layers import Image
from napari.viewer import Viewer

from napari_dff.model.units import depth_unit_symbol
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.controls import button_row, combo_box, wrapping_label
from napari_dff.widgets.app.file_calibration import calibrate_from_file
from napari_dff.widgets.app.geometry import data_to_view, move_view_to, view_to_data
from napari_dff.widgets.app.recalibration import Calibration, recalibrate_results
from napari_dff.widgets.app.view_units import reconcile_units

PIXEL = "pixel"
UNITS = ("nanometer", "micrometer", "millimeter", PIXEL)
NOT_CALIBRATED = (
    "⚠ Not calibrated: the file does not give the distance of its planes, or its reader left it "
    "out. Depth counts planes. Enter distance, pixel size and unit to get lengths."
)
DRAWN_AS = " Until then, a pixel is drawn as if it were one {} beside the other stacks."


class CalibrationForm:
    """Fields for scale and units of a stack layer, in which the calibration is kept."""

    def __init__(self, viewer: Viewer, show_status: Callable[[str], None]) -> None:
        self._viewer, self._show_status = viewer, show_status
        self._layer: Image | None = None
        planes = "Distance of neighbouring planes, along the optical axis."
        self.plane_distance = LineEdit(label="plane distance", tooltip=planes)
        tooltip = "Unit of the plane distance, the pixel size and the depth."
        self.unit = combo_box("unit", self._units, tooltip)
        size = "Side of a pixel in the specimen: that of the camera over the magnification."
        self.pixel_size = LineEdit(label="pixel size", tooltip=size)
        self.note = wrapping_label()
        row = button_row(self.plane_distance, self.unit)
        row.label = "plane distance"
        self.widgets: list[Widget] = [row, self.pixel_size]
        for field in (self.plane_distance, self.pixel_size):
            field.native.editingFinished.connect(self._apply)
        self.unit.changed.connect(self._apply)

    def show(self, layer: Image | None) -> None:
        """Show the calibration of a stack, and follow it."""
        self.close()
        self._layer = layer if layer is not None and layer.ndim >= 3 else None
        if self._layer is not None:
            if file := calibrate_from_file(self._layer):
                reconcile_units(self._viewer)
                move_view_to(self._viewer, self._layer, fit=True)
                self._show_status(f"plane distance, pixel size and unit are those of {file}")
            self._layer.events.scale.connect(self.refresh)
            self._layer.events.units.connect(self.refresh)
        self.refresh()

    def close(self) -> None:
        """Stop following the stack."""
        if self._layer is not None:
            self._layer.events.scale.disconnect(self.refresh)
            self._layer.events.units.disconnect(self.refresh)
        self._layer = None

    def refresh(self, _: object = None) -> None:
        """Show what the layer has."""
        layer = self._layer
        for widget in self.widgets:
            widget.visible = layer is not None
        note = ""
        if layer is not None:
            with self.unit.changed.blocked():
                self.unit.reset_choices()
                self.unit.value = layers.units_of(layer)[-3]
            self.plane_distance.value = f"{abs(layer.scale[-3]):.6g}"
            self.pixel_size.value = f"{abs(layer.scale[-1]):.6g}"
            gaps = np.diff(layers.positions_of(layer), axis=-1)
            if self.unit.value == PIXEL:
                unit = str(layer.units[-1]).removeprefix(layers.NOMINAL)
                note = NOT_CALIBRATED + ("" if unit == PIXEL else DRAWN_AS.format(_symbol(unit)))
            elif not np.allclose(gaps, gaps.flat[0]):
                note = "The planes are unevenly spaced, as in the file; the mean distance is shown."
        self.note.value, self.note.visible = note, bool(note)

    def _units(self, _: object) -> list[tuple[str, str]]:
        own = () if self._layer is None else set(layers.units_of(self._layer)[-3:])
        return [(_symbol(unit), unit) for unit in (*UNITS, *sorted(set(own) - set(UNITS)))]

    def _apply(self, _: object = None) -> None:
        """Set scale and units of the layer if they differ from the fields."""
        layer = self._layer
        if layer is None:
            return
        try:
            distance = _length("plane distance", self.plane_distance.value)
            size = _length("pixel size", self.pixel_size.value)
        except ValueError as error:
            self._show_status(str(error))
            self.refresh()
            return
        scale, units = list(layer.scale), list(layers.units_of(layer))
        if f"{distance:.6g}" != f"{abs(scale[-3]):.6g}":
            scale[-3] = math.copysign(distance, scale[-3])
        if f"{size:.6g}" != f"{abs(scale[-1]):.6g}":
            scale[-2:] = size, size
        units[-3:] = [self.unit.value] * 3
        if scale == list(layer.scale) and units == list(layers.units_of(layer)):
            return
        earlier = Calibration.of(layer)
        with self._same_plane(layer):
            layer.units, layer.scale = tuple(units), tuple(scale)
            recalibrate_results(self._viewer, layer, earlier)
            reconcile_units(self._viewer)
        move_view_to(self._viewer, layer, fit=True)
        self._viewer.canvas.overlays.scale_bar.visible = self.unit.value != PIXEL

    @contextlib.contextmanager
    def _same_plane(self, layer: Image) -> Iterator[None]:
        """Keep the plane in view while the distance of the planes changes."""
        dims = self._viewer.dims
        point: Any = view_to_data(self._viewer, layer, dims.point)
        yield
        world = data_to_view(self._viewer, layer, point[-layer.ndim :])
        dims.set_point(dims.ndim - 3, float(world[-3]))


def _length(name: str, text: str) -> float:
    """Return a positive number; ValueError for another text."""
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, got {text!r}")
    return value


def _symbol(unit: str) -> str:
    return "planes, pixels" if unit == PIXEL else depth_unit_symbol(unit)
