"""What a result holds and what made it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import napari_dff
from napari_dff.acquisition import Acquisition
from napari_dff.io.pixels import Pixels
from napari_dff.recipe import Recipe

MAPS = {"depth": "float32", "index": "uint16", "uncertainty": "float32"}
PICTURES = "all_in_focus"
LARGEST = 100_000_000  # bytes of JSON


@dataclass(frozen=True, eq=False)
class Layout:
    """How large a result is, and where it lies in space and time.

    Parameters
    ----------
    shape : (int, int)
        Height and width of a plane.
    dtype : numpy dtype
        Of the all-in-focus images.
    positions : (T, Z) array
        Focus position of each plane at each time, in `unit`.
    colour : bool
    channels : tuple of str
        Names of the channels, each of which has an all-in-focus image.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        As napari spells it, or "pixel".
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    positions: np.ndarray
    colour: bool = False
    channels: tuple[str, ...] = ("",)
    pixel_size: tuple[float, float] = (1.0, 1.0)
    unit: str = "pixel"

    @classmethod
    def of(cls, acquisition: Acquisition) -> Layout:
        """The layout of the result of all times and channels of `acquisition`."""
        height, width, *colour = acquisition.data.shape[3:]
        return cls(
            (int(height), int(width)),
            np.dtype(acquisition.data.dtype),
            acquisition.positions,
            bool(colour),
            acquisition.channels,
            acquisition.pixel_size,
            acquisition.unit,
        )

    @property
    def times(self) -> int:
        """How many times there are."""
        return len(self.positions)

    def pixels(self, name: str, record: Mapping[str, Any]) -> Pixels:
        """What the file of that name holds; T and C only where there are several."""
        picture = name == PICTURES
        sizes = {"T": self.times, "C": len(self.channels) if picture else 1}
        sizes = {axis: size for axis, size in sizes.items() if size > 1}
        sizes |= dict(zip("YX", self.shape, strict=True))
        if picture and self.colour:
            sizes["S"] = 3
        dtype = self.dtype if picture else np.dtype(MAPS[name])
        channels = self.channels if picture else ()
        what = "".join(sizes), tuple(sizes.values()), dtype, self.pixel_size, self.unit
        return Pixels(*what, channels=channels, record=record)


@dataclass(frozen=True)
class Record:
    """What made a result: enough to make it again.

    Parameters
    ----------
    recipe : Recipe
    input : mapping
        Where the planes came from and what they were.
    focus_channel : int
        The channel whose focus told the depth.
    version : str
        Of napari-dff.
    digest : str
        Of all that the result depends on, where somebody has made one.
    """

    recipe: Recipe
    input: Mapping[str, Any] = field(default_factory=dict)
    focus_channel: int = 0
    version: str = napari_dff.__version__
    digest: str = ""

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        acquisition: Acquisition,
        path: str | os.PathLike[str] = "",
        focus_channel: int = 0,
    ) -> Record:
        """The record of a run of `recipe` on `acquisition`, which was read from `path`."""
        shape = [int(size) for size in acquisition.data.shape]
        given = {
            "path": os.fspath(path),
            "position": acquisition.name,
            "axes": "TCZYXS"[: len(shape)],
            "shape": shape,
            "dtype": str(np.dtype(acquisition.data.dtype)),
            "channels": list(acquisition.channels),
        }
        return cls(recipe, given, focus_channel)

    @property
    def settings(self) -> dict[str, Any]:
        """The version and all settings, as `read_recipe` reads them."""
        return {"napari_dff": self.version, **asdict(self.recipe)}

    def of_result(self, layout: Layout) -> dict[str, Any]:
        """The whole of it, as JSON has it; positions of the one time, or of each."""
        told = {
            "napari_dff": self.version,
            "recipe": asdict(self.recipe),
            "input": dict(self.input),
            "focus_channel": self.focus_channel,
            "positions": of_each_time(layout.positions),
            "pixel_size": layout.pixel_size,
            "unit": layout.unit,
        }
        if self.digest:
            told["digest"] = self.digest
        plain: dict[str, Any] = json.loads(json.dumps(told, default=plainly))
        return plain


def from_json(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """Names and values in a JSON file.

    Raises
    ------
    ValueError
        Where it isn't `what` it should be, with one sentence.
    """
    file = Path(path)
    if file.exists() and not file.is_file():
        raise ValueError(f"{path} is not {what}: it is no file")
    if file.stat().st_size > LARGEST:
        raise ValueError(f"{path} is not {what}: it is larger than {LARGEST / 1e6:.0f} MB")
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not {what}: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path} is not {what}: it holds no names with values")
    return told


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = None) -> None:
    """Write `content` as JSON, with a line break at its end."""
    path.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def of_each_time(values: np.ndarray) -> list[Any]:
    """As JSON has it; of the only time itself, not a list of one."""
    plain: list[Any] = (values[0] if len(values) == 1 else values).tolist()
    return plain


def plainly(value: Any) -> Any:
    """What JSON doesn't know, in what it knows."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
