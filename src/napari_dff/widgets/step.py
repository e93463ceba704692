"""The form that all widgets share: a stack, some settings of the recipe, Run and Cancel."""

from dataclasses import fields
from typing import Any, ClassVar, get_args, get_type_hints

import docstring_parser
from magicgui.widgets import ComboBox, Container, Label, PushButton, Widget, create_widget
from magicgui.widgets.bases import ValueWidget
from napari.layers import Image, Layer
from napari.utils.notifications import show_error
from napari.viewer import Viewer

from napari_dff.checks import Range
from napari_dff.progress import Progress
from napari_dff.recipe import Recipe
from napari_dff.stack import FocalStack
from napari_dff.widgets.layers import KEY, is_stack, role_of, stack_of
from napari_dff.widgets.worker import Job


def form(names: tuple[str, ...]) -> dict[str, ValueWidget[Any]]:
    """Return one widget for each named setting of the recipe, all from its one declaration."""
    hints = get_type_hints(Recipe, include_extras=True)
    help_ = {p.arg_name: p.description for p in docstring_parser.parse(str(Recipe.__doc__)).params}
    defaults = {field.name: field.default for field in fields(Recipe)}
    made: dict[str, ValueWidget[Any]] = {}
    for name in names:
        options: dict[str, Any] = {"tooltip": help_[name]}
        kind = hints[name]
        for extra in get_args(kind)[1:]:
            if isinstance(extra, Range):
                options |= {"min": extra.low, "max": extra.high, "step": extra.step}
                kind = get_args(kind)[0]
        widget = create_widget(
            annotation=kind, name=name, label=name, value=defaults[name], options=options
        )
        assert isinstance(widget, ValueWidget)
        made[name] = widget
    return made


class StepWidget(Container[Widget]):
    """One step: choose a stack, choose settings, Run.

    A step says which settings it shows (`settings`), collects what else it needs from the viewer
    (`gather`), computes in a thread (`compute`) and puts its layers (`emit`).
    """

    title: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]
    follows_alignment: ClassVar[bool] = True

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._job: Job | None = None
        self.stack = ComboBox(
            label="stack", choices=self._stacks, nullable=True, tooltip="The focal stack: Z, Y, X."
        )
        self.form = form(self.settings)
        self.run = PushButton(text="Run", tooltip=f"{self.title}: the whole stack.")
        self.cancel = PushButton(text="Cancel", enabled=False, tooltip="Stop; nothing changes.")
        self.status = Label(value="ready")
        self.status.native.setWordWrap(True)
        buttons = Container(widgets=[self.run, self.cancel], layout="horizontal", labels=False)
        settings = Container(widgets=[self.stack, *self.form.values()])
        for part in (settings, buttons):
            part.margins = (0, 0, 0, 0)
        super().__init__(widgets=[settings, buttons, self.status], labels=False)
        self.stack.reset_choices()
        stacks = [s for s in self._stacks(None) if self.follows_alignment or not role_of(s)]
        if stacks:
            self.stack.value = stacks[-1]
        self.run.changed.connect(self._start)
        self.cancel.changed.connect(self._cancel)
        viewer.layers.events.inserted.connect(self._inserted)
        self.native.destroyed.connect(self._cancel)

    def recipe(self) -> Recipe:
        """Return the recipe as the form shows it; defaults for what it doesn't show."""
        return Recipe(**{name: widget.value for name, widget in self.form.items()})

    def gather(self, source: Image) -> Any:
        """Collect what `compute` needs beside the stack, in the window's thread."""
        return None

    def compute(self, stack: FocalStack, recipe: Recipe, extra: Any, progress: Progress) -> Any:
        """Compute the result; runs in a thread."""
        raise NotImplementedError

    def emit(self, source: Image, recipe: Recipe, result: Any) -> None:
        """Put the layers of the result."""
        raise NotImplementedError

    def _stacks(self, _widget: Any) -> list[Layer]:
        return [layer for layer in self._viewer.layers if is_stack(layer)]

    def _inserted(self, event: Any) -> None:
        """Go on with the aligned planes of the chosen stack, or with the first stack there is."""
        new, chosen = event.value, self.stack.value
        self.stack.reset_choices()
        if not is_stack(new):
            return
        aligned = (
            self.follows_alignment
            and chosen is not None
            and role_of(new) == "aligned"
            and new.metadata[KEY]["source"] == str(chosen.unique_id)
        )
        if chosen is None or aligned:
            self.stack.value = new

    def _start(self) -> None:
        if self._job is not None:
            return
        source = self.stack.value
        try:
            stack, recipe = stack_of(source), self.recipe()
            extra = self.gather(source)
        except ValueError as error:
            self.status.value = f"failed: {error}"
            show_error(f"{self.title}: {error}")
            return
        self.run.enabled, self.cancel.enabled = False, True
        self._job = Job(
            self.title,
            lambda progress: self.compute(stack, recipe, extra, progress),
            lambda result: self._finish(source, recipe, result),
            lambda sentence: setattr(self.status, "value", sentence),
            self._ended,
        )
        self._job.start()

    def _finish(self, source: Image, recipe: Recipe, result: Any) -> None:
        if source not in self._viewer.layers:
            raise ValueError(f"layer {source.name!r} was removed meanwhile: no result to put on it")
        self.emit(source, recipe, result)

    def _cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _ended(self) -> None:
        self._job = None
        self.run.enabled, self.cancel.enabled = True, False
