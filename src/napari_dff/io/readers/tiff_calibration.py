"""Plane distance, pixel size and channel names from the metadata of TIFF files."""

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import tifffile
from tifffile.tifffile import metaseries_description_metadata, read_ndtiff_index

from napari_dff.io.readers.calibration import UNCALIBRATED, Calibration, Length, make_calibration

SCIFIO_START = "SCIFIO="
SCIFIO_AXES = {"time": "T", "channel": "C"}
MAX_METADATA_BYTES = 10_000_000  # of a plane
SCREEN_RESOLUTION = 72  # dots per inch: the default of programs, not a pixel size
RESOLUTION_UNITS = {2: "inch", 3: "cm"}
MetaData = dict[str, Any]


class TiffDescription(NamedTuple):
    """What the metadata of one series describe."""

    calibration: Calibration = UNCALIBRATED
    channels: tuple[str, ...] = ()
    shape: Mapping[str, int] = {}  # axes and lengths, if the pages do not have them


def describe_series(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> TiffDescription:
    """Return what the metadata of a TIFF without OME describe."""
    for has_metadata, describe in DESCRIPTIONS:
        if has_metadata(tif, series):
            return describe(tif, series)
    return TiffDescription()


def describe_ome(image: ElementTree.Element) -> TiffDescription:
    """Return calibration and channel names of one Image; the default unit is µm."""
    pixels: Any = image.find("{*}Pixels")
    names = [f"PhysicalSize{axis}" for axis in "ZYX"]
    z, y, x = (Length(pixels.get(n) or None, pixels.get(f"{n}Unit", "µm")) for n in names)
    channels = tuple(each.get("Name", "") for each in pixels.findall("{*}Channel"))
    calibration = make_calibration(z, y, x, focus_positions=_focus_positions(pixels))
    interval = pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s")
    return TiffDescription(calibration.with_time_increment(*interval), channels)


def _focus_positions(pixels: ElementTree.Element) -> tuple[np.ndarray, str] | None:
    """Return PositionZ of the planes of the first channel, (T, Z), and its unit."""
    focus_positions = np.full([int(pixels.get(f"Size{axis}", 1)) for axis in "TZ"], np.nan)
    units = set()
    for plane in pixels.findall("{*}Plane"):
        if "PositionZ" in plane.attrib and plane.get("TheC", "0") == "0":
            index = tuple(int(plane.get(f"The{axis}", 0)) for axis in "TZ")
            focus_positions[index] = float(plane.attrib["PositionZ"])
            units.add(plane.get("PositionZUnit", "reference frame"))  # default of the schema
    return (focus_positions, units.pop()) if len(units) == 1 else None


def _describe_imagej(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> TiffDescription:
    """Return what ImageJ writes. It leaves out a distance of planes of 1."""
    metadata: MetaData = tif.imagej_metadata or {}
    page = tif.pages.first
    unit = metadata.get("unit")
    sizes = [_resolution(page, axis, metadata.get(f"{axis.lower()}unit", unit)) for axis in "YX"]
    is_stack = any(
        name in "ZI" and n > 1 for name, n in zip(series.axes, series.shape, strict=True)
    )
    is_of_tiff = unit is None and sizes[1].unit is not None  # perhaps of print, not of planes
    default = 1.0 if is_stack and not is_of_tiff else None
    spacing = metadata.get("spacing", default)
    z = Length(spacing, metadata.get("zunit", unit) or sizes[1].unit)
    interval = metadata.get("finterval"), metadata.get("tunit", "s")
    calibration = make_calibration(z, *sizes).with_time_increment(*interval)
    return TiffDescription(calibration, _imagej_labels(metadata))


def _resolution(page: tifffile.TiffPage, axis: str, unit: object) -> Length:
    """Return height or width of a pixel; without a unit of ImageJ that of the TIFF."""
    has_size = f"{axis}Resolution" in page.tags
    pixels, lengths = page.tags.valueof(f"{axis}Resolution", default=(0, 1))
    if unit is None and not has_size:
        return Length(1.0, None)
    if unit is None:
        unit = RESOLUTION_UNITS.get(int(page.resolutionunit or 1))
        if unit == "inch" and lengths and round(pixels / lengths) == SCREEN_RESOLUTION:
            return Length(1.0, None)
    return Length(lengths / pixels if pixels else None, unit)


def _imagej_labels(metadata: MetaData) -> tuple[str, ...]:
    """Return the label of each channel, "" where its planes have different ones."""
    count, labels = int(metadata.get("channels", 1)), metadata.get("Labels") or []
    if len(labels) < count:
        return ()
    by_channel = [set(labels[c::count]) for c in range(count)]
    return tuple(names.pop() if len(names) == 1 else "" for names in by_channel)


def _describe_scifio(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> TiffDescription:
    """Return what SCIFIO writes: axes, scales and units, fastest axis first."""
    lines = (line.split("=", 1) for line in tif.pages.first.description.splitlines())
    metadata = {words[0]: words[1] for words in lines if len(words) == 2}
    names = [SCIFIO_AXES.get(n.lower(), n) for n in metadata.get("axes", "").split(",")]
    sizes = metadata.get("scales", "").split(",")
    units = metadata.get("units", "").replace("null", "").split(",")
    lengths = {
        name: Length(float(size), unit)
        for name, size, unit in zip(names, sizes, units, strict=False)
        if _is_number(size)
    }
    counts = [int(n) if n.isdecimal() else 0 for n in metadata.get("lengths", "").split(",")]
    z, y, x = (lengths.get(axis, Length()) for axis in "ZYX")
    shape = dict(zip(reversed(names), reversed(counts), strict=False))
    is_known = set(shape) <= set("TCZYX") and math.prod(counts) == math.prod(series.shape)
    return TiffDescription(make_calibration(z, y, x), shape=shape if is_known else {})


def _describe_lsm(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> TiffDescription:
    """Return what Zeiss LSM contains: lengths in meter, names of the colours."""
    metadata: MetaData = tif.lsm_metadata or {}
    z, y, x = (Length(metadata.get(f"VoxelSize{axis}") or None, "m") for axis in "ZYX")
    names = (metadata.get("ChannelColors") or {}).get("ColorNames") or ()
    return TiffDescription(make_calibration(*(_micrometers(each) for each in (z, y, x))), (*names,))


def _micrometers(length: Length) -> Length:
    return length._replace(size=length.convert("micrometer"), unit="µm")


def _describe_stk(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> TiffDescription:
    """Return what MetaMorph writes into STK: sizes in CalibrationUnits, positions of planes."""
    metadata: MetaData = tif.stk_metadata or {}
    unit = metadata.get("CalibrationUnits") or "um"
    y, x = (Length(metadata.get(f"{axis}Calibration") or None, unit) for axis in "YX")
    distances = np.abs(np.asarray(metadata.get("ZDistance", ()), dtype=float))
    positions = np.asarray(metadata.get("AbsoluteZ", ()), dtype=float)
    step = float(np.median(distances)) if distances.size and distances.all() else None
    planes = (positions[np.newaxis], unit) if positions.size > 1 and np.ptp(positions) else None
    return TiffDescription(make_calibration(Length(step, unit), y, x, focus_positions=planes))


def _describe_metaseries(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> TiffDescription:
    """Return what MetaXpress and MetaMorph write into each page of a TIFF."""
    pages = [metaseries_description_metadata(page.aspage().description) for page in tif.pages]
    planes = [page.get("PlaneInfo", {}) for page in pages]
    unit = planes[0].get("spatial-calibration-units", "um")
    y, x = (Length(planes[0].get(f"spatial-calibration-{axis}"), unit) for axis in "yx")
    positions = np.array([[plane.get("z-position", math.nan) for plane in planes]], dtype=float)
    step = float(np.abs(np.diff(positions)).mean()) if positions.size > 1 else math.nan
    z = Length(step if np.isfinite(step) and step else None, "um")
    return TiffDescription(make_calibration(z, y, x, focus_positions=(positions, "um")))


def _describe_micromanager(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> TiffDescription:
    """Return what Micro-Manager writes into MMStack and NDTiff."""
    summary: MetaData = (tif.micromanager_metadata or {}).get("Summary") or {}
    tag = tif.pages.first.tags.get(51123)
    plane: MetaData = tag.value if tag is not None and isinstance(tag.value, dict) else {}
    size = plane.get("PixelSizeUm") or summary.get("PixelSize_um") or None
    step = summary.get("z-step_um") or None
    names, positions = summary.get("ChNames") or (), None
    if series.kind == "ndtiff":
        names, positions = _ndtiff_planes(Path(tif.filehandle.path).parent, names)
    z, y, x = (Length(each, "µm") for each in (step, size, size))
    if step is None and positions is not None and positions[0].size > 1:
        z = Length(float(np.abs(np.diff(positions[0])).mean()), "µm")
    calibration = make_calibration(z, y, x, focus_positions=positions)
    return TiffDescription(calibration, tuple(map(str, names)))


def _ndtiff_planes(
    folder: Path, names: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[np.ndarray, str] | None]:
    """Return channel names and the focus positions of the first stack, (1, Z), in the index."""
    channels: dict[str, None] = {}
    positions: dict[int, float] = {}
    stack: dict[str, Any] = {}
    for axes, file, *_, offset, count, compression in read_ndtiff_index(folder / "NDTiff.index"):
        if isinstance(channel := axes.get("channel"), str):
            channels[channel] = None
        others = {name: value for name, value in axes.items() if name != "z"}
        stack = stack or others
        if others != stack or "z" not in axes or compression or count > MAX_METADATA_BYTES:
            continue
        with (folder / file).open("rb") as handle:
            handle.seek(offset)
            text = handle.read(count).rstrip(b"\0")
        metadata = {}
        with contextlib.suppress(ValueError):  # damaged
            metadata = dict(json.loads(text))
        value = metadata.get("ZPositionUm", metadata.get("ZPosition_um_Intended"))
        positions[int(axes["z"])] = math.nan if value is None else float(value)
    values = np.array([[positions[z] for z in sorted(positions)]])
    is_complete = values.size > 1 and bool(np.isfinite(values).all())
    return tuple(channels) or names, (values, "µm") if is_complete else None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


Describe = Callable[[tifffile.TiffFile, tifffile.TiffPageSeries], TiffDescription]
DESCRIPTIONS: tuple[
    tuple[Callable[[tifffile.TiffFile, tifffile.TiffPageSeries], bool], Describe], ...
] = (
    (lambda _, series: series.kind in ("mmstack", "ndtiff"), _describe_micromanager),
    (
        lambda tif, _: tif.pages.first.description.startswith(SCIFIO_START),
        _describe_scifio,
    ),  # before ImageJ, which it resembles
    (lambda tif, _: bool(tif.imagej_metadata), _describe_imagej),
    (lambda _, series: series.kind == "lsm", _describe_lsm),
    (lambda _, series: series.kind == "stk", _describe_stk),
    (lambda tif, _: tif.pages.first.is_metaseries, _describe_metaseries),
)
