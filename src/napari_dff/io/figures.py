"""Figures and movies to the disk."""

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
    """Write a figure as PNG, SVG (text stays text) or PDF; what was there stays until it is done.

    Raises
    ------
    ValueError
        For another suffix.
    """
    path = _checked(path, FIGURE_SUFFIXES)
    with write_file(path) as new, rc_context({"svg.fonttype": "none"}):
        figure.savefig(new, dpi=FIGURE_DPI)


def write_movie(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], *, seconds: float = 0.15
) -> None:
    """Write 8-bit colour frames as animated GIF, or as multi-page TIFF, likewise.

    `seconds` a frame.

    Raises
    ------
    ValueError
        For another suffix, or no frames.
    """
    import imageio.v3 as iio

    path = _checked(path, MOVIE_SUFFIXES)
    settings: dict[str, Any] = (
        {"duration": 1000 * seconds, "loop": 0} if path.suffix.lower() == ".gif" else {}
    )
    every = list(frames)
    if not every:
        raise ValueError("frames must be one at least, got none")
    with write_file(path) as new:
        iio.imwrite(new, np.stack(every), **settings)


def _checked(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> Path:
    path = Path(path).absolute()
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"path must end in {', '.join(suffixes)}, got {path.name!r}")
    return path
