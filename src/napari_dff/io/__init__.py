"""Read focal stacks and results; write results, images, tables, meshes and figures."""

from napari_dff.io.file_checks import folder_names
from napari_dff.io.readers.acquisitions import read_acquisitions, read_stack
from napari_dff.io.readers.axes import StackError
from napari_dff.io.readers.frames import frames_in
from napari_dff.io.readers.results import DepthFiles, read_recipe, read_transforms
from napari_dff.io.samples import SAMPLE_NAMES, copy_sample, sample_path, write_sample
from napari_dff.io.writers.images import write_image, write_stack
from napari_dff.io.writers.result_files import ResultFiles, save_reconstruction, write_recipe
from napari_dff.io.writers.tables import write_table

__all__ = [
    "SAMPLE_NAMES",
    "DepthFiles",
    "ResultFiles",
    "StackError",
    "copy_sample",
    "folder_names",
    "frames_in",
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
