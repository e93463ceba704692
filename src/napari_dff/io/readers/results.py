"""Read results: the files that a run wrote into a folder, and images of them alone."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.io.readers.axes import StackError, as_dask_array, as_stack_error, reason
from napari_dff.io.readers.tiff import TIFF_SUFFIXES
from napari_dff.io.readers.tiff_opening import open_tiff
from napari_dff.io.readers.tiff_series import uncompressed_array
from napari_dff.io.readers.zarr_store import (
    check_coders,
    check_zarr_tree,
    join_colours,
    ome_attributes,
)
from napari_dff.io.records import (
    IMAGE_SUFFIXES,
    PROVENANCE_FILE,
    ZARR_RECORD_KEY,
    check_json_size,
    read_json,
)
from napari_dff.io.staging import has_interrupted_moves
from napari_dff.model.acquisition import Acquisition, Index
from napari_dff.model.checks import as_path, check_type
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.result import ImageQuality
from napari_dff.runtime.windows import Window


def read_transforms(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the transforms written by a run, ([T,] Z, 3, 3); ValueError if there are none."""
    content = read_json(path, "transforms")
    try:
        matrices = np.array(content["transforms"], float)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path} does not contain transforms written by a run: {reason(error)}"
        ) from error
    if matrices.ndim not in (3, 4) or matrices.shape[-2:] != (3, 3):
        raise ValueError(f"{path} must hold one 3 × 3 matrix per plane, got shape {matrices.shape}")
    if not (np.isfinite(matrices).all() and np.linalg.matrix_rank(matrices).min(initial=3) == 3):
        raise ValueError(f"{path} must hold matrices that are finite and can be inverted")
    return matrices


def is_result_folder(folder: Path) -> bool:
    """Whether a folder holds the record and the depth of a run."""
    return (folder / PROVENANCE_FILE).is_file() and find_image(folder, "depth") is not None


def read_provenance(folder: Path) -> dict[str, Any]:
    """Return the record of the run that wrote into a folder; ValueError if it is not a record."""
    return read_json(folder / PROVENANCE_FILE, "the record of a run")


def earlier_input(folder: Path) -> str:
    """Return the path of the input of the result in `folder`, "" if there is no result."""
    try:
        return str(read_provenance(folder)["input"].get("path") or "planes in memory")
    except (OSError, ValueError, KeyError, AttributeError):
        return ""


def read_quality(folder: Path) -> dict[str, float | None]:
    """Return the quality of the image of a result of one time, empty if it is unknown."""
    quality = read_provenance(folder).get("quality")
    return {k: quality.get(k) for k in ImageQuality._fields} if isinstance(quality, dict) else {}


def read_sentences(folder: Path) -> dict[str, str]:
    """Return the sentences on the planes of a result, and on its quality; "" if there are none."""
    record = read_provenance(folder)
    sentences = {key: record.get(key) for key in ("notes", "advice")}
    return {k: " ".join(map(str, v)) for k, v in sentences.items() if isinstance(v, list)}


def find_image(folder: Path, name: str) -> Path | None:
    """Return the file of an image of a result, in any format; None if there is none."""
    files = (folder / f"{name}{suffix}" for suffix in IMAGE_SUFFIXES)
    return next((file for file in files if file.exists()), None)


def read_image_record(path: Path) -> dict[str, Any]:
    """Return the record that was written into an image; empty if there is none."""
    record: Any = None
    try:
        if path.suffix == ".zarr":
            import zarr  # 0.3 s, needed only here

            check_zarr_tree(path)
            record = zarr.open(path, mode="r").attrs.get(ZARR_RECORD_KEY)
        elif path.suffix.lower() in TIFF_SUFFIXES:
            with open_tiff(path, []) as (_, root):
                pass
            text = "" if root is None else root.findtext("{*}Image/{*}Description") or ""
            check_json_size(text)
            record = json.loads(text) if "napari_dff" in text else None
    except Exception:  # the reader of the file raises it again
        return {}
    return dict(record) if isinstance(record, Mapping) and "napari_dff" in record else {}


def read_image(path: Path, max_loaded_bytes: float = 0) -> Any:
    """Return the array of an image, colour last: loaded if small, else read on demand."""
    if path.suffix != ".zarr":
        with as_stack_error(f"{path.name} can't be read"), open_tiff(path, []) as (tif, _):
            if path.stat().st_size <= max_loaded_bytes:
                return np.asarray(tif.asarray())
            series = tif.series[0]
            pixels = uncompressed_array(series)
        if pixels is None:
            raise StackError(f"{path.name} is compressed or not contiguous, and can't be read")
        return pixels
    check_zarr_tree(path)
    import zarr

    from napari_dff.io.readers.bounded_zarr import BoundedArray

    array: Any = zarr.open_array(path / "0", mode="r")
    check_coders(path.name, array)
    bounded: Any = BoundedArray(array)
    if array.nbytes > max_loaded_bytes:
        axes = ("",) * (array.ndim - 2) + ("Y", "X")
        values = as_dask_array(bounded, array.chunks, axes, path.name)
    else:
        values = np.asarray(bounded[...])
    attributes: Any = ome_attributes(zarr.open_group(path, mode="r"))
    channels = attributes.get("omero", {}).get("channels", [])
    labels = [str(channel.get("label")).rpartition(" ")[2] for channel in channels[:3]]
    if labels != ["red", "green", "blue"]:
        return values
    c = [axis["name"] for axis in attributes["multiscales"][0]["axes"]].index("c")
    values = join_colours(values, c)
    return values.squeeze(c) if values.shape[c] == 1 else values


