"""Dialogs for the path of a file, which begin in the folder that was used last in napari."""

from pathlib import Path

from napari.utils.history import get_save_history, update_save_history
from qtpy.QtWidgets import QFileDialog, QWidget


def ask_new_path(
    parent: QWidget, title: str, name: str, filters: str = ""
) -> tuple[Path, str] | None:
    """Ask for the path of a new file, and return it with the chosen filter; None: cancelled."""
    proposal = str(Path(get_save_history()[0]) / name)
    path, chosen = QFileDialog.getSaveFileName(parent, title, proposal, filters)
    if not path:
        return None
    update_save_history(path)
    return Path(path), chosen


def ask_existing_path(parent: QWidget, title: str, filters: str) -> Path | None:
    """Ask for the path of a file; None: cancelled."""
    path, _ = QFileDialog.getOpenFileName(parent, title, get_save_history()[0], filters)
    return Path(path) if path else None
