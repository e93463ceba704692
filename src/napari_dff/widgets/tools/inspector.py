"""Inspector: the focus curve of a clicked pixel, and the depth that follows from it."""

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from magicgui.widgets import CheckBox
from matplotlib.axes import Axes
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.model.recipe import Recipe
from napari_dff.model.units import depth_unit_symbol
from napari_dff.pipeline.preview import FocusCurve, focus_curve
from napari_dff.registration import LazyAlignedStack
from napari_dff.widgets.app import layers
from napari_dff.widgets.app.axes import stack_in_view
from napari_dff.widgets.app.canvas import COLOURS, Canvas
from napari_dff.widgets.app.chosen_scale import ChosenScale
from napari_dff.widgets.app.controls import button_row, push_button
from napari_dff.widgets.app.geometry import data_to_view, index_in_view, pixel_at, placement
from napari_dff.widgets.app.layers import exact_settings_of, plugin_metadata, role_of
from napari_dff.widgets.app.task_widget import TaskWidget
from napari_dff.widgets.app.versions import version

INSTRUCTION = "Click on a pixel to see its focus curve; Shift-click keeps it and adds another."
MAX_CURVES = 5  # not more than COLOURS
Pixel = tuple[int, int]  # row and column


class InspectorWidget(TaskWidget):
    """Shows the focus curve of a pixel that is clicked in a stack or in a layer made from it."""

    title = "Focus curve"
    lasting_fields = ("go_to_plane", "logarithmic")

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._scale = ChosenScale()
        self._next_click: tuple[Image, Pixel, bool] | None = None  # while one is computed
        self._markers: Layer | None = None
        self._unit = ""
        # Depth and uncertainty of the newest pixel in the layers, by "estimate" and "refined".
        self._layer_depths: dict[str, tuple[float, float]] = {}
        self.curves: list[tuple[Pixel, FocusCurve]] = []
        self.go_to_plane = CheckBox(
            value=True, text="go to the sharpest plane", tooltip="Show that plane of the stack."
        )
        tooltip = "Show focus on a logarithmic axis."
        self.logarithmic = CheckBox(value=False, text="logarithmic", tooltip=tooltip)
        self.clear_button = push_button("Clear", "Remove all curves.", self._on_clear)
        buttons = button_row(self.go_to_plane, self.logarithmic, self.clear_button)
        self.extend([self.status, buttons])
        self.plot = Canvas(viewer, height=260)
        self.add_plot(self.plot)
        self.logarithmic.changed.connect(self._draw)
        viewer.mouse_drag_callbacks.append(self._on_mouse)
        self._on_clear()

    def inspect(self, source: Image, pixel: Pixel, add: bool = False) -> None:
        """Show the focus curve of a pixel of a stack; with `add`, beside the present ones."""
        if self.busy:
            self._next_click = source, pixel, add
            return
        try:
            stack, recipe = stack_in_view(self._viewer, source), self._recipe(source)
            index = index_in_view(self._viewer, source)
            content = version(source), index
            transforms = layers.transforms_of_aligned(source, index)
        except ValueError as error:
            self.show_status(str(error))
            return
        settings: dict[str, Any] = {}
        if transforms is not None:
            settings["plane_mask"] = LazyAlignedStack(stack.planes, transforms).plane_mask
        self.start_task(
            lambda _: focus_curve(
                stack, self._scale.exact_recipe(recipe, stack, content), *pixel, **settings
            ),
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
            if event.position != position:
                return
            yield
        active = viewer.layers.selection.active
        if active is not None and active.mode != "pan_zoom":
            self.show_status(
                f"{active.name!r} is in a drawing mode: choose pan and zoom, or another layer"
            )
            return
        source = self._source()
        if source is None:
            self.show_status("no stack: open a focal stack first")
        elif pixel := pixel_at(viewer, source, event):
            self.inspect(source, pixel, add)

    def _source(self) -> Image | None:
        """Return the input stack of the selected layer, else of the topmost layer that has one."""
        candidates = self._selected_first(self._viewer.layers)
        sources = (layers.input_stack_of(self._viewer, layer) for layer in candidates)
        return next((source for source in sources if source is not None and source.ndim >= 3), None)

    def _recipe(self, source: Image) -> Recipe:
        """Return the settings of the selected or topmost result of a stack, else the defaults."""
        candidates = self._selected_first(self._results(source))
        results = (each for each in candidates if role_of(each).endswith(layers.RESULT_ROLES))
        return Recipe.from_dict(exact_settings_of(next(results, source)))

    def _selected_first(self, choices: Sequence[Layer]) -> list[Layer]:
        """Return the selected layer, if any, and then the others from the topmost down."""
        ordered = self._viewer.layers.selection.active, *reversed(choices)
        return [layer for layer in ordered if layer is not None]

    def _results(self, source: Image) -> list[Layer]:
        source_ids = str(source.unique_id), plugin_metadata(source).get("source", "")
        return layers.results_of(self._viewer, *source_ids)

    def _show(self, source: Image, pixel: Pixel, curve: FocusCurve, add: bool) -> None:
        self.curves = [*(self.curves if add else []), (pixel, curve)][-MAX_CURVES:]
        self._unit = depth_unit_symbol(layers.unit_of(source))
        self._layer_depths = self._depths_in_layers(source, pixel)
        self._mark_pixels(source)
        self._draw()
        self.show_status(self._describe(pixel, curve))
        if self.go_to_plane.value and source in self._viewer.layers:
            index = index_in_view(self._viewer, source)
            world = data_to_view(self._viewer, source, (*index, curve.plane, *pixel))
            self._viewer.dims.set_point(self._viewer.dims.ndim - 3, world[-3])

    def _mark_pixels(self, source: Image) -> None:
        pixels = np.array([pixel for pixel, _ in self.curves], dtype=float)
        colours = list(COLOURS[: len(pixels)])
        if self._markers is not None and self._markers in self._viewer.layers:
            self._markers.data, self._markers.border_color = pixels, colours
            return
        active = self._viewer.layers.selection.active
        self._markers = self._viewer.add_points(
            pixels,
            name="inspected pixels",
            metadata={layers.METADATA_KEY: {"role": "inspected"}},
            size=max(5, layers.plane_shape(source)[0] // 60),
            face_color="transparent",
            border_color=colours,
            border_width=0.2,
            **placement(source, 2),
        )
        self._viewer.layers.selection.active = active

    def _depths_in_layers(self, source: Image, pixel: Pixel) -> dict[str, tuple[float, float]]:
        """Return depth and uncertainty (NaN if there is none) in the result layers."""
        index = index_in_view(self._viewer, source)
        values = {
            role_of(layer): float(layers.result_values(layer, index)[pixel])
            for layer in self._results(source)
            if role_of(layer).endswith(("depth", "uncertainty"))
        }
        return {
            name: (values[f"{prefix}depth"], values.get(f"{prefix}uncertainty", np.nan))
            for prefix, name in (("", "estimate"), ("refined ", "refined"))
            if f"{prefix}depth" in values
        }

    def _describe(self, pixel: Pixel, curve: FocusCurve) -> str:
        unit = self._unit
        if np.isfinite(curve.uncertainty):
            value = f"{curve.depth:.4g} ± {curve.uncertainty:.2g} {unit}"
            result = f"sharpest in plane {curve.plane}, depth {value} by its own curve"
        else:
            ratio = curve.focus.max() / curve.detection_threshold
            value = f"{ratio:.2f} times the detection threshold"
            result = f"never in focus: its highest peak, in plane {curve.plane}, is {value}"
        sentences = [f"Row {pixel[0]}, column {pixel[1]}: {result}."]
        if len(curve.others):
            sentences.append(f"Second peak at {curve.others[0]:.4g} {unit}.")
        for name, (depth, uncertainty) in self._layer_depths.items():
            error = f" ± {uncertainty:.2g}" if np.isfinite(uncertainty) else " (filled in)"
            sentences.append(f"{name.capitalize()}: {depth:.4g}{error} {unit}.")
        return " ".join(sentences)

    def _draw(self) -> None:
        self.plot.clear()
        (axes,) = self.plot.axes
        for colour, ((row, column), curve) in zip(COLOURS, self.curves, strict=False):
            label = f"({row}, {column})" if len(self.curves) > 1 else "focus"
            _draw_curve(axes, curve, colour, label)
        if self.curves:
            depths = {name: depth for name, (depth, _) in self._layer_depths.items()}
            depths = {"estimate": curve.depth, **depths}
            _draw_details(axes, curve, colour, depths)  # of the newest
            axes.set_xlabel(f"position ({self._unit})")
            axes.set_yscale("log" if self.logarithmic.value else "linear")
            self.plot.add_legend(axes, columns=3)
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
    axes.plot(curve.positions, curve.focus, "o-", color=colour, ms=3, lw=0.8, label=label)
    axes.plot(*curve.fit, color=colour, lw=2, alpha=0.6)
    if np.isfinite(curve.uncertainty):
        top = float(np.nanmax([*curve.fit[1], curve.focus.max()]))
        axes.errorbar(curve.depth, top, xerr=curve.uncertainty, color=colour, capsize=3, lw=1.5)
        limits = curve.depth - curve.uncertainty, curve.depth + curve.uncertainty
        axes.axvspan(*limits, color=colour, alpha=0.35, lw=0)


def _draw_details(axes: Axes, curve: FocusCurve, colour: str, depths: dict[str, float]) -> None:
    axes.axhline(curve.detection_threshold, color=colour, ls=":", lw=1, label="detection threshold")
    if len(curve.others):
        axes.axvline(curve.others[0], color=COLOURS[1], ls="-.", lw=1, label="second peak")
    for name, depth in depths.items():
        style = "--" if name == "estimate" else "-"
        axes.axvline(depth, color=COLOURS[4], ls=style, lw=1, label=name)
