"""Small magicgui controls that all forms share."""

from collections.abc import Callable, Sequence
from typing import Any

from magicgui.widgets import ComboBox, Container, Label, PushButton, Table
from magicgui.widgets.bases import Widget
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QMessageBox, QSizePolicy, QStyledItemDelegate, QWidget

FONT_RATIO = 1.15  # napari's font size over that of Qt, in which magicgui measures labels


class StableComboBox(ComboBox):
    """A choice that is kept when a chosen layer is renamed: magicgui compares names."""

    def reset_choices(self, *args: Any) -> None:
        """Offer the present choices, and keep the chosen one if it is among them."""
        chosen = self.value
        with self.changed.blocked():
            super().reset_choices(*args)
            if chosen in self.choices:
                self.value = chosen
        if self.value != chosen:
            self.changed.emit(self.value)


def labelled_column(*widgets: Widget) -> Container[Widget]:
    """Return a column of widgets whose labels are equally wide."""
    column: Container[Widget] = Container()
    column.margins = (0, 0, 0, 0)
    column.extend(widgets)  # magicgui measures the labels of added widgets only
    for label in column.native.findChildren(QLabel):
        if label.text():
            label.setMinimumWidth(round(FONT_RATIO * label.minimumWidth()))
    return column


def button_row(*widgets: Widget) -> Container[Widget]:
    """Return a row of widgets without labels."""
    container = Container(widgets=widgets, layout="horizontal", labels=False)
    container.margins = (0, 0, 0, 0)
    return container


def push_button(text: str, tooltip: str, slot: Callable[[], object]) -> PushButton:
    """Return a button that calls `slot` when it is pressed."""
    button = PushButton(text=text, tooltip=tooltip)
    button.changed.connect(slot)
    return button


def ask_choice(parent: QWidget, title: str, question: str, choices: Sequence[str]) -> str:
    """Return which of several answers the user chooses; "" if none."""
    box = QMessageBox(QMessageBox.Icon.Question, title, question, parent=parent)
    buttons = {
        choice: box.addButton(choice, QMessageBox.ButtonRole.AcceptRole) for choice in choices
    }
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.exec()
    return next((text for text, each in buttons.items() if each is box.clickedButton()), "")


def combo_box(label: str, choices: Any, tooltip: str, **settings: Any) -> ComboBox:
    """Return a choice; `choices` are a list, or a function of the widget that returns one."""
    return StableComboBox(label=label, choices=choices, tooltip=tooltip, **settings)


def wrapping_label(text: str = "") -> Label:
    """Return a label that wraps its text instead of widening the form."""
    label = Label(value=text)
    label.native.setTextFormat(Qt.TextFormat.PlainText)  # names of layers may contain HTML
    label.native.setWordWrap(True)
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    policy.setHeightForWidth(True)
    label.native.setSizePolicy(policy)
    return label


def read_only_table(columns: tuple[str, ...]) -> Table:
    """Return an empty table that cannot be edited."""
    table = Table(value={name: [] for name in columns})
    table.read_only = True
    table.native.verticalHeader().hide()
    # magicgui's own delegate formats numbers; Qt's shows their text unchanged.
    table.native.setItemDelegate(QStyledItemDelegate(table.native))
    table.native.setMinimumSize(200, 110)
    table.native.setSizeAdjustPolicy(table.native.SizeAdjustPolicy.AdjustIgnored)
    return table
