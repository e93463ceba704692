"""The report of one result: from its folder, or from its record and its images."""

import time as clock
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_dff.io.readers.axes import reason
from napari_dff.io.readers.results import find_image, read_image, read_provenance
from napari_dff.io.records import ALL_IN_FOCUS, REPORT_FILES
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.result import ImageQuality
from napari_dff.model.units import depth_unit_symbol, unit_symbol, validate_unit
from napari_dff.pipeline.quality import Coverage, advice, coverage, summarize_image
from napari_dff.report.content import Part, Picture, Pictures, Report, Sentences, Table
from napari_dff.report.parameters import DEFAULT_SETTINGS, ParameterSettings, areal_parameters
from napari_dff.surface import Quantity
from napari_dff.surface.quantity import COLUMNS, table_rows

DEPTH_PERCENTILES = 0.5, 99.5  # that have the first and the last colour
UNCERTAINTY_PERCENTILE = 99
OVERVIEW_PARAMETERS = "Sa", "Sq", "Sz"
ASSUMED_SIZE = (
    "The pixel size is unknown: scale bars are in pixels, and Sdq and Sdr are left out. Give "
    "--spacing with three lengths to the run."
)


class _Record(NamedTuple):
    """What is needed of the record of a run, of types that have been checked."""

    content: Mapping[str, Any]
    planes: dict[str, Any]  # of the input
    recipe: dict[str, Any]
    positions: np.ndarray  # (T, Z)
    pixel_size: tuple[float, float]
    unit: str
    channels: tuple[str, ...]

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> "_Record":
        """Check a record; KeyError, TypeError or ValueError if it is not of a run."""
        planes, recipe = dict(content["input"]), dict(content["recipe"])
        planes["shape"] = [int(n) for n in planes["shape"]]
        height, width = map(float, content["pixel_size"])
        positions = np.atleast_2d(np.asarray(content["positions"], float))
        channels = tuple(map(str, planes["channels"])) or ("",)
        size, unit = (height, width), validate_unit(content["unit"])
        return cls(content, planes, recipe, positions, size, unit, channels)

    def sentences(self, key: str) -> list[str]:
        """Return sentences that the run has recorded."""
        values = self.content.get(key)
        return [str(each) for each in values] if isinstance(values, list) else []

    @property
    def has_pixel_size(self) -> bool:
        return self.content.get("has_pixel_size") is not False


def read_report(
    folder: Path,
    settings: ParameterSettings = DEFAULT_SETTINGS,
    *,
    time: int = 0,
    is_saved: bool = True,  # False: the files are temporary; dates and digests are left out
) -> Report:
    """Return the report of one time of a result in a folder; ValueError if there is none."""
    try:
        content = read_provenance(folder)
        record = _Record.parse(content)
        names = (*DepthMap._fields, ALL_IN_FOCUS)
        files = [_open(folder, name) for name in names]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} holds no result of a run: {reason(error)}") from error
    times = len(record.positions)
    if not 0 <= time < times:
        allowed = f"0 to {times - 1}" if times > 1 else "0, the only one"
        raise ValueError(f"time must be {allowed}, got {time}")
    *maps, images = (np.asarray(file[time] if times > 1 else file[...]) for file in files)
    images = images if len(record.channels) > 1 else images[np.newaxis]
    written = ""
    if is_saved and (file := find_image(folder, "depth")):
        written = clock.strftime("%Y-%m-%d %H:%M", clock.localtime(file.stat().st_mtime))
    content = content if is_saved else {**content, "files": {}}
    return make_report(content, DepthMap(*maps), images, settings, time=time, written=written)


