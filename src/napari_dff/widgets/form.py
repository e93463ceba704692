"""A form of the recipe: one widget a setting, all from its one declaration."""

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import docstring_parser
from magicgui.widgets import Container, Label, PushButton, Table, Widget, create_widget
from magicgui.widgets.bases import ValueWidget
from qtpy.QtWidgets import QApplication, QFileDialog, QLabel, QSizePolicy, QStyledItemDelegate

from napari_dff.checks import Range
from napari_dff.io import read_recipe, write_recipe
from napari_dff.recipe import Recipe

KEPT = "Recipe (*.json)"
LARGER = 1.15  # times, napari's font against Qt's own
UNITS = {"sigma": "pixels", "window": "pixels"}


def setting(name: str) -> ValueWidget[Any]:
    """The widget of one setting of the recipe, with its range, default and docstring."""
    help_ = {p.arg_name: p.description for p in docstring_parser.parse(str(Recipe.__doc__)).params}
    default = next(field.default for field in fields(Recipe) if field.name == name)
    options: dict[str, Any] = {"tooltip": help_[name]}
    kind = get_type_hints(Recipe, include_extras=True)[name]
    for extra in get_args(kind)[1:]:
        if isinstance(extra, Range):
            options |= {"min": extra.low, "max": extra.high, "step": extra.step}
            options["tooltip"] += (
                f"\n{extra.low:g} to {extra.high:g} {UNITS.get(name, '')}".rstrip()
            )
            kind = get_args(kind)[0]
    made = create_widget(annotation=kind, name=name, label=name, value=default, options=options)
    assert isinstance(made, ValueWidget)
    return made


def when_closed(widget: Widget, ended: Callable[[], None]) -> None:
    """Call `ended` when the dock of a widget is closed, or napari."""
    native = widget.native

    def out_of_dock(parent: object) -> None:  # which is all that napari does when one closes it
        if parent is None:
            native.deleteLater()

    widget.native_parent_changed.connect(out_of_dock)
    native.destroyed.connect(ended)


def lined_up(*widgets: Widget) -> Container[Widget]:
    """A column of widgets whose labels are all equally wide."""
    column: Container[Widget] = Container()
    column.margins = (0, 0, 0, 0)
    column.extend(widgets)  # magicgui measures labels only of what is added later
    labels = [label for label in column.native.findChildren(QLabel) if label.text()]
    for label in labels:  # and in a smaller font than napari's
        label.setMinimumWidth(round(LARGER * label.minimumWidth()))
    return column


def in_a_row(*widgets: Widget) -> Container[Widget]:
    """Buttons beside each other."""
    row = Container(widgets=widgets, layout="horizontal", labels=False)
    row.margins = (0, 0, 0, 0)
    return row


def wrapped(text: str = "") -> Label:
    """A label that breaks its lines, and takes no more room than there is."""
    label = Label(value=text)
    label.native.setWordWrap(True)
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    policy.setHeightForWidth(True)
    label.native.setSizePolicy(policy)
    return label


def table(columns: tuple[str, ...]) -> Table:
    """An empty table to read from."""
    made = Table(value={name: [] for name in columns})
    made.read_only = True
    made.native.verticalHeader().hide()
    made.native.setItemDelegate(QStyledItemDelegate(made.native))  # numbers as they are written
    made.native.setMinimumSize(200, 110)
    made.native.setSizeAdjustPolicy(made.native.SizeAdjustPolicy.AdjustIgnored)
    return made


class RecipeForm:
    """Settings of the recipe: those that matter, and the rest folded below them.

    `widgets` are all of them in their order, with a button that unfolds.
    """

    def __init__(self, shown: tuple[str, ...], folded: tuple[str, ...]) -> None:
        self.settings = {name: setting(name) for name in (*shown, *folded)}
        self.more = PushButton(text="More settings", tooltip="Show or hide the other settings.")
        self._folded: list[Widget] = [self.settings[name] for name in folded]
        self.widgets: list[Widget] = [self.settings[name] for name in shown]
        if folded:
            self.widgets += [self.more, *self._folded]
        self.more.changed.connect(lambda: self.unfold(not self._unfolded))

    def unfold(self, whether: bool) -> None:
        """Show the folded settings, or hide them."""
        self._unfolded = whether
        for widget in self._folded:
            widget.visible = whether
        self.more.text = "Fewer settings ▴" if whether else "More settings ▾"

    def values(self) -> dict[str, Any]:
        """What the form shows."""
        return {name: widget.value for name, widget in self.settings.items()}

    def fill(self, values: dict[str, Any]) -> None:
        """Show these settings; those that the form hasn't are left out."""
        for name, value in values.items():
            if name in self.settings:
                self.settings[name].value = value

    def differences(self, values: dict[str, Any]) -> str:
        """How the form differs from these settings, in words; empty if it doesn't."""
        changed = [
            f"{name} {values[name]} → {now}"
            for name, now in self.values().items()
            if name in values and values[name] != now
        ]
        return ", ".join(changed)


class RecipeFile(Container[Widget]):
    """Save, load and copy: the recipe on the disk, and as a command.

    `recipe` gives the recipe as it is now, `command` the words of the command line that do the
    same and `unsaid` what they can't tell, `show` takes the settings of a file.
    """

    def __init__(
        self,
        recipe: Callable[[], Recipe],
        command: Callable[[], str],
        show: Callable[[dict[str, Any]], None],
        said: Callable[[str], None],
        unsaid: Callable[[], str],
    ) -> None:
        self._recipe, self._command, self._show, self._said = recipe, command, show, said
        self._unsaid = unsaid
        self.save = PushButton(text="Save…", tooltip="Save the recipe as JSON, for --recipe.")
        self.load = PushButton(
            text="Load…", tooltip="Fill in the form from a recipe, as a run writes it."
        )
        self.copy = PushButton(
            text="Copy command", tooltip="Copy the command line that gives the same result."
        )
        super().__init__(
            widgets=[self.save, self.load, self.copy], layout="horizontal", labels=False
        )
        self.margins = (0, 0, 0, 0)
        self.save.changed.connect(self._on_save)
        self.load.changed.connect(self._on_load)
        self.copy.changed.connect(self._on_copy)

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self.native, "Save recipe", "recipe.json", KEPT)
        if path:
            try:
                write_recipe(path, self._recipe())
            except (ValueError, OSError) as error:
                self._said(f"not saved: {error}")
                return
            self._said(f"recipe saved as {Path(path).name}")

    def _on_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self.native, "Load recipe", "", KEPT)
        if path:
            try:
                self._show(asdict(read_recipe(path)))
            except (ValueError, OSError) as error:
                self._said(f"not loaded: {error}")
                return
            self._said(f"settings of {Path(path).name}")

    def _on_copy(self) -> None:
        try:
            command = self._command()
        except ValueError as error:
            self._said(f"not copied: {error}")
            return
        clipboard = QApplication.clipboard()
        assert clipboard is not None
        clipboard.setText(command)
        unsaid = self._unsaid()
        self._said(f"copied{f', but it knows nothing of {unsaid}' if unsaid else ''}: {command}")
