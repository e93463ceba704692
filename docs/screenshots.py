"""Make the screenshots of the site: every widget in a real napari window, used as a person would.

Run it from the top of a clone, with or without a display::

    xvfb-run -a -s "-screen 0 1280x800x24" python docs/screenshots.py [NAME ...]
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import tifffile
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_dff.synthetic import rough_surface
from napari_dff.widgets.app.layers import role_of

HERE = Path(__file__).parent / "pictures"


def settle(seconds: float = 0.5) -> None:
    """Let the window draw."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def opened(sample: str, *widgets: str) -> tuple[Any, ...]:
    """A window of 1280 × 800 with a sample and widgets; the last one is in front."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1280, 800)
    viewer.open_sample("napari-dff", sample)
    forms = []
    for name in widgets:
        forms.append(viewer.window.add_plugin_dock_widget("napari-dff", name)[1])
        settle(0.2)  # the form becomes a tab
    settle()
    viewer.reset_view()
    return viewer, *forms


def run(widget: Any) -> None:
    """Press Run and wait."""
    QTest.mouseClick(widget.run.native, Qt.MouseButton.LeftButton)
    settle(0.2)
    while widget._task is not None:
        settle(0.05)
    settle(0.3)


def press(button: Any, owner: Any) -> None:
    """Press another button and wait."""
    QTest.mouseClick(button.native, Qt.MouseButton.LeftButton)
    settle(0.2)
    while owner._task is not None:
        settle(0.05)
    settle(0.3)


def layer(viewer: Any, role: str) -> Any:
    return next(each for each in viewer.layers if role_of(each) == role)


def place(viewer: Any, source: Any, row: float, column: float) -> tuple[Any, QPoint]:
    """The canvas, and where on it a pixel of a layer is."""
    canvas = viewer.window._qt_viewer.canvas.native
    world = source.data_to_world((*[0] * (source.ndim - 2), row, column))[-2:]
    centre = np.array(viewer.scene.camera.center)[-2:]
    size = np.array([canvas.height(), canvas.width()])
    down, right = (np.array(world) - centre) * viewer.scene.camera.zoom + size / 2
    return canvas, QPoint(int(right), int(down))


def click(viewer: Any, source: Any, row: float, column: float, shift: bool = False) -> None:
    """Click on a pixel of the canvas with the mouse."""
    canvas, at = place(viewer, source, row, column)
    keys = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, keys, at)
    settle(0.5)


def drag(viewer: Any, source: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag with the mouse from one pixel of the canvas to another."""
    button, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    canvas, at = place(viewer, source, *start)
    QTest.mousePress(canvas, button, keys, at)
    for part in np.linspace(0, 1, 9):
        settle(0.05)
        _, at = place(viewer, source, *(np.array(start) * (1 - part) + np.array(end) * part))
        QTest.mouseMove(canvas, at)
    QTest.mouseRelease(canvas, button, keys, at)
    settle(0.5)


def only(viewer: Any, *roles: str) -> None:
    """Show the layers of these roles alone."""
    for each in viewer.layers:
        each.visible = role_of(each) in roles


def save(viewer: Any, name: str) -> None:
    HERE.mkdir(exist_ok=True)
    settle(0.7)
    viewer.screenshot(str(HERE / f"{name}.png"), canvas_only=False, flash=False)
    viewer.close()
    settle(0.2)


def align() -> None:
    viewer, widget = opened("machined_part", "Align")
    run(widget)
    save(viewer, "align")


def focus() -> None:
    viewer, widget = opened("rough_surface", "Focus measure")
    widget.preview.value = "what is in view"
    widget.form.settings["window"].value = 15
    settle(2)
    save(viewer, "focus")


def depth() -> None:
    viewer, first, widget = opened("rough_surface", "Focus measure", "Depth and all-in-focus")
    run(first)
    run(widget)
    save(viewer, "depth")


def refine() -> None:
    viewer, one, two, widget = opened(
        "bare_patch", "Focus measure", "Depth and all-in-focus", "Refine"
    )
    for each in (one, two, widget):
        run(each)
    press(widget.hints.new, widget)
    viewer.dims.set_current_step(0, 9)
    click(viewer, layer(viewer, "depth"), 128, 128)
    run(widget)
    save(viewer, "refine")


def uncertainty() -> None:
    viewer, widget = opened("bare_patch", "Depth from focus, all steps")
    run(widget)
    only(viewer, "refined uncertainty")
    layer(viewer, "refined depth").colorbar.visible = False
    layer(viewer, "refined uncertainty").colorbar.visible = True
    viewer.layers.selection.active = layer(viewer, "refined uncertainty")
    save(viewer, "uncertainty")


def preview() -> None:
    viewer, widget = opened("rough_surface", "Depth from focus, all steps")
    run(widget)
    widget.preview.value = "a rectangle that I draw"
    settle()
    drag(viewer, layer(viewer, "refined depth"), (60, 100), (160, 220))
    widget.form.settings["window"].value = 31
    settle(2)
    save(viewer, "preview")