def make_report(
    content: Mapping[str, Any],  # record of the run
    depth_map: DepthMap,
    images: np.ndarray,  # (C, Y, X[, 3]), all in focus
    settings: ParameterSettings = DEFAULT_SETTINGS,
    *,
    time: int = 0,
    written: str = "",  # date of the result
) -> Report:
    """Return the report of one time of a result."""
    record = _Record.parse(content)
    shapes = {each.shape for each in depth_map} | {image.shape[:2] for image in images}
    if len(shapes) > 1 or depth_map.depth.ndim != 2:
        raise ValueError(f"maps and images must have one shape (Y, X), got {sorted(shapes)}")
    shares = coverage(depth_map, record.positions.shape[1])
    size = record.pixel_size
    quantities, note = areal_parameters(
        depth_map, size, record.unit, settings, has_pixel_size=record.has_pixel_size
    )
    sentences = record.sentences("advice") or [*advice(shares), *_image_advice(record)]
    notes = record.sentences("notes") + ([] if record.has_pixel_size else [ASSUMED_SIZE])
    name = str(record.planes.get("path") or "planes in memory")
    place = [str(record.planes.get("position") or "")]
    place += [f"time {time}"] if len(record.positions) > 1 else []
    title = ", ".join(filter(None, [Path(name).name, *place]))
    columns = COLUMNS if quantities else ()
    parts: list[Part] = [
        Table("Sample", _sample(record, name, time, written)),
        Pictures("Pictures", list(_pictures(record, depth_map, images))),
        Sentences("Warnings and quality", [*notes, *sentences]),
        Table("Coverage", _coverage(record, depth_map, shares)),
        Table("Areal parameters, ISO 25178-2", table_rows(quantities), columns, note),
        Table("Recipe", [(str(k), str(v)) for k, v in record.recipe.items()]),
        Table("Provenance", _provenance(record)),
    ]
    numbers = {
        "never in focus": f"{shares.never:.1%}",
        "in first plane": f"{shares.first:.1%}",
        "in last plane": f"{shares.last:.1%}",
        **{q.name: _with_error(q) for q in quantities if q.name in OVERVIEW_PARAMETERS},
    }
    return Report(title, parts, numbers, (*notes, *advice(shares)[1:]))


def _open(folder: Path, name: str) -> Any:
    path = find_image(folder, name)
    if path is None:
        raise FileNotFoundError(f"{name} is missing")
    return read_image(path)


def _sample(record: _Record, name: str, time: int, written: str) -> list[tuple[str, ...]]:
    """Return what was computed: file, planes, positions and pixel size."""
    shape, positions = record.planes["shape"], record.positions
    planes = f"{positions.shape[1]} of {' × '.join(map(str, shape[3:5]))} pixels"
    exif = record.planes.get("exif", {})
    camera = [str(exif.get(key, "")) for key in ("Make", "Model")] if isinstance(exif, dict) else []
    depth_unit, unit = depth_unit_symbol(record.unit), unit_symbol(record.unit)
    height, width = record.pixel_size
    channels = [f"{k} {each}".strip() for k, each in enumerate(record.channels)]
    rows = {
        "file": name,
        "position": record.planes.get("position"),
        "time": f"{time} of 0 to {len(positions) - 1}" if len(positions) > 1 else "",
        "channels": ", ".join(channels) if len(channels) > 1 else "",
        "focus channel": record.content.get("focus_channel") if len(channels) > 1 else "",
        "planes": f"{planes}, {record.planes.get('dtype', '')}",
        "positions": f"{positions[time, 0]:g} to {positions[time, -1]:g} {depth_unit}",
        "pixel size": f"{height:g} × {width:g} {unit}" if record.has_pixel_size else "unknown",
        "camera": " ".join(filter(None, camera)),
        "result written": written,
    }
    return [(key, str(value)) for key, value in rows.items() if value not in ("", None)]


