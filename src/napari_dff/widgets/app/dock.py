"""How forms are docked: as tabs of one dock, scrollable, and deleted when they are closed."""

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from magicgui.widgets import PushButton
from napari.viewer import Viewer
from npe2 import PluginManager
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QMenu, QScrollArea, QTabBar

from napari_dff.widgets.app.controls import push_button
from napari_dff.widgets.app.geometry import is_fitted

PLUGIN = "napari-dff"
SCROLL_BAR_PX = 20
MAX_WIDTH_PX = 460
LAYOUT_MS = 100  # from a new dock to the new size of the canvas
_closing: dict[int, "DockedForm"] = {}  # kept until Qt has deleted them


class KeepingForm(Protocol):
    """A form whose values outlive its dock."""

    @property
    def native(self) -> QScrollArea:
        """The scroll area around the fields."""

    def reset_choices(self) -> None:
        """Offer the layers that are there."""

    def keep_values(self) -> None:
        """Remember the values of the fields, because the form closes."""

    def restore_values(self) -> None:
        """Show the values that the form had when it was closed."""


class DockedForm(QObject):
    """Follows the dock of a form: makes it a tab beside other forms, and deletes a closed form."""

    def __init__(
        self, viewer: Viewer, form: KeepingForm, title: str, closed: Callable[[], None]
    ) -> None:
        super().__init__(form.native)
        self._viewer = viewer
        self._form, self._native, self._title = form, form.native, title
        self._native.setProperty("form", title)
        self._native.installEventFilter(self)
        self._native.destroyed.connect(closed)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """React when the form gets a dock or loses it."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self._native.parent() is None:  # a closed dock only loses its parent
                self._form.keep_values()
                _closing[key := id(self)] = self
                self._native.destroyed.connect(lambda: _closing.pop(key, None))
                self._native.deleteLater()
            else:
                self._form.reset_choices()
                self._form.restore_values()
                QTimer.singleShot(0, self._join_tabs)  # napari places the dock meanwhile
                if is_fitted(self._viewer):  # the dock makes the canvas narrower
                    QTimer.singleShot(LAYOUT_MS, self._viewer.reset_view)
        return False

    def _join_tabs(self) -> None:
        with suppress(RuntimeError):  # closed meanwhile, and deleted by Qt
            dock = self._native.parent()
            window = None if dock is None else dock.parent()
            if not isinstance(dock, QDockWidget) or not isinstance(window, QMainWindow):
                return
            dock.setWindowTitle(self._title)
            content = self._native.widget()
            width = content.minimumSizeHint().width() + SCROLL_BAR_PX  # type: ignore[union-attr]
            self._native.setMinimumWidth(min(width, MAX_WIDTH_PX))
            area = window.dockWidgetArea(dock)
            others = [
                other
                for other in _docks(window)
                if other is not dock
                and not (other.isHidden() or other.isFloating())
                and window.dockWidgetArea(other) == area
            ]
            if others:
                window.tabifyDockWidget(others[-1], dock)
                raise_dock(dock)
            for bar in window.findChildren(QTabBar):  # many tabs are scrolled, with whole titles
                bar.setUsesScrollButtons(True)
                bar.setElideMode(Qt.TextElideMode.ElideNone)


def _docks(window: QMainWindow) -> list[QDockWidget]:
    """Return the docks of the plugin's forms."""
    contents = {dock: dock.widget() for dock in window.findChildren(QDockWidget)}
    return [dock for dock, form in contents.items() if form and form.property("form")]


def raise_dock(dock: QDockWidget) -> None:
    """Show a dock in front of the other tabs."""
    dock.show()
    dock.raise_()


def forms_button(viewer: Viewer) -> PushButton:
    """Return a button with a menu of all steps and tools, which opens them as tabs."""
    button = push_button("Steps and tools", "Open another step or tool.", lambda: None)
    menu = QMenu(button.native)
    contributions = PluginManager.instance().get_manifest(PLUGIN).contributions
    for widget in contributions.widgets or []:
        name = widget.display_name
        menu.addAction(name, lambda name=name: open_form(viewer, name))
    button.native.setMenu(menu)
    return button


def open_form(viewer: Viewer, name: str) -> None:
    """Open a form of the plugin by its name in the manifest, or raise the one that is open."""
    for title, widget in viewer.window.dock_widgets.items():
        if title.startswith(f"{name} ("):  # followed by the name of the plugin
            raise_dock(widget.native.parent())
            return
    dock, _ = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    raise_dock(dock)
