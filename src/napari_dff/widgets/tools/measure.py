"""Measure: heights, profiles, roughness, steps and volumes, each with unit and uncertainty."""

from typing import Any

import numpy as np
from magicgui.widgets import ComboBox, FloatSpinBox, PushButton, SpinBox
from napari.layers import Points, Shapes
from napari.viewer import Viewer

from napari_dff.io.writers.figure import draw_profile
from napari_dff.io.writers.tables import write_profile, write_quantities
from napari_dff.model.units import depth_unit_symbol
from napari_dff.surface import LEVELLINGS, Quantity
from napari_dff.surface.levelling import DEGREE
from napari_dff.surface.profile import WIDTH
from napari_dff.widgets.app.canvas import COLOURS, Canvas
from napari_dff.widgets.app.controls import (
    button_row,
    labelled_column,
    read_only_table,
    wrapping_label,
)
from napari_dff.widgets.app.geometry import pixel_at, placement, surface_point
from napari_dff.widgets.app.layers import plane_shape, settings_of, source_of
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.app.task_widget import show_errors
from napari_dff.widgets.tools.heights import (
    NO_DEPTH,
    drawn_areas,
    drawn_lines,
    drawn_points,
    heights_of,
    related_values,
    values_in_view,
)
from napari_dff.widgets.tools.measurements import MEASUREMENTS, Measurement, MeasurementInput
from napari_dff.widgets.tools.tool import Tool

INSTRUCTIONS = {
    "roughness": "Of the drawn areas, or of everything if none is drawn; ISO 25178.",
    "profile": "Draw a line or a path; the last one is used.",
    "step height": "Draw two areas: how high the second lies over the first.",
    "volume": "Above and below the level, within the drawn areas or everywhere if none is drawn.",
}
DRAWING_MODES = {"profile": "add_line"}  # of the Shapes layer; else "add_rectangle"
COLUMNS = ("what", "value", "±", "unit", "meaning")
NO_HEIGHT = "–"