def _pictures(record: _Record, depth_map: DepthMap, images: np.ndarray) -> Iterator[Picture]:
    """Yield all-in-focus image of each channel, depth and uncertainty."""
    size, unit = record.pixel_size, record.unit
    if not record.has_pixel_size:
        size, unit = (1.0, 1.0), "pixel"
    for channel, image in zip(record.channels, images, strict=True):
        yield Picture(f"all in focus {channel}".strip(), image, size, unit)
    symbol, in_focus = depth_unit_symbol(record.unit), np.isfinite(depth_map.uncertainty)
    depth = np.where(in_focus, depth_map.depth, np.float32(np.nan))
    limits: tuple[float | None, float | None] = (None, None)
    high = 1.0
    if in_focus.any():
        low, top = np.percentile(depth[in_focus], DEPTH_PERCENTILES)
        limits = (float(low), float(top)) if low < top else limits
        high = float(np.percentile(depth_map.uncertainty[in_focus], UNCERTAINTY_PERCENTILE))
    label = f"depth ({symbol})"
    yield Picture("depth", depth, size, unit, label, "viridis", limits)
    label = f"standard uncertainty, 1σ ({symbol})"
    uncertainty = np.where(in_focus, depth_map.uncertainty, np.float32(np.nan))
    yield Picture("uncertainty", uncertainty, size, unit, label, "magma", (0.0, high or 1.0))


def _coverage(record: _Record, depth_map: DepthMap, shares: Coverage) -> list[tuple[str, ...]]:
    """Return which pixels are in focus, range of depth, and uncertainty."""
    symbol, in_focus = depth_unit_symbol(record.unit), np.isfinite(depth_map.uncertainty)
    rows: list[tuple[str, ...]] = [
        ("never in focus", f"{shares.never:.1%} of the pixels"),
        ("sharpest in the first plane", f"{shares.first:.1%}"),
        ("sharpest in the last plane", f"{shares.last:.1%}"),
    ]
    if in_focus.any():
        depth, median = depth_map.depth[in_focus], np.median(depth_map.uncertainty[in_focus])
        rows += [
            ("depth", f"{depth.min():.5g} to {depth.max():.5g} {symbol}"),
            ("standard uncertainty", f"{median:.2g} {symbol} (median)"),
        ]
    return rows


def _image_advice(record: _Record) -> list[str]:
    """Return sentences on the quality of the image, of a record that has only the numbers."""
    quality = record.content.get("quality")
    qualities = quality if isinstance(quality, list) else [quality]
    try:
        numbers = [each and ImageQuality(**each) for each in qualities]
        return summarize_image(numbers, str(record.recipe.get("fusion", "")))
    except (TypeError, ValueError):
        return []


def _provenance(record: _Record) -> list[tuple[str, ...]]:
    """Return version, machine, tiles and the digests of the files."""
    content = record.content
    keys = (
        "exposure",
        "focus_offsets",
        "focus_scale",
        "quality",
        "window",
        "tiles",
        "digest",
        "environment",
    )
    rows = [("napari-dff", str(content.get("napari_dff", "")))]
    depth_from = record.planes.get("depth_from")
    rows += [] if depth_from is None else [("depth from", str(depth_from))]
    rows += [row for key in keys if key in content for row in _rows(key, content[key])]
    files = content.get("files", {})
    digests = files.items() if isinstance(files, Mapping) else ()
    others = ((name, digest) for name, digest in digests if name not in REPORT_FILES)
    return [*rows, *((f"SHA-256 of {name}", str(digest)) for name, digest in others)]


def _rows(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield a row for a value, and one for each mapping in it."""
    if not isinstance(value, Mapping):
        yield name, _in_words(value)
        return
    nested = {key: each for key, each in value.items() if isinstance(each, Mapping)}
    words = [f"{key} {_in_words(each)}" for key, each in value.items() if key not in nested]
    if words:
        yield name, ", ".join(words)
    for key, each in nested.items():
        yield from _rows(f"{name}, {key}", each)


def _in_words(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _with_error(quantity: Quantity) -> str:
    error = "" if quantity.uncertainty is None else f" ± {quantity.uncertainty:.2g}"
    return f"{quantity.value:.4g}{error} {quantity.unit}"
