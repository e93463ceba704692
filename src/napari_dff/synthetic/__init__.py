"""Focal stacks rendered from a known depth, the ground truth for tests and benchmarks."""

from napari_dff.synthetic.camera import apply_motion, drift, photograph, record_without_noise
from napari_dff.synthetic.rendering import Aperture, blur, render_fluorescent, render_opaque
from napari_dff.synthetic.scenes import (
    SCENES,
    GroundTruth,
    bare_patch,
    cell_sheet,
    machined_part,
    noise_texture,
    relief,
    rough_surface,
)

__all__ = [
    "SCENES",
    "Aperture",
    "GroundTruth",
    "apply_motion",
    "bare_patch",
    "blur",
    "cell_sheet",
    "drift",
    "machined_part",
    "noise_texture",
    "photograph",
    "record_without_noise",
    "relief",
    "render_fluorescent",
    "render_opaque",
    "rough_surface",
]
