"""Focal stacks rendered from a known depth, the ground truth for tests and benchmarks."""

from napari_dff.synthetic.film import FilmTruth, transparent_film
from napari_dff.synthetic.optics import (
    apply_motion,
    blur,
    drift,
    photograph,
    record_without_noise,
    render_fluorescent,
    render_in_front,
    render_opaque,
)
from napari_dff.synthetic.scenes import (
    SCENES,
    GroundTruth,
    bare_patch,
    cell_sheet,
    machined_part,
    moving_surface,
    noise_texture,
    relief,
    rough_surface,
)

__all__ = [
    "SCENES",
    "FilmTruth",
    "GroundTruth",
    "apply_motion",
    "bare_patch",
    "blur",
    "cell_sheet",
    "drift",
    "machined_part",
    "moving_surface",
    "noise_texture",
    "photograph",
    "record_without_noise",
    "relief",
    "render_fluorescent",
    "render_in_front",
    "render_opaque",
    "rough_surface",
    "transparent_film",
]
