"""The records of a result, and JSON files."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import napari_dff
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.checks import as_path, check_type
from napari_dff.model.recipe import FocusScale, Recipe
from napari_dff.model.result import FocusOffset, ImageQuality
from napari_dff.registration import PlaneReport
from napari_dff.runtime.windows import Window

MAP_DTYPES = {"depth": "float32", "index": "uint16", "uncertainty": "float32"}
ALL_IN_FOCUS = "all_in_focus"
IMAGE_NAMES = (*MAP_DTYPES, ALL_IN_FOCUS)
IMAGE_SUFFIXES = (".ome.tif", ".ome.zarr", ".tif")  # the last one of versions before 0.1
PATH_KEYS = ("path", "depth_from")  # of the input in a provenance
PROVENANCE_FILE = "provenance.json"
REPORT_FILES = ("report.html", "report.pdf")
ZARR_RECORD_KEY = "napari-dff"  # attribute of an image that holds its record
MAX_JSON_BYTES = 100_000_000
MAX_DECODED_JSON_BYTES = 500_000_000
JSON_BYTES = {"[": 72, "{": 72, ",": 60, ":": 100}  # of memory for what each of these brings


def recipe_record(recipe: Recipe) -> dict[str, Any]:
    """Return version and recipe, as `read_recipe` reads them."""
    check_type("recipe", recipe, Recipe)
    return {"napari_dff": napari_dff.__version__, **asdict(recipe)}


def describe_planes(acquisition: Acquisition) -> dict[str, Any]:
    """Return name, shape and type of the planes of all times and channels."""
    shape = [int(size) for size in acquisition.data.shape]
    return {
        "path": "",
        "position": acquisition.name,
        "axes": "TCZYXS"[: len(shape)],
        "shape": shape,
        "dtype": str(np.dtype(acquisition.data.dtype)),
        "channels": list(acquisition.channels),
        **({"exif": dict(acquisition.exif)} if acquisition.exif else {}),
        **({"time_increment": increment} if (increment := acquisition.time_increment) else {}),
    }


def make_provenance(
    recipe: Recipe,
    acquisition: Acquisition,
    inputs: Mapping[str, Any],  # in addition to the planes, and where they are from
    digest: str,  # of everything on which the result depends, "" if not computed
) -> dict[str, Any]:
    """Return all that is needed to compute a result again, of types that JSON has."""
    check_type("recipe", recipe, Recipe)
    check_type("acquisition", acquisition, Acquisition)
    check_type("input", inputs, Mapping)
    content = {
        "napari_dff": napari_dff.__version__,
        "recipe": asdict(recipe),
        "input": {**describe_planes(acquisition), **inputs},
        "focus_channel": acquisition.focus_channel,
        "positions": squeeze_time(acquisition.positions),
        "pixel_size": acquisition.pixel_size,
        "unit": acquisition.unit,
        **({} if acquisition.has_pixel_size else {"has_pixel_size": False}),
        **({"digest": digest} if digest else {}),
    }
    return dict(json.loads(json.dumps(content, default=to_json_value)))


def without_folders(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input of a provenance with names instead of paths."""
    return {key: Path(v).name if key in PATH_KEYS else v for key, v in inputs.items()}


def quality_record(qualities: Sequence[ImageQuality | None]) -> dict[str, Any]:
    """Return the quality of the image of each time, without the list if there is one time only."""
    content = [None if quality is None else quality._asdict() for quality in qualities]
    if not any(content):
        return {}
    return {"quality": content if len(content) > 1 else content[0]}


def report_record(report: Sequence[PlaneReport]) -> list[dict[str, Any]]:
    """Return how each plane was aligned, as in transforms.json."""
    return [
        {
            "plane": plane.plane,
            "model": plane.model,
            "matched_to": plane.neighbour,
            "inliers": plane.inliers,
            "fallback": plane.fallback,
        }
        for plane in report
    ]


def scale_record(scale: FocusScale | None) -> dict[str, Any]:
    """Return the sigma and window that focus was measured with; empty if it was not."""
    return {} if scale is None else {"focus_scale": scale._asdict()}


def offsets_record(offsets: Sequence[FocusOffset], acquisition: Acquisition) -> dict[str, Any]:
    """Return the focus offset of each channel, in their order; empty if all are 0."""
    if not any(offset.value for offset in offsets):
        return {}
    order = [acquisition.focus_channel, *acquisition.other_channels]
    return {"focus_offsets": [offsets[order.index(c)]._asdict() for c in sorted(order)]}


def tiles_record(windows: Sequence[Window]) -> dict[str, Any]:
    """Return number, height and width of the tiles that were computed one by one; 1 if whole."""
    height, width = windows[0].shape
    return {"tiles": {"count": len(windows), "height": height, "width": width}}


def gains_record(gains: Sequence[list[Any] | None]) -> dict[str, Any]:
    """Return the gains of each time, without the list if there is one time only; empty if none."""
    return {"gains": list(gains) if len(gains) > 1 else gains[0]} if any(gains) else {}


def exposure_record(gains: Sequence[list[Any] | None]) -> dict[str, Any]:
    """Return the exposure that `auto` has chosen for each time; empty if it has kept all."""
    chosen = ["equal" if each else "keep" for each in gains]
    return {"exposure": chosen if len(chosen) > 1 else chosen[0]} if any(gains) else {}


def read_json(path: str | os.PathLike[str], content_name: str) -> dict[str, Any]:
    """Return the object in a JSON file; otherwise a ValueError that names `content_name`."""
    file = as_path("path", path)
    try:
        if file.exists() and not file.is_file():
            raise ValueError("it is not a file")
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it is larger than {MAX_JSON_BYTES / 1e6:.0f} MB")
        content = file.read_bytes()
        text = content.decode(json.detect_encoding(content))  # UTF-16 of a Windows shell, too
        check_json_size(text)
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("it is not a JSON object")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not {content_name}: {error}") from error
    return values


def check_json_size(text: str) -> None:
    """Raise a ValueError if the values in JSON could fill more than `MAX_DECODED_JSON_BYTES`."""
    size = 2 * len(text) + sum(text.count(mark) * each for mark, each in JSON_BYTES.items())
    if size > MAX_DECODED_JSON_BYTES:
        limit = f"{MAX_DECODED_JSON_BYTES / 1e6:.0f} MB"
        raise ValueError(f"its values could fill {size / 1e6:.0f} MB, more than {limit}")


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = None) -> None:
    """Write `content` as JSON, with a line break at its end."""
    path.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def squeeze_time(values: np.ndarray) -> list[Any]:
    """Return (T, …) values as a list, without the time axis if there is one time only."""
    return list((values[0] if len(values) == 1 else values).tolist())


def to_json_value(value: Any) -> Any:
    """Convert arrays to lists and other values to text; the `default` of `json.dumps`."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
