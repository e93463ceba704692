"""Save results of stacks as a run does: what napari calls for a name that ends in .dff."""

from napari_dff.widgets.app import result_files
from napari_dff.widgets.files.layer_writer import as_save_error

write_results = as_save_error()(result_files.write_results)
