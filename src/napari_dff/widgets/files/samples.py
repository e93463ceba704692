"""Sample data for File ▸ Open Sample."""

from functools import partial

from napari_dff.io import read_acquisitions, sample_path
from napari_dff.widgets.app.layer_data import LayerData, stack_layer


def sample(name: str) -> list[LayerData]:
    """Return the bundled focal stack `name` as an image layer with its scale and units."""
    path = sample_path(name)
    (acquisition,) = read_acquisitions(path)
    return [stack_layer(acquisition, name.replace("_", " "), str(path))]


rough_surface = partial(sample, "rough_surface")
cell_sheet = partial(sample, "cell_sheet")
machined_part = partial(sample, "machined_part")
bare_patch = partial(sample, "bare_patch")