class MeasureWidget(Tool):
    """Shows the height under the cursor, and measures the areas and lines that are drawn."""

    title = "Measure"

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, "depth", "The depth layer to measure.")
        self.measurement: Measurement | None = None
        self._create_settings()
        self.draw = PushButton(text="Draw", tooltip="Draw on the chosen or on a new layer.")
        self.run = PushButton(text="Measure", tooltip="Measure what is drawn.")
        self.keep = PushButton(text="Keep levelled", tooltip="Add the levelled heights as a layer.")
        self.save = PushButton(text="Save CSV…", tooltip="Save the table, or the profile.")
        self.cursor = wrapping_label(NO_HEIGHT)
        self.table = read_only_table(COLUMNS)
        self.plot = Canvas(viewer, height=160)
        fields = labelled_column(
            self.input_layer,
            self.measure,
            self.shapes,
            self.levelling,
            self.degree,
            self.plane_points,
            self.profile_width,
            self.level,
        )
        buttons = button_row(self.draw, self.run, self.keep, self.save)
        self.extend([self.cursor, fields, buttons, self.status, self.table])
        self.native.layout().addWidget(self.plot)
        self.update_choices()
        self._show_relevant_settings()
        viewer.mouse_move_callbacks.append(self._on_mouse_move)
        self.measure.changed.connect(self._show_relevant_settings)
        self.levelling.changed.connect(self._show_relevant_settings)
        self.draw.changed.connect(self._on_draw)
        self.run.changed.connect(self._on_run)
        self.keep.changed.connect(self._on_keep)
        self.save.changed.connect(self._on_save)

    def _create_settings(self) -> None:
        self.measure = ComboBox(
            label="measure", choices=list(MEASUREMENTS), tooltip="\n".join(INSTRUCTIONS.values())
        )
        self.shapes = self.layer_combo_box(
            Shapes, "drawn on", "Shapes layer with the areas and lines."
        )
        self.levelling = ComboBox(
            label="levelling",
            choices=list(LEVELLINGS),
            value="plane",
            tooltip="The form that is subtracted first: a plane or a polynomial, fitted to the "
            "areas or to everything, or the plane through three points.",
        )
        self.degree = SpinBox(
            label="degree",
            value=2,
            min=int(DEGREE.low),
            max=int(DEGREE.high),
            tooltip="Degree of the polynomial.",
        )
        self.plane_points = self.layer_combo_box(
            Points, "points", "Points layer with the three points of the plane."
        )
        self.profile_width = SpinBox(
            label="width (px)",
            value=1,
            min=int(WIDTH.low),
            max=int(WIDTH.high),
            tooltip="Number of pixels averaged across the line.",
        )
        self.level = FloatSpinBox(
            label="level",
            value=0.0,
            min=-1e9,
            max=1e9,
            step=0.1,
            tooltip="Level in the unit of the levelled heights.",
        )

    def _show_relevant_settings(self) -> None:
        kind, levelling = self.measure.value, self.levelling.value
        is_levelled = kind != "step height"
        self.levelling.visible = is_levelled
        self.degree.visible = is_levelled and levelling == "polynomial"
        self.plane_points.visible = is_levelled and levelling == "three_points"
        self.profile_width.visible = kind == "profile"
        self.level.visible = kind == "volume"
        self.plot.setVisible(kind == "profile")
        self.show_status(INSTRUCTIONS[kind])

    def _on_mouse_move(self, viewer: Viewer, event: Any) -> None:
        """Show the height under the cursor."""
        layer = self.input_layer.value
        if layer is None or layer not in viewer.layers:
            return
        point = surface_point(viewer, event) if viewer.dims.ndisplay == 3 else event.position
        pixel = None if point is None else pixel_at(layer, point)
        if pixel is None:
            self.cursor.value = NO_HEIGHT
            return
        unit = depth_unit_symbol(str(layer.units[-1]))
        height = f"{float(values_in_view(viewer, layer)[pixel]):.4g}"
        uncertainties = related_values(viewer, layer, "uncertainty")
        if uncertainties is None:
            height += f" {unit}"
        elif np.isfinite(uncertainty := float(uncertainties[pixel])):
            height += f" ± {uncertainty:.2g} {unit}"
        else:
            height += f" {unit}, never in focus"
        self.cursor.value = f"Height at row {pixel[0]}, column {pixel[1]}: {height}"

    @show_errors
    def _on_draw(self) -> None:
        layer = self.input_layer.value
        if layer is None:
            raise ValueError(NO_DEPTH)
        if self.shapes.value is None:
            shapes = self._viewer.add_shapes(
                ndim=2,
                name="measured",
                edge_color="yellow",
                face_color="transparent",
                edge_width=max(1.0, plane_shape(layer)[0] / 250),
                **placement(layer, 2),
            )
            self.update_choices()
            self.shapes.value = shapes
        self._viewer.layers.selection.active = self.shapes.value
        self.shapes.value.mode = DRAWING_MODES.get(self.measure.value, "add_rectangle")

    @show_errors
    def _on_run(self) -> None:
        measure, inputs = MEASUREMENTS[self.measure.value], self._collect()
        self.start_task(lambda _: measure(inputs), self._show)

    def _collect(self) -> MeasurementInput:
        heights, kind = heights_of(self._viewer, self.input_layer.value), self.measure.value
        areas = drawn_areas(self.shapes.value, heights.layer)
        lines = drawn_lines(self.shapes.value, heights.layer)
        if kind == "profile" and not lines:
            raise ValueError("no line: press Draw and draw one over what you want to see")
        if kind == "step height" and len(areas) < 2:
            raise ValueError(f"step height needs two areas, got {len(areas)}: press Draw")
        levelling = {"levelling": self.levelling.value, "degree": self.degree.value}
        if self.levelling.value == "three_points" and kind != "step height":
            if self.plane_points.value is None:
                raise ValueError("no points: add a Points layer with three points and choose it")
            levelling["points"] = drawn_points(self.plane_points.value, heights.layer)
        settings = levelling, self.profile_width.value, self.level.value
        return MeasurementInput(heights, areas, lines, *settings)

    def _show(self, measurement: Measurement) -> None:
        heights = measurement.heights
        self.measurement, self.stack_in_words = measurement, heights.stack_in_words
        self.table.value = _table(measurement.quantities)
        self.table.native.resizeColumnsToContents()
        if measurement.profile is not None:
            self.plot.clear()
            draw_profile(self.plot.axes[0], measurement.profile, heights.unit, "height", COLOURS[0])
            self.plot.follow_theme()

    @show_errors
    def _on_keep(self) -> None:
        measurement = self.measurement
        if measurement is None or measurement.heights.layer not in self._viewer.layers:
            raise ValueError("nothing measured yet: press Measure first")
        layer = measurement.heights.layer
        source = source_of(self._viewer, layer) or layer
        low, high = np.nanpercentile(measurement.levelled, (0.5, 99.5))
        RunLayers(self._viewer, source, settings_of(layer), [layer]).show(
            "levelled depth",
            measurement.levelled,
            metadata={"place": measurement.heights.stack_index},
            colormap="viridis",
            contrast_limits=(float(low), float(max(high, low + 1e-6))),
        )

    @show_errors
    def _on_save(self) -> None:
        measurement = self.measurement
        if measurement is None:
            raise ValueError("nothing to save: press Measure first")
        words = f"{self.measure.value} {self.stack_in_words}".replace(",", "").split()
        path = self.ask_save_path("Save", "_".join(words) + ".csv", (".csv",))
        if path is None:
            return
        if measurement.profile is not None:
            write_profile(path, measurement.profile, measurement.heights.unit)
        else:
            write_quantities(path, measurement.quantities)
        self.show_status(f"saved as {path}")

    def _close(self) -> None:
        super()._close()
        if self._on_mouse_move in self._viewer.mouse_move_callbacks:
            self._viewer.mouse_move_callbacks.remove(self._on_mouse_move)


def _table(quantities: tuple[Quantity, ...]) -> dict[str, list[str]]:
    rows = [
        (
            q.name,
            f"{q.value:.4g}",
            "" if q.uncertainty is None else f"{q.uncertainty:.2g}",
            q.unit,
            q.meaning,
        )
        for q in quantities
    ]
    return {name: [row[k] for row in rows] for k, name in enumerate(COLUMNS)}
