"""A warning where the binding of Qt is known to end napari."""

import functools
import sys

import qtpy
from napari.utils.notifications import show_warning

UNSAFE_BINDING = (
    "PySide6 on Python 3.11 can end napari in a long session, whatever the plugin: save your "
    "results often, or install PyQt6 or Python 3.12."
)


@functools.cache  # once in a session
def warn_of_binding() -> None:
    """Show a warning where napari runs on PySide6 and Python 3.11."""
    if qtpy.API_NAME == "PySide6" and sys.version_info < (3, 12):
        show_warning(UNSAFE_BINDING)
