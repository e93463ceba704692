"""Make pictures: README's window and preview after real runs, and those of some pages.

Run it from the top of a clone, with or without a display::

    xvfb-run -a -s "-screen 0 1280x800x24" python docs/pictures.py
"""

import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import napari
import numpy as np
import tifffile
from imageio.v3 import imwrite
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from qtpy.QtCore import QSize
from qtpy.QtGui import QColor, QImage, QPainter
from qtpy.QtPdf import QPdfDocument
from qtpy.QtWidgets import QApplication

import napari_dff
from napari_dff import (
    FocalStack,
    Recipe,
    depth_from_focus,
    focus_measure,
    project_slab,
    read_stack,
    surface,
    synthetic,
)
from napari_dff.io import sample_path, save_reconstruction
from napari_dff.io.writers.preview import draw_preview
from napari_dff.model.acquisition import Acquisition
from napari_dff.pipeline.driver import run
from napari_dff.pipeline.sinks import ArraySink
from napari_dff.report.files import write_reports

HERE = Path(__file__).parent
PRESET_PICTURES = HERE.parent / "src" / "napari_dff" / "widgets" / "app" / "pictures"
PRESET_PX = 64
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


def slab() -> None:
    """Slabs of a channel with two layers, along the depth of a channel with the lower one."""
    lower, upper = synthetic.cell_sheet(), synthetic.cell_sheet(seed=7)
    emission, cover = (each.sharp / each.sharp.max() for each in (lower, upper))
    positions = 0.5 * np.arange(30)
    sheet = synthetic.render_fluorescent(emission, lower.depth, positions, defocus=0.9)
    both = sheet + synthetic.render_fluorescent(cover, lower.depth + 4, positions, defocus=0.9)
    sheet, both = (synthetic.photograph(each / 2, photons=800) for each in (sheet, both))
    recipe = Recipe(registration="none")
    depth = depth_from_focus(FocalStack(sheet, positions), recipe).refined.depth
    settings = {"slab": (-0.5, 0.5), "offsets": (0.0, 4.0)}
    slabs = project_slab(both, depth, positions, **settings)
    images = both.max(axis=0), *slabs, emission
    labels = "maximum of all planes", "−0.5 to 0.5 µm", "3.5 to 4.5 µm", "lower layer, truth"
    save_row("slab", images, labels)


def focus_offset() -> None:
    """Another channel at the depth of the first one, without and with focus offset."""
    positions, size = 0.5 * np.arange(16), 200
    depth = 7.5 * (0.2 + 0.5 * synthetic.relief((size, size), smoothness=40, seed=3))
    textures = [synthetic.noise_texture((size, size), seed=seed) for seed in (1, 2)]
    rendered = (
        synthetic.render_opaque(t, at, positions, defocus=0.9)
        for t, at in zip(textures, (depth, depth + 0.63), strict=True)
    )
    planes = np.stack([synthetic.photograph(each, photons=800) for each in rendered])
    names = {"channels": ("red", "green"), "axes": ("c",)}
    acquisition = Acquisition(planes, positions, (0.2, 0.2), "micrometer", **names)
    images = []
    for offset in (0.0, "auto"):
        sink = ArraySink(acquisition)
        recipe = Recipe(registration="none", fusion="noise_aware")
        run(acquisition, recipe, sink, focus_offset=offset)
        images.append(sink.images[1])
    images.append(synthetic.record_without_noise(textures[1], np.uint16))
    save_row("focus_offset", images, ("without offset", "with estimated offset", "truth"))


def coherence() -> None:
    """Depth of a noisy time-lapse without and with coherence; grey where never in focus."""
    acquisition, truth = synthetic.moving_surface(200, times=5, photons=15)
    maps = []
    for choice in ("none", "previous"):
        sink = ArraySink(acquisition)
        run(acquisition, Recipe(registration="none", coherence=choice), sink)
        known = np.isfinite(sink.refined.uncertainty[-1])
        maps.append(np.where(known, sink.refined.depth[-1], np.nan))
    maps.append(truth[-1])
    low, high = truth[-1].min(), truth[-1].max()
    colours = colormaps["viridis"].with_extremes(bad="0.5")
    images = [colours(np.ma.masked_invalid((each - low) / (high - low)))[..., :3] for each in maps]
    save_row("coherence", images, ("each time alone", "with the time before", "truth"))