def reconstruct() -> None:
    viewer, widget = opened("machined_part", "Depth from focus, all steps")
    run(widget)
    widget.form.expand(True)
    save(viewer, "reconstruct")


def presets() -> None:
    viewer, widget = opened("cell_sheet", "Depth from focus, all steps")
    widget.presets.choice.native.showPopup()
    settle()
    # With the list, which is a window of its own.
    QApplication.primaryScreen().grabWindow(0).save(str(HERE / "presets.png"))
    viewer.close()
    settle(0.2)


def inspector() -> None:
    viewer, one, _ = opened(
        "rough_surface", "Depth from focus, all steps", "Why this plane? Focus curve"
    )
    run(one)
    depth_ = layer(viewer, "refined depth")
    click(viewer, depth_, 60, 60)
    click(viewer, depth_, 180, 200, shift=True)
    save(viewer, "inspector")


def retouch() -> None:
    viewer, one, widget = opened("rough_surface", "Depth from focus, all steps", "Retouch by hand")
    run(one)
    press(widget.sharp, widget)
    viewer.dims.set_current_step(0, 14)
    widget.brush.value = 40
    widget.paint.value = True
    settle()
    drag(viewer, layer(viewer, "refined all in focus"), (60, 60), (100, 180))
    save(viewer, "retouch")


def reuse() -> None:
    viewer, one, widget = opened("machined_part", "Depth from focus, all steps", "Use elsewhere")
    run(one)
    source = viewer.layers["machined part"]
    other = np.asarray(source.data)[..., 2]
    viewer.add_image(other, name="blue channel", scale=source.scale, units=source.units)
    settle()
    widget.targets.value = [viewer.layers["blue channel"]]
    run(widget)
    save(viewer, "reuse")


def project() -> None:
    viewer, one, widget = opened("cell_sheet", "Depth from focus, all steps", "Slab projection")
    run(one)
    widget.preview.value = "what is in view"
    settle(2)
    save(viewer, "project")


def film() -> None:
    viewer, widget = opened("transparent_film", "Two surfaces")
    widget.refractive_index.value = 1.5
    run(widget)
    save(viewer, "film")


def surface() -> None:
    viewer, one, widget = opened("rough_surface", "Depth from focus, all steps", "3-D surface")
    run(one)
    run(widget)
    save(viewer, "surface")


def measure() -> None:
    viewer, one, widget = opened("machined_part", "Depth from focus, all steps", "Measure heights")
    run(one)
    widget.measure.value = "profile"
    press(widget.draw, widget)
    widget.shapes.value.add([[40, 20], [200, 230]], shape_type="line")
    widget.shapes.value.mode = "pan_zoom"
    run(widget)
    QTest.mouseMove(*place(viewer, layer(viewer, "refined depth"), 100, 150))
    save(viewer, "measure")


def figure() -> None:
    viewer, one, widget = opened("rough_surface", "Depth from focus, all steps", "Figure and movie")
    run(one)
    units = layer(viewer, "refined depth").units
    drawn = viewer.add_shapes([[[64, 5], [64, 122]]], shape_type="line", units=units, name="line")
    settle()
    widget.line.value = drawn
    path = Path(tempfile.gettempdir()) / "paper.png"
    widget.ask_save_path = lambda *_: path  # the answer of a user to the dialog
    press(widget.figure, widget)
    shutil.move(path, HERE / path.name)
    press(widget.play, widget)
    settle(1)
    save(viewer, "figure")


def watching() -> None:
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1280, 800)
    _, widget = viewer.window.add_plugin_dock_widget("napari-dff", "Watch a folder")
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "today"
        folder.mkdir()
        widget.folder.value = folder
        widget.form.settings["registration"].value = "none"
        QTest.mouseClick(widget.run.native, Qt.MouseButton.LeftButton)
        planes = np.asarray(rough_surface(size=256, planes=24, seed=1).stack.planes)
        for name, first in (("field_1.ome.tif", 10), ("field_2.ome.tif", 0)):
            lengths = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
            metadata = {"axes": "ZYX", **lengths}
            tifffile.imwrite(folder / name, planes[first:], ome=True, metadata=metadata)
            while name not in widget.messages.toPlainText():
                settle(0.1)
        settle(1)
        save(viewer, "watching")


SHOTS: dict[str, Callable[[], None]] = {
    made.__name__: made
    for made in (
        align,
        focus,
        depth,
        refine,
        uncertainty,
        preview,
        reconstruct,
        presets,
        inspector,
        retouch,
        reuse,
        project,
        film,
        surface,
        measure,
        figure,
        watching,
    )
}

if __name__ == "__main__":
    for name in sys.argv[1:] or SHOTS:
        SHOTS[name]()
