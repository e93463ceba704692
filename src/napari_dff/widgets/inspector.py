"""Why this plane? The focus curve of a pixel that is clicked on."""

from collections.abc import Generator
from typing import Any

import numpy as np
from magicgui.widgets import CheckBox, Container, PushButton, Widget
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.region import FocusCurve, focus_curve
from napari_dff.units import depth_unit_symbol
from napari_dff.widgets.canvas import COLOURS, Canvas
from napari_dff.widgets.controls import button_row, call_when_closed, wrapping_label
from napari_dff.widgets.geometry import index_in_view, pixel_at, placement, surface_point
from napari_dff.widgets.layers import (
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
from napari_dff.widgets.series import stack_in_view
from napari_dff.widgets.worker import Job

HINT = "Click on a pixel to see its focus curve; Shift-click keeps it and adds another."
KEPT = 5  # curves at most


class InspectorWidget(Container[Widget]):
    """The focus curve of the pixel that was clicked on, its peaks, and what became of it.

    Works on the stack and on every layer made from it; the viewer goes to the sharpest plane.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._job: Job | None = None
        self._next: tuple[Image, tuple[int, int], bool] | None = None
        self._marks: Layer | None = None
        self._final: dict[str, tuple[float, float]] = {}
        self.curves: list[tuple[tuple[int, int], FocusCurve]] = []
        self.told = wrapping_label(HINT)
        self.step = CheckBox(
            value=True, text="go to the sharpest plane", tooltip="Show that plane of the stack."
        )
        self.logarithmic = CheckBox(
            value=False, text="logarithmic", tooltip="Show focus on a logarithmic axis."
        )
        self.forget = PushButton(text="Clear", tooltip="Forget all curves.")
        row = button_row(self.step, self.logarithmic, self.forget)
        super().__init__(widgets=[self.told, row], labels=False)
        self.plot = Canvas(viewer, height=260)
        self.native.layout().insertWidget(0, self.plot, 1)
        self.forget.changed.connect(self._forget)
        self.logarithmic.changed.connect(self._draw)
        viewer.mouse_drag_callbacks.append(self._clicked)
        call_when_closed(self, self._close)
        self._draw()

    def inspect(self, source: Image, pixel: tuple[int, int], add: bool = False) -> None:
        """Show the focus curve of a pixel of a stack; `add` keeps those shown already."""
        if self._job is not None:  # the newest click counts
            self._next = source, pixel, add
            return
        try:
            stack, recipe = stack_in_view(self._viewer, source), self._recipe(source)
        except ValueError as error:
            self.told.value = str(error)
            return

        def compute(progress: Progress) -> FocusCurve:
            return focus_curve(stack, recipe, *pixel)

        def done(curve: FocusCurve) -> None:
            self._show(source, pixel, curve, add)

        def said(sentence: str) -> None:
            self.told.value = sentence

        self._job = Job("Focus curve", compute, done, said, self._ended, bar=False)
        self._job.start()

    def _clicked(self, viewer: Viewer, event: Any) -> Generator[None, None, None]:
        """A click that is no drag, whatever layer is active."""
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
            self.told.value = f"{active.name!r} is being drawn on: choose its pan mode, or another"
            return
        source = self._source()
        if source is None:
            self.told.value = "no stack: open a focal stack first"
            return
        place = surface_point(viewer, event) if viewer.dims.ndisplay == 3 else position
        pixel = None if place is None else pixel_at(source, place)
        if pixel is not None:
            self.inspect(source, pixel, add)

    def _source(self) -> Image | None:
        """The stack that the active layer, or else the topmost of ours, was made from."""
        active = self._viewer.layers.selection.active
        for layer in [active, *reversed(self._viewer.layers)]:
            if layer is not None and (role_of(layer) or is_stack(layer)):
                source = input_stack_of(self._viewer, layer)
                if source is not None and source.ndim >= 3:
                    return source
        return None

    def _recipe(self, source: Image) -> Recipe:
        """The settings that the results on this stack were made with; else the defaults."""
        active = self._viewer.layers.selection.active
        for layer in [active, *reversed(self._results(source))]:
            if layer is not None and role_of(layer).endswith(RESULT_ROLES):
                return Recipe.from_dict(settings_of(layer))
        return Recipe.from_dict(settings_of(source))

    def _results(self, source: Image) -> list[Layer]:
        made_from = {str(source.unique_id), plugin_metadata(source).get("source", "")}
        return [
            layer
            for layer in self._viewer.layers
            if plugin_metadata(layer).get("source") in made_from
        ]

    def _show(self, source: Image, pixel: tuple[int, int], curve: FocusCurve, add: bool) -> None:
        kept = self.curves[-(KEPT - 1) :] if add else []
        self.curves = [*kept, (pixel, curve)]
        self._unit = depth_unit_symbol(str(source.units[-1]))
        self._final = self._became(source, pixel)
        self._mark(source)
        self._draw()
        self._tell(pixel, curve)
        if self.step.value and source in self._viewer.layers:
            place = index_in_view(self._viewer, source)
            world = source.data_to_world((*place, curve.plane, *pixel))
            self._viewer.dims.set_point(self._viewer.dims.ndim - 3, world[-3])

    def _mark(self, source: Image) -> None:
        """Show on the canvas which pixels these are, in the colours of their curves."""
        places = np.array([pixel for pixel, _ in self.curves], dtype=float).reshape(-1, 2)
        colours = [COLOURS[k % len(COLOURS)] for k in range(len(self.curves))]
        if self._marks is not None and self._marks in self._viewer.layers:
            self._marks.data = places
            self._marks.border_color = colours or "white"
            return
        active = self._viewer.layers.selection.active
        self._marks = self._viewer.add_points(
            places,
            name="inspected pixels",
            metadata={METADATA_KEY: {"role": "inspected"}},
            size=max(5, plane_shape(source)[0] // 60),
            face_color="transparent",
            border_color=colours,
            border_width=0.2,
            **placement(source, 2),
        )
        self._viewer.layers.selection.active = active

    def _became(self, source: Image, pixel: tuple[int, int]) -> dict[str, tuple[float, float]]:
        """Depth and uncertainty of the pixel in the layers there are."""
        results = {role_of(layer): layer for layer in self._results(source)}
        place = index_in_view(self._viewer, source)
        found = {}
        for prefix, name in (("", "estimate"), ("refined ", "refined")):
            depth, doubt = (results.get(f"{prefix}{role}") for role in ("depth", "uncertainty"))
            if depth is not None:
                known = np.nan if doubt is None else float(result_values(doubt, place)[pixel])
                found[name] = float(result_values(depth, place)[pixel]), known
        return found

    def _tell(self, pixel: tuple[int, int], curve: FocusCurve) -> None:
        unit = self._unit
        row, column = pixel
        if np.isfinite(curve.uncertainty):
            sharp = (
                f"sharpest in plane {curve.plane}, depth {curve.depth:.4g} ± "
                f"{curve.uncertainty:.2g} {unit} by its own curve"
            )
        else:
            share = float(curve.focus.max()) / curve.detection_threshold
            sharp = (
                f"never in focus: its highest peak, in plane {curve.plane}, reaches {share:.2f} "
                "of what noise could"
            )
        told = [f"Row {row}, column {column}: {sharp}."]
        if len(curve.others):
            told.append(f"Runner-up at {curve.others[0]:.4g} {unit}.")
        for name, (depth, doubt) in self._final.items():
            known = f" ± {doubt:.2g}" if np.isfinite(doubt) else " (filled in)"
            told.append(f"{name.capitalize()}: {depth:.4g}{known} {unit}.")
        self.told.value = " ".join(told)

    def _draw(self) -> None:
        self.plot.clear()
        axes = self.plot.axes[0]
        for k, ((row, column), curve) in enumerate(self.curves):
            colour, last = COLOURS[k % len(COLOURS)], k == len(self.curves) - 1
            name = f"({row}, {column})" if len(self.curves) > 1 else "focus"
            axes.plot(curve.positions, curve.focus, "o-", color=colour, ms=3, lw=0.8, label=name)
            axes.plot(*curve.fit, color=colour, lw=2, alpha=0.6)
            if np.isfinite(curve.uncertainty):
                top = float(np.nanmax([*curve.fit[1], curve.focus.max()]))
                axes.errorbar(
                    curve.depth, top, xerr=curve.uncertainty, color=colour, capsize=3, lw=1.5
                )
                ends = curve.depth - curve.uncertainty, curve.depth + curve.uncertainty
                axes.axvspan(*ends, color=colour, alpha=0.35, lw=0)
            if last:
                axes.axhline(
                    curve.detection_threshold, color=colour, ls=":", lw=1, label="more than noise"
                )
                if len(curve.others):
                    look: dict[str, Any] = {
                        "color": COLOURS[1],
                        "ls": "-.",
                        "lw": 1,
                        "label": "runner-up",
                    }
                    axes.axvline(curve.others[0], **look)
                estimate = {"estimate": (curve.depth, curve.uncertainty)}
                for name, (depth, _) in {**estimate, **self._final}.items():
                    style = "--" if name == "estimate" else "-"
                    axes.axvline(depth, color=COLOURS[4], ls=style, lw=1, label=name)
        if self.curves:
            axes.set_xlabel(f"position ({self._unit})")
            axes.set_yscale("log" if self.logarithmic.value else "linear")
            axes.legend()
        axes.set_ylabel("focus")
        self.plot.follow_theme()

    def _forget(self) -> None:
        self.curves, self._final = [], {}
        self.told.value = HINT
        if self._marks is not None and self._marks in self._viewer.layers:
            self._viewer.layers.remove(self._marks)
        self._draw()

    def _ended(self) -> None:
        self._job = None
        if self._next is not None:
            waiting, self._next = self._next, None
            self.inspect(*waiting)

    def _close(self) -> None:
        if self._job is not None:
            self._job.leave()
        if self._clicked in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._clicked)
