"""Sample data for File ▸ Open Sample."""

from functools import partial
from typing import Any

from napari_dff.io import read_acquisitions, sample_path
from napari_dff.widgets.files import stack_layer


def sample(name: str) -> list[tuple[Any, dict[str, Any], str]]:
    """Return the bundled focal stack `name` as an Image layer with its scale and units."""
    path = sample_path(name)
    (found,) = read_acquisitions(path)
    return [stack_layer(found, name.replace("_", " "), str(path))]


rough_surface = partial(sample, "rough_surface")
cell_sheet = partial(sample, "cell_sheet")
machined_part = partial(sample, "machined_part")
bare_patch = partial(sample, "bare_patch")
