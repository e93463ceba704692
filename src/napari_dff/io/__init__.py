"""Read focal stacks and results; write results, images, tables, meshes and figures."""

from napari_dff.io.file_checks import folder_names as folder_names
from napari_dff.io.readers.acquisitions import read_acquisitions as read_acquisitions
from napari_dff.io.readers.acquisitions import read_stack as read_stack
from napari_dff.io.readers.axes import StackError as StackError
from napari_dff.io.readers.frames import frames_in as frames_in
from napari_dff.io.readers.height_maps import HeightMap as HeightMap
from napari_dff.io.readers.height_maps import read_height_map as read_height_map
from napari_dff.io.readers.measured_heights import MeasuredHeights as MeasuredHeights
from napari_dff.io.readers.measured_heights import read_heights as read_heights
from napari_dff.io.readers.results import DepthFiles as DepthFiles
from napari_dff.io.readers.results import read_transforms as read_transforms
from napari_dff.io.recipes import delete_preset as delete_preset
from napari_dff.io.recipes import own_presets as own_presets
from napari_dff.io.recipes import read_recipe as read_recipe
from napari_dff.io.recipes import save_preset as save_preset
from napari_dff.io.recipes import write_recipe as write_recipe
from napari_dff.io.samples import SAMPLE_NAMES as SAMPLE_NAMES
from napari_dff.io.samples import copy_sample as copy_sample
from napari_dff.io.samples import sample_path as sample_path
from napari_dff.io.samples import write_sample as write_sample
from napari_dff.io.writers.height_maps import write_height_map as write_height_map
from napari_dff.io.writers.images import write_image as write_image
from napari_dff.io.writers.images import write_stack as write_stack
from napari_dff.io.writers.result_files import ResultFiles as ResultFiles
from napari_dff.io.writers.result_files import save_reconstruction as save_reconstruction
from napari_dff.io.writers.tables import write_table as write_table
