"""Write figures and movies."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from napari_dff.io.atomic import write_file

FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
MOVIE_SUFFIXES = (".gif", ".tif")
FIGURE_DPI = 300


def write_figure(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a figure as PNG, SVG (with text as text) or PDF, complete or not at all.

    Raises
    ------
    ValueError
        If `path` has another suffix.
    """
    path = _check_suffix(path, FIGURE_SUFFIXES)
    with write_file(path) as new, rc_context({"svg.fonttype": "none"}):
        figure.savefig(new, dpi=FIGURE_DPI)


def write_movie(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], *, seconds: float = 0.15
) -> None:
    """Write 8-bit colour frames as animated GIF or multi-page TIFF, complete or not at all.

    `seconds` is the duration of a frame of a GIF.

    Raises
    ------
    ValueError
        If `path` has another suffix, or there are no frames.
    """
    import imageio.v3 as iio

    path = _check_suffix(path, MOVIE_SUFFIXES)
    settings: dict[str, Any] = (
        {"duration": 1000 * seconds, "loop": 0} if path.suffix.lower() == ".gif" else {}
    )
    frames = list(frames)
    if not frames:
        raise ValueError("frames must be one at least, got none")
    with write_file(path) as new:
        iio.imwrite(new, np.stack(frames), **settings)


def _check_suffix(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> Path:
    path = Path(path).absolute()
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"path must end in {', '.join(suffixes)}, got {path.name!r}")
    return path
