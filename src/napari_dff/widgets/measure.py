"""Measure it: heights, profiles, roughness, steps and volumes, each with unit and uncertainty."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from magicgui.widgets import ComboBox, FloatSpinBox, PushButton, SpinBox
from napari.layers import Points, Shapes
from napari.viewer import Viewer

from napari_dff.figure import draw_profile
from napari_dff.io.tables import write_profile, write_quantities
from napari_dff.progress import Progress
from napari_dff.surface import (
    LEVELLINGS,
    Profile,
    Quantity,
    SurfalizeMissing,
    further_parameters,
    level,
    profile,
    roughness,
    step_height,
    volume,
)
from napari_dff.surface.levelling import DEGREE
from napari_dff.surface.profile import WIDTH
from napari_dff.units import depth_unit_symbol, unit_symbol
from napari_dff.widgets.canvas import COLOURS, Canvas
from napari_dff.widgets.controls import button_row, labelled_column, read_only_table, wrapping_label
from napari_dff.widgets.geometry import placement, surface_point
from napari_dff.widgets.heights import (
    NO_DEPTH,
    Heights,
    beside,
    heights_of,
    lines,
    points,
    regions,
    shown_values,
)
from napari_dff.widgets.layers import plane_shape, settings_of, source_of
from napari_dff.widgets.runs import Run
from napari_dff.widgets.tool import Tool

NEEDS = {
    "roughness": "Areas count, everything if none is drawn; ISO 25178.",
    "profile": "Draw a line or a path; the last one counts.",
    "step height": "Draw two areas: how high the second lies over the first.",
    "volume": "Above and below the level, within the areas; everything if none is drawn.",
}
MODES = {"roughness": "add_rectangle", "profile": "add_line"}
COLUMNS = ("what", "value", "±", "unit", "meaning")


class Found(NamedTuple):
    """What was measured, and on which heights: quantities, a profile if it is one, the levelled."""

    heights: Heights
    quantities: tuple[Quantity, ...]
    profile: Profile | None
    levelled: np.ndarray


class MeasureWidget(Tool):
    """Heights under the cursor, and what is measured of the areas and lines that are drawn."""

    title = "Measure"

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, "depth", "The depth layer to measure.")
        self.found: Found | None = None
        self.measure = ComboBox(
            label="measure", choices=list(NEEDS), tooltip="\n".join(NEEDS.values())
        )
        self.levelling = ComboBox(
            label="levelling",
            choices=list(LEVELLINGS),
            value="plane",
            tooltip="What is taken out first, fitted to the areas or to everything: a plane, a "
            "polynomial, or the plane through three points.",
        )
        self.degree = SpinBox(
            label="degree",
            value=2,
            min=int(DEGREE.low),
            max=int(DEGREE.high),
            tooltip="Of the polynomial.",
        )
        self.drawn = self.layers_of(Shapes, "drawn on", "Shapes layer with the areas and lines.")
        self.corners = self.layers_of(
            Points, "points", "Points layer with the three points to level by."
        )
        self.across = SpinBox(
            label="width (px)",
            value=1,
            min=int(WIDTH.low),
            max=int(WIDTH.high),
            tooltip="Places averaged across the line.",
        )
        self.level = FloatSpinBox(
            label="level",
            value=0.0,
            min=-1e9,
            max=1e9,
            step=0.1,
            tooltip="Of the levelled heights, in their unit.",
        )
        self.draw = PushButton(text="Draw", tooltip="Begin a layer to draw on, or go on with it.")
        self.run = PushButton(text="Measure", tooltip="Measure what is drawn.")
        self.keep = PushButton(text="Keep levelled", tooltip="Add the levelled heights as a layer.")
        self.save = PushButton(text="Save CSV…", tooltip="Save the table, or the profile.")
        self.cursor = wrapping_label("–")
        self.table = read_only_table(COLUMNS)
        self.plot = Canvas(viewer, height=160)
        fields = labelled_column(
            self.chosen,
            self.measure,
            self.drawn,
            self.levelling,
            self.degree,
            self.corners,
            self.across,
            self.level,
        )
        buttons = button_row(self.draw, self.run, self.keep, self.save)
        self.extend([self.cursor, fields, buttons, self.status, self.table])
        self.native.layout().addWidget(self.plot)
        self._follow()
        self._adapt()
        viewer.mouse_move_callbacks.append(self._moved)
        self.measure.changed.connect(self._adapt)
        self.levelling.changed.connect(self._adapt)
        self.draw.changed.connect(self._on_draw)
        self.run.changed.connect(self._on_run)
        self.keep.changed.connect(self._on_keep)
        self.save.changed.connect(self._on_save)

    def _adapt(self) -> None:
        """Show only what matters now."""
        what, how = self.measure.value, self.levelling.value
        self.levelling.visible = what != "step height"
        self.degree.visible = how == "polynomial" and what != "step height"
        self.corners.visible = how == "three_points" and what != "step height"
        self.across.visible = what == "profile"
        self.level.visible = what == "volume"
        self.plot.setVisible(what == "profile")
        self.status.value = NEEDS[what]

    def _moved(self, _: Viewer, event: Any) -> None:
        """Say the height under the cursor."""
        layer = self.chosen.value
        if layer is None or layer not in self._viewer.layers:
            return
        three = self._viewer.dims.ndisplay == 3
        place = surface_point(self._viewer, event) if three else event.position
        if place is None:
            self.cursor.value = "–"
            return
        row, column = (int(np.rint(v)) for v in np.asarray(layer.world_to_data(place))[-2:])
        height, width = plane_shape(layer)
        if not (0 <= row < height and 0 <= column < width):
            self.cursor.value = "–"
            return
        unit, doubts = (
            depth_unit_symbol(str(layer.units[-1])),
            beside(self._viewer, layer, "uncertainty"),
        )
        value = f"{float(shown_values(self._viewer, layer)[row, column]):.4g}"
        if doubts is not None:
            doubt = float(doubts[row, column])
            value += f" ± {doubt:.2g} {unit}" if np.isfinite(doubt) else f" {unit}, never in focus"
        else:
            value += f" {unit}"
        self.cursor.value = f"Height at row {row}, column {column}: {value}"

    def _on_draw(self) -> None:
        layer = self.chosen.value
        if layer is None:
            self.fail(ValueError(NO_DEPTH))
            return
        if self.drawn.value is None:
            thick = max(1.0, plane_shape(layer)[0] / 250)
            look = {"edge_color": "yellow", "face_color": "transparent", "edge_width": thick}
            shapes = self._viewer.add_shapes(ndim=2, name="measured", **look, **placement(layer, 2))
            self._follow()
            self.drawn.value = shapes
        self._viewer.layers.selection.active = self.drawn.value
        self.drawn.value.mode = MODES.get(self.measure.value, "add_rectangle")

    def _on_run(self) -> None:
        try:
            compute = self._prepared()
        except ValueError as error:
            self.fail(error)
            return
        self.work(compute, self._show)

    def _prepared(self) -> Callable[[Progress], Found]:
        """What measures, with everything collected in the window's thread."""
        heights = heights_of(self._viewer, self.chosen.value)
        areas, drawn = (
            regions(self.drawn.value, heights.layer),
            lines(self.drawn.value, heights.layer),
        )
        what = self.measure.value
        if what == "profile" and not drawn:
            raise ValueError("no line: press Draw and draw one over what you want to see")
        if what == "step height" and len(areas) < 2:
            raise ValueError(f"step height needs two areas, got {len(areas)}: press Draw")
        where = np.any(areas, axis=0) if areas else None
        how = {"levelling": self.levelling.value, "degree": self.degree.value}
        if self.levelling.value == "three_points" and what != "step height":
            if self.corners.value is None:
                raise ValueError("no points: add a Points layer with three points and choose it")
            how["points"] = points(self.corners.value, heights.layer)
        settings = {"width": self.across.value, "level": self.level.value}
        measures: dict[str, Callable[..., Found]] = {
            "roughness": _roughness,
            "profile": partial(_profile, line=drawn[-1] if drawn else np.empty((0, 2))),
            "step height": partial(_step, areas=areas),
            "volume": _volume,
        }
        return lambda _: measures[what](heights, how, where, settings)

    def _show(self, found: Found) -> None:
        self.found, self.where = found, found.heights.where
        self.table.value = _rows(found.quantities)
        self.table.native.resizeColumnsToContents()
        if found.profile is not None:
            self.plot.clear()
            draw_profile(self.plot.axes[0], found.profile, found.heights.unit, "height", COLOURS[0])
            self.plot.follow_theme()

    def _on_keep(self) -> None:
        if self.found is None or self.found.heights.layer not in self._viewer.layers:
            self.fail(ValueError("nothing measured yet: press Measure first"))
            return
        layer = self.found.heights.layer
        source = source_of(self._viewer, layer) or layer
        run = Run(self._viewer, source, settings_of(layer), [layer])
        limits = np.nanpercentile(self.found.levelled, (0.5, 99.5))
        run.put(
            "levelled depth",
            self.found.levelled,
            remember={"place": self.found.heights.place},
            colormap="viridis",
            contrast_limits=(float(limits[0]), float(max(limits[1], limits[0] + 1e-6))),
        )

    def _on_save(self) -> None:
        if self.found is None:
            self.fail(ValueError("nothing to save: press Measure first"))
            return
        name = "_".join(f"{self.measure.value} {self.where}".replace(",", "").split()) + ".csv"
        path = self.path("Save", name, (".csv",))
        if path is None:
            return
        try:
            if self.found.profile is not None:
                write_profile(path, self.found.profile, self.found.heights.unit)
            else:
                write_quantities(path, self.found.quantities)
        except OSError as error:
            self.fail(error)
            return
        self.say(f"saved as {path}")

    def _close(self) -> None:
        super()._close()
        if self._moved in self._viewer.mouse_move_callbacks:
            self._viewer.mouse_move_callbacks.remove(self._moved)


