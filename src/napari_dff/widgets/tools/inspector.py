"""Inspector: the focus curve of a clicked pixel, and the depth that follows from it."""

from collections.abc import Generator
from typing import Any

import numpy as np
from magicgui.widgets import CheckBox, PushButton
from matplotlib.axes import Axes
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.model.recipe import Recipe
from napari_dff.model.units import depth_unit_symbol
from napari_dff.pipeline.preview import FocusCurve, focus_curve
from napari_dff.widgets.app.canvas import COLOURS, Canvas
from napari_dff.widgets.app.controls import button_row
from napari_dff.widgets.app.geometry import index_in_view, pixel_at, placement, surface_point
from napari_dff.widgets.app.layers import (
    METADATA_KEY,
    RESULT_ROLES,
    input_stack_of,
    is_stack,
    plane_shape,
    plugin_metadata,
    result_values,
    role_of,
    settings_of,
)
from napari_dff.widgets.app.series import stack_in_view
from napari_dff.widgets.app.task_widget import TaskWidget

INSTRUCTION = "Click on a pixel to see its focus curve; Shift-click keeps it and adds another."
MAX_CURVES = 5
Pixel = tuple[int, int]  # row and column


class InspectorWidget(TaskWidget):
    """Shows the focus curve of the clicked pixel, its peaks, and the depth in the layers.

    Works on the stack and on every layer made from it. The viewer goes to the sharpest plane.
    """

    title = "Focus curve"

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._next_click: tuple[Image, Pixel, bool] | None = None  # while one is computed
        self._markers: Layer | None = None
        self._unit = ""
        # Depth and uncertainty of the newest pixel in the layers, by "estimate" and "refined".
        self._layer_depths: dict[str, tuple[float, float]] = {}
        self.curves: list[tuple[Pixel, FocusCurve]] = []
        self.go_to_plane = CheckBox(
            value=True, text="go to the sharpest plane", tooltip="Show that plane of the stack."
        )
        self.logarithmic = CheckBox(
            value=False, text="logarithmic", tooltip="Show focus on a logarithmic axis."
        )
        self.clear_button = PushButton(text="Clear", tooltip="Remove all curves.")
        self.show_status(INSTRUCTION)
        row = button_row(self.go_to_plane, self.logarithmic, self.clear_button)
        self.extend([self.status, row])
        self.plot = Canvas(viewer, height=260)
        self.native.layout().insertWidget(0, self.plot, 1)
        self.clear_button.changed.connect(self._on_clear)
        self.logarithmic.changed.connect(self._draw)
        viewer.mouse_drag_callbacks.append(self._on_mouse)
        self._draw()

    def inspect(self, source: Image, pixel: Pixel, add: bool = False) -> None:
        """Show the focus curve of a pixel of a stack; with `add`, beside the present ones."""
        if self.busy:
            self._next_click = source, pixel, add
            return
        try:
            stack, recipe = stack_in_view(self._viewer, source), self._recipe(source)
        except ValueError as error:
            self.show_status(str(error))
            return
        self.start_task(
            lambda _: focus_curve(stack, recipe, *pixel),
            lambda curve: self._show(source, pixel, curve, add),
            quiet=True,
        )

    def _on_mouse(self, viewer: Viewer, event: Any) -> Generator[None, None, None]:
        """Inspect the pixel under a click without drag, whichever layer is selected."""
        if event.button not in (None, 1):
            return
        add = "Shift" in [str(getattr(m, "name", m)) for m in event.modifiers]
        position = event.position
        yield
        while event.type == "mouse_move":
            if np.linalg.norm(np.subtract(event.position, position)) > 0:
                return
            yield
        active = viewer.layers.selection.active
        if active is not None and str(getattr(active, "mode", "pan_zoom")) not in (
            "pan_zoom",
            "Mode.PAN_ZOOM",
        ):
            self.show_status(
                f"{active.name!r} is in a drawing mode: choose pan and zoom, or another layer"
            )
            return
        source = self._source()
        if source is None:
            self.show_status("no stack: open a focal stack first")
            return
        point = surface_point(viewer, event) if viewer.dims.ndisplay == 3 else position
        pixel = None if point is None else pixel_at(source, point)
        if pixel is not None:
            self.inspect(source, pixel, add)

    def _source(self) -> Image | None:
        """Return the input stack of the selected layer, else of the topmost layer that has one."""
        active = self._viewer.layers.selection.active
        for layer in [active, *reversed(self._viewer.layers)]:
            if layer is not None and (role_of(layer) or is_stack(layer)):
                source = input_stack_of(self._viewer, layer)
                if source is not None and source.ndim >= 3:
                    return source
        return None

    def _recipe(self, source: Image) -> Recipe:
        """Return the settings of the selected or topmost result of a stack, else the defaults."""
        active = self._viewer.layers.selection.active
        for layer in [active, *reversed(self._results(source))]:
            if layer is not None and role_of(layer).endswith(RESULT_ROLES):
                return Recipe.from_dict(settings_of(layer))
        return Recipe.from_dict(settings_of(source))

    def _results(self, source: Image) -> list[Layer]:
        sources = {str(source.unique_id), plugin_metadata(source).get("source", "")}
        layers = self._viewer.layers
        return [each for each in layers if plugin_metadata(each).get("source") in sources]

    def _show(self, source: Image, pixel: Pixel, curve: FocusCurve, add: bool) -> None:
        previous = self.curves[-(MAX_CURVES - 1) :] if add else []
        self.curves = [*previous, (pixel, curve)]
        self._unit = depth_unit_symbol(str(source.units[-1]))
        self._layer_depths = self._depths_in_layers(source, pixel)
        self._mark_pixels(source)
        self._draw()
        self.show_status(self._describe(pixel, curve))
        if self.go_to_plane.value and source in self._viewer.layers:
            index = index_in_view(self._viewer, source)
            world = source.data_to_world((*index, curve.plane, *pixel))
            self._viewer.dims.set_point(self._viewer.dims.ndim - 3, world[-3])

    def _mark_pixels(self, source: Image) -> None:
        """Mark the pixels in the viewer, in the colours of their curves."""
        pixels = np.array([pixel for pixel, _ in self.curves], dtype=float).reshape(-1, 2)
        colours = [COLOURS[k % len(COLOURS)] for k in range(len(self.curves))]
        if self._markers is not None and self._markers in self._viewer.layers:
            self._markers.data = pixels
            self._markers.border_color = colours or "white"
            return
        active = self._viewer.layers.selection.active
        self._markers = self._viewer.add_points(
            pixels,
            name="inspected pixels",
            metadata={METADATA_KEY: {"role": "inspected"}},
            size=max(5, plane_shape(source)[0] // 60),
            face_color="transparent",
            border_color=colours,
            border_width=0.2,
            **placement(source, 2),
        )
        self._viewer.layers.selection.active = active

    def _depths_in_layers(self, source: Image, pixel: Pixel) -> dict[str, tuple[float, float]]:
        """Return depth and uncertainty (NaN if there is none) in the result layers."""
        results = {role_of(layer): layer for layer in self._results(source)}
        index = index_in_view(self._viewer, source)
        depths = {}
        for prefix, name in (("", "estimate"), ("refined ", "refined")):
            depth, uncertainty = (
                None if layer is None else float(result_values(layer, index)[pixel])
                for layer in map(results.get, (f"{prefix}depth", f"{prefix}uncertainty"))
            )
            if depth is not None:
                depths[name] = depth, np.nan if uncertainty is None else uncertainty
        return depths

    def _describe(self, pixel: Pixel, curve: FocusCurve) -> str:
        unit = self._unit
        if np.isfinite(curve.uncertainty):
            result = (
                f"sharpest in plane {curve.plane}, depth {curve.depth:.4g} ± "
                f"{curve.uncertainty:.2g} {unit} by its own curve"
            )
        else:
            ratio = float(curve.focus.max()) / curve.detection_threshold
            result = (
                f"never in focus: its highest peak, in plane {curve.plane}, is {ratio:.2f} times "
                "the detection threshold"
            )
        sentences = [f"Row {pixel[0]}, column {pixel[1]}: {result}."]
        if len(curve.others):
            sentences.append(f"Second peak at {curve.others[0]:.4g} {unit}.")
        for name, (depth, uncertainty) in self._layer_depths.items():
            error = f" ± {uncertainty:.2g}" if np.isfinite(uncertainty) else " (filled in)"
            sentences.append(f"{name.capitalize()}: {depth:.4g}{error} {unit}.")
        return " ".join(sentences)

    def _draw(self) -> None:
        self.plot.clear()
        axes = self.plot.axes[0]
        for k, ((row, column), curve) in enumerate(self.curves):
            label = f"({row}, {column})" if len(self.curves) > 1 else "focus"
            _draw_curve(axes, curve, COLOURS[k % len(COLOURS)], label)
        if self.curves:
            curve = self.curves[-1][1]
            depths = {"estimate": (curve.depth, curve.uncertainty), **self._layer_depths}
            _draw_details(axes, curve, COLOURS[(len(self.curves) - 1) % len(COLOURS)], depths)
            axes.set_xlabel(f"position ({self._unit})")
            axes.set_yscale("log" if self.logarithmic.value else "linear")
            axes.legend()
        axes.set_ylabel("focus")
        self.plot.follow_theme()

    def _on_clear(self) -> None:
        self.curves, self._layer_depths = [], {}
        self.show_status(INSTRUCTION)
        if self._markers is not None and self._markers in self._viewer.layers:
            self._viewer.layers.remove(self._markers)
        self._draw()

    def _task_finished(self) -> None:
        super()._task_finished()
        if self._next_click is not None:
            click, self._next_click = self._next_click, None
            self.inspect(*click)

    def _close(self) -> None:
        super()._close()
        if self._on_mouse in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_mouse)


