"""Files into napari: focal stacks with all they tell, and results as a run or a person saved them.

File ▸ Open asks which plugin shall read a file; what napari's own reader does as well is declined.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_error

from napari_dff.acquisition import Acquisition
from napari_dff.io import Record, StackError, frames_in, read_acquisitions
from napari_dff.io.bioio_reading import PLUGINS
from napari_dff.io.tiff_opening import ome_of, opened
from napari_dff.io.tiff_reading import TIFFS
from napari_dff.io.zarr_reading import is_zarr
from napari_dff.recipe import Recipe
from napari_dff.stack import MIN_PLANES
from napari_dff.widgets.layers import METADATA_KEY, plane_spacing
from napari_dff.widgets.results import HELD, LayerData, is_result, result_layers, title

Reader = Callable[[str | Sequence[str]], list[LayerData]]


def reader(path: str | Sequence[str]) -> Reader | None:
    """What reads `path`; None where it can't hold a focal stack or a result."""
    if not isinstance(path, str):  # files that are to be stacked, which napari does itself
        return None
    place = Path(path)
    if is_result(place):
        return _read_result
    return _read_stacks if _may_hold_stacks(place) else None


def stack_layer(found: Acquisition, name: str, path: str = "") -> LayerData:
    """All times and channels of one position as an Image layer: ([t, ][c, ]z, y, x).

    Axes of time and channel are there where they are longer than 1. Scale and translation tell the
    mean distance of the planes and the first position; all positions are in the metadata.
    """
    several = [n > 1 for n in found.data.shape[:2]]
    data = found.data[tuple(slice(None) if many else 0 for many in several)]
    if data.nbytes <= HELD:
        data = np.array(data)
    before = [axis for axis, many in zip("tc", several, strict=True) if many]
    step, first = plane_spacing(found.positions)
    place: dict[str, Any] = {
        "scale": (*(1.0 for _ in before), step, *found.pixel_size),
        "translate": (*(0.0 for _ in before), first, 0.0, 0.0),
        "units": (*("pixel" for _ in before), *[found.unit] * 3),
        "axis_labels": (*before, "z", "y", "x"),
    }
    positions = found.positions[0]
    if not (found.positions == positions).all():  # they differ from time to time
        every = found.positions[:, np.newaxis] if several[1] else found.positions
        positions = np.broadcast_to(every, data.shape[: len(before) + 1]).copy()
    told = {
        "positions": positions,
        "channels": found.channels,
        "input": dict(Record.of(Recipe(), found, path).input),
        "in_file": {name: place[name] for name in ("scale", "translate", "units")},
    }
    look = {"name": name, "rgb": found.data.ndim == 6, "metadata": {METADATA_KEY: told}}
    return data, {**look, **place}, "image"


def _read_stacks(path: str | Sequence[str]) -> list[LayerData]:
    place = Path(str(path))
    try:
        found = read_acquisitions(place)
    except StackError as error:
        if place.suffix.lower() in PLUGINS:  # napari has no other reader, and doesn't say why
            show_error(str(error))
        if "--axes" in str(error):
            raise StackError(
                f"{error}; in napari, open it with napari's own reader, and write the axes into "
                "the form of the step"
            ) from error
        raise
    if not found:
        raise StackError(f"{place.name} holds no images")
    return [stack_layer(each, title(str(place), each.name), str(place)) for each in found]


def _read_result(path: str | Sequence[str]) -> list[LayerData]:
    return result_layers(Path(str(path)))


def _may_hold_stacks(path: Path) -> bool:
    """Whether `path` looks like focal stacks, from its name and headers."""
    if path.is_dir():
        return _may_be_zarr(path) if is_zarr(path) else len(frames_in(path)) >= MIN_PLANES
    suffix = path.suffix.lower()
    return suffix in PLUGINS or (suffix in TIFFS and _may_be_tiff(path))


def _may_be_tiff(path: Path) -> bool:
    """Whether there are planes in a TIFF: along Z, or along axes that nobody named."""
    try:
        with opened(path, []) as tif:
            ome_of(path, tif)
            pairs = [
                pair for each in tif.series for pair in zip(each.axes, each.shape, strict=True)
            ]
    except Exception:  # tifffile raises many kinds for a broken file, and reading it tells why
        return path.is_file()
    return not pairs or any(n >= MIN_PLANES and axis not in "TCYXSRP" for axis, n in pairs)


def _may_be_zarr(path: Path) -> bool:
    """Whether there is an array of planes: bare, or along an axis z."""
    try:
        return _has_planes(path)
    except Exception:  # zarr raises many kinds for a broken one, and reading it tells why
        return True


def _has_planes(path: Path) -> bool:
    import zarr  # 0.3 s, needed only here

    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        return node.ndim >= 3
    attributes = dict(node.attrs)
    told: Any = attributes.get("ome", attributes)
    if "multiscales" not in told:
        return any(name in told for name in ("plate", "well", "bioformats2raw.layout"))
    axes = told["multiscales"][0].get("axes", ["z"])
    names = [axis.get("name") if isinstance(axis, dict) else axis for axis in axes]
    return "z" in names or not set(names) <= set("tcyx")
