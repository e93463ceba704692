"""Make README's pictures: a real napari window after a real run, and a real preview.

Run it from the top of a clone, with or without a display::

    xvfb-run -a -s "-screen 0 1280x800x24" python docs/pictures.py
"""

import time
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

from napari_dff import depth_from_focus, read_stack
from napari_dff.io import sample_path
from napari_dff.io.writers.figure import preview_figure

HERE = Path(__file__).parent


def settle(seconds: float) -> None:
    """Let the window draw."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def window() -> None:
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1280, 800)
    viewer.open_sample("napari-dff", "machined_part")
    widget = viewer.window.add_plugin_dock_widget("napari-dff", "Depth from focus, all steps")[1]
    settle(0.5)
    widget.run.native.click()
    while not widget.run.enabled:
        settle(0.1)
    for layer in viewer.layers:
        if layer.name.startswith("refined depth"):
            layer.colormap = "viridis"
    viewer.reset_view()
    settle(1)
    viewer.screenshot(str(HERE / "window.png"), canvas_only=False, flash=False)
    viewer.close()


def results() -> None:
    result = depth_from_focus(read_stack(sample_path("bare_patch")))
    seen = preview_figure(
        result.all_in_focus, result.refined, result.stack.positions, result.stack.unit
    )
    seen.savefig(HERE / "results.png", dpi=70)


if __name__ == "__main__":
    results()
    window()