def repeats() -> None:
    """Scatter of repeats at each pixel, beside the uncertainty that one of them foretells."""
    positions, size = 2.0 * np.arange(12), 200
    depth = 22 * (0.1 + 0.8 * synthetic.relief((size, size), smoothness=30, seed=1))
    light = 0.25 + 0.75 * np.linspace(0, 1, size)
    texture = synthetic.noise_texture((size, size), seed=2)
    clean = light * synthetic.render_opaque(texture, depth, positions, defocus=0.8)
    results = []
    for seed in range(8):
        stack = FocalStack(synthetic.photograph(clean, photons=300, seed=seed), positions)
        results.append(depth_from_focus(stack, Recipe(registration="none")).refined)
    heights = [np.where(np.isfinite(each.uncertainty), each.depth, np.nan) for each in results]
    found = surface.repeats(heights, (1, 1), "pixel")
    errors = [found.deviation, results[0].uncertainty]
    largest = np.percentile(errors[1][np.isfinite(errors[1])], 98)
    images = [results[0].depth, *(np.fmin(each / largest, 1) for each in errors)]
    labels = "depth of one stack", "scatter of 8 repeats", "its uncertainty, 1 σ"
    save_row("repeats", images, labels)


def two_surfaces() -> None:
    """A film on a ground: two planes, and the thickness beside the true one."""
    truth = synthetic.transparent_film(size=176)
    planes = truth.stack.planes
    found = napari_dff.two_surfaces(
        focus_measure(planes), truth.stack.positions, refractive_index=1.5
    )
    largest = np.nanmax(truth.thickness)
    maps = (np.nan_to_num(each, nan=largest + 1) for each in (found.thickness, truth.thickness))
    middles = (int(np.nanmedian(each)) for each in (truth.ground, truth.film))
    labels = "ground in focus", "top in focus", "thickness", "true thickness"
    save_row("two_surfaces", [*(planes[k] for k in middles), *maps], labels)


def save_row(name: str, images: Sequence[np.ndarray], labels: Sequence[str]) -> None:
    """Save grey images side by side at 100 %, with their labels above."""
    step = images[0].shape[1] + GAP_PX
    width, height = len(images) * step - GAP_PX, images[0].shape[0] + LABEL_PX
    figure = Figure((width / 100, height / 100), dpi=100, facecolor="white")
    for column, (label, image) in enumerate(zip(labels, images, strict=True)):
        centre = (column * step + step / 2) / width, 1 - LABEL_PX / 2 / height
        figure.text(*centre, label, ha="center", va="center", fontsize=9)
        low, high = np.percentile(image, (0.2, 99.8))
        grey = np.clip((image - low) / (high - low), 0, 1)
        figure.figimage(grey, column * step, 0, cmap="gray", vmin=0, vmax=1, origin="upper")
    figure.savefig(HERE / "pictures" / f"{name}.png", dpi=100)


