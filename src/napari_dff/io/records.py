"""Layout and provenance of a result, and the JSON files that store them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import napari_dff
from napari_dff.io.image_metadata import ImageMetadata
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.recipe import Recipe

MAP_DTYPES = {"depth": "float32", "index": "uint16", "uncertainty": "float32"}
ALL_IN_FOCUS = "all_in_focus"
IMAGE_NAMES = (*MAP_DTYPES, ALL_IN_FOCUS)
PROVENANCE_FILE = "provenance.json"
ZARR_RECORD_KEY = "napari-dff"  # attribute of an image that holds its record
MAX_JSON_BYTES = 100_000_000


@dataclass(frozen=True, eq=False)
class ResultLayout:
    """Shape, type and calibration of a result."""

    shape: tuple[int, int]  # height and width of a plane
    dtype: np.dtype[Any]  # of the all-in-focus images
    positions: np.ndarray  # (T, Z) focus position of each plane at each time, in `unit`
    colour: bool = False
    channels: tuple[str, ...] = ("",)  # names; each channel has an all-in-focus image
    pixel_size: tuple[float, float] = (1.0, 1.0)  # height and width, in `unit`
    unit: str = "pixel"  # of length, as napari spells it

    @classmethod
    def from_acquisition(cls, acquisition: Acquisition) -> ResultLayout:
        """Return the layout of the result of all times and channels of an acquisition."""
        height, width, *colour = acquisition.data.shape[3:]
        return cls(
            (int(height), int(width)),
            np.dtype(acquisition.data.dtype),
            acquisition.positions,
            bool(colour),
            *(acquisition.channels, acquisition.pixel_size, acquisition.unit),
        )

    @property
    def times(self) -> int:
        """Number of times."""
        return len(self.positions)

    def image_metadata(self, name: str, record: Mapping[str, Any]) -> ImageMetadata:
        """Return the metadata of the image of that name; T and C only if longer than 1."""
        is_map = name in MAP_DTYPES
        sizes = {"T": self.times, "C": 1 if is_map else len(self.channels)}
        sizes = {axis: size for axis, size in sizes.items() if size > 1}
        sizes |= dict(zip("YX", self.shape, strict=True))
        if self.colour and not is_map:
            sizes["S"] = 3
        return ImageMetadata(
            "".join(sizes),
            tuple(sizes.values()),
            np.dtype(MAP_DTYPES[name]) if is_map else self.dtype,
            self.pixel_size,
            self.unit,
            channels=() if is_map else self.channels,
            record=record,
        )


@dataclass(frozen=True)
class Provenance:
    """Everything needed to compute a result again."""

    recipe: Recipe
    input: Mapping[str, Any] = field(default_factory=dict)  # source, shape and type of the planes
    focus_channel: int = 0  # number of the channel from which depth was computed
    version: str = napari_dff.__version__
    digest: str = ""  # of everything on which the result depends, "" if not computed

    @classmethod
    def from_acquisition(
        cls,
        recipe: Recipe,
        acquisition: Acquisition,
        path: str | os.PathLike[str] = "",
        focus_channel: int = 0,
    ) -> Provenance:
        """Return the provenance of a run of `recipe` on `acquisition`, read from `path`."""
        shape = [int(size) for size in acquisition.data.shape]
        source = {
            "path": os.fspath(path),
            "position": acquisition.name,
            "axes": "TCZYXS"[: len(shape)],
            "shape": shape,
            "dtype": str(np.dtype(acquisition.data.dtype)),
            "channels": list(acquisition.channels),
        }
        return cls(recipe, source, focus_channel)

    @property
    def settings(self) -> dict[str, Any]:
        """Version and recipe, as `read_recipe` reads them."""
        return {"napari_dff": self.version, **asdict(self.recipe)}

    def as_json(self, layout: ResultLayout) -> dict[str, Any]:
        """Return provenance and calibration of a result, of types that JSON has."""
        content = {
            "napari_dff": self.version,
            "recipe": asdict(self.recipe),
            "input": dict(self.input),
            "focus_channel": self.focus_channel,
            "positions": squeeze_time(layout.positions),
            "pixel_size": layout.pixel_size,
            "unit": layout.unit,
        }
        if self.digest:
            content["digest"] = self.digest
        json_types: dict[str, Any] = json.loads(json.dumps(content, default=to_json_value))
        return json_types


def read_json(path: str | os.PathLike[str], content_name: str) -> dict[str, Any]:
    """Return the object in a JSON file; otherwise a ValueError that names `content_name`."""
    file = Path(path)
    try:
        if file.exists() and not file.is_file():
            raise ValueError("it is not a file")
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it is larger than {MAX_JSON_BYTES / 1e6:.0f} MB")
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not {content_name}: {error}") from error
    return content


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = None) -> None:
    """Write `content` as JSON, with a line break at its end."""
    path.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def squeeze_time(values: np.ndarray) -> list[Any]:
    """Return (T, …) values as a list, without the time axis if there is one time only."""
    return list((values[0] if len(values) == 1 else values).tolist())


def to_json_value(value: Any) -> Any:
    """Convert arrays to lists and other values to text; the `default` of `json.dumps`."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
