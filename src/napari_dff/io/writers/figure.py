"""Figures and movies of a result: drawn in memory, and written to files."""

import importlib.util
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from napari_dff.io.atomic import write_file
from napari_dff.io.file_checks import check_suffix
from napari_dff.model.checks import (
    Range,
    as_list,
    as_numbers,
    check_finite,
    check_type,
)
from napari_dff.model.stack import FocalStack, validate_pixel_size
from napari_dff.model.units import depth_unit_symbol, unit_symbol, validate_unit
from napari_dff.runtime.words import shorten
from napari_dff.surface import Profile, profile
from napari_dff.surface.region import check_values

WIDTH_IN = Range(1.0, 100.0, 0.5)
MAX_PANEL_PX = 880  # wider images are subsampled
PROFILE_HEIGHT_IN = 1.9
FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
MOVIE_SUFFIXES = (".gif", ".tif")  # and .mp4, where ffmpeg is installed
FIGURE_DPI = 300
HISTOGRAM_BINS = 100
DIFFERENCE_PERCENTILE = 99.5  # of the absolute values, where the colours of a difference end
MAX_MOVIE_PX = 480  # height and width of each of the two images
FRAME_DURATION_MS = 150  # of a GIF


class FigureContent(NamedTuple):
    """Content of a figure for publication."""

    picture: np.ndarray  # (Y, X[, 3]) all-in-focus image
    depth: np.ndarray  # (Y, X) float, in `unit`; NaN where never in focus
    pixel_size: tuple[float, float]
    unit: str
    line: np.ndarray | None = None  # (N, 2) row and column of the vertices, for a profile
    uncertainty: np.ndarray | None = None  # (Y, X), for the band of the profile