def watch() -> None:
    """What the command watch prints for a stack, and for one that starts too late."""
    with TemporaryDirectory() as folder:
        incoming = Path(folder, "today")
        incoming.mkdir()
        whole = tifffile.imread(sample_path("rough_surface"))
        for name, planes in (("grain_1", whole), ("grain_2", whole[8:])):
            metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeZ": 2.0}
            tifffile.imwrite(incoming / f"{name}.ome.tif", planes, ome=True, metadata=metadata)
        words = ["watch", str(incoming), "--out", f"{folder}/results", "--until", "2"]
        command = [sys.executable, "-m", "napari_dff", *words, "--registration", "none"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        printed = subprocess.run(command, check=True, **pipes).stdout.replace(folder, "/data")
    lines = ["$ napari-dff watch /data/today --out /data/results", *printed.splitlines()]
    lines = [part for line in lines for part in textwrap.wrap(line, 96, subsequent_indent="  ")]
    figure = Figure((8.0, 0.2 * len(lines) + 0.2), dpi=100, facecolor="#1e2127")
    style = {"family": "DejaVu Sans Mono", "size": 9.5, "va": "top", "linespacing": 1.5}
    figure.text(0.012, 1 - 0.1 / figure.get_figheight(), "\n".join(lines), color="white", **style)
    figure.savefig(HERE / "pictures" / "watch.png", dpi=100)


def report() -> None:
    """First page of the report of a result."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "rough_surface")
        result = depth_from_focus(read_stack(sample_path("rough_surface")))
        save_reconstruction(result, path, input={"path": "rough_surface.ome.tif"})
        write_reports(path)
        document = QPdfDocument(None)
        document.load(str(path / "report.pdf"))
        page = QImage(620, 810, QImage.Format.Format_RGB32)  # without the empty end
        page.fill(QColor("white"))
        painter = QPainter(page)
        painter.drawImage(0, 0, document.render(0, QSize(620, 876)))
        painter.end()
        page.save(str(HERE / "pictures" / "report.png"))


def presets() -> None:
    """Picture of each preset for the list in the form, rendered or drawn."""
    surface, sheet = synthetic.rough_surface(), synthetic.cell_sheet()
    depth = colormaps["viridis"](surface.depth / surface.depth.max())[..., :3]
    grey = surface.sharp[..., None] / surface.sharp.max()
    is_left = np.arange(grey.shape[1])[:, None] < grey.shape[1] / 2
    scratches = synthetic.noise_texture((192, 192), slope=0.2)
    light = np.gradient(synthetic.relief((192, 192), smoothness=16))[1][..., None]
    metal = cv2.GaussianBlur(scratches, (0, 0), 9, None, 0.6)[..., None] + 2 * light
    cells = np.clip(1.6 * sheet.sharp[:192, :192, None] / sheet.sharp.max(), 0, 1)
    pictures = {
        "automatic": np.where(is_left, grey, depth),
        "reflected_light": np.repeat(0.6 + 4 * (metal - 0.45), 3, axis=2),
        "fluorescence": np.concatenate([0.1 * cells, cells, 0.25 * cells], axis=2),
        "bright_field": stained_cells(),
        "macro": flower(),
    }
    for name, picture in pictures.items():
        small = cv2.resize(picture, (PRESET_PX, PRESET_PX), interpolation=cv2.INTER_AREA)
        imwrite(PRESET_PICTURES / f"{name}.png", np.uint8(np.round(255 * np.clip(small, 0, 1))))


def stained_cells(size: int = 192) -> np.ndarray:
    """Draw blood cells and a nucleus on a bright field."""
    rng, rows = np.random.default_rng(3), np.arange(size)
    picture = np.full((size, size, 3), (0.94, 0.92, 0.93))
    for row, column in rng.uniform(0, size, (22, 2)):
        distance = np.hypot(*np.meshgrid(rows - row, rows - column, indexing="ij"))
        pale = np.exp(-((distance / 9) ** 2))[..., None]
        red = np.array((0.80, 0.50, 0.53)) + 0.13 * pale
        picture += np.clip(18 - distance, 0, 1)[..., None] * (red - picture)
    distance = np.hypot(*np.meshgrid(rows - 88, rows - 96, indexing="ij"))
    for radius, colour in ((34, (0.80, 0.72, 0.86)), (24, (0.42, 0.24, 0.55))):
        picture += np.clip(radius - distance, 0, 1)[..., None] * (np.array(colour) - picture)
    return picture


def flower(size: int = 192) -> np.ndarray:
    """Draw a flower in front of a ground out of focus."""
    rows, columns = np.mgrid[:size, :size] - size / 2
    radius, angle = np.hypot(rows, columns), np.arctan2(rows, columns)
    ground = synthetic.relief((size, size), smoothness=20)[..., None]
    picture = (0.15, 0.3, 0.1) + ground * np.array((0.2, 0.4, 0.15))
    petals = 52 + 32 * np.abs(np.cos(3 * angle))
    shade = (0.75 + 0.25 * np.abs(np.cos(3 * angle)) - 0.1 * np.cos(60 * angle))[..., None]
    colours = shade * np.array((0.95, 0.55, 0.75))
    picture += np.clip(petals - radius, 0, 1)[..., None] * (colours - picture)
    centre = (
        np.array((0.95, 0.8, 0.2)) * (0.6 + 0.4 * synthetic.noise_texture((size, size)))[..., None]
    )
    picture += np.clip(22 - radius, 0, 1)[..., None] * (centre - picture)
    return picture


if __name__ == "__main__":
    presets()
    fusion()
    slab()
    focus_offset()
    coherence()
    repeats()
    report()
    two_surfaces()
    watch()
    results()
    window()
