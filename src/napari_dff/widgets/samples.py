"""Sample data for File ▸ Open Sample."""

from functools import partial
from typing import Any

import numpy as np

from napari_dff.io import read_stack, sample_path


def sample(name: str) -> list[tuple[Any, dict[str, Any], str]]:
    """Return the bundled focal stack `name` as an Image layer with its scale and units."""
    stack = read_stack(sample_path(name))
    spacing = float(np.diff(stack.positions).mean())
    settings = {
        "name": name.replace("_", " "),
        "scale": (spacing, *stack.pixel_size),
        "translate": (float(stack.positions[0]), 0.0, 0.0),
        "units": (stack.unit,) * 3,
        "axis_labels": ("z", "y", "x"),
        "rgb": stack.planes.ndim == 4,
    }
    return [(np.asarray(stack.planes), settings, "image")]


rough_surface = partial(sample, "rough_surface")
cell_sheet = partial(sample, "cell_sheet")
machined_part = partial(sample, "machined_part")
bare_patch = partial(sample, "bare_patch")