def publication_figure(
    content: FigureContent, *, colormap: str = "viridis", width: float = 7.0
) -> Figure:
    """Draw image, depth with colour bar, scale bars and profile, `width` inches wide."""
    _check_content(content)
    if not (isinstance(colormap, str) and colormap in colormaps):
        raise ValueError(f"colormap must be a name of Matplotlib, got {shorten(colormap)}")
    width = WIDTH_IN.check("width", width)
    rows, columns = content.depth.shape
    ratio = rows * content.pixel_size[0] / (columns * content.pixel_size[1])
    mosaic: list[Any] = [["picture", "depth"]]
    heights = [width / 2 * ratio]
    if content.line is not None:
        mosaic.append(["profile", "profile"])
        heights.append(PROFILE_HEIGHT_IN)
    figure = Figure(figsize=(width, sum(heights) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    panels: dict[str, Axes] = figure.subplot_mosaic(mosaic, height_ratios=heights)
    calibration = content.pixel_size, content.unit
    draw_image(panels["picture"], content.picture, *calibration)
    label = f"depth ({depth_unit_symbol(content.unit)})"
    draw_map(panels["depth"], content.depth, *calibration, label, colormap)
    if content.line is not None:
        for name in ("picture", "depth"):
            panels[name].plot(content.line[:, 1], content.line[:, 0], color="yellow", lw=1)
        lengths, uncertainty = content.pixel_size, content.uncertainty
        along = profile(content.depth, content.line, lengths, uncertainty=uncertainty)
        draw_profile(panels["profile"], along, content.unit, "depth")
    return figure


def _check_content(content: FigureContent) -> None:
    """Raise a ValueError unless the content can be drawn."""
    check_type("content", content, FigureContent)
    check_picture(content.picture)
    check_values("depth", content.depth)
    if content.depth.ndim != 2 or not content.depth.size:
        raise ValueError(f"depth must have axes (Y, X), got shape {content.depth.shape}")
    if content.line is not None:
        line = as_numbers("line", content.line)
        if line.ndim != 2 or line.shape[1] != 2:
            raise ValueError(f"line must be (row, column) pairs, got shape {line.shape}")
    validate_pixel_size(content.pixel_size)
    validate_unit(content.unit)


def check_picture(picture: np.ndarray, name: str = "picture") -> None:
    """Raise a ValueError unless `picture` is a finite image, (Y, X) or (Y, X, 3)."""
    check_type(name, picture, np.ndarray)
    check_finite(name, as_numbers(name, picture))
    shape = picture.shape
    if picture.dtype == bool or not picture.size or shape[2:] not in ((), (3,)) or len(shape) < 2:
        got = f"{picture.dtype} of shape {picture.shape}"
        raise ValueError(f"{name} must be numbers with axes (Y, X) or (Y, X, 3), got {got}")


def draw_image(
    panel: Axes,
    image: np.ndarray,  # (Y, X[, 3])
    pixel_size: tuple[float, float],
    unit: str,
) -> None:
    """Draw a grey or colour image with a scale bar; `unit` is a napari name."""
    pixels = _displayed(image, _subsampling(image))
    _draw_pixels(panel, pixels, image.shape[:2], pixel_size, unit, "gray")


def draw_map(
    panel: Axes,
    values: np.ndarray,  # (Y, X) float; blank where it is not finite
    pixel_size: tuple[float, float],
    unit: str,
    label: str,  # of the colour bar
    colormap: str | Colormap,
    limits: tuple[float | None, float | None] = (None, None),  # of the colours; else of the values
) -> None:
    """Draw a map with a colour bar, as high as the map, and a scale bar."""
    step = _subsampling(values)
    pixels = np.ma.masked_invalid(values[::step, ::step])
    drawn = _draw_pixels(panel, pixels, values.shape, pixel_size, unit, colormap)
    drawn.set_clim(*limits)
    bar, figure = panel.inset_axes((1.03, 0.0, 0.05, 1.0)), panel.figure
    figure.colorbar(drawn, cax=bar, label=label)


def _subsampling(image: np.ndarray) -> int:
    return max(1, image.shape[1] // MAX_PANEL_PX)


def _draw_pixels(
    panel: Axes,
    pixels: np.ndarray,  # subsampled
    shape: tuple[int, ...],  # rows and columns before
    pixel_size: tuple[float, float],
    unit: str,
    colormap: str | Colormap,
) -> Any:
    """Draw an image in the coordinates of its pixels before subsampling."""
    rows, columns = shape
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    drawn = panel.imshow(pixels, cmap=colormap, extent=extent, interpolation="nearest")
    panel.set_aspect(pixel_size[0] / pixel_size[1])
    panel.set_axis_off()
    _scale_bar(panel, columns, rows, pixel_size, unit)
    panel.set(xlim=extent[:2], ylim=extent[2:], autoscale_on=False)
    return drawn


def draw_profile(axes: Axes, values: Profile, unit: str, name: str, colour: str = "C0") -> None:
    """Draw a profile of `name` with its uncertainty as a band; `unit` is a napari name."""
    axes.plot(values.distance, values.height, color=colour, lw=1)
    if values.uncertainty is not None:
        ends = values.height - values.uncertainty, values.height + values.uncertainty
        axes.fill_between(values.distance, *ends, color=colour, alpha=0.3, lw=0)
    axes.set_xlabel(f"distance ({unit_symbol(unit)})")
    axes.set_ylabel(f"{name} ({depth_unit_symbol(unit)})")


def draw_histogram(
    axes: Axes, values: np.ndarray, unit: str, name: str, colour: str = "C0"
) -> None:
    """Draw the histogram of the finite values of a map of `name`; `unit` is a napari name."""
    axes.hist(values[np.isfinite(values)], bins=HISTOGRAM_BINS, color=colour)
    axes.set_xlabel(f"{name} ({depth_unit_symbol(unit)})")
    axes.set_ylabel("pixels")


def difference_figure(
    difference: np.ndarray, pixel_size: tuple[float, float], unit: str, *, width: float = 7.0
) -> Figure:
    """Draw a difference of height maps with colour bar, and its histogram, `width` inches wide."""
    rows, columns = difference.shape
    height = width / 2 * rows * pixel_size[0] / (columns * pixel_size[1])
    figure = Figure(figsize=(width, float(np.clip(height, 2, width)) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic([["map", "histogram"]])
    limit = float(np.nanpercentile(np.abs(difference), DIFFERENCE_PERCENTILE)) or None
    limits = (None, None) if limit is None else (-limit, limit)
    label = f"difference ({depth_unit_symbol(unit)})"
    colours = colormaps["RdBu_r"].with_extremes(bad="0.6")  # white is 0
    draw_map(panels["map"], difference, pixel_size, unit, label, colours, limits)
    draw_histogram(panels["histogram"], difference, unit, "difference")
    return figure


def movie_frames(stack: FocalStack, picture: np.ndarray) -> Iterator[np.ndarray]:
    """Yield each plane next to the all-in-focus image, as 8-bit RGB."""
    check_type("stack", stack, FocalStack)
    check_picture(picture)
    step = max(1, -(-max(stack.planes.shape[1:3]) // MAX_MOVIE_PX))
    right = _displayed(picture, step)
    low, high = np.percentile(picture, (0.2, 99.8))
    span = max(float(high - low), 1e-12)
    size = right.shape[1::-1]
    unit = depth_unit_symbol(stack.unit).replace("µ", "u")  # OpenCV's fonts have no Greek letters
    for i in range(stack.planes.shape[0]):
        plane = cv2.resize(np.asarray(stack.planes[i]), size, interpolation=cv2.INTER_AREA)
        left = np.clip((plane.astype(np.float32) - low) / span, 0, 1)
        frame = np.rint(255 * np.concatenate([left, right], axis=1)).astype(np.uint8)
        frame = frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)
        frame = np.ascontiguousarray(frame)
        text = f"{stack.positions[i]:.4g} {unit}"
        for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(frame, text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thick)
        yield frame


def write_figure(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a figure as PNG, SVG (with text as text) or PDF, complete or not at all."""
    path = check_suffix(path, FIGURE_SUFFIXES)
    with write_file(path) as new, rc_context({"svg.fonttype": "none"}):
        figure.savefig(new, dpi=FIGURE_DPI)


def write_movie(path: str | os.PathLike[str], frames: Iterable[np.ndarray]) -> None:
    """Write 8-bit colour frames as GIF, multi-page TIFF or MP4, complete or not at all."""
    import imageio.v3 as iio

    path = check_suffix(path, movie_suffixes())
    settings: dict[str, dict[str, Any]] = {
        ".gif": {"duration": FRAME_DURATION_MS, "loop": 0},
        ".mp4": {"plugin": "FFMPEG", "fps": 1000 / FRAME_DURATION_MS, "macro_block_size": 2},
    }
    frames = as_list("frames", frames, "images")
    if not frames:
        raise ValueError("frames must be one at least, got none")
    for frame in frames:
        check_picture(np.asarray(frame), "frames")
        if np.shape(frame) != np.shape(frames[0]) or np.asarray(frame).dtype != np.uint8:
            kind = f"{np.asarray(frame).dtype} of shape {np.shape(frame)}"
            raise ValueError(f"frames must be uint8 images of one size, got {kind}")
    suffix, movie = path.suffix.lower(), np.stack(frames)
    if suffix == ".mp4":  # whose colours have half the resolution
        odd = [(0, size % 2) for size in movie.shape[1:3]]
        movie = np.pad(movie, ((0, 0), *odd, (0, 0)), mode="edge")
    with write_file(path) as new:
        iio.imwrite(new, movie, **settings.get(suffix, {}))


def movie_suffixes() -> tuple[str, ...]:
    """Return the suffixes of movies that can be written: MP4 where imageio has ffmpeg."""
    has_ffmpeg = importlib.util.find_spec("imageio_ffmpeg") is not None
    return (*MOVIE_SUFFIXES, ".mp4") if has_ffmpeg else MOVIE_SUFFIXES


def _scale_bar(
    panel: Axes, columns: int, rows: int, pixel_size: tuple[float, float], unit: str
) -> None:
    """Draw a scale bar of 1, 2 or 5 × 10ⁿ units, at most a fifth of the width of the panel."""
    pixel_width = pixel_size[1]
    limit = columns * pixel_width / 5
    power = 10.0 ** np.floor(np.log10(limit))
    length = max(digit * power for digit in (1, 2, 5) if digit * power <= limit)
    right, down = 0.96 * columns, 0.94 * rows
    ends = [right - length / pixel_width, right]
    panel.plot(ends, [down, down], color="black", lw=5, solid_capstyle="butt")
    panel.plot(ends, [down, down], color="white", lw=3, solid_capstyle="butt")
    text = f"{length:g} {unit_symbol(unit)}"
    box = {"facecolor": "black", "alpha": 0.5, "edgecolor": "none", "pad": 1.5}
    at = float(np.mean(ends)), down - 0.03 * rows
    panel.text(*at, text, color="white", ha="center", va="bottom", bbox=box)


def _displayed(image: np.ndarray, step: int) -> np.ndarray:
    """Return `image` at 1 / `step` of its size, 0 … 1 between percentiles of all channels."""
    size = tuple(-(-n // step) for n in image.shape[1::-1])
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    low, high = np.percentile(image, (0.2, 99.8))
    return np.asarray(np.clip((image - low) / max(high - low, 1e-12), 0, 1), dtype=np.float32)