class DepthFiles:
    """Depth map and transforms in a folder of results, for other planes of the same field.

    ValueError unless the folder holds a result of planes of the same height, width, number and
    focus positions as those of `acquisition`. A result of one time is used for all times.
    """

    transforms: np.ndarray  # (Z, 3, 3) or (T, Z, 3, 3) float64

    def __init__(self, folder: str | os.PathLike[str], acquisition: Acquisition) -> None:
        path = as_path("folder", folder)
        check_type("acquisition", acquisition, Acquisition)
        try:
            provenance = read_provenance(path)
            self.transforms = read_transforms(path / "transforms.json")
            self._maps = DepthMap(*(_open_map(path, name) for name in DepthMap._fields))
            positions, unit = np.asarray(provenance["positions"], float), provenance["unit"]
            if positions.shape != self.transforms.shape[:-2] or 0 in positions.shape:
                shapes = f"{positions.shape} and transforms of shape {self.transforms.shape}"
                raise ValueError(f"positions of shape {shapes} do not match")
            positions = np.atleast_2d(positions)
            margin = np.ptp(positions) / max(1, positions.shape[1] - 1)  # one plane: of the fit
            self._depth_range = positions.min() - margin, positions.max() + margin
            times = len(positions)
            sizes = [each.shape for each in self._maps]
            if len(set(sizes)) > 1 or sizes[0][:-2] != ((times,) if times > 1 else ()):
                raise ValueError(f"its maps have the shapes {', '.join(map(str, sizes))}")
        except (OSError, KeyError, TypeError, ValueError) as error:
            message = "a run was interrupted while it moved its result there: run it again"
            message = message if has_interrupted_moves(path) else reason(error)
            raise ValueError(f"{folder} holds no result of a run: {message}") from error
        plane_shapes = self._maps.depth.shape[-2:], acquisition.data.shape[3:5]
        size, expected_size = (f"{height} × {width}" for height, width in plane_shapes)
        span = _describe_span(positions, unit)
        expected_span = _describe_span(acquisition.positions, acquisition.unit)
        if size != expected_size:
            problem = f"be of planes of {expected_size} pixels, got {size} in {folder}"
        elif times not in (1, acquisition.times):
            problem = f"have one time, or {acquisition.times}, got {times} in {folder}"
        elif span != expected_span:
            planes = f"{folder} has {span}, these are {expected_span}"
            problem = f"be of planes at the same positions: {planes}"
        else:
            return
        raise ValueError(f"depth_from must {problem}")

    def at(self, index: Index) -> Callable[[Window], DepthMap]:
        """Return a function that reads windows of the depth map of one time, `index[0]`."""
        time = index[:1] if self._maps.depth.ndim == 3 else ()
        return lambda window: self._checked(*(np.array(m[time][window.slices]) for m in self._maps))

    def _checked(self, *maps: np.ndarray) -> DepthMap:
        """Return a window of the maps; ValueError if these are not of a run with these planes."""
        depth_map, (low, high) = DepthMap(*maps), self._depth_range
        index, depth, uncertainty = depth_map
        last = self.transforms.shape[-3] - 1
        wrong = [
            (index.dtype.kind not in "iu" or index.min() < 0 or index.max() > last)
            and f"index must be plane numbers from 0 to {last}",
            (depth.dtype.kind != "f" or not ((depth >= low) & (depth <= high)).all())
            and f"depth must be numbers from {low:g} to {high:g}",
            (uncertainty.dtype.kind != "f" or not (uncertainty >= 0).all())
            and "uncertainty must be numbers that are at least 0",
        ]
        problems = [problem for problem in wrong if problem]
        if problems:
            raise ValueError(f"the maps of depth_from are damaged: {problems[0]}")
        return depth_map


def _open_map(folder: Path, name: str) -> Any:
    """Open one map of a result, ([T,] Y, X), decoded on demand."""
    path = find_image(folder, name) or folder / f"{name}.ome.zarr"
    with as_stack_error(f"{path.name} can't be read"):
        return read_image(path)


def _describe_span(positions: np.ndarray, unit: str) -> str:
    first = positions[0]
    return f"{len(first)} planes from {first[0]:g} to {first[-1]:g} {unit}"
