"""Everything that touches the disk: focal stacks in, results out."""

from napari_dff.io.atomic import names_of
from napari_dff.io.depth_files import DepthFiles
from napari_dff.io.reading import (
    StackError,
    frames_in,
    read_acquisitions,
    read_recipe,
    read_stack,
    read_transforms,
)
from napari_dff.io.records import Layout, Record
from napari_dff.io.results import ResultFiles
from napari_dff.io.samples import SAMPLES, copy_sample, sample_path, write_sample
from napari_dff.io.tables import write_table
from napari_dff.io.writing import save_reconstruction, write_image, write_recipe, write_stack

__all__ = [
    "SAMPLES",
    "DepthFiles",
    "Layout",
    "Record",
    "ResultFiles",
    "StackError",
    "copy_sample",
    "frames_in",
    "names_of",
    "read_acquisitions",
    "read_recipe",
    "read_stack",
    "read_transforms",
    "sample_path",
    "save_reconstruction",
    "write_image",
    "write_recipe",
    "write_sample",
    "write_stack",
    "write_table",
]
