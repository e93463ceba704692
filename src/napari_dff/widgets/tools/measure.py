"""Measure: heights, profiles, roughness, steps and volumes, each with unit and uncertainty."""

import contextlib
from typing import Any, get_args

import numpy as np
from magicgui.widgets import Select, Widget
from napari.layers import Layer, Points, Shapes
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from napari_dff.io.writers import figure
from napari_dff.io.writers.height_maps import ENCODERS, write_height_map
from napari_dff.io.writers.tables import write_profile, write_quantities
from napari_dff.model.checks import Range
from napari_dff.model.units import depth_unit_symbol
from napari_dff.surface import LEVELLINGS
from napari_dff.surface.filters import NESTING_INDEX, FilterType
from napari_dff.surface.levelling import DEGREE
from napari_dff.surface.profile import WIDTH
from napari_dff.surface.quantity import COLUMNS
from napari_dff.widgets.app import controls, geometry
from napari_dff.widgets.app.canvas import COLOURS, Canvas
from napari_dff.widgets.app.controls import combo_box, push_button
from napari_dff.widgets.app.layers import plane_shape, result_values, source_of, unit_of
from napari_dff.widgets.app.runs import RunLayers
from napari_dff.widgets.app.spin_boxes import spin_box
from napari_dff.widgets.app.task_widget import show_errors
from napari_dff.widgets.app.view_units import draw_in_view_units
from napari_dff.widgets.tools import tool
from napari_dff.widgets.tools.measurements import (
    FILTER_TOOLTIP,
    FILTERS,
    INSTRUCTIONS,
    LEVELLING_TOOLTIP,
    MEASUREMENTS,
    OTHERS_TOOLTIP,
    SAVE_TOOLTIP,
    Measurement,
    MeasurementInput,
    table,
)
from napari_dff.widgets.tools.tool import Tool

DRAWING_MODES = {"profile": "add_line"}  # of the Shapes layer; else "add_rectangle"
LIVE_DELAY_MS = 20  # from a move of a line to its profile
NO_HEIGHT = "Move the mouse over the depth to read its height."
LEVEL = Range(-1e9, 1e9, 0.1)


