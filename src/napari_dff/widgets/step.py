"""The form that all steps share: a stack, some settings of the recipe, preview, Run and Undo."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
from magicgui.widgets import ComboBox, Container, PushButton, Widget
from magicgui.widgets.bases import ValueWidget
from napari.layers import Image, Labels, Layer
from napari.utils.notifications import show_error
from napari.viewer import Viewer

from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.widgets.axes_form import AxesForm
from napari_dff.widgets.command import command_line_caveat, stack_arguments
from napari_dff.widgets.controls import (
    button_row,
    call_when_closed,
    labelled_column,
    wrapping_label,
)
from napari_dff.widgets.geometry import index_in_view
from napari_dff.widgets.layers import (
    METADATA_KEY,
    is_stack,
    layer_by_id,
    plugin_metadata,
    require_stack,
    result_values,
    role_of,
    settings_of,
    source_of,
    valid_mask,
)
from napari_dff.widgets.preview import OFF, RECTANGLE, VIEW, Picture, Preview
from napari_dff.widgets.recipe_form import RecipeFileButtons, RecipeForm
from napari_dff.widgets.runs import Run, changes, or_undone, outdated, undo
from napari_dff.widgets.series import Series
from napari_dff.widgets.worker import Job
from napari_dff.windows import Window

Given = dict[str, np.ndarray]  # what the layers beside the stack hold at one place


class StepWidget(Container[Widget]):
    """One step: choose a stack, choose settings, look at the preview, Run.

    A step says which settings it shows (`settings`) and which it folds away (`folded`), which
    layers it takes beside the stack (`gather`), computes all stacks of the layer in a thread
    (`work`) and puts its layers (`emit`). `look` computes its preview.
    """

    title: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]
    folded: ClassVar[tuple[str, ...]] = ()
    follows_alignment: ClassVar[bool] = True
    skips: ClassVar[tuple[str, ...]] = ("registration", "refinement")  # unless done before
    previews: ClassVar[bool] = True
    asks_focus: ClassVar[bool] = True  # for the channel, where no layer tells it

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._job: Job | None = None
        self._run: Run | None = None
        self._newest: Layer | None = None  # added, and not yet selected
        self._place: tuple[int, ...] = ()  # in view
        self.stack = ComboBox(
            label="stack",
            choices=self._stacks,
            nullable=True,
            tooltip="The focal stack: Z, Y, X; or many of them, with axes before these.",
        )
        self.axes = AxesForm(self._say, self._changed, focus=self.asks_focus)
        self.form = RecipeForm(self.settings, self.folded)
        self.preview = ComboBox(
            label="preview",
            choices=[OFF, VIEW, RECTANGLE],
            value=OFF,
            tooltip="Compute a part of the planes at once whenever a setting changes; "
            "Run then gives the same for all of them.",
        )
        self.run = PushButton(text="Run", tooltip=f"{self.title}: the whole stack.")
        self.cancel = PushButton(text="Cancel", enabled=False, tooltip="Stop; nothing changes.")
        self.undo = PushButton(
            text="Undo", enabled=False, tooltip="Bring the layers back as they were before Run."
        )
        self.status, self.advice, self.fresh = (
            wrapping_label("ready"),
            wrapping_label(),
            wrapping_label(),
        )
        self.recipe_file = RecipeFileButtons(
            self.recipe, self.form.setValue, lambda: (self.command(), self.unsaid()), self._say
        )
        preview = [self.preview] if self.previews else []
        above = [self.stack, *self.axes.widgets]
        fields = labelled_column(*above, *self.inputs(), *self.form.widgets, *preview)
        buttons = button_row(self.run, self.cancel, self.undo)
        super().__init__(
            widgets=[fields, buttons, self.status, self.advice, self.fresh, self.recipe_file],
            labels=False,
        )
        self.form.expand(False)
        self.advice.visible = self.fresh.visible = False
        self._preview = Preview(viewer, self.preview, self._prepare, self._say)
        self.stack.reset_choices()
        stacks = [s for s in self._stacks(None) if self.follows_alignment or not role_of(s)]
        if stacks:
            self.stack.value = stacks[-1]
        self.axes.show(self.stack.value)
        self.stack.changed.connect(self.axes.show)
        self.run.changed.connect(self._start)
        self.cancel.changed.connect(self._cancel)
        self.undo.changed.connect(self._undo)
        self.form.valueChanged.connect(self._changed)
        for widget in (self.stack, *self.inputs()):
            if isinstance(widget, ValueWidget):
                widget.changed.connect(self._changed)
        viewer.layers.events.inserted.connect(self._inserted)
        viewer.layers.events.removed.connect(self._removed)
        viewer.layers.selection.events.active.connect(self._selected)
        viewer.dims.events.current_step.connect(self._slid)
        changes.happened.connect(self._tell_whether_fresh)
        call_when_closed(self, self._close)

    # What a step says of itself -----------------------------------------------------------------

    def inputs(self) -> list[Widget]:
        """Widgets for what it takes beside the stack, always the same ones."""
        return []

    def gather(self, source: Image) -> dict[str, Layer]:
        """Layers that `compute` needs beside the stack, by role."""
        return {}

    def given(self, source: Image, layers: dict[str, Layer], place: tuple[int, ...]) -> Given:
        """What these layers hold at a place, for `work`; in the window's thread."""
        held = {role: result_values(layer, place) for role, layer in layers.items()}
        held["valid"] = valid_mask(source, place)
        return held

    def focus_channel(self, layers: dict[str, Layer]) -> int | None:
        """The focus channel, where these layers tell it."""
        return None

    def work(
        self,
        series: Series,
        recipe: Recipe,
        given: dict[tuple[int, ...], Given],
        progress: Progress,
    ) -> Any:
        """Compute the result of all stacks; runs in a thread."""
        raise NotImplementedError

    def emit(self, run: Run, recipe: Recipe, result: Any) -> Iterator[None]:
        """Put the layers of the result, one after the other."""
        raise NotImplementedError

    def look(
        self, stack: FocalStack, recipe: Recipe, given: Given, wanted: Window, progress: Progress
    ) -> Sequence[Picture]:
        """Pictures of the pixels in `wanted`, the same as a run gives there; in a thread."""
        raise NotImplementedError

    def differs(self, layer: Layer) -> str:
        """How the form differs from what a result was made with, in words; empty if it doesn't."""
        changed, then = (
            self.form.differences(settings_of(layer)),
            plugin_metadata(layer).get("focus_channel"),
        )
        if self.axes.several and then not in (None, self.axes.focus.value):
            return "another focus channel"
        return f"other settings: {changed}" if changed else ""

    def previewed(self, source: Image) -> Image:
        """The stack that a preview is made from."""
        return source

    def caution(self) -> str:
        """What must be said of a preview."""
        return ""

    def tell(self, sentences: Sequence[str]) -> None:
        """Say what the result is worth."""
        self.advice.value = " ".join(sentences)
        self.advice.visible = bool(sentences)

    # What a person can ask of it ----------------------------------------------------------------

    def recipe(self) -> Recipe:
        """Return the recipe that makes the results of this step: the form, and what came before."""
        return Recipe.from_dict(
            {**dict.fromkeys(self.skips, "none"), **self._earlier(), **self.form.value()}
        )

    def command(self) -> str:
        """The command line that runs this recipe on the stack, from its file."""
        source, where = self.stack.value, ["STACK"]
        if source is not None:
            where = stack_arguments(source_of(self._viewer, source) or source)
            focus = self.axes.focus.value
            if focus is None:
                focus = plugin_metadata(source).get("focus_channel")
            if focus is not None:
                where += ["--focus-channel", str(focus)]
        words = ["napari-dff", "run", *where, "--out", "results", *self.recipe().flags()]
        return shlex.join(words)

    def unsaid(self) -> str:
        """What the command line can't tell of the stack; empty if nothing."""
        source = self.stack.value
        return (
            "" if source is None else command_line_caveat(source_of(self._viewer, source) or source)
        )

    # How it works -------------------------------------------------------------------------------

    def _earlier(self) -> dict[str, Any]:
        """Settings that made the chosen stack and the layers that the step takes."""
        source = self.stack.value
        found: dict[str, Any] = {}
        if source is not None:
            try:
                layers = [source, *self.gather(source).values()]
            except ValueError:
                layers = [source]
            for layer in layers:
                found |= settings_of(layer)
        return found

    def _stacks(self, _widget: Any) -> list[Layer]:
        return [layer for layer in self._viewer.layers if is_stack(layer)]

    def _say(self, sentence: str) -> None:
        self.status.value = sentence

    def _inserted(self, event: Any) -> None:
        """Go on with the aligned planes of the chosen stack, or with the first stack there is."""
        new, chosen = event.value, self.stack.value
        self._newest = new
        if is_stack(new):
            self.stack.reset_choices()
            aligned = (
                self.follows_alignment
                and chosen is not None
                and role_of(new) == "aligned"
                and plugin_metadata(new)["source"] == str(chosen.unique_id)
            )
            if chosen is None or aligned:
                self.stack.value = new
        self._tell_whether_fresh()

    def _removed(self, event: Any) -> None:
        if is_stack(event.value):
            self.stack.reset_choices()
            self._preview.forget(event.value)
            if self.stack.value is None and self._stacks(None):
                self.stack.value = self._stacks(None)[-1]
        self._tell_whether_fresh()

    def _selected(self, event: Any) -> None:
        """Bring the recipe of a result that was clicked on back into the form."""
        layer = event.value
        newest, self._newest = self._newest, None
        if layer is None or layer is newest:  # napari selects what is added; nobody clicked on it
            return
        if self._job is not None or plugin_metadata(layer).get("step") != self.title:
            return
        source = layer_by_id(self._viewer, plugin_metadata(layer).get("source", ""))
        if source is not None and source in self.stack.choices:
            self.stack.value = source
        self.axes.choose(plugin_metadata(layer).get("focus_channel"))
        if self.form.differences(settings_of(layer)):
            try:
                Recipe.from_dict(settings_of(layer))
            except ValueError as error:  # of another version
                self._say(f"settings of {layer.name!r} not shown: {error}")
                return
            self.form.setValue(settings_of(layer))
            self._say(f"settings of {layer.name!r}")

    def _changed(self, _: Any = None) -> None:
        self._tell_whether_fresh()
        self._preview.ask()

    def _slid(self, _: Any) -> None:
        """Preview another stack of the layer, if the sliders have come to one."""
        source = self.stack.value
        if source is None or source.ndim <= 3 or source not in self._viewer.layers:
            return
        place = index_in_view(self._viewer, source)
        if place != self._place:
            self._place = place
            self._preview.ask()

    def _made(self) -> list[Layer]:
        """The layers that this step made of the chosen stack."""
        source = self.stack.value
        return [
            layer
            for layer in self._viewer.layers
            if source is not None
            and plugin_metadata(layer).get("step") == self.title
            and plugin_metadata(layer).get("source") == str(source.unique_id)
        ]

    def _tell_whether_fresh(self) -> None:
        """Say when the result is older than its input or its settings."""
        told = ""
        for layer in self._made():
            why = outdated(self._viewer, layer) or self.differs(layer)
            if why:
                told = f"⚠ {layer.name!r} is out of date: {why}"
                break
        if self.fresh.value != told:
            self.fresh.value = told
        self.fresh.visible = bool(told)

    def _prepare(self) -> tuple[Image, Any, str] | None:
        """What the preview needs, collected in the window's thread."""
        source = self.stack.value
        if source is None or self._job is not None:
            return None
        try:
            layers, series, recipe = self._asked()
            seen = self.previewed(source)
            if seen is not source:
                series = self.axes.series(seen, series.focus)
            place = series.nearest(index_in_view(self._viewer, source))
            stack, given = series.stack(place), self.given(seen, layers, series.at(place))
        except ValueError as error:
            self._say(f"no preview: {error}")
            return None

        def look(window: Window, progress: Progress) -> Sequence[Picture]:
            return self.look(stack, recipe, given, window, progress)

        return source, look, self.caution()

    def _asked(self) -> tuple[dict[str, Layer], Series, Recipe]:
        """What the form asks for: the layers beside the stack, its stacks, and the recipe."""
        source = require_stack(self.stack.value)
        recipe, layers = self.recipe(), self.gather(source)
        return layers, self.axes.series(source, self.focus_channel(layers)), recipe

    def _start(self) -> None:
        if self._job is not None:
            return
        source = self.stack.value
        try:
            layers, series, recipe = self._asked()
            given = {p: self.given(source, layers, series.at(p)) for p in series.places}
        except ValueError as error:
            self._say(f"failed: {error}")
            show_error(f"{self.title}: {error}")
            return
        inputs = [source, *layers.values()]
        told: dict[str, Any] = {"recipe": asdict(recipe)}
        if series.channels > 1:
            told["focus_channel"] = series.focus
            source.metadata = {
                **source.metadata,
                METADATA_KEY: {**plugin_metadata(source), "focus_channel": series.focus},
            }
        run = Run(self._viewer, source, self.form.value(), inputs, self.title, told)
        self._preview.clear()
        self.run.enabled, self.cancel.enabled, self.undo.enabled = False, True, False

        def compute(progress: Progress) -> Any:
            result = self.work(series, recipe, given, progress)
            # What napari loads for its first Labels layer is loaded here, not in its own thread.
            Labels(np.zeros((1, 1), np.uint8))
            return result

        self._job = Job(
            self.title,
            compute,
            lambda result: self._finish(run, recipe, result),
            self._say,
            self._ended,
        )
        self._job.start()

    def _finish(self, run: Run, recipe: Recipe, result: Any) -> Iterator[None]:
        active = self._viewer.layers.selection.active
        yield from or_undone(self.emit(run, recipe, result), [run])
        self._run = run
        if active in self._viewer.layers:  # so that a click on a result is a change, and heard
            self._newest, self._viewer.layers.selection.active = active, active
            self._newest = None

    def _cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _undo(self) -> None:
        if self._run is not None and self._job is None:
            run = self._run
            if run.superseded():
                self._say("not undone: a newer run has changed these layers; undo that first")
                return
            self._run = None
            self.undo.enabled = False
            self.tell([])
            undo([run], self._say)

    def _ended(self) -> None:
        self._job = None
        self.run.enabled, self.cancel.enabled = True, False
        self.undo.enabled = self._run is not None
        self._tell_whether_fresh()

    def _close(self) -> None:
        if self._job is not None:
            self._job.leave()
        self._preview.close()
        self.axes.close()
        self._viewer.dims.events.current_step.disconnect(self._slid)
        layers = self._viewer.layers
        layers.events.inserted.disconnect(self._inserted)
        layers.events.removed.disconnect(self._removed)
        layers.selection.events.active.disconnect(self._selected)
        changes.happened.disconnect(self._tell_whether_fresh)