def _levelled(heights: Heights, how: dict[str, Any], where: np.ndarray | None) -> np.ndarray:
    return level(heights.heights, where=where, **how).heights


def _roughness(
    heights: Heights, how: dict[str, Any], where: np.ndarray | None, settings: dict[str, Any]
) -> Found:
    flat = _levelled(heights, how, where)
    at = flat, heights.pixel_size, heights.unit
    found = roughness(*at, uncertainty=heights.uncertainty, where=where)
    with contextlib.suppress(SurfalizeMissing, ValueError):  # what needs it is extra
        found += further_parameters(*at, where=where)
    return Found(heights, found, None, flat)


def _profile(
    heights: Heights,
    how: dict[str, Any],
    where: np.ndarray | None,
    settings: dict[str, Any],
    *,
    line: np.ndarray,
) -> Found:
    flat = _levelled(heights, how, where)
    given = {"uncertainty": heights.uncertainty, "width": settings["width"]}
    found = profile(flat, line, heights.pixel_size, **given)
    unit = depth_unit_symbol(heights.unit)
    known = found.height[np.isfinite(found.height)]
    length = Quantity(
        "length", float(found.distance[-1]), unit_symbol(heights.unit), None, "of the line"
    )
    if not known.size:
        return Found(heights, (length,), found, flat)
    span = float(known.max() - known.min())
    mean = float(np.abs(known - known.mean()).mean())
    quantities = (
        length,
        Quantity("Pt", span, unit, None, "from the lowest to the highest of the profile"),
        Quantity("Pa", mean, unit, None, "arithmetic mean height of the profile"),
    )
    return Found(heights, quantities, found, flat)


def _step(
    heights: Heights,
    how: dict[str, Any],
    where: np.ndarray | None,
    settings: dict[str, Any],
    *,
    areas: list[np.ndarray],
) -> Found:
    size, unit = heights.pixel_size, heights.unit
    second = areas[1] & ~areas[0]
    found = step_height(
        heights.heights, areas[0], second, size, unit, uncertainty=heights.uncertainty
    )
    return Found(heights, found, None, heights.heights)


def _volume(
    heights: Heights, how: dict[str, Any], where: np.ndarray | None, settings: dict[str, Any]
) -> Found:
    flat = _levelled(heights, how, where)
    given = {"level": settings["level"], "uncertainty": heights.uncertainty, "where": where}
    found = volume(flat, heights.pixel_size, heights.unit, **given)
    return Found(heights, found, None, flat)


def _rows(quantities: tuple[Quantity, ...]) -> dict[str, list[str]]:
    doubts = ["" if q.uncertainty is None else f"{q.uncertainty:.2g}" for q in quantities]
    columns = (
        [q.name for q in quantities],
        [f"{q.value:.4g}" for q in quantities],
        doubts,
        [q.unit for q in quantities],
        [q.meaning for q in quantities],
    )
    return dict(zip(COLUMNS, columns, strict=True))
