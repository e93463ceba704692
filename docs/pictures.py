"""Make pictures: README's napari window and preview after real runs, and the choices of fusion.

Run it from the top of a clone, with or without a display::

    xvfb-run -a -s "-screen 0 1280x800x24" python docs/pictures.py
"""

import time
from pathlib import Path

import napari
import numpy as np
import tifffile
from matplotlib.figure import Figure
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_dff import Recipe, depth_from_focus, read_stack
from napari_dff.io import sample_path
from napari_dff.io.writers.preview import draw_preview

HERE = Path(__file__).parent
CROPS = {"machined_part": (64, 70), "cell_sheet": (96, 96), "bare_patch": (24, 64)}  # top, left
CHOICES = ("multiscale", "noise_aware", "nearest")
CROP_PX, GAP_PX, LABEL_PX = 128, 4, 22


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
    viewer.reset_view()
    settle(1)
    viewer.screenshot(str(HERE / "window.png"), canvas_only=False, flash=False)
    viewer.close()


def results() -> None:
    result = depth_from_focus(read_stack(sample_path("bare_patch")))
    stack = result.stack
    preview = draw_preview(result.all_in_focus, result.refined, stack.positions, stack.unit)
    Image.fromarray(preview).save(HERE / "results.png")


def fusion() -> None:
    """Crops of the samples with each choice of fusion, at 100 %."""
    columns, step = ("a plane", *CHOICES, "truth"), CROP_PX + GAP_PX
    width, height = len(columns) * step - GAP_PX, len(CROPS) * step - GAP_PX + LABEL_PX
    figure = Figure((width / 100, height / 100), dpi=100, facecolor="white")
    for column, label in enumerate(columns):
        centre = (column * step + CROP_PX / 2) / width, 1 - LABEL_PX / 2 / height
        figure.text(*centre, label, ha="center", va="center", fontsize=9)
    for row, (name, (top, left)) in enumerate(CROPS.items()):
        path = sample_path(name)
        results = [depth_from_focus(read_stack(path), Recipe(fusion=each)) for each in CHOICES]
        planes = results[0].stack.planes
        truth = tifffile.imread(str(path).replace(".ome.", ".sharp."))
        low, high = np.percentile(truth, (0.2, 99.8))
        images = planes[len(planes) // 2], *(each.all_in_focus for each in results), truth
        for column, image in enumerate(images):
            crop = image[top : top + CROP_PX, left : left + CROP_PX].astype(float)
            crop = np.clip((crop - low) / (high - low), 0, 1)
            bottom = height - LABEL_PX - row * step - CROP_PX
            figure.figimage(
                crop, column * step, bottom, cmap="gray", vmin=0, vmax=1, origin="upper"
            )
    figure.savefig(HERE / "pictures" / "fusion.png", dpi=100)


if __name__ == "__main__":
    fusion()
    results()
    window()
