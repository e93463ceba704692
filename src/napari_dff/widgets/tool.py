"""What tools that work on a depth layer share: the choice of it, a thread, and a word."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from magicgui.widgets import ComboBox, Container, Select, Widget
from napari.layers import Layer
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtWidgets import QFileDialog

from napari_dff.progress import Progress
from napari_dff.widgets.controls import call_when_closed, wrapping_label
from napari_dff.widgets.heights import depth_layers
from napari_dff.widgets.worker import DONE, Job


class Tool(Container[Widget]):
    """A choice of what to work on that follows the layers, and work in a thread.

    A tool says what can be chosen (`choices`), and puts its own widgets in.
    """

    title: ClassVar[str]

    def __init__(self, viewer: Viewer, label: str, tooltip: str) -> None:
        self._viewer = viewer
        self._job: Job | None = None
        self.chosen = ComboBox(
            label=label, choices=lambda _: self.choices(), nullable=True, tooltip=tooltip
        )
        self._following: list[ComboBox | Select] = [self.chosen]
        self.status = wrapping_label("ready")
        self.where = ""  # which stack of a layer with many was worked on, in words
        super().__init__(labels=False)
        viewer.layers.events.inserted.connect(self._follow)
        viewer.layers.events.removed.connect(self._follow)
        call_when_closed(self, self._close)

    def choices(self) -> list[Layer]:
        """What can be chosen: the depth layers, the newest last."""
        return depth_layers(self._viewer)

    def layers_of(self, kind: type, label: str, tooltip: str) -> ComboBox:
        """A choice among the layers of one kind, that follows them; none at first."""
        box = ComboBox(
            label=label,
            choices=lambda _: [each for each in self._viewer.layers if isinstance(each, kind)],
            nullable=True,
            tooltip=tooltip,
        )
        self._following.append(box)
        return box

    def _follow(self, _: Any = None) -> None:
        before = self.chosen.value
        for box in self._following:
            box.reset_choices()
        newest = self.choices()
        if newest and (before is None or before not in newest):
            self.chosen.value = newest[-1]

    def work(
        self, compute: Callable[[Progress], Any], done: Callable[[Any], Iterator[None] | None]
    ) -> None:
        """Compute in a thread, then `done` with what it gave; one at a time."""
        if self._job is None:
            self._job = Job(self.title, compute, done, self.say, self._ended)
            self._began()
            self._job.start()

    def say(self, sentence: str) -> None:
        """Show a sentence."""
        self.status.value = sentence

    def fail(self, error: Exception) -> None:
        """Show why it can't be."""
        self.say(f"failed: {error}")
        show_error(f"{self.title}: {error}")

    def path(self, title: str, name: str, suffixes: tuple[str, ...]) -> Path | None:
        """Ask where to save; None if the person thought better of it."""
        kinds = ";;".join(f"{suffix[1:].upper()} (*{suffix})" for suffix in suffixes)
        given, kind = QFileDialog.getSaveFileName(self.native, title, name, kinds)
        if not given:
            return None
        found = Path(given)
        given_kind = kind.split("*")[-1].rstrip(")") if "*" in kind else suffixes[0]
        return found if found.suffix else found.with_suffix(given_kind)

    def _close(self) -> None:
        """Called when the dock is closed."""
        if self._job is not None:
            self._job.leave()
        for event in (self._viewer.layers.events.inserted, self._viewer.layers.events.removed):
            event.disconnect(self._follow)

    def _began(self) -> None:
        """Called when work begins."""

    def _ended(self) -> None:
        self._job = None
        if self.where and self.status.value == DONE:
            self.say(f"{DONE}: {self.where}")