def _draw_curve(axes: Axes, curve: FocusCurve, colour: str, label: str) -> None:
    """Draw a focus curve, its fitted peak, and the uncertainty of the peak's position."""
    axes.plot(curve.positions, curve.focus, "o-", color=colour, ms=3, lw=0.8, label=label)
    axes.plot(*curve.fit, color=colour, lw=2, alpha=0.6)
    if np.isfinite(curve.uncertainty):
        top = float(np.nanmax([*curve.fit[1], curve.focus.max()]))
        axes.errorbar(curve.depth, top, xerr=curve.uncertainty, color=colour, capsize=3, lw=1.5)
        limits = curve.depth - curve.uncertainty, curve.depth + curve.uncertainty
        axes.axvspan(*limits, color=colour, alpha=0.35, lw=0)


def _draw_details(
    axes: Axes, curve: FocusCurve, colour: str, depths: dict[str, tuple[float, float]]
) -> None:
    """Draw the threshold, the second peak, and lines at the depths (value and uncertainty)."""
    axes.axhline(curve.detection_threshold, color=colour, ls=":", lw=1, label="detection threshold")
    if len(curve.others):
        axes.axvline(curve.others[0], color=COLOURS[1], ls="-.", lw=1, label="second peak")
    for name, (depth, _) in depths.items():
        style = "--" if name == "estimate" else "-"
        axes.axvline(depth, color=COLOURS[4], ls=style, lw=1, label=name)