class MeasureWidget(Tool):
    """Shows the height under the cursor, and measures the areas and lines that are drawn."""

    title = "Measure"
    lasting_fields = (
        *("measure", "shapes", "levelling", "degree", "s_filter", "l_filter", "filter_type"),
        *("profile_width", "level"),
    )

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, "depth", "The depth layer to measure.")
        self.measurement: Measurement | None = None
        self._drawn: Shapes | None = None  # the layer whose changes are followed
        self._timer = QTimer(singleShot=True, interval=LIVE_DELAY_MS)  # type: ignore[call-arg]
        self._timer.timeout.connect(self._measure_live)
        settings = controls.labelled_column(self.input_layer, *self._create_settings())
        self.draw = push_button("Draw", "Draw on the chosen or on a new layer.", self._on_draw)
        self.run = push_button("Measure", "Measure what is drawn.", self._on_run)
        self.keep = push_button(
            "Keep levelled", "Add the levelled heights as a layer.", self._on_keep
        )
        self.save = push_button("Save…", SAVE_TOOLTIP, self._on_save)
        buttons = controls.button_row(self.draw, self.run, self.keep, self.save)
        self.cursor = controls.wrapping_label(NO_HEIGHT)
        self.table = controls.read_only_table(COLUMNS)
        self.table.native.resizeColumnsToContents()
        self.plot = Canvas(viewer, height=160)
        self.extend([self.cursor, settings, buttons, self.status, self.table])
        self.add_plot(self.plot)
        self.update_choices()
        self._show_relevant_settings()
        viewer.mouse_move_callbacks.append(self._on_mouse_move)
        self.measure.changed.connect(self._show_relevant_settings)
        self.levelling.changed.connect(self._show_relevant_settings)
        self.input_layer.changed.connect(lambda: self.others.reset_choices())
        self.shapes.changed.connect(self._follow)

    def _create_settings(self) -> list[Widget]:
        tooltip = "\n".join(INSTRUCTIONS.values())
        self.measure = combo_box("measure", list(MEASUREMENTS), tooltip)
        self.shapes = self.layer_box(Shapes, "drawn on", "Shapes layer with the areas and lines.")
        self.reference = combo_box(
            "reference", self.input_choices, "Depth layer that is subtracted.", nullable=True
        )
        self.others = Select(label="repeats", choices=self._other_depths, tooltip=OTHERS_TOOLTIP)
        self.levelling = combo_box("levelling", list(LEVELLINGS), LEVELLING_TOOLTIP, value="none")
        self.degree = spin_box("degree", 2, DEGREE, "Degree of the polynomial.")
        self.plane_points = self.layer_box(
            Points, "points", "Points layer with the three points of the plane."
        )
        self.profile_width = spin_box(
            "width (px)", 1, WIDTH, "Number of pixels averaged across the line."
        )
        self.level = spin_box("level", 0.0, LEVEL, "Level in the unit of the levelled heights.")
        self.s_filter, self.l_filter = (
            spin_box(label, 0.0, NESTING_INDEX, tooltip) for label, tooltip in FILTERS
        )
        for box in (self.s_filter, self.l_filter):
            box.native.setSpecialValueText("none")
            box.native.setDecimals(4)  # millimeters
        self.filter_type = combo_box("filters", list(get_args(FilterType)), FILTER_TOOLTIP)
        fields = self.measure, self.shapes, self.reference, self.others, self.s_filter
        form = self.levelling, self.degree, self.plane_points, self.l_filter, self.filter_type
        return [*fields, *form, self.profile_width, self.level]

    def _other_depths(self, _: Any = None) -> list[Layer]:
        """Return the depth layers besides the chosen one."""
        return [each for each in self.input_choices() if each is not self.input_layer.value]

    def _show_relevant_settings(self) -> None:
        kind, levelling = self.measure.value, self.levelling.value
        is_levelled = kind not in ("step height", "difference", "repeats")
        self.reference.visible, self.others.visible = kind == "difference", kind == "repeats"
        self.levelling.visible = is_levelled
        self.degree.visible = is_levelled and levelling == "polynomial"
        self.plane_points.visible = is_levelled and levelling == "three_points"
        self.l_filter.visible = kind in ("roughness", "profile")
        self.s_filter.visible = kind in ("roughness", "profile", "repeats")
        self.filter_type.visible = self.l_filter.visible
        self.profile_width.visible = kind == "profile"
        self.level.visible = kind == "volume"
        self.plot.setVisible(kind in ("profile", "difference"))
        self.show_status(INSTRUCTIONS[kind])

    def _on_mouse_move(self, viewer: Viewer, event: Any) -> None:
        layer = self.input_layer.value
        if layer not in viewer.layers:
            return
        pixel = geometry.pixel_at(viewer, layer, event)
        if pixel is None:
            self.cursor.value = NO_HEIGHT
            return
        uncertainties = tool.related_values(viewer, layer, "uncertainty")
        unit = depth_unit_symbol(unit_of(layer))
        values = result_values(layer, geometry.index_in_view(viewer, layer))
        height = f"{float(values[pixel]):.4g}"
        if uncertainties is None:
            height += f" {unit}"
        elif np.isfinite(uncertainty := float(uncertainties[pixel])):
            height += f" ± {uncertainty:.2g} {unit}"
        else:
            height += f" {unit}, never in focus"
        self.cursor.value = f"Height at row {pixel[0]}, column {pixel[1]}: {height}"

    @show_errors
    def _on_draw(self) -> None:
        layer = self.depth_layer()
        if self.shapes.value is None:
            self.shapes.value = self._viewer.add_shapes(
                ndim=2,
                name="measured",
                edge_color="yellow",
                face_color="transparent",
                edge_width=max(1.0, plane_shape(layer)[0] / 250),
                **geometry.placement(layer, 2),
            )
        draw_in_view_units(self._viewer, self.shapes.value)
        self._viewer.layers.selection.active = self.shapes.value
        self.shapes.value.mode = DRAWING_MODES.get(self.measure.value, "add_rectangle")

    @show_errors
    def _on_run(self) -> None:
        measure, inputs = MEASUREMENTS[self.measure.value], self._collect()
        self.start_task(lambda _: measure(inputs), self._show)

    def _follow(self, drawn: Shapes | None) -> None:
        """Number the areas of the chosen layer, and measure its profile, whenever they change."""
        if self._drawn is not None:
            self._drawn.events.data.disconnect(self._number)
            self._drawn.events.set_data.disconnect(self._on_drawing)
        self._drawn = drawn
        if drawn is not None:
            drawn.events.data.connect(self._number)
            drawn.events.set_data.connect(self._on_drawing)
            self._number()

    def _number(self, _: Any = None) -> None:
        if self._drawn is not None:
            tool.number_areas(self._drawn)

    def _on_drawing(self, _: Any) -> None:
        if self.measure.value == "profile":
            self._timer.start()

    def _measure_live(self) -> None:
        """Measure the profile while its line moves; silently without a line."""
        if self.busy:
            self._timer.start()
            return
        try:
            inputs = self._collect()
        except ValueError:
            return
        measure = MEASUREMENTS["profile"]
        self.start_task(lambda _: measure(inputs), self._show, quiet=True)

    def _collect(self) -> MeasurementInput:
        heights, kind = self.heights(), self.measure.value
        areas = tool.drawn_areas(self.shapes.value, heights.layer)
        lines = tool.drawn_lines(self.shapes.value, heights.layer)
        if kind == "profile" and not lines:
            raise ValueError("no line: press Draw and draw one over what you want to see")
        if kind == "step height" and len(areas) < 2:
            raise ValueError(f"step height needs two areas, got {len(areas)}: press Draw")
        levelling = {"levelling": self.levelling.value, "degree": self.degree.value}
        if self.levelling.value == "three_points" and kind != "step height":
            points = self.plane_points.value
            if points is None:
                raise ValueError("no points: add a Points layer with three points and choose it")
            levelling["points"] = tool.to_pixels(points.data, points, heights.layer)
        filters = {"s_filter": self.s_filter.value or None, "l_filter": self.l_filter.value or None}
        filters["filter_type"] = self.filter_type.value
        reference = None
        if kind == "difference":
            if self.reference.value is None:
                raise ValueError("no reference: choose the depth layer that is subtracted")
            reference = tool.heights_of(self._viewer, self.reference.value)
        repeats = []
        if kind == "repeats":
            chosen = [heights.layer, *self.others.value]
            repeats = [x for each in chosen for x in tool.all_heights(self._viewer, each)]
        settings = (
            levelling,
            self.profile_width.value,
            self.level.value,
            filters,
            reference,
            repeats,
        )
        return MeasurementInput(heights, areas, lines, *settings)

    def _show(self, measurement: Measurement) -> None:
        self.measurement = measurement
        self.table.value = table(measurement.quantities)
        self.table.native.resizeColumnsToContents()
        unit, axes = measurement.heights.unit, self.plot.axes[0]
        self.plot.clear()
        if measurement.profile is not None:
            figure.draw_profile(axes, measurement.profile, unit, "height", COLOURS[0])
            axes.set_title(f"levelling: {measurement.levelling}", loc="left")
        elif measurement.kind == "difference":
            figure.draw_histogram(axes, measurement.levelled, unit, "difference", COLOURS[0])
        self.plot.follow_theme()

    @show_errors
    def _on_keep(self) -> None:
        measurement = self.measurement
        if measurement is None or measurement.heights.layer not in self._viewer.layers:
            raise ValueError("nothing measured yet: press Measure first")
        layer = measurement.heights.layer
        source = source_of(self._viewer, layer) or layer
        low, high = np.nanpercentile(measurement.levelled, (0.5, 99.5))
        RunLayers(self._viewer, source, {}, [layer]).show(
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
        words = f"{self.measure.value} {measurement.heights.stack_in_words}".replace(",", "")
        pictures = figure.FIGURE_SUFFIXES if measurement.kind == "difference" else ()
        suffixes = ".csv", *ENCODERS, *pictures
        path = self.ask_save_path("Save", "_".join(words.split()) + ".csv", suffixes)
        if path is None:
            return
        unit, size = measurement.heights.unit, measurement.heights.pixel_size
        if path.suffix.lower() in ENCODERS:
            write_height_map(path, measurement.levelled, size, unit)
        elif path.suffix.lower() in pictures:
            figure.write_figure(path, figure.difference_figure(measurement.levelled, size, unit))
        elif measurement.profile is not None:
            write_profile(path, measurement.profile, unit, levelling=measurement.levelling)
        else:
            write_quantities(path, measurement.quantities, levelling=measurement.levelling)
        self.show_status(f"saved as {path}")

    def _close(self) -> None:
        super()._close()
        with contextlib.suppress(RuntimeError):  # napari itself closes and Qt has deleted it
            self._timer.stop()
        self._follow(None)
        if self._on_mouse_move in self._viewer.mouse_move_callbacks:
            self._viewer.mouse_move_callbacks.remove(self._on_mouse_move)
